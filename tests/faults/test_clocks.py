"""A station whose clock jumps loses nothing, stalls nowhere and trains once for each time due."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.service import training_process as training_job

from . import clocks_inside
from .clocks import drill_clocks, library
from .clocks_inside import drill_inside

FAKETIME = library()
needs_faketime = pytest.mark.skipif(
    FAKETIME is None, reason="libfaketime is missing (apt-get install libfaketime)"
)


@pytest.mark.slow
def test_every_listed_jump_is_survived_inside_one_process(tmp_path: Path) -> None:
    report = drill_inside(tmp_path / "station", 17)
    print(report)
    assert report.faults == []
    assert report.trainings == 17


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["ticks", "due"])
def test_without_its_protection_the_drill_reports_a_stall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    if broken == "ticks":
        monkeypatch.setattr("monitor.service.ticks.Ticks.check_clock", lambda *_: False)
    else:
        monkeypatch.setattr(training_job, "is_due", lambda due, now, _: bool(due) and now >= due)
    monkeypatch.setattr(clocks_inside, "PATIENCE_SECONDS", 6.0)
    report = drill_inside(tmp_path / "station", 3)
    assert any("back a day" in fault and "stalled" in fault for fault in report.faults)


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_faketime
def test_the_daemon_starts_in_1970_is_set_and_falls_back_a_day(tmp_path: Path) -> None:
    assert FAKETIME is not None
    report = drill_clocks(tmp_path / "station", FAKETIME, most=2)
    print(report)
    assert report.faults == []
    assert (report.stages, report.trainings) == (2, 2)
