"""Feeds trapwatch hostile EXIF, CSV files, configs and model directories, and counts the faults.

python -m tests.faults.hostile --tries 40000
python -m tests.faults.hostile --tries 200 --break yaml    must report faults

Each kind is tried in a process of its own; one that dies or hangs is a crash, and the next goes on
behind it. What was being tried is kept in the folder that the report names.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from . import hostile_config, hostile_csv, hostile_exif, hostile_models
from .mutate import _peak_bytes
from .random_kill import processor_name

KINDS = {
    "exif": (hostile_exif, 0.4),
    "config": (hostile_config, 0.25),
    "models": (hostile_models, 0.25),
    "csv": (hostile_csv, 0.1),
}
"""What tries it, and its share of the tries: a CSV file is a dozen writes to a log."""
PROTECTIONS = {name: kind for kind, (room, _) in KINDS.items() for name in room.PROTECTIONS}
SLOW_SECONDS = 2.0
"""Of processor time: what else the machine does is no fault."""
HUNG_SECONDS = 60.0
MORE_BYTES = 400e6
MOST_BYTES = 6 * 2**30
MOST_KEPT = 50


@dataclass(slots=True)
class Report:
    """What became of what was tried, by kind."""

    tries: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    kept: Path | None = None

    def count(self, sort: str) -> int:
        """How many faults are of one sort: crash, lost, double, wrong."""
        return sum(f": {sort}: " in fault for fault in self.faults)

    def __str__(self) -> str:
        sorts = ", ".join(f"{self.count(s)} {s}" for s in ("crash", "lost", "double", "wrong"))
        lines = [f"machine: {processor_name()}"]
        lines += [
            f"{kind}: {number} tries, {self.commands[kind]} real commands, "
            f"slowest {self.slowest.get(kind, 0):.2f} s\n"
            + "\n".join(f"  {n:6d} {word}" for word, n in self.outcomes[kind].most_common(15))
            for kind, number in self.tries.items()
        ]
        return "\n".join(
            [
                *lines,
                f"all: {self.tries.total()} tries in {self.seconds:.0f} s",
                f"faults: {len(self.faults)} ({sorts})",
                *(f"  {fault}" for fault in self.faults[:20]),
                *([f"inputs: {self.kept}"] if self.faults else []),
            ]
        )


def feed(
    folder: Path,
    tries: int,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    seed: int = 0,
    broken: str | None = None,
    commands: int = 0,
) -> Report:
    """Try so many inputs of these kinds together, and `commands` of each with the real command."""
    report = Report(kept=folder / "kept")
    started = time.monotonic()
    shares = sum(KINDS[kind][1] for kind in kinds)
    for kind in kinds:
        report.outcomes[kind] = Counter()
        number = round(tries * KINDS[kind][1] / shares)
        begin = 0
        while begin < number:
            begin = _one_process(report, kind, folder / kind, range(begin, number), seed, broken)
        if commands:
            _commands(report, kind, folder / f"{kind}-commands", commands, seed)
    report.seconds = time.monotonic() - started
    return report


def _one_process(
    report: Report, kind: str, folder: Path, numbers: range, seed: int, broken: str | None
) -> int:
    """Try until all are done or the process dies; returns the number to go on with."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    shutil.rmtree(folder, ignore_errors=True)
    process = context.Process(target=_work, args=(theirs, kind, folder, numbers, seed, broken))
    process.start()
    theirs.close()
    number = numbers.start
    try:
        while ours.poll(HUNG_SECONDS):
            word, faults, seconds = ours.recv()
            if word is None:
                _enter(report, kind, number, faults)
                process.join()
                return numbers.stop
            report.tries[kind] += 1
            report.outcomes[kind][word] += 1
            report.slowest[kind] = max(report.slowest.get(kind, 0.0), seconds)
            _enter(report, kind, number, faults)
            number += 1
        what = f"hangs for {HUNG_SECONDS:.0f} s"
        process.kill()
    except EOFError:
        what = "the process died"
    process.join()
    report.tries[kind] += 1
    report.outcomes[kind][what] += 1
    _keep(folder, number)
    _enter(report, kind, number, [f"crash: {what} ({process.exitcode})"])
    return number + 1


