"""The fault library shim.c: built where a C compiler is, and what it is told."""

from __future__ import annotations

import atexit
import errno
import functools
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")


def why_not() -> str | None:
    """Why no faults can be injected here; None if they can."""
    if not sys.platform.startswith("linux") or sys.maxsize < 2**32:
        return "faults are injected on 64-bit Linux only"
    if shutil.which("cc") is None:
        return "there is no C compiler (cc) to build tests/faults/shim.c with"
    return None


@functools.cache
def library() -> Path:
    """The built library, in a temporary folder of this process."""
    folder = Path(tempfile.mkdtemp(prefix="shim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = folder / "shim.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(target), str(SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return target


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong below a folder.

    Attributes:
        folder: what lies below it is counted, failed and recorded.
        notes: a folder outside, for the counter and the list of calls.
        fail_at: the number of the mutating call that fails, from 1; 0 only counts.
        stays: all later calls fail, too, until the file `space` in `notes` is there.
        number: with which errno.
        record: where the operations are written; see replay.py.
    """

    folder: Path
    notes: Path
    fail_at: int = 0
    stays: bool = False
    number: int = errno.ENOSPC
    record: Path | None = None

    def environ(self) -> dict[str, str]:
        """As shim.c reads it."""
        self.notes.mkdir(parents=True, exist_ok=True)
        for name in ("counter", "told", "space"):
            (self.notes / name).unlink(missing_ok=True)
        return {
            "SHIM_FOLDER": str(self.folder),
            "SHIM_COUNTER": str(self.notes / "counter"),
            "SHIM_TOLD": str(self.notes / "told"),
            "SHIM_FAIL_AT": str(self.fail_at),
            "SHIM_STAY": "1" if self.stays else "",
            "SHIM_ERRNO": str(self.number),
            "SHIM_SPACE": str(self.notes / "space"),
            "SHIM_RECORD": str(self.record or ""),
        }

    def count(self) -> int:
        """How many mutating calls there were."""
        content = (self.notes / "counter").read_bytes()
        return int(struct.unpack("=Q", content)[0]) if content else 0

    def calls(self) -> list[str]:
        """`number operation path` of each mutating call."""
        return (self.notes / "told").read_text(encoding="utf-8", errors="replace").splitlines()

    def space_returns(self) -> None:
        """From now on nothing fails any more."""
        (self.notes / "space").touch()


def preloaded(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a process that goes through the library."""
    return {**os.environ, "LD_PRELOAD": str(library()), **(environ or {})}


class Forks:
    """Runs trapwatch commands through the library, in forks of one process; see shimmed.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("shimmed.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=preloaded(),
        )

    def run(
        self,
        config: Path,
        arguments: Sequence[str],
        output: Path,
        *,
        environ: Mapping[str, str] | None = None,
        broken: str | None = None,
        kill_after: float | None = None,
    ) -> int:
        """The exit status of a command; below 0 if a signal ended it.

        Args:
            output: what it prints is put into this file, in the place of what was there.
            broken: the protection to take away first; see `crasher.BREAKS`.
            kill_after: so many seconds later it ends at once, as by kill -9, wherever it is.
        """
        output.unlink(missing_ok=True)
        tail = [str(config)] if tuple(arguments) == ("housekeeping",) else ["--config", str(config)]
        request = {
            "arguments": [*arguments, *tail],
            "environ": dict(environ or {}),
            "output": str(output),
            "broken": broken,
            "kill": None,
            "kill_after": kill_after,
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
