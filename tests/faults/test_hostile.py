"""Hostile EXIF, CSV files, configs and model directories: taken, or refused in words."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from . import hostile
from .hostile import KINDS, PROTECTIONS, feed


def test_hostile_files_are_taken_or_refused_in_words_and_nothing_is_lost(tmp_path: Path) -> None:
    report = feed(tmp_path, 200, seed=3)
    print(report)
    assert report.faults == []
    assert report.tries.total() == 200
    assert set(report.outcomes) == set(KINDS)
    for outcomes in report.outcomes.values():
        assert len(outcomes) > 3  # neither all taken nor all refused for one reason


TRIES = {"exif": 20, "config": 60, "models": 150, "csv": 10}
"""So many are enough for what the protection keeps away to be among them."""


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_without_a_protection_it_reports_faults(tmp_path: Path, protection: str) -> None:
    kind = PROTECTIONS[protection]
    report = feed(tmp_path, TRIES[kind], kinds=[kind], seed=1, broken=protection)
    assert report.faults
    assert report.kept is not None
    assert list(report.kept.iterdir())  # what did it is there to be looked at


class _Dying:
    """A kind whose second try in a process raises, and whose third kills it."""

    PROTECTIONS = ()

    class Subject:
        def __init__(self, folder: Path, broken: str | None) -> None:
            self._tries = 0

        def attempt(self, rng: object) -> tuple[str, list[str]]:
            self._tries += 1
            if self._tries == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            if self._tries == 2:
                raise RuntimeError("of a decoder")
            return "sound", []

        def close(self) -> list[str]:
            return []


def test_a_process_that_dies_is_a_crash_and_the_next_goes_on_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(hostile.KINDS, "dying", (_Dying, 1.0))
    report = feed(tmp_path, 7, kinds=["dying"])
    assert report.outcomes["dying"] == {"sound": 3, "crash": 2, "the process died": 2}
    assert report.count("crash") == len(report.faults) == 4
