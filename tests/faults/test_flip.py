"""A byte that changed in any file of a station costs no label; without the journal it would."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from monitor.log.engine import choose_sqlite

from .drill import Drill, draw_frame, fill
from .flip import drill_flips
from .losses import imported_losses, losses

DONE = "SELECT count(*) FROM media WHERE status <> 'pending'"


@pytest.mark.slow
def test_changed_bytes_lose_nothing(tmp_path: Path) -> None:
    report = drill_flips(
        tmp_path, 10, seed=2, targets=("log", "pointer", "wal", "journal", "weights")
    )
    print(report)
    assert report.losses == []
    assert report.restored.total(), "some of them broke the log"


@pytest.mark.slow
def test_without_the_journal_the_drill_reports_lost_labels(tmp_path: Path) -> None:
    report = drill_flips(tmp_path, 4, seed=2, broken="journal", targets=("wal", "log"))
    assert report.lost_labels > 0
    assert any("label lost" in loss for loss in report.losses)


@pytest.mark.slow
def test_a_log_that_breaks_under_a_running_service_is_restored_by_it(tmp_path: Path) -> None:
    drill = Drill(tmp_path / "station")
    fill(drill, each=2, unlabelled=0)
    assert drill.trapwatch("run", "--once").returncode == 0
    assert drill.trapwatch("label", "import-folder", str(drill.sorted)).returncode == 0
    log = drill.data / "trapwatch.db"
    with drill.service() as service:
        wait_for(lambda: "is up" in drill.output.read_text(), 60)
        with log.open("r+b") as file:
            file.seek(4096)
            file.write(b"\x99" * (log.stat().st_size - 4096))
        draw_frame(drill.frames / "north" / "late.jpg", "red fox", datetime(2024, 6, 1), 99)
        wait_for(lambda: "labels came back from the journal" in drill.output.read_text(), 90)
        wait_for(lambda: drill.number(DONE) == 20, 60)
        assert service.poll() is None, "the same process goes on"
    assert drill.trapwatch("run", "--once").returncode == 0
    assert losses(drill) == imported_losses(drill) == []
    assert len(list(drill.data.glob("trapwatch.db.damaged-*Z"))) == 1
    assert "log restored" in drill.trapwatch("status").stdout


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Look again and again. Raises AssertionError when the time is over."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(choose_sqlite().module.DatabaseError):
            if condition():
                return
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.2)
