"""Runs trapwatch commands with faults, each in a fork; started by `shim.Forks` with LD_PRELOAD."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults import crasher

COUNTED = ("label", "media", "act", "model_version")
"""Tables whose rows, once committed, may never be fewer."""


def acknowledge(shim: ctypes.CDLL) -> None:
    """After each commit, tell the record how many rows there are now for certain."""
    from sqlalchemy.engine.default import DefaultDialect

    commit = DefaultDialect.do_commit
    query = f"SELECT {', '.join(f'(SELECT count(*) FROM {table})' for table in COUNTED)}"
    last: dict[str, int] = {}

    def do_commit(dialect: Any, connection: Any) -> None:
        counts = dict(last)
        if connection.in_transaction:
            try:
                counts = dict(zip(COUNTED, connection.execute(query).fetchone(), strict=True))
            except Exception as error:
                if "no such table" not in str(error):
                    raise
        commit(dialect, connection)
        if counts != last:
            last.update(counts)
            shim.shim_mark(json.dumps(counts).encode())

    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]


def in_fork(request: dict[str, Any]) -> NoReturn:
    """Let the faults of a request begin, and run its command."""
    shim = ctypes.CDLL(None)
    os.environ.update(request["environ"])
    shim.shim_start()
    if request["environ"].get("SHIM_RECORD"):
        acknowledge(shim)
    if request["kill_after"]:
        # its default action ends the process in the kernel, wherever Python is
        signal.setitimer(signal.ITIMER_REAL, request["kill_after"])
    crasher.run_in_fork(request)


if __name__ == "__main__":
    crasher.serve(in_fork)
