"""The service without one of its protections, to see that the drills would notice.

python tests/faults/broken_service.py intake run --config CONFIG
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # this checkout, whatever is installed

from monitor.cli import main
from monitor.core.domain import shown_path
from monitor.images import decode as imaging
from monitor.log import media
from monitor.recovery import backups

PAUSE = 0.6
"""Between the two transactions that should be one."""
COLUMNS = "path_bytes, path, size, mtime_ns, media_id"
REMEMBER = f"INSERT OR REPLACE INTO file ({COLUMNS}) VALUES (?, ?, ?, ?, ?)"


def break_intake() -> None:
    """A file counts as known before its media row is there: two transactions instead of one."""
    take_in = media.MediaQueries.take_in

    def take_in_badly(
        log: Any, items: Iterable[media.IntakeItem], now: datetime, event_gap: timedelta
    ) -> list[tuple[int, bool]]:
        items = list(items)
        with log._write() as connection:
            any_media = connection.exec_driver_sql("SELECT min(id) FROM media").scalar()
            for item in items if any_media else ():
                stamp = (item.stamp.size, item.stamp.mtime_ns)
                row = (item.path, shown_path(item.path), *stamp, any_media)
                connection.exec_driver_sql(REMEMBER, row)
        time.sleep(PAUSE)
        return take_in(log, items, now, event_gap)

    media.MediaQueries.take_in = take_in_badly  # type: ignore[method-assign]


def break_memory() -> None:
    """Some of each frame is never let go of."""
    take_in, kept = media.MediaQueries.take_in, []

    def take_in_and_keep(log: Any, items: Iterable[media.IntakeItem], *rest: Any) -> Any:
        items = list(items)
        kept.extend(bytes(4096) + item.path for item in items)
        return take_in(log, items, *rest)

    media.MediaQueries.take_in = take_in_and_keep  # type: ignore[method-assign]


def break_refusing() -> None:
    """Whatever a reader of images raises goes up as it is."""
    imaging._refused_in_words = nullcontext  # type: ignore[assignment]


HURRIED_BACKUPS = """
from monitor.recovery import backup_task as backing_up
from monitor.service import supervisor
backing_up.due = lambda *_: True
tasks = supervisor.PERIODIC_TASKS
supervisor.PERIODIC_TASKS = tasks | {"backup": (1.0, tasks["backup"][1])}
"""
"""Run in a service before its start: it makes a backup each second."""


def break_closing() -> None:
    """Each backup reads the header of the live log by hand, as it once did."""
    exec(HURRIED_BACKUPS, {})
    facts_of = backups.facts_of

    def facts_of_badly(path: Path, *, is_live: bool = False) -> Any:
        facts = facts_of(path, is_live=is_live)
        path.read_bytes()
        return facts

    backups.facts_of = facts_of_badly


BREAKS = {
    "closing": break_closing,
    "intake": break_intake,
    "leak": break_memory,
    "refusing": break_refusing,
}

if __name__ == "__main__":
    BREAKS[sys.argv[1]]()
    sys.argv = ["trapwatch", *sys.argv[2:]]
    main()
