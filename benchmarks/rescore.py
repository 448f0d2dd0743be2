"""How long a new model takes to speak of all past media: python benchmarks/rescore.py [--media N].

Fills a log (benchmarks/fill_log.py) and a feature cache of VGG16's real layout, lets v0001 speak of
every media, makes v0002 live (another head: about one answer in ten changes) and runs the steps
that the service makes until all is re-scored, the database written. Beside it run two other
processes, as the web pages do: one labels a media, one reads a page of sightings, and each notes
how long it waited. The time between two steps is what a frame that comes would wait.

    --before CHECKOUT   the same steps of an older version of the program, for a few pages
    --kept FOLDER       build the station there, or use what was built there before
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if os.environ.get("RESCORE_CHECKOUT"):  # before anything of the program is imported
    sys.path.insert(0, os.environ["RESCORE_CHECKOUT"])

import bench
import numpy as np
from fill_log import SPECIES, fill

from monitor.core.domain import ModelState, Observation
from monitor.images.decode import DecodeRules
from monitor.log.engine import choose_sqlite
from monitor.log.features import FeatureStore
from monitor.log.filters import BrowseFilter
from monitor.log.species_log import SpeciesLog
from monitor.model.head import Head
from monitor.pipeline.classify import Pipeline

LAYOUT, SIZE = "vgg16-avg345/1", 1280
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PAUSE_SECONDS = 0.5
CENTRES = np.random.default_rng(1).normal(0, 1, (len(SPECIES), SIZE)).astype(np.float32)


def some_head(version: str) -> Head:
    """v0001's answers and those of every other version differ in about one of ten."""
    number = int(version[1:])
    off = np.random.default_rng(number).normal(0, 0.2 if number == 1 else 0.55, CENTRES.shape)
    weights = (0.1 * (CENTRES + off)).T.astype(np.float32)
    bias = (-0.005 * (CENTRES**2).sum(axis=1)).astype(np.float32)
    zeros, ones = np.zeros(SIZE, np.float32), np.ones(SIZE, np.float32)
    return Head(SPECIES, zeros, ones, weights, bias, 1.5, LAYOUT)


