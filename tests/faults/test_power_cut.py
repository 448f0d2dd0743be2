"""The power fails at some places of every story; without syncs the drill would report losses."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from . import shim
from .disk_stories import STORIES, Stations
from .power_cut import Report, choose_cuts, drill_cuts
from .replay import DROPPED, KEPT, MIXED, NAMES, Disk, Operation

needs_faults = pytest.mark.skipif(shim.why_not() is not None, reason=str(shim.why_not()))


@needs_faults
@pytest.mark.slow
@pytest.mark.parametrize("name", STORIES)
def test_a_power_cut_loses_nothing_that_was_acknowledged(name: str, stations: Stations) -> None:
    report = Report()
    drill_cuts(stations, name, 2, report, seed=1)
    print(report)
    assert report.losses == report.crashes == []
    assert report.acknowledged > 0 or name == "backup", "which commits nothing"


@needs_faults
@pytest.mark.slow
def test_without_syncs_the_drill_reports_losses(stations: Stations) -> None:
    report = Report()
    drill_cuts(stations, "labels", 2, report, seed=1, broken="sync")
    assert any("acknowledged" in loss or "integrity" in loss for loss in report.losses)


def _operation(kind: str, path: str, number: int = 0, at: int = 0, data: bytes = b"") -> Operation:
    return Operation(kind, number, at, path, "", data)


def test_a_disk_forgets_what_was_not_synced(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"a" * 1024)
    number = (tmp_path / "old").stat().st_ino
    disk, rng = Disk(tmp_path), random.Random(1)
    disk.apply(_operation("W", f"{tmp_path}/old", number, 0, b"b" * 600))
    disk.apply(_operation("C", f"{tmp_path}/new", 1))
    disk.apply(_operation("W", f"{tmp_path}/new", 1, 0, b"data"))

    assert disk.after_a_cut(DROPPED, rng) == {"old": b"a" * 1024}
    assert disk.after_a_cut(NAMES, rng) == {"old": b"a" * 1024, "new": b""}
    assert disk.after_a_cut(KEPT, rng) == {"old": b"b" * 600 + b"a" * 424, "new": b"data"}
    some = [disk.after_a_cut(MIXED, rng)["old"] for _ in range(40)]
    assert set(some) == {b"a" * 1024, b"b" * 512 + b"a" * 512}, "torn at a sector, or nothing"

    disk.apply(_operation("S", f"{tmp_path}/new", 1))
    assert "new" not in disk.after_a_cut(DROPPED, rng), "its bytes are safe, its name is not"
    disk.apply(_operation("D", str(tmp_path)))
    assert disk.after_a_cut(DROPPED, rng) == {"old": b"a" * 1024, "new": b"data"}


def test_a_rename_that_was_not_synced_may_or_may_not_have_happened(tmp_path: Path) -> None:
    (tmp_path / "partial").write_bytes(b"whole")
    disk, rng = Disk(tmp_path), random.Random(1)
    disk.apply(Operation("R", 0, 0, f"{tmp_path}/partial", f"{tmp_path}/final", b""))

    found = [tuple(disk.after_a_cut(MIXED, rng)) for _ in range(40)]

    assert set(found) == {("partial",), ("final",)}, "both or neither never"


def test_cuts_lie_beside_syncs_and_at_the_end() -> None:
    operations = [_operation("W", "x")] * 50 + [_operation("S", "x")] + [_operation("W", "x")] * 49
    cuts = choose_cuts(operations, 8, random.Random(2))
    assert len(cuts) == 8
    assert cuts[-1] == 100
    assert {50, 51, 52} <= set(cuts)
