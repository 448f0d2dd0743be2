"""Corrections of a camera's clock: what the camera wrote stays, what is shown moves.

The station's list may give a deployment one shift (`deployment.clock_shift_seconds`); people say
further ones, each for all frames or for those of some time. All of them count, one after the
other, so neither the list nor a person overwrites what the other said. They are acts, and stand
once more in the `state` table, where intake finds them at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from monitor.core.domain import parse_iso_utc
from monitor.log.connection import put_state
from monitor.log.tables import Deployment, State

KEY = "clock corrections of "
KIND, UNDO_KIND = "shift-time", "shift-time-undo"
"""Kinds of act that say a correction, and that take one back."""


@dataclass(frozen=True, slots=True)
class Correction:
    """One correction.

    Attributes:
        key: names it for good.
        seconds: how far it moves frames; to the future where it is positive.
        since, until: only frames that were shown at such a time (ISO 8601, camera's wall clock)
            before it; `until` is exclusive. None: no bound.
    """

    key: str
    seconds: float
    since: str | None = None
    until: str | None = None

    def moved(self, wall: datetime) -> datetime:
        """A wall clock time after this correction. Raises OverflowError."""
        if self.since is not None and wall < datetime.fromisoformat(self.since):
            return wall
        if self.until is not None and wall >= datetime.fromisoformat(self.until):
            return wall
        return wall + timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class Clock:
    """A deployment's clock: the shift that the list gives it, and what people said further."""

    deployment_id: int
    base_seconds: float
    corrections: tuple[Correction, ...] = ()


def new_key() -> str:
    """A name that no other correction has."""
    return secrets.token_hex(4)


def shift_of(wall: datetime, base_seconds: float, corrections: Sequence[Correction]) -> float:
    """By how many seconds a frame is shown later than its camera wrote.

    A correction that would leave the calendar (years 1-9999) is not applied.
    """
    moved = wall
    for step in (Correction("", base_seconds), *corrections):
        try:
            moved = step.moved(moved)
        except OverflowError:
            continue
    return (moved - wall).total_seconds()


def corrections_of(connection: Connection, deployment: str) -> list[Correction]:
    """What people said of this deployment's clock, in order; what was taken back is left out."""
    value = connection.execute(select(State.value).where(State.key == KEY + deployment)).scalar()
    return [Correction(**one) for one in (value or {}).get("corrections", ())]


def clock_of(connection: Connection, deployment_id: int) -> Clock:
    """All that is known of a deployment's clock."""
    row = connection.execute(
        select(Deployment.name, Deployment.clock_shift_seconds).where(
            Deployment.id == deployment_id
        )
    ).one()
    corrections = tuple(corrections_of(connection, row.name))
    return Clock(deployment_id, row.clock_shift_seconds, corrections)


def keep_corrections(
    connection: Connection, deployment: str, corrections: Sequence[Correction], now: datetime
) -> None:
    """Let these be all that count."""
    value = {"corrections": [asdict(one) for one in corrections]}
    put_state(connection, KEY + deployment, value, now)


def replay_correction(
    connection: Connection, kind: str, details: Mapping[str, Any], at: str
) -> str | None:
    """Take a correction over from its act, or take it back; doing it twice is as once.

    Returns:
        the deployment, if its corrections are others now.
    """
    name = str(details["deployment"])
    before = corrections_of(connection, name)
    if kind == UNDO_KIND:
        after = [one for one in before if one.key != details["key"]]
    else:
        said = Correction(
            str(details["key"]), float(details["seconds"]), details["since"], details["until"]
        )
        after = before if any(one.key == said.key for one in before) else [*before, said]
    if after == before:
        return None
    keep_corrections(connection, name, after, parse_iso_utc(at))
    return name