def build(folder: Path, media: int) -> None:
    """A log and a feature cache of `media` images, all of v0001's opinion."""
    folder.mkdir(parents=True, exist_ok=True)
    bench.say(f"filling a log with {media:,} media")
    fill(folder / "log.db", media)
    FeatureStore(folder / "features.db", LAYOUT, SIZE, 10**12).close()
    cache, log = (_quick(folder / name) for name in ("features.db", "log.db"))
    chance = np.random.default_rng(2)
    noise = chance.normal(0, 1, (1000, SIZE)).astype(np.float32)
    head = some_head("v0001")
    bench.say("features, and what v0001 says of them")
    for start in range(1, media + 1, 1000):
        ids = range(start, min(start + 1000, media + 1))
        classes = chance.integers(0, len(SPECIES), len(ids))
        halves = (0.1 * CENTRES[classes] + np.roll(noise, start // 1000, 1)[: len(ids)]).astype(
            "<f2"
        )
        cache.executemany("INSERT INTO features VALUES (?, ?, ?, ?)", _rows(ids, halves))
        log.executemany(
            "UPDATE prediction SET species_id = ?, probability = ?, alternatives = ?"
            " WHERE media_id = ?",
            _said(head, ids, halves.astype(np.float32)),
        )
    for connection in (cache, log):
        connection.execute("COMMIT")
        connection.close()


def _quick(path: Path) -> Any:
    connection = choose_sqlite().module.connect(os.fspath(path), isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-1000000")
    connection.execute("BEGIN IMMEDIATE")
    return connection


def _rows(ids: range, halves: Any) -> list[tuple[str, bytes, bytes, int]]:
    rows = []
    for media_id, vector in zip(ids, halves, strict=True):
        key, kept = hashlib.sha256(str(media_id).encode()).digest(), vector.tobytes()
        rows.append((LAYOUT, key, kept, zlib.crc32(kept, zlib.crc32(key))))
    return rows


def _said(head: Head, ids: range, vectors: Any) -> list[tuple[int, float, str, int]]:
    p = head.probabilities(vectors)
    rows = []
    for media_id, row, best in zip(ids, p.tolist(), np.argsort(-p, axis=1).tolist(), strict=True):
        five = json.dumps([[SPECIES[i], round(row[i], 5)] for i in best[:5]])
        rows.append((best[0] + 1, row[best[0]], five, media_id))
    return rows


class Steady:
    """A live model that is loaded already."""

    problem = None

    def __init__(self, name: str) -> None:
        self.name, self.head = name, some_head(name)

    def follow(self) -> bool:
        return False

    def head_for(self, layout: str, size: int) -> Head:
        return self.head


class Stopwatch:
    """How long each write transaction held the lock. A checkpoint after its commit is counted
    too, although nobody waits for that but the thread that commits."""

    def __init__(self, log: SpeciesLog) -> None:
        from sqlalchemy import event

        self.seconds: list[float] = []
        self._local = threading.local()
        event.listen(log._engine, "begin", self._begun)
        dialect = log._engine.dialect
        commit = dialect.do_commit

        def committed(connection: Any) -> None:
            commit(connection)
            if getattr(self._local, "begun", None) is not None:
                self.seconds.append(time.perf_counter() - self._local.begun)

        dialect.do_commit = committed  # type: ignore[method-assign]

    def _begun(self, connection: Any) -> None:
        write = connection.get_execution_options().get("write", False)
        self._local.begun = time.perf_counter() if write else None


def rescore(folder: Path, version: str, most: int | None) -> dict[str, Any]:
    """Run the service's steps until `version` has spoken of everything, or of `most` media."""
    log = SpeciesLog(folder / "log.db")
    features = FeatureStore(folder / "features.db", LAYOUT, SIZE, 10**12)
    log.add_version(version, ModelState.CANDIDATE, "vgg16", LAYOUT, "0" * 64, "", {}, NOW)
    log.go_live(version, "benchmark", "Ana", NOW)
    live: Any = Steady(version)
    pipeline = Pipeline(log, features, _no_backbone, live, DecodeRules(size=224), 0.0, lambda: NOW)
    watch = Stopwatch(log)
    begun, busy, media, longest = time.perf_counter(), time.process_time(), 0, 0.0
    wrote = _written()
    while most is None or media < most:
        step = time.perf_counter()
        done = pipeline.step()
        longest = max(longest, time.perf_counter() - step)
        if done == 1 and not log.to_rescore(version, 1, 0):
            break
        media += done
    seconds, used = time.perf_counter() - begun, time.process_time() - busy
    pipeline.close()
    writes = sorted(watch.seconds)
    return {
        "media": media,
        "seconds": seconds,
        "processor_seconds": used,
        "media_a_second": media / seconds,
        "longest_step_ms": 1000 * longest,
        "write_ms": _spread(writes),
        "writes": len(writes),
        "peak_mb": _peak_mb(),
        "written_kb_each": (_written() - wrote) / 1000 / max(1, media),
    }


def _written() -> int:
    """Bytes that this process gave the disk to write, the write-ahead log's copy too."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("write_bytes")))


def _peak_mb() -> float:
    """The most memory of this process alone."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def _no_backbone(tail: object) -> Any:
    raise SystemExit("a vector is missing in the cache")


def _spread(seconds: list[float]) -> dict[str, float]:
    """Median, 95th of a hundred and the longest, in milliseconds."""
    ordered = sorted(seconds) or [0.0]
    at_95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {
        name: 1000 * value
        for name, value in (
            ("median", statistics.median(ordered)),
            ("p95", at_95),
            ("longest", ordered[-1]),
        )
    }


def visit(folder: Path, kind: str) -> None:
    """Label or read again and again until standard input ends; prints the waits."""
    log, waits, chance = SpeciesLog(folder / "log.db"), [], random.Random(3)
    media = log.counts()["media"]
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    while not over.wait(PAUSE_SECONDS):
        begun = time.perf_counter()
        if kind == "label":
            log.label([chance.randrange(1, media)], [Observation("lynx")], "Ana", "web", NOW)
        else:
            list(log.sightings(BrowseFilter(species=chance.choice(SPECIES)), 50))
        waits.append(time.perf_counter() - begun)
    print(json.dumps(_spread(waits) | {"times": len(waits)}))


def part(folder: Path, *words: str, checkout: Path | None = None) -> subprocess.Popen[str]:
    """This script in a process of its own."""
    command = [sys.executable, __file__, "--part", os.fspath(folder), *words]
    environment = {**os.environ, "RESCORE_CHECKOUT": os.fspath(checkout or bench.TOP)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a part printed."""
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a part failed: exit status {process.returncode}")
    return dict(json.loads(out.splitlines()[-1]))


def forget_pages(path: Path) -> None:
    """Let the system drop what it holds of a file in memory, as after a start."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def changed(log: Path) -> float:
    """The share of re-scored media that are shown as another species now."""
    connection = choose_sqlite().module.connect(os.fspath(log))
    counts = dict(connection.execute("SELECT current, count(*) FROM prediction GROUP BY 1"))
    return counts.get(0, 0) / counts[1]


def fresh(kept: Path, folder: Path) -> Path:
    """A station to measure on: the log copied, the feature cache in its place."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(kept / "log.db", folder / "log.db")
    link = folder / "features.db"
    link.unlink(missing_ok=True)
    link.symlink_to(kept / "features.db")
    return folder


def show(name: str, facts: dict[str, Any]) -> None:
    """One measurement, for people."""
    each = 1e6 * facts["seconds"] / max(1, facts["media"])
    used = 1e6 * facts["processor_seconds"] / max(1, facts["media"])
    print(
        f"{name}: {facts['media']:,} media in {facts['seconds']:.1f} s, "
        f"{facts['media_a_second']:,.0f} a second, {each:.0f} µs each ({used:.0f} of processor)"
    )
    print(
        f"  write transactions: {facts['writes']}, median {facts['write_ms']['median']:.0f} ms, "
        f"95 of 100 under {facts['write_ms']['p95']:.0f}, "
        f"longest {facts['write_ms']['longest']:.0f}; "
        f"longest step {facts['longest_step_ms']:.0f} ms; peak {facts['peak_mb']:.0f} MB; "
        f"written {facts['written_kb_each']:.1f} KB each"
    )


def main() -> None:
    parser = bench.options(__doc__, "python benchmarks/rescore.py --media 1000000")
    parser.add_argument("--media", type=int, default=1_000_000)
    parser.add_argument("--kept", type=Path, help="where the station is built, and kept")
    parser.add_argument("--before", type=Path, help="a checkout of an older version")
    parser.add_argument("--cold", action="store_true", help="nothing of the cache is in memory")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        run_part(Path(args.part[0]), *args.part[1:])
        return
    with bench.workplace(args.work) as folder:
        kept = args.kept or folder / "kept"
        if not (kept / "log.db").exists():
            build(kept, args.media)
        results: dict[str, Any] = {}
        if args.before is not None:
            station = fresh(kept, folder / "before")
            most = str(min(args.media, 10_000))
            results["before"] = answer(
                part(station, "rescore", "v0002", most, checkout=args.before)
            )
            show("before", results["before"])
            shutil.rmtree(station)
        station = fresh(kept, folder / "now")
        if args.cold:
            for name in ("log.db", "features.db"):
                forget_pages(station / name)
        visitors = {kind: part(station, kind) for kind in ("label", "read")}
        results["now"] = answer(part(station, "rescore", "v0002"))
        waits = {kind: answer(visitor) for kind, visitor in visitors.items()}
        results |= {"waits_ms": waits, "changed": changed(station / "log.db")}
    show("now", results["now"])
    for kind, wait in waits.items():
        print(
            f"  who would {kind} waits {wait['median']:.0f} ms, 95 of 100 under "
            f"{wait['p95']:.0f}, at most {wait['longest']:.0f} ({wait['times']} times)"
        )
    print(f"  {results['changed']:.1%} of the answers changed and are kept as history")
    if "before" in results:
        ratio = results["now"]["media_a_second"] / results["before"]["media_a_second"]
        print(f"  {ratio:.0f} x as fast as before")
    target = args.save_in / "benchmarks" / "results" / "rescore.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        json.dumps(
            {"machine": bench.machine(), "versions": bench.versions(), **bench._plain(results)},
            indent=1,
        )
        + "\n"
    )


def run_part(folder: Path, kind: str, *words: str) -> None:
    """A process of its own: `rescore VERSION [MOST]`, `label` or `read`."""
    if kind == "rescore":
        print(json.dumps(rescore(folder, words[0], int(words[1]) if words[1:] else None)))
    else:
        visit(folder, kind)


if __name__ == "__main__":
    main()
