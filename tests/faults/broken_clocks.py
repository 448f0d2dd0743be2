"""The service with wall-clock time where the monotonic clock belongs, to see that the drill of the
clocks would notice.

python tests/faults/broken_clocks.py settle run --config CONFIG
"""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import Any

from monitor.cli import main
from monitor.pipeline import places
from monitor.service import supervisor as service
from monitor.service import ticks as scheduler
from monitor.service import training_process as training_job


def break_settle() -> None:
    """Files hold still by the wall clock."""
    places.monotonic = time.time


def break_due() -> None:
    """A training is due at its time alone, also where that lies in a future that is over."""

    def is_due(due_at: datetime | None, now: datetime, facts: Any) -> bool:
        return due_at is not None and now >= due_at

    training_job.is_due = is_due


def break_ticks() -> None:
    """Nobody looks whether the clock was set."""
    scheduler.Ticks.check_clock = lambda ticks, *times: False  # type: ignore[method-assign]


BREAKS = {"settle": break_settle, "due": break_due, "ticks": break_ticks}

if __name__ == "__main__":
    BREAKS[sys.argv[1]]()
    service.TRAINING_TICK_SECONDS = 1.0  # as in drill.HURRIED
    sys.argv = ["trapwatch", *sys.argv[2:]]
    main()
