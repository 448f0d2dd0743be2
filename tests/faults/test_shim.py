"""The faults really reach Python's files and the SQLite in use: nothing goes past the library."""

from __future__ import annotations

import errno
import random
import subprocess
import sys
from pathlib import Path

import pytest

from . import shim
from .replay import DROPPED, KEPT, Disk, put, read_record
from .shim import Fault, preloaded

pytestmark = pytest.mark.skipif(shim.why_not() is not None, reason=str(shim.why_not()))

WRITER = """
import os, shutil, sys
from pathlib import Path
from monitor.log.engine import choose_sqlite
folder = Path(sys.argv[1])
(folder / "sub").mkdir()
with open(folder / "sub" / "a.txt", "w") as file:
    file.write("never synced")
with open(folder / ".b.partial", "wb") as file:
    file.write(b"synced " * 1000)
    file.flush()
    os.fsync(file.fileno())
os.replace(folder / ".b.partial", folder / "b.bin")
with open(folder / "b.bin", "r+b") as file:
    file.seek(3)
    file.write(b"X")
    file.truncate(5000)
with open(folder / "b.bin", "ab") as file:
    file.write(b"at the end")
shutil.copy2(folder / "b.bin", folder / "copy.bin")
connection = choose_sqlite().module.connect(folder / "log.db", isolation_level=None)
connection.execute("PRAGMA journal_mode=" + sys.argv[2])
connection.execute("PRAGMA synchronous=FULL")
connection.execute("CREATE TABLE t (x)")
connection.execute("BEGIN")
connection.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(5000)])
connection.execute("COMMIT")
sys.stdout.flush()
if sys.argv[3:] != ["close"]:
    os._exit(0)
"""


def _write(folder: Path, fault: Fault, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WRITER, str(folder), *arguments],
        env=preloaded(fault.environ()),
        capture_output=True,
        text=True,
        check=False,
    )


def _contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
        if not path.name.endswith("-shm")
    }


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
@pytest.mark.parametrize("end", ["close", "leave"])
def test_the_whole_record_played_again_gives_the_very_same_files(
    tmp_path: Path, journal: str, end: str
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = Disk(folder)
    fault = Fault(folder, tmp_path / "notes", record=tmp_path / "record")

    assert _write(folder, fault, journal, end).stderr == ""

    operations = read_record(tmp_path / "record")
    for operation in operations:
        disk.apply(operation)
    left = disk.after_a_cut(KEPT, random.Random(0))
    assert left == _contents(folder)
    assert len(left) >= 5
    kinds = {(op.kind, Path(op.path).name) for op in operations}
    assert {("W", "log.db"), ("S", "log.db"), ("W", "copy.bin"), ("D", "disk")} <= kinds
    assert fault.count() == len(fault.calls()) > 40


def test_what_was_not_synced_is_gone_after_a_power_cut(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = Disk(folder)
    fault = Fault(folder, tmp_path / "notes", record=tmp_path / "record")
    assert _write(folder, fault, "WAL").returncode == 0
    for operation in read_record(tmp_path / "record"):
        disk.apply(operation)

    left = disk.after_a_cut(DROPPED, random.Random(0))

    assert left["sub"] is None, "SQLite has synced this folder after the name was made"
    assert "sub/a.txt" not in left
    assert left["b.bin"] == b"synced " * 1000
    put(left, tmp_path / "after")
    query = "import sys; from monitor.log.engine import choose_sqlite; print(choose_sqlite()."
    query += "module.connect(sys.argv[1]).execute('SELECT count(*) FROM t').fetchone()[0])"
    command = [sys.executable, "-c", query, str(tmp_path / "after" / "log.db")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "5000\n"


def test_every_call_can_be_made_to_fail(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    counted = Fault(tmp_path / "first", tmp_path / "notes")
    assert _write(tmp_path / "first", counted, "DELETE", "close").returncode == 0
    for n in range(1, 13):
        folder = tmp_path / str(n)
        folder.mkdir()
        fault = Fault(folder, tmp_path / "notes", fail_at=n, number=errno.ENOSPC)
        done = _write(folder, fault, "DELETE", "close")
        assert "No space left on device" in done.stderr, (n, counted.calls()[n - 1])


def test_a_full_disk_takes_the_first_half_of_a_write_and_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    fault = Fault(folder, tmp_path / "notes", fail_at=5, stays=True)
    done = _write(folder, fault, "DELETE", "close")
    assert "No space left on device" in done.stderr
    assert (folder / ".b.partial").stat().st_size == 3500


@pytest.mark.parametrize("fault", ["eio", "short", "readonly"])
def test_reads_of_a_dying_card_fail_or_come_short(tmp_path: Path, fault: str) -> None:
    control, card = tmp_path / "control", tmp_path / "card"
    control.mkdir()
    card.mkdir()
    (card / "a.bin").write_bytes(b"0123456789" * 100)
    (control / fault).write_text(str(card))
    reader = (
        "import os, sys; d = os.open(sys.argv[1], os.O_RDONLY); print(len(os.read(d, 1000)));"
        "open(sys.argv[1] + '.new', 'w').write('x')"
    )
    done = subprocess.run(
        [sys.executable, "-c", reader, str(card / "a.bin")],
        env=preloaded({"SHIM_CONTROL": str(control), "SHIM_FOLDER": str(card)}),
        capture_output=True,
        text=True,
        check=False,
    )
    expected = {"eio": "Input/output error", "short": "500\n", "readonly": "Read-only file system"}
    assert expected[fault] in done.stdout + done.stderr


def test_a_hanging_share_waits_until_it_is_let_go(tmp_path: Path) -> None:
    control, card = tmp_path / "control", tmp_path / "card"
    control.mkdir()
    card.mkdir()
    (card / "a.bin").write_bytes(b"there")
    (control / "hang").write_text(str(card))
    reader = "import sys; print('asks', flush=True); print(open(sys.argv[1]).read())"
    with subprocess.Popen(
        [sys.executable, "-c", reader, str(card / "a.bin")],
        env=preloaded({"SHIM_CONTROL": str(control)}),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asks\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        (control / "hang").unlink()
        assert process.stdout.read() == "there\n"
