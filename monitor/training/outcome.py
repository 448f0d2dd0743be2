"""What a training comes to: a version in the log that is live, or rejected with the reason."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitor.core.domain import ModelState
from monitor.log.engine import LogError
from monitor.log.species_log import SpeciesLog
from monitor.model.versions import ModelStore
from monitor.training.gate import Verdict


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """What a training came to: a version that is live (`accepted`) or rejected, and why."""

    version: str | None
    accepted: bool
    reason: str
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Published:
    """A version that lies whole on the disk, and that the log does not know yet."""

    name: str
    backbone: str
    layout: str
    sha256: str
    figures: dict[str, Any]


def register(
    log: SpeciesLog,
    version: Published,
    verdict: Verdict,
    champion: str | None,
    trigger: str,
    now: datetime,
) -> TrainingOutcome:
    """Enter a version in the log, and let it go live if it may.

    Args:
        champion: the version that it was compared with.
        trigger: why it was trained, for the log.
    """
    name, reason, figures = version.name, verdict.reason, version.figures
    state = ModelState.CANDIDATE if verdict.accepted else ModelState.REJECTED
    log.add_version(
        name, state, version.backbone, version.layout, version.sha256, reason, figures, now
    )
    if not verdict.accepted:
        return TrainingOutcome(name, False, reason, figures)
    how = f"training, {trigger}"
    changed = log.go_live(name, reason, "training", now, how=how, instead_of=champion)
    return TrainingOutcome(name, changed is None, changed or reason, figures)


def discard(
    log: SpeciesLog, store: ModelStore, name: str, report: Callable[[str, float], None]
) -> None:
    """Remove a version that is not in the log, and never will be.

    A commit that failed at its very end is found after all when the log is next opened, unless
    another write came to its end since. If none can, the version stays: it may be in use.

    Args:
        report: writes to the log.
    """
    with suppress(LogError):
        report("not entered in the log", 0.95)
        store.discard_unless(name, [row.name for row in log.versions()])
