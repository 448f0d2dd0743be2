"""The service retrains on schedule while frames keep arriving, and no frame notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from .drill import HURRIED, Drill, fill
from .retraining import LONGER, retrain_while_frames_arrive

LABELLED = 100
SLACK_SECONDS = 0.5
"""With the small backbone the usual wait is a few steps of two loops: noise counts there."""


@pytest.mark.slow
def test_no_frame_waits_for_a_training_and_the_swap_drops_none(tmp_path: Path) -> None:
    pool = Drill(tmp_path / "pool")
    fill(pool, each=35, unlabelled=0)
    (pool.frames / "north" / "broken.jpg").unlink()
    species = {path.name.partition("-")[2]: path.parent.name for path in pool.sorted.rglob("*.JPG")}
    frames = sorted(pool.frames.rglob("*.JPG"), key=lambda p: int(p.stem[4:]) % 35)
    truth = {p.relative_to(pool.frames): species[p.name].replace("_", " ") for p in frames}
    drill = Drill(tmp_path / "station")
    drill.configure(schedule="* * * * *", min_new_labels=LABELLED, nice=5)

    outcome = retrain_while_frames_arrive(
        drill,
        pool.frames,
        truth,
        labelled=LABELLED,
        every=0.12,
        usual_seconds=3,
        code=HURRIED,
    )

    print(outcome)
    assert outcome.faults == []
    assert outcome.live == ["v0001"]
    assert len(outcome.during.seconds) > 10
    usual = outcome.before.at(0.95)
    assert outcome.during.seconds[-1] <= LONGER * usual + SLACK_SECONDS
