"""Reading one suspicious file in a process of its own that may die of it.

    death_of(path, rules)   # None: it does no harm

A file is under way whenever the power is cut, too. So what was being read when the program died is
only suspected; it is the death of this process, twice, that proves it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from monitor.images.decode import DecodeRules, ImageRejected, decode, dimensions
from monitor.images.metadata import read_metadata
from monitor.system.reading import MAX_FILE_BYTES

TASTE_SECONDS = 120.0
START_SECONDS = 120.0
READY = b"ready\n"
TOO_MUCH_MEMORY = 3
SMALLEST_LIMIT = 1 << 30
"""Bytes of address space that the process gets at least."""
TOLD_TO_END = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class CannotTell(OSError):
    """The test itself failed: nothing was learnt about the file."""


def death_of(path: bytes, rules: DecodeRules) -> str | None:
    """How a process dies of reading this file, in words; None if it does not.

    Raises:
        CannotTell: the process could not start, could not get at the bytes, or was told to end.
    """
    first = _taste(path, rules)
    return _taste(path, rules) if first is not None else None  # one death may be bad luck


def _taste(path: bytes, rules: DecodeRules) -> str | None:
    order = json.dumps({"path": path.hex(), "rules": asdict(rules)}).encode()
    command = [sys.executable, "-m", "monitor.pipeline.crash_test"]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing) as child:
        try:
            said, _ = child.communicate(order, START_SECONDS + TASTE_SECONDS)
        except subprocess.TimeoutExpired as late:
            child.kill()
            child.wait()
            if READY in (late.stdout or b""):
                return f"it came to no end within {TASTE_SECONDS:.0f} s"
            raise CannotTell(f"the file could not be read within {START_SECONDS:.0f} s") from None
    if child.returncode == 0:
        return None
    if READY not in said or -child.returncode in TOLD_TO_END:
        raise CannotTell(f"the test of this file did not begin (exit status {child.returncode})")
    return _words(child.returncode)


def _words(code: int) -> str:
    if code == TOO_MUCH_MEMORY:
        return "it needs more memory than this machine has"
    if code < 0:
        with suppress(ValueError):
            return f"{signal.Signals(-code).name}"
        return f"signal {-code}"
    return f"exit status {code}"


def _main() -> int:
    """What the process does: all that the service would do with the file's bytes."""
    order = json.loads(sys.stdin.buffer.read())
    rules = DecodeRules(**order["rules"])
    _limit()
    with open(bytes.fromhex(order["path"]), "rb") as file:
        data = file.read(MAX_FILE_BYTES)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    signal.alarm(int(TASTE_SECONDS))
    from zoneinfo import ZoneInfo

    try:
        read_metadata(data, name="", mtime_ns=0, zone=ZoneInfo("UTC"))
        dimensions(data, rules)
        decode(data, rules)
    except ImageRejected:
        return 0  # refused in words, as it should be
    except MemoryError:
        return TOO_MUCH_MEMORY
    return 0


def _limit() -> None:
    """No more memory than the machine has, and the first to go when that runs out."""
    most = max(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), SMALLEST_LIMIT)
    with suppress(OSError, ValueError):  # systemd's filter may forbid it
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    sys.exit(_main())
