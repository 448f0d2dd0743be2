"""When a training is due: derived from the log, so a station that was off for long trains once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from monitor.core.config import Training
from monitor.core.cron import cron_trigger
from monitor.core.domain import RunState, parse_iso_utc
from monitor.log.runs import RunRow
from monitor.log.species_log import SpeciesLog

FIRST_RETRY = timedelta(minutes=10)
LONGEST_RETRY = timedelta(days=1)
CLOCK_TOLERANCE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """What decides whether a training is due.

    Attributes:
        runs: the newest training runs, newest first.
        new_labels: media labelled since the newest successful run.
        first_label_at: when the first label was given, in UTC; None if there is none.
    """

    runs: Sequence[RunRow]
    new_labels: int
    first_label_at: datetime | None

    @property
    def newest(self) -> RunRow | None:
        """The newest run."""
        return self.runs[0] if self.runs else None

    @property
    def since(self) -> datetime | None:
        """What the schedule counts from: the start of the newest run, else the first label."""
        return parse_iso_utc(self.runs[0].started_at) if self.runs else self.first_label_at


def training_facts(log: SpeciesLog) -> TrainingFacts:
    """Read from the log what decides whether a training is due."""
    runs = log.runs(30)
    good = next((run for run in runs if run.state is RunState.SUCCEEDED), None)
    is_lost = log.live_version() is None and log.damaged_version() is not None
    learnt = good.last_label_id if good is not None and not is_lost else 0  # else all are new
    new_labels = log.new_labels_since(learnt)
    first = log.first_label_at()
    return TrainingFacts(runs, new_labels, parse_iso_utc(first) if first else None)


def training_due_at(facts: TrainingFacts, settings: Training, zone: ZoneInfo) -> datetime | None:
    """The moment from which a training is due (it may lie in the past); None: not as things are.

    The first cron time after the newest run (or after the first label), once there are
    `min_new_labels` new ones; after a failure, ever longer pauses instead: 10, 20, 40 … minutes,
    at most a day.
    """
    if not settings.enabled or facts.new_labels < settings.min_new_labels:
        return None
    if facts.first_label_at is None:
        return None
    newest = facts.newest
    if newest is not None and newest.state is RunState.RUNNING:
        return None
    failures = failures_in_row(facts.runs)
    if newest is not None and failures:
        pause = min(FIRST_RETRY * (1 << min(failures - 1, 20)), LONGEST_RETRY)
        return parse_iso_utc(newest.finished_at or newest.started_at) + pause
    assert facts.since is not None, "there is a label"
    trigger = cron_trigger(settings.schedule, zone)
    after = facts.since + timedelta(microseconds=1)
    moment: datetime | None = trigger.get_next_fire_time(None, after)
    return moment.astimezone(UTC) if moment is not None else None


def is_due(due_at: datetime | None, now: datetime, facts: TrainingFacts) -> bool:
    """True if `due_at` has come; also if what it counts from lies in the future, which tells that
    the clock was set back: waiting for the old time to come again could take years."""
    if due_at is None or facts.since is None:
        return False
    return now >= due_at or facts.since > now + CLOCK_TOLERANCE


def failures_in_row(runs: Sequence[RunRow]) -> int:
    """How many of the newest runs failed, one after the other."""
    count = 0
    for run in runs:
        if run.state is not RunState.FAILED:
            break
        count += 1
    return count
