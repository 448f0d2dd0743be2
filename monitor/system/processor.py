"""How much of the processor is taken: a limit of cores, and stepping back behind others."""

from __future__ import annotations

import logging
import os
import sys

from monitor.core.config.power import Power

logger = logging.getLogger(__name__)

_ON_LINUX = sys.platform == "linux"
_HANDED_OVER = "TRAPWATCH_ALLOWED_CORES"
"""Which cores the program before this one was allowed, where it began anew in the same process: its
own limit of cores would look like the system's."""


def _allowed() -> set[int]:
    if not _ON_LINUX:
        return set()
    now = os.sched_getaffinity(0)
    told = os.environ.pop(_HANDED_OVER, "")  # whoever is started from here asks the system
    return now | {int(core) for core in told.split(",") if core.isdigit()}


_ALLOWED = _allowed()


def hand_over_cores() -> None:
    """To be called right before this process begins anew."""
    if _ON_LINUX:
        os.environ[_HANDED_OVER] = ",".join(map(str, sorted(_ALLOWED)))


def take_cores(settings: Power) -> None:
    """Keep this thread, and the threads and processes it will start, to `classifier.cores`.

    To be called before others are started, and again for a new config.
    """
    wanted = set(sorted(_ALLOWED)[: settings.cores or None])
    if not _ON_LINUX or wanted == os.sched_getaffinity(0):
        return
    try:
        os.sched_setaffinity(0, wanted)
    except OSError as error:  # a container may forbid it
        logger.warning("classifier.cores has no effect here: %s", error.strerror)


def be_nice(settings: Power) -> None:
    """Let this thread, and those it will start, step back by `classifier.nice`; never forward,
    which nobody but root may."""
    if not _ON_LINUX or settings.nice <= (before := os.getpriority(os.PRIO_PROCESS, 0)):
        return
    try:
        os.setpriority(os.PRIO_PROCESS, 0, settings.nice)  # on Linux: of this thread alone
    except OSError as error:
        logger.warning("classifier.nice stays at %d: %s", before, error.strerror)
