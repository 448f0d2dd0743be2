"""One owner at a time, told by name, and never left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitor.system.locks import Busy, OwnerLock, is_held

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOLDER = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from monitor.system.locks import OwnerLock
with OwnerLock(Path(sys.argv[1]), "the log", datetime(2024, 5, 1, 12, tzinfo=UTC)):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    holder = hold(path)
    try:
        assert is_held(path)
        with pytest.raises(Busy) as told, OwnerLock(path, "the log", NOW):
            pass
        expected = f"the log is in use by process {holder.pid} (since 2024-05-01T12:00:00.000Z)"
        assert str(told.value) == expected
        (tmp_path / "deep" / "lock.owner").write_text("{ torn")
        with pytest.raises(Busy, match="in use by another process"), OwnerLock(path, "it", NOW):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()


def test_a_killed_holder_leaves_nothing_that_blocks(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = hold(path)
    holder.kill()
    holder.wait()
    assert not is_held(path)
    with OwnerLock(path, "it", NOW):
        assert is_held(path)
        assert f'"pid": {os.getpid()}' in path.with_name("lock.owner").read_text()
    assert not is_held(path)
    assert not path.with_name("lock.owner").exists()


def test_looking_turns_nobody_away(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with OwnerLock(path, "it", NOW):
        pass
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_held(path)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(50):
            with OwnerLock(path, "it", NOW):
                pass
    finally:
        stop.set()
        thread.join()


def test_a_lock_that_was_never_taken_is_free(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "none")
    assert list(tmp_path.iterdir()) == [], "and looking makes no file"
