"""How long a whole reconcile over a large, known folder takes, and how fast intake is.

    .venv/bin/python benchmarks/reconcile.py [--files 200000] [--frames DIR] [--copies 1200]

Goals: a reconcile over 200,000 known files under 10 s with flat memory; intake of real frames that
lie in the page cache, 400 files a second on each core.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import PIL.Image
import psutil
import sqlalchemy

from monitor.core.config import Watch
from monitor.core.domain import shown_path
from monitor.images.decode import DecodeRules
from monitor.log.engine import choose_sqlite
from monitor.log.species_log import SpeciesLog
from monitor.pipeline.deployments import Deployments
from monitor.pipeline.intake import Intake
from monitor.pipeline.watch import Watcher, monotonic

FRAMES = Path(__file__).parents[2] / "shared" / "data" / "camera-traps"
FILES_PER_FOLDER = 1000
MEGABYTE = 1e6
LARGE_PIXELS = 7_500_000
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--frames", type=Path, default=FRAMES, help="real frames to take in")
    parser.add_argument("--copies", type=int, default=1200, help="how many copies of them")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="trapwatch-reconcile-") as name:
        reconcile(Path(name), options.files)
        if options.frames.is_dir() and options.copies:
            intake(Path(name), options.frames, options.copies)


def machine() -> str:
    """The processor and the versions the figures belong to."""
    sqlite = choose_sqlite()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "?")
    return (
        f"{cpu}, {len(os.sched_getaffinity(0))} cores; Python {platform.python_version()}, "
        f"{sqlite.name} {sqlite.version}, SQLAlchemy {sqlalchemy.__version__}, Pillow "
        f"{PIL.__version__}, Linux {platform.release()}"
    )


def reconcile(base: Path, files: int) -> None:
    """Time a whole scan of `files` files that the log knows, and watch the memory."""
    root = base / "frames"
    log = SpeciesLog(base / "log.db", create=True)
    know_them(log, make_tree(root, files))
    reports: list[dict[str, object]] = []
    settings = Watch(folders=(root,), polling=True)
    watcher = Watcher(settings, log.known_files, log.mark_found, reports.append)
    for number in (1, 2):  # the second has the directories in the cache, as a service has
        watcher.request_reconcile()
        reports.clear()
        with PeakMemory() as memory:
            wall, cpu = time.perf_counter(), time.process_time()
            found = len(watcher.step(monotonic()))
            while watcher.busy():
                found += len(watcher.step(monotonic()))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert reports and reports[0]["files"] == files and not found, (reports, found)
        print(
            f"reconcile {number}: {files:,} known files in {wall:.2f} s ({cpu:.2f} s of processor "
            f"time, {wall / files * 1e6:.0f} us a file); {memory}"
        )
    watcher.close()
    log.close()


def make_tree(root: Path, files: int) -> Iterator[bytes]:
    """Tiny files, 1,000 to a folder."""
    for number in range(files):
        folder = root / f"cam{number // FILES_PER_FOLDER // 10:03d}" / f"{number // 1000:04d}"
        if number % FILES_PER_FOLDER == 0:
            folder.mkdir(parents=True)
        path = os.fsencode(folder / f"IMG_{number:07d}.JPG")
        with open(path, "wb") as file:
            file.write(b"%d" % number)
        yield path


def know_them(log: SpeciesLog, paths: Iterator[bytes]) -> None:
    """Rows as intake would have written them, inserted directly because that is quicker."""
    now = "2026-01-01T00:00:00.000Z"
    media = (
        "INSERT INTO media (id, sha256, path, size, status, deployment_id, event_id, captured_wall,"
        " utc_offset_seconds, captured_at_source, utc_offset_source, captured_at, captured_local,"
        " taken_in_at) VALUES (?, ?, ?, ?, 'classified', 1, ?, ?, 0, 'mtime', 'station', ?, ?, ?)"
    )
    file = "INSERT INTO file (path_bytes, path, size, mtime_ns, media_id) VALUES (?, ?, ?, ?, ?)"
    connection = choose_sqlite().module.connect(str(log.path))
    connection.execute("INSERT INTO deployment (id, name) VALUES (1, 'cam')")
    for number, path in enumerate(paths, 1):
        facts, shown = os.stat(path), shown_path(path)
        row = (number, f"{number:064x}", shown, facts.st_size, number, now, now, now, now)
        connection.execute(media, row)
        connection.execute(file, (path, shown, facts.st_size, facts.st_mtime_ns, number))
    connection.commit()
    connection.close()


def intake(base: Path, frames: Path, copies: int) -> None:
    """Time the intake of copies of real frames, each made different by a byte at its end."""
    root = base / "cards"
    root.mkdir()
    paths = copy_frames(frames, root, copies)
    size = sum(path.stat().st_size for path in paths)
    log = SpeciesLog(base / "intake.db", create=True)
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        watcher = Watcher(
            Watch(folders=(root,), polling=True, settle_seconds=0),
            lambda paths: {},  # all of them are new each time
            log.mark_found,
            lambda facts: None,
        )
        taker = Intake(
            SpeciesLog(base / f"intake{threads}.db", create=True),
            Deployments("{deployment}/**"),
            DecodeRules(),
            ZoneInfo("UTC"),
            timedelta(minutes=30),
            lambda: datetime.now(UTC),
            threads=threads,
        )
        wall, cpu, taken = time.perf_counter(), time.process_time(), 0
        while not watcher.idle():
            taken += len(taker.take(watcher.step(monotonic())))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert taken == copies, taken
        print(
            f"intake, {threads} thread(s): {copies:,} frames, {size / copies / MEGABYTE:.2f} MB "
            f"each, in {wall:.2f} s: {copies / wall:.0f} files/s, "
            f"{copies / cpu:.0f} files/s of one core's time"
        )
        taker.close()
        watcher.close()
    log.close()


def copy_frames(frames: Path, root: Path, copies: int) -> list[Path]:
    """`copies` different files: the frames in turn, with a number after the end marker."""
    found = sorted(p for p in frames.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    large = [p for p in found if pixels_of(p) >= LARGE_PIXELS] or found
    least = min(map(pixels_of, large)) / 1e6
    print(f"intake of copies of {len(large)} frames of {least:.0f} MP and more")
    paths = []
    for number in range(copies):
        source = large[number % len(large)]
        path = root / f"cam{number % 7}" / f"{number:06d}{source.suffix}"
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, path)
        with open(path, "ab") as file:
            file.write(b"%d" % number)
        paths.append(path)
    return paths


def pixels_of(path: Path) -> int:
    """Width times height, from the header."""
    with PIL.Image.open(path) as image:
        return image.width * image.height


class PeakMemory:
    """Resident memory before, at its highest (sampled), and after."""

    def __enter__(self) -> PeakMemory:
        self._process, self._end = psutil.Process(), threading.Event()
        self.before = self.peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()
        self.after = self._process.memory_info().rss

    def _sample(self) -> None:
        while not self._end.wait(0.02):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __str__(self) -> str:
        before, peak, after = (n / MEGABYTE for n in (self.before, self.peak, self.after))
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE
        return (
            f"memory {before:.0f} MB before, {peak:.0f} peak, {after:.0f} after "
            f"({most:.0f} ever in this process)"
        )


if __name__ == "__main__":
    sys.exit(main())
