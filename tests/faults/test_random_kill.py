"""A service killed at random moments loses nothing; without its protections it would."""

from __future__ import annotations

from pathlib import Path

import pytest

from .random_kill import drill_kills


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
