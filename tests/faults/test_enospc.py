"""Some writes of every story meet a full disk; a log without transactions would be reported."""

from __future__ import annotations

import pytest

from . import shim
from .disk_stories import STORIES, Stations
from .enospc import Report, calls_of, drill_service, drill_story, fail_at

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shim.why_not() is not None, reason=str(shim.why_not())),
]
EVERY = {"intake": 250, "labels": 250, "train": 200, "rescore": 70, "backup": 90, "migration": 250}
"""Every so many writes fails; `python -m tests.faults.enospc` tries all."""


@pytest.mark.parametrize("name", STORIES)
def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(
    name: str, stations: Stations
) -> None:
    report = drill_story(stations, name, every=EVERY[name], modes=("stays full",))
    print(report)
    assert report.losses == report.crashes == []
    assert report.tries > 0
    assert report.ended["exit 1"] > 0, "it was noticed"


def test_a_log_without_transactions_is_reported(stations: Stations) -> None:
    report = drill_story(
        stations, "labels", every=200, modes=("stays full",), broken="transactions"
    )
    assert report.losses != []


def test_the_service_goes_on_by_itself_when_space_returns(stations: Stations) -> None:
    report = drill_service(stations, calls=(200,))
    print(report)
    assert report.losses == report.crashes == []
    assert report.tries == 1


def test_a_version_whose_entry_may_be_found_after_all_is_not_removed(stations: Stations) -> None:
    story, report = STORIES["train"], Report("train")
    calls = calls_of(stations, story)
    (renamed,) = (n for n, call in enumerate(calls) if "rename" in call and "/models/v" in call)
    entered = next(n for n, c in enumerate(calls) if n > renamed and "fsync" in c and "-wal" in c)
    where, lost = fail_at(stations, story, entered + 1, "stays full", report)
    assert "fsync" in where
    assert lost == report.crashes == []
