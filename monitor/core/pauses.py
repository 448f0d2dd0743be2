"""Reasons why some work rests for now: a full disk, the hours of work, a low battery."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

logger = logging.getLogger(__name__)

INTAKE, CLASSIFY, TRAIN, BACKUP = "intake", "classify", "train", "backup"
KINDS_OF_WORK = (INTAKE, CLASSIFY, TRAIN, BACKUP)
"""Taking files in; classifying and re-scoring; training; backups."""
IN_WORDS = {INTAKE: "intake", CLASSIFY: "classifying", TRAIN: "training", BACKUP: "backing up"}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why work rests.

    Attributes:
        kind_of_work: which work, of KINDS_OF_WORK.
        words: for people, with figures and what would help: `disk full, 310 MB free; 500 needed`.
    """

    kind_of_work: frozenset[str]
    words: str


class Rest:
    """All reasons to rest of one station, by the name of whoever gave them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reasons: dict[str, Reason] = {}

    def set(self, name: str, reason: Reason | None) -> None:
        """Give a reason, in the place of the one that `name` gave before; None takes it back.

        Told in the journal only when it comes and goes, so it may be said again and again.
        """
        with self._lock:
            before = self._reasons.pop(name, None)
            if reason is not None:
                self._reasons[name] = reason
        if reason is not None and (before is None or before.kind_of_work != reason.kind_of_work):
            logger.warning("%s: %s", _resting(reason.kind_of_work), reason.words)
        elif reason is None and before is not None:
            logger.info("%s no more: %s", _resting(before.kind_of_work), name)

    def is_set(self, name: str) -> bool:
        """Whether `name` gives a reason now."""
        with self._lock:
            return name in self._reasons

    def reasons(self, work: str) -> list[str]:
        """Why this kind of work rests now, in words; none if it need not."""
        with self._lock:
            return [r.words for r in self._reasons.values() if work in r.kind_of_work]

    def words(self, work: str) -> str | None:
        """The same as one line; None if this kind of work need not rest."""
        return "; ".join(self.reasons(work)) or None

    def facts(self) -> dict[str, str]:
        """Kind of work -> why it rests, for those that do: what `status` shows."""
        return {work: words for work in KINDS_OF_WORK if (words := self.words(work)) is not None}


def resting_lines(facts: dict[str, str]) -> list[str]:
    """For people: one line for each reason, with all the work that rests for it."""
    kinds: dict[str, set[str]] = {}
    for work, words in facts.items():
        kinds.setdefault(words, set()).add(work)
    return [f"{_resting(frozenset(works))}: {words}" for words, works in kinds.items()]


def _resting(kinds: frozenset[str]) -> str:
    named = [IN_WORDS[kind] for kind in KINDS_OF_WORK if kind in kinds]
    return f"{', '.join(named)} {'rests' if len(named) == 1 else 'rest'}"
