"""The duty of making backups: asked every ten minutes, remembered in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol

from monitor.core.domain import iso_utc
from monitor.core.pauses import BACKUP, Rest
from monitor.log.backup_facts import BackupError, BackupStopped, NotSound
from monitor.log.context import Context
from monitor.recovery.backup_schedule import Last, due, facts_of_last, last_of, looked
from monitor.recovery.backups import STATE, back_up
from monitor.recovery.integrity import faults_of_log

logger = logging.getLogger(__name__)


class BackupContext(Context, Protocol):
    """What making backups works with."""

    @property
    def rest(self) -> Rest:
        """Why some work rests for now."""


def keep_backups(context: BackupContext, is_ending: Callable[[], bool] = lambda: False) -> None:
    """The duty: back up if that is due, and remember how it went."""
    rules, now = context.settings.backup, context.clock()
    if not rules.enabled:
        return
    told = context.log.state(STATE) or {}
    last = last_of(told)
    if not due(last, now, timedelta(hours=rules.every_hours)):
        _note(context, told, looked(last, now), {})
        return
    try:
        if (words := context.rest.words(BACKUP)) is not None:
            raise BackupError(words)
        number = int(told.get("number", 0))
        outcome = back_up(context.settings, now, is_ending, last_number=number)
    except BackupStopped:
        return
    except BackupError as error:
        _note_failure(context, told, last, error)
        return
    facts = {
        "at": iso_utc(now),
        "path": str(outcome.facts.path),
        "number": outcome.number,
        "size_bytes": outcome.facts.size_bytes,
        "media": outcome.facts.media,
        "labels": outcome.facts.labels,
        "problem": None,
        "second_problem": outcome.second_problem,
    }
    _note(context, told, Last(now), facts)
    logger.info("backup written: %s", outcome.facts.path)
    if outcome.second_problem is not None:
        logger.warning("no second backup: %s", outcome.second_problem)


def _note_failure(
    context: BackupContext, told: dict[str, Any], last: Last, error: BackupError
) -> None:
    logger.error("no backup: %s", error)
    failed = Last(last.since, last.looks, last.failures + 1, 0)
    _note(context, told, failed, {"problem": str(error)})
    if isinstance(error, NotSound) and (
        faults := faults_of_log(context.settings, thorough=True)
    ):  # the log itself, not only the copy: the service restores it
        context.log.damage = "; ".join(faults)


def _note(context: BackupContext, told: dict[str, Any], last: Last, facts: dict[str, Any]) -> None:
    context.log.put_state(STATE, told | facts_of_last(last) | facts, context.clock())
