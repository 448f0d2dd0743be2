"""One training, from the station's settings: the lock, the cache, the missing features."""

from __future__ import annotations

from collections.abc import Callable

from monitor.config import Settings
from monitor.domain import TrapwatchError, utc_now
from monitor.locks import TRAINING_LOCK_NAME, OwnerLock
from monitor.scheduler import training_facts
from monitor.station import Station
from monitor.training.run import TrainingOutcome, train_once


class TooFewNewLabels(TrapwatchError):
    """There is little new to learn from."""


def train_now(
    settings: Settings, *, trigger: str, force: bool, progress: Callable[[str, float], None]
) -> TrainingOutcome:
    """Train once, in this process.

    Raises:
        Busy: another process trains.
        TooFewNewLabels: fewer than `training.min_new_labels`, and `force` is False.
        TrainingError: the labels are not enough to learn from.
    """
    lock = settings.data_directory / TRAINING_LOCK_NAME
    with OwnerLock(lock, "training", utc_now()):
        station = Station(settings)
        try:
            station.log.close_interrupted_runs(utc_now())
            new = training_facts(station.log).new_labels
            if new < settings.training.min_new_labels and not force:
                raise TooFewNewLabels(
                    f"{new} new labels since the last training, and training.min_new_labels is "
                    f"{settings.training.min_new_labels}; label more, or insist with --force"
                )
            return train_once(
                station.log,
                station.features,
                station.store,
                settings,
                station.pipeline.features_of,
                trigger=trigger,
                now=utc_now,
                progress=progress,
            )
        finally:
            station.close()
