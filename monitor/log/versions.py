"""Model versions in the log, and which of them is live."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import EllipsisType
from typing import Any

from sqlalchemy import Connection, insert, select, update

from monitor.core.domain import ModelState, iso_utc
from monitor.log.connection import LogPart, new_act
from monitor.log.engine import LogError
from monitor.log.tables import Act, ModelVersion

STATION = "station"
"""Who acts where nobody was asked, and how."""


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One model version as the log knows it."""

    id: int
    name: str
    state: ModelState
    created_at: str
    went_live_at: str | None
    backbone: str
    layout: str
    weights_sha256: str
    reason: str
    figures: dict[str, Any]


class VersionQueries(LogPart):
    """Which model is live is a row of the log: going live is one transaction."""

    def add_version(
        self,
        name: str,
        state: ModelState,
        backbone: str,
        layout: str,
        weights_sha256: str,
        reason: str,
        figures: dict[str, Any],
        now: datetime,
    ) -> None:
        """Register a version whose directory is complete on disk. It does not go live by this."""
        if state is ModelState.LIVE:
            raise LogError("a version goes live through go_live()")
        row = {"name": name, "state": state, "created_at": iso_utc(now), "backbone": backbone}
        row |= {"layout": layout, "weights_sha256": weights_sha256, "reason": reason}
        with self._write() as connection:
            connection.execute(insert(ModelVersion).values(**row, figures=figures))

    def go_live(
        self,
        name: str,
        reason: str,
        by: str,
        now: datetime,
        *,
        how: str = "cli",
        instead_of: str | EllipsisType | None = ...,
    ) -> str | None:
        """Make `name` the live version and retire the one before: one atomic change.

        Args:
            instead_of: the version that `name` was compared with (None: there was none); left
                out, whatever is live is replaced.

        Returns:
            None; or, where another version than `instead_of` went live by now, why `name` was
            set aside as rejected.
        """
        with self._write() as connection:
            must_have(connection, name)
            live = connection.execute(
                select(ModelVersion.name).where(ModelVersion.state == ModelState.LIVE)
            ).scalar()
            this = update(ModelVersion).where(ModelVersion.name == name)
            if instead_of is not ... and live != instead_of:
                why = (
                    f"{live or 'no model'} went live while {name} was trained, "
                    f"which was compared with {instead_of or 'none'}; train again"
                )
                connection.execute(this.values(state=ModelState.REJECTED, reason=why))
                return why
            connection.execute(
                update(ModelVersion)
                .where(ModelVersion.state == ModelState.LIVE, ModelVersion.name != name)
                .values(state=ModelState.RETIRED)
            )
            connection.execute(
                this.values(state=ModelState.LIVE, went_live_at=iso_utc(now), reason=reason)
            )
            new_act(connection, "go-live", by, how, now, details={"version": name})
        return None

    def roll_back(
        self,
        by: str,
        now: datetime,
        usable: Callable[[VersionRow], object] = lambda row: None,
        *,
        how: str = "cli",
    ) -> str:
        """Bring back the version that was live before; the present one counts as rejected.

        Args:
            usable: called with the version to bring back; what it raises stops the roll-back.

        Returns:
            the name of the version that is live now.
        """
        with self._write() as connection:
            live = connection.execute(
                select(ModelVersion).where(ModelVersion.state == ModelState.LIVE)
            ).first()
            if live is None:
                raise LogError("no model is live, so there is none to roll back from")
            earlier = _earlier(connection, live.name)
            if not earlier:
                raise LogError(f"{live.name} is the first live model; there is none before it")
            before = earlier[0]
            usable(_version(before))
            for row, state, reason in (
                (live, ModelState.REJECTED, f"rolled back by {by}"),
                (before, ModelState.LIVE, f"brought back by {by}"),
            ):
                connection.execute(
                    update(ModelVersion)
                    .where(ModelVersion.id == row.id)
                    .values(state=state, reason=reason)
                )
            details = {"from": live.name, "to": before.name}
            new_act(connection, "roll-back", by, how, now, details=details)
        return str(before.name)

    def fall_back(self, damaged: str, to: str | None, why: str, now: datetime) -> None:
        """Let an earlier version label in the place of the live one, whose files are damaged: that
        one is not chosen again until somebody promotes it.

        Args:
            to: None: no earlier version is sound, and none is live from now on.
        """
        changes = [(damaged, ModelState.DAMAGED, why)]
        if to is not None:
            changes.append((to, ModelState.LIVE, f"brought back by the station for {damaged}"))
        with self._write() as connection:
            live = ModelVersion.state == ModelState.LIVE
            if connection.execute(select(ModelVersion.name).where(live)).scalar() != damaged:
                return  # a person was quicker
            for name, state, reason in changes:
                this = update(ModelVersion).where(ModelVersion.name == name)
                connection.execute(this.values(state=state, reason=reason))
            details = {"from": damaged, "to": to, "damaged": why}
            new_act(connection, "roll-back", STATION, STATION, now, details=details)

    def earlier_versions(self, name: str) -> list[VersionRow]:
        """The retired versions that were live before this one, the last of them first."""
        with self._read() as connection:
            return [_version(row) for row in _earlier(connection, name)]

    def order_of_going_live(self) -> dict[str, int]:
        """Version -> a number that grows with each time that one went live; whatever the clock
        said. Those that never did are left out."""
        with self._read() as connection:
            return _order(connection)

    def damaged_version(self) -> VersionRow | None:
        """The version in whose place another labels, or none, since its files were found damaged;
        None as soon as a version went live, or was brought back, by itself or by a person."""
        damaged = select(ModelVersion).where(ModelVersion.state == ModelState.DAMAGED)
        changes = select(Act.details).where(Act.kind.in_(("go-live", "roll-back")))
        with self._read() as connection:
            rows = {row.name: row for row in connection.execute(damaged)}
            if not rows:  # the usual case: no need to look through all acts
                return None
            last = connection.execute(changes.order_by(Act.id.desc()).limit(1)).scalar() or {}
            row = rows.get(last.get("from")) if last.get("damaged") else None
            return _version(row) if row is not None else None

    def versions(self) -> list[VersionRow]:
        """All versions, newest first."""
        with self._read() as connection:
            rows = connection.execute(select(ModelVersion).order_by(ModelVersion.id.desc()))
            return [_version(row) for row in rows]

    def version(self, name: str) -> VersionRow:
        """One version. Raises LogError if there is none of that name."""
        with self._read() as connection:
            return _version(must_have(connection, name))

    def live_version(self) -> VersionRow | None:
        """The version that labels now."""
        with self._read() as connection:
            row = connection.execute(
                select(ModelVersion).where(ModelVersion.state == ModelState.LIVE)
            ).first()
            return _version(row) if row else None


