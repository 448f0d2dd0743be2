"""Model versions and training runs in the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import EllipsisType
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from monitor.domain import ModelState, RunState, iso_utc
from monitor.log.connection import LogPart, inserted_id, new_act
from monitor.log.engine import LogError
from monitor.log.tables import Act, Label, Media, ModelVersion, TrainingRun


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


@dataclass(frozen=True, slots=True)
class RunRow:
    """One training run as the log knows it."""

    id: int
    started_at: str
    finished_at: str | None
    state: RunState
    method: str
    trigger: str
    pid: int
    stage: str
    progress: float
    last_label_id: int
    version: str | None
    message: str


class LiveChanged(LogError):
    """Somebody made another version live in the meantime."""


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
    ) -> None:
        """Make `name` the live version and retire the one before: one atomic change.

        Args:
            instead_of: the version that `name` was compared with (None: there was none); left
                out, whatever is live is replaced.

        Raises:
            LiveChanged: another version than `instead_of` is live by now; nothing was changed.
        """
        with self._write() as connection:
            _must_have(connection, name)
            live = connection.execute(
                select(ModelVersion.name).where(ModelVersion.state == ModelState.LIVE)
            ).scalar()
            if instead_of is not ... and live != instead_of:
                raise LiveChanged(
                    f"{live or 'no model'} went live while {name} was trained, "
                    f"which was compared with {instead_of or 'none'}; train again"
                )
            connection.execute(
                update(ModelVersion)
                .where(ModelVersion.state == ModelState.LIVE, ModelVersion.name != name)
                .values(state=ModelState.RETIRED)
            )
            connection.execute(
                update(ModelVersion)
                .where(ModelVersion.name == name)
                .values(state=ModelState.LIVE, went_live_at=iso_utc(now), reason=reason)
            )
            new_act(connection, "go-live", by, how, now, details={"version": name})

    def set_aside(self, name: str, reason: str) -> None:
        """Mark a candidate as rejected."""
        with self._write() as connection:
            connection.execute(
                update(ModelVersion)
                .where(ModelVersion.name == name, ModelVersion.state == ModelState.CANDIDATE)
                .values(state=ModelState.REJECTED, reason=reason)
            )

    def roll_back(
        self, by: str, now: datetime, usable: Callable[[VersionRow], object] = lambda row: None
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
            before = connection.execute(
                select(ModelVersion)
                .where(
                    ModelVersion.state == ModelState.RETIRED,
                    ModelVersion.went_live_at <= live.went_live_at,
                )
                .order_by(ModelVersion.went_live_at.desc(), ModelVersion.id.desc())
            ).first()
            if before is None:
                raise LogError(f"{live.name} is the first live model; there is none before it")
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
            new_act(connection, "roll-back", by, "cli", now, details=details)
        return str(before.name)

    def versions(self) -> list[VersionRow]:
        """All versions, newest first."""
        with self._read() as connection:
            rows = connection.execute(select(ModelVersion).order_by(ModelVersion.id.desc()))
            return [_version(row) for row in rows]

    def version(self, name: str) -> VersionRow:
        """One version. Raises LogError if there is none of that name."""
        with self._read() as connection:
            return _version(_must_have(connection, name))

    def live_version(self) -> VersionRow | None:
        """The version that labels now."""
        with self._read() as connection:
            row = connection.execute(
                select(ModelVersion).where(ModelVersion.state == ModelState.LIVE)
            ).first()
            return _version(row) if row else None


class RunQueries(LogPart):
    """Training runs: what is due is derived from these rows."""

    def start_run(self, method: str, trigger: str, pid: int, now: datetime) -> int:
        """Record that a training begins; it will have seen the labels that exist now."""
        with self._write() as connection:
            seen = connection.execute(select(func.max(Label.id))).scalar() or 0
            row: dict[str, Any] = {
                "started_at": iso_utc(now),
                "state": RunState.RUNNING,
                "method": method,
            }
            row |= {"trigger": trigger, "pid": pid, "stage": "starting", "progress": 0.0}
            result = connection.execute(
                insert(TrainingRun).values(**row, last_label_id=seen, message="")
            )
            return inserted_id(result)

    def run_progress(self, run_id: int, stage: str, progress: float) -> None:
        """Say how far a training is (`progress` 0-1)."""
        with self._write() as connection:
            connection.execute(
                update(TrainingRun)
                .where(TrainingRun.id == run_id)
                .values(stage=stage, progress=progress)
            )

    def finish_run(
        self, run_id: int, state: RunState, message: str, now: datetime, version: str | None = None
    ) -> None:
        """Record how a training ended."""
        number = None
        with self._write() as connection:
            if version is not None:
                number = _must_have(connection, version).id
            connection.execute(
                update(TrainingRun)
                .where(TrainingRun.id == run_id)
                .values(
                    state=state,
                    message=message,
                    finished_at=iso_utc(now),
                    model_version_id=number,
                    stage="done",
                    progress=1.0,
                )
            )

    def close_interrupted_runs(self, now: datetime) -> int:
        """Mark runs that say 'running' as failed: called by whoever holds the training lock."""
        with self._write() as connection:
            result = connection.execute(
                update(TrainingRun)
                .where(TrainingRun.state == RunState.RUNNING)
                .values(
                    state=RunState.FAILED,
                    finished_at=iso_utc(now),
                    message="the process that trained was ended from outside",
                )
            )
            return int(result.rowcount)

    def runs(self, limit: int) -> list[RunRow]:
        """The newest runs, newest first."""
        query = (
            select(TrainingRun, ModelVersion.name)
            .outerjoin(ModelVersion, ModelVersion.id == TrainingRun.model_version_id)
            .order_by(TrainingRun.id.desc())
            .limit(limit)
        )
        with self._read() as connection:
            return [_run(row) for row in connection.execute(query)]

    def first_label_at(self) -> str | None:
        """When the first label was given."""
        query = select(Act.at).where(Act.kind == "label").order_by(Act.id).limit(1)
        with self._read() as connection:
            return connection.execute(query).scalar()

    def new_labels_since(self, label_id: int) -> int:
        """How many media carry a label newer than `label_id` that counts."""
        query = select(func.count()).select_from(Media).where(Media.label_id > label_id)
        with self._read() as connection:
            return int(connection.execute(query).scalar_one())


def _must_have(connection: Connection, name: str) -> Any:
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


def _run(row: Any) -> RunRow:
    return RunRow(
        row.id,
        row.started_at,
        row.finished_at,
        RunState(row.state),
        row.method,
        row.trigger,
        row.pid,
        row.stage,
        row.progress,
        row.last_label_id,
        row.name,
        row.message,
    )
