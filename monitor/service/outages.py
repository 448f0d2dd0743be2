"""A duty: where a camera has fallen silent, an outage is proposed; a person says what it was."""

from __future__ import annotations

import logging
from collections.abc import Callable

from monitor.core.clock_check import clock_problem
from monitor.log.context import Context

logger = logging.getLogger(__name__)

LOOK_SECONDS = 3600.0


def propose_outages(context: Context, is_ending: Callable[[], bool] = lambda: False) -> None:
    """Look at every camera. With a clock that cannot be right nobody is silent."""
    now = context.clock()
    if is_ending() or clock_problem(now, context.log.newest_written_at()) is not None:
        return
    proposed, changed = context.log.propose_outages(now, context.settings.effort.rule)
    if proposed or changed:
        logger.info(
            "outages: %d proposed, %d ended or withdrawn; see: trapwatch deployments outage list",
            proposed,
            changed,
        )
