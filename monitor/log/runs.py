"""Training runs in the log: what is due is derived from them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, update

from monitor.core.domain import RunState, iso_utc
from monitor.log.connection import LogPart, inserted_id
from monitor.log.tables import Act, Label, Media, ModelVersion, TrainingRun
from monitor.log.versions import must_have

ENDED_FROM_OUTSIDE = "the process that trained was ended from outside"


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
                number = must_have(connection, version).id
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

    def close_interrupted_runs(self, now: datetime, why: str = ENDED_FROM_OUTSIDE) -> int:
        """Mark runs that say 'running' as failed: called by whoever holds the training lock."""
        with self._write() as connection:
            result = connection.execute(
                update(TrainingRun)
                .where(TrainingRun.state == RunState.RUNNING)
                .values(
                    state=RunState.FAILED,
                    finished_at=iso_utc(now),
                    message=why,
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
