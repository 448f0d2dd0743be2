"""Put on PYTHONPATH: the decoder of every Python process dies of some files, as a broken one does.

A file whose bytes hold `DEADLY-DECODE` ends the process by a real segmentation fault when it is
decoded, `DEADLY-HEADER` when its header is read, and `SLOW-DECODE` takes long (but in a trial of
its own it does not): time to pull the plug. Nothing in the product knows of this.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monitor.images.decode

SLOW_SECONDS = 60.0


def dying_of(mark: bytes, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of bytes, deadly where these hold `mark`."""

    def armed(data: bytes, *others: Any) -> Any:
        if mark in data:
            ctypes.string_at(0)
        if (
            b"SLOW-DECODE" in data
            and mark == b"DEADLY-DECODE"
            and "monitor.pipeline.crash_test" not in TOLD
        ):
            Path(os.environ["DRILL_FLAG"]).touch()
            time.sleep(SLOW_SECONDS)
        return function(data, *others)

    return armed


TOLD = " ".join(sys.orig_argv)
monitor.images.decode.decode = dying_of(b"DEADLY-DECODE", monitor.images.decode.decode)
monitor.images.decode.dimensions = dying_of(b"DEADLY-HEADER", monitor.images.decode.dimensions)
