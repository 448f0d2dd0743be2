"""A service, or a command, killed at random moments loses nothing; without protections it would."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import shim, story_kills
from .disk_stories import Stations
from .random_kill import drill_kills

needs_shim = pytest.mark.skipif(shim.why_not() is not None, reason=str(shim.why_not()))


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    report = drill_kills(tmp_path / "station", 6, seed=1)
    print(report)
    assert report.losses == []
    assert report.in_training > 0
    assert report.media["classified"] > 50


@pytest.mark.slow
def test_without_its_protection_the_drill_reports_a_loss(tmp_path: Path) -> None:
    report = drill_kills(tmp_path / "station", 6, seed=1, broken="intake", trainings=False)
    assert any("lost" in loss for loss in report.losses)


@pytest.mark.slow
@needs_shim
def test_another_program_that_reads_the_log_costs_nothing(tmp_path: Path) -> None:
    report = drill_kills(tmp_path / "station", 5, seed=2, reads=True)
    print(report)
    assert report.losses == []
    assert report.reads > 0 and report.backups > 0


@pytest.mark.slow
@needs_shim
def test_a_service_that_closes_its_live_log_is_reported(tmp_path: Path) -> None:
    report = drill_kills(
        tmp_path / "station", 3, seed=2, reads=True, broken="closing", trainings=False
    )
    assert any("lost locks" in loss for loss in report.losses)


@pytest.mark.slow
@needs_shim
@pytest.mark.parametrize("story", ["backup", "labels", "migration"])
def test_a_command_killed_at_random_moments_loses_nothing(story: str, stations: Stations) -> None:
    report = story_kills.Report()
    story_kills.drill_kills(stations, story, 2, report)
    assert report.losses == []
    assert report.kills.total() == 2


@pytest.mark.slow
@needs_shim
def test_without_transactions_a_killed_command_is_reported(stations: Stations) -> None:
    report = story_kills.Report()
    for seed in range(20):  # a moment between two statements has to be met
        kills = 4 * (seed + 1)
        story_kills.drill_kills(stations, "labels", kills, report, seed=seed, broken="transactions")
        if report.losses:
            return
    pytest.fail(f"nothing was reported: {report}")