def _earlier(connection: Connection, name: str) -> list[Any]:
    """The retired versions that were live before `name`, the last of them first."""
    retired = select(ModelVersion).where(ModelVersion.state == ModelState.RETIRED)
    order = _order(connection)
    own = order.get(name, math.inf)
    rows = [row for row in connection.execute(retired) if order.get(row.name, 0) < own]
    return sorted(rows, key=lambda row: place_among(row.name, row.id, order), reverse=True)


def _order(connection: Connection) -> dict[str, int]:
    """Version -> the last act by which it went live: the clock may have been wrong."""
    acts = select(Act.id, Act.details).where(Act.kind == "go-live").order_by(Act.id)
    return {row.details["version"]: row.id for row in connection.execute(acts)}


def place_among(name: str, number: int, order: Mapping[str, int]) -> tuple[int, int]:
    """What versions are sorted by: when they went live (see `order_of_going_live`); those of which
    no act tells come first, by their ids."""
    return order.get(name, 0), number


def must_have(connection: Connection, name: str) -> Any:
    """The row of a version. Raises LogError if there is none of that name."""
    row = connection.execute(select(ModelVersion).where(ModelVersion.name == name)).first()
    if row is None:
        raise LogError(f"there is no model version '{name}'; see: trapwatch models list")
    return row


def _version(row: Any) -> VersionRow:
    return VersionRow(
        row.id,
        row.name,
        ModelState(row.state),
        row.created_at,
        row.went_live_at,
        row.backbone,
        row.layout,
        row.weights_sha256,
        row.reason,
        row.figures,
    )
