"""What a fine-tuning does with the time it has: fewer views first, then fewer epochs, then none."""

from __future__ import annotations

import time

import pytest

from monitor.core.config import Training
from monitor.training.bench import EPOCH_WORK, views_in_time
from monitor.training.finetune import FEWEST_EPOCHS, NotTuned

LABELS, HELD_OUT = 500, 100
SLOW = 0.5  # seconds an image takes
MISSING = [views * LABELS + HELD_OUT for views in (1, 2, 3, 4)]


def asked(seconds: float, blocks: int = 2, missing: list[int] = MISSING) -> int:
    training = Training(tuned_blocks=blocks, finetune_epochs=8, max_minutes=60)
    ends_at = time.monotonic() + seconds
    return views_in_time(training, SLOW, missing, LABELS, ends_at)


def needed(views: int, epochs: float, blocks: int = 2) -> float:
    return SLOW * (MISSING[views - 1] + epochs * LABELS * EPOCH_WORK[6 - blocks])


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("views", [2, 3, 4])
def test_as_many_views_as_leave_time_for_half_of_the_epochs(views: int, blocks: int) -> None:
    assert asked(needed(views, 4, blocks) + 1, blocks) == views
    assert asked(needed(views, 4, blocks) - 1, blocks) == views - 1


def test_one_view_needs_time_for_the_fewest_epochs_only() -> None:
    assert asked(needed(1, FEWEST_EPOCHS) + 1) == 1
    with pytest.raises(NotTuned, match=r"2\.0 images a second.*tuned_blocks: 1 takes a quarter"):
        asked(needed(1, FEWEST_EPOCHS) - 1)
    with pytest.raises(NotTuned) as refused:
        asked(1, blocks=1)
    assert "quarter" not in str(refused.value)


def test_what_was_computed_the_night_before_costs_nothing() -> None:
    there = [0, 0, LABELS, 2 * LABELS]
    assert asked(needed(1, 4), missing=MISSING) == 1
    assert asked(needed(1, 4), missing=there) == 3
