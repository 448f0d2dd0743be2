"""Another program on the log: another SQLite, in another process, as R, QGIS or a browser has it.

Nothing here imports trapwatch's own way to the log: what it reads is what anybody else would.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READ = """
import sqlite3, sys
log = sqlite3.connect(sys.argv[1], timeout=30)
print(log.execute(sys.argv[2]).fetchone()[0])
log.close()
"""
READ_EACH_SECOND = """
import sqlite3, sys, time
while True:
    try:
        log = sqlite3.connect("file:" + sys.argv[1] + "?mode=rw", uri=True, timeout=30)
        log.execute("SELECT count(*) FROM media").fetchone()
        log.close()
        print(end=".", flush=True)
    except sqlite3.OperationalError as error:
        if "unable to open" not in str(error) and "no such table" not in str(error):
            raise
    time.sleep(float(sys.argv[2]))
"""
"""As the last one out it empties the write-ahead log and deletes it, which is its right."""


def read(log: Path, sql: str) -> str:
    """Return the one value that `sql` answers, read by the system's SQLite in a new process."""
    command = [sys.executable, "-c", READ, str(log), sql]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def reading(log: Path, count: Path, every: float) -> Iterator[None]:
    """Read the log again and again meanwhile; `count` grows by a byte for each time."""
    command = [sys.executable, "-c", READ_EACH_SECOND, str(log), str(every)]
    with count.open("ab") as output, subprocess.Popen(command, stdout=output) as reader:
        try:
            yield
            assert reader.poll() is None, "the reader stumbled"
        finally:
            reader.kill()


def who_has_open(log: Path) -> set[int]:
    """Return the processes that have the file open."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            links = [os.readlink(link) for link in folder.iterdir()]
        except OSError:
            continue
        if str(log.resolve()) in links:
            found.add(int(folder.parent.name))
    return found


def who_locks(log: Path) -> set[int]:
    """Return the processes that hold a lock of the file."""
    inode = f":{log.stat().st_ino}"
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return {int(line[4]) for line in lines if line[1] == "POSIX" and line[5].endswith(inode)}