def _enter(report: Report, kind: str, number: int, faults: Sequence[str]) -> None:
    report.faults += [f"{kind} {number}: {fault}" for fault in faults]


def _keep(folder: Path, number: int) -> None:
    """What was being tried, put aside for whoever looks into it."""
    kept = folder.parent / "kept" / f"{folder.name}-{number}"
    if kept.exists() or (kept.parent.is_dir() and len(list(kept.parent.iterdir())) >= MOST_KEPT):
        return
    with contextlib.suppress(shutil.Error):  # FIFOs and devices are not copied
        shutil.copytree(folder / "current", kept, symlinks=True)


def _work(
    pipe: Connection, kind: str, folder: Path, numbers: range, seed: int, broken: str | None
) -> None:
    """In a process of its own: each try's outcome, its faults and its processor time go back."""
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    (folder / "current").mkdir(parents=True)
    subject = KINDS[kind][0].Subject(folder, broken)
    peak = 0
    for number in numbers:
        rng = random.Random(f"{seed}/{kind}/{number}")
        before = time.process_time()
        try:
            word, faults = subject.attempt(rng)
        except Exception as error:  # noqa: BLE001  any that comes this far is what is looked for
            word, faults = "crash", [f"crash: {_words(error)}"]
        seconds = time.process_time() - before
        now = _peak_bytes(multiprocessing.current_process().pid or 0)
        if seconds > SLOW_SECONDS:
            faults = [*faults, f"crash: it took {seconds:.1f} s"]
        if peak and now - peak > MORE_BYTES:
            faults = [*faults, f"crash: it took {(now - peak) / 1e6:.0f} MB more"]
        peak = max(peak, now)
        if faults:
            _keep(folder, number)
        pipe.send((word, faults, seconds))
    try:
        last = subject.close()
    except Exception as error:  # noqa: BLE001  as above
        last = [f"crash: {_words(error)}"]
    pipe.send((None, last, 0.0))


def _words(error: Exception) -> str:
    """An exception in a line, with the places it came through."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__}: {str(error)[:200]!a} ({places})"


def _commands(report: Report, kind: str, folder: Path, number: int, seed: int) -> None:
    """The same with the real command: it ends with 0, 1 or 2, and never with a traceback."""
    room: Any = KINDS[kind][0]
    (folder / "current").mkdir(parents=True)
    for i in range(number):
        done = room.command(folder, random.Random(f"{seed}/{kind}-command/{i}"))
        report.commands[kind] += 1
        said = done.stderr[-1500:]
        if done.returncode not in (0, 1, 2) or "Traceback" in done.stderr:
            _keep(folder, i)
            _enter(report, kind, i, [f"crash: command, exit {done.returncode}: {said}"])
        elif done.returncode and not said.strip():
            _enter(report, kind, i, [f"wrong: exit {done.returncode} without a word"])


def main(arguments: Sequence[str] | None = None) -> int:
    """The long form. Exit status 1 on any fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=40_000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", type=int, default=12, help="real commands of each kind")
    parser.add_argument("--break", dest="broken", choices=PROTECTIONS)
    parser.add_argument("--keep", type=Path, help="a new folder to work in, kept afterwards")
    chosen = parser.parse_args(arguments)
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="hostile-"))
    kinds, commands = chosen.kinds, chosen.commands
    if chosen.broken:  # of the other kinds nothing was taken away
        kinds, commands = [PROTECTIONS[chosen.broken]], 0
    report = feed(
        folder,
        chosen.tries,
        kinds=kinds,
        seed=chosen.seed,
        broken=chosen.broken,
        commands=commands,
    )
    print(report)
    if not chosen.keep and not report.faults:
        shutil.rmtree(folder, ignore_errors=True)
    return int(bool(report.faults))


if __name__ == "__main__":
    sys.exit(main())
