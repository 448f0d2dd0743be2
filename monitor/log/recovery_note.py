"""A note beside the log that says how far its recovery is, for whoever asks meanwhile."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from monitor.system.files import write_whole

logger = logging.getLogger(__name__)

NOTE = "recovery.json"


@dataclass(frozen=True, slots=True)
class Note:
    """How far a recovery is.

    Attributes:
        aside: the name under which the broken log is kept, beside the log.
        backup: the backup that took its place; None: there is none, or not yet.
        is_empty: no backup is to be used (any more): an empty log takes its place.
        waits_for: why it does not go on; None: it does.
    """

    at: str
    why: str
    aside: str
    backup: str | None = None
    is_empty: bool = False
    waits_for: str | None = None

    @property
    def words(self) -> str:
        """For people."""
        begun = f"the log was damaged ({self.why}); its recovery was begun at {self.at}"
        if self.waits_for is not None:
            return f"{begun} and waits for room: {self.waits_for}"
        return f"{begun}, and the service goes on with it when it runs"


def read_note(log: Path) -> Note | None:
    """What is noted beside this log; None: no recovery is under way, or nobody can tell."""
    try:
        return Note(**json.loads((log.parent / NOTE).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s cannot be read and is ignored: %s", log.parent / NOTE, error)
        return None


def why_missing(log: Path) -> str:
    """For people: why there is no log."""
    note = read_note(log)
    if note is not None:
        return f"{log} is not there now: {note.words}"
    return f"there is no species log at {log} yet; start one with: trapwatch run"


def write_note(log: Path, note: Note) -> None:
    """Raises OSError."""
    write_whole(json.dumps(asdict(note)).encode(), log.parent / NOTE, 0o640)
