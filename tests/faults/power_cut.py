"""The power fails while a station works: what was not synced is gone, what was acknowledged is not.

python -m tests.faults.power_cut --cuts 200
python -m tests.faults.power_cut --cuts 30 --break sync    must report losses

Each story is done once and everything it does to its disk is recorded. Then the power fails at
some places of the record, the disk is put back as it would be found (see replay.py), and the
station goes on from there.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monitor.log.engine import choose_sqlite

from . import shim
from .disk_stories import ONCE, STORIES, Stations, Story, filled_in, shares, temporary_stations
from .drill import Drill, snapshot
from .random_kill import processor_name
from .replay import KEPT, VARIANTS, Disk, Operation, marks, put, read_record
from .shim import Fault

PROTECTIONS = ("sync",)
ALL_TOLD = "labels"
"""The story in which each label is acknowledged."""


@dataclass(slots=True)
class Report:
    """What a number of power cuts came to."""

    cuts: Counter[str] = field(default_factory=Counter)
    variants: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    losses: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"power cuts: {self.cuts.total()} {dict(self.cuts)}, what was not synced: "
            f"{dict(self.variants)}, {self.seconds:.0f} s",
            f"acknowledged rows that were looked for: {self.acknowledged}",
            f"lost or double: {len(self.losses)}; crashes: {len(self.crashes)}",
            *(f"  {line}" for line in (*self.losses[:20], *self.crashes[:20])),
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Recording:
    """A story that was done once: what it began with, and what it did.

    Attributes:
        disk: the station's folder before, as replay.py sees it.
    """

    name: str
    story: Story
    operations: list[Operation]
    disk: Disk


def record(stations: Stations, name: str, broken: str | None) -> Recording:
    """Do a story, with a record of it. Raises AssertionError if the record is not whole."""
    story = STORIES[name]
    drill = stations.station(story.base)
    file = stations.folder / "record"
    file.unlink(missing_ok=True)
    disk, whole = Disk(drill.root), Disk(drill.root)
    fault = Fault(drill.root, stations.folder / "notes", record=file)
    command = filled_in(story.command, drill)
    code = stations.forks.run(
        drill.config, command, stations.output, environ=fault.environ(), broken=broken
    )
    assert code == 0, stations.said()
    operations = read_record(file)
    for operation in operations:
        whole.apply(operation)
    assert whole.after_a_cut(KEPT, random.Random(0)) == _contents(drill.root), "went past the shim"
    return Recording(name, story, operations, disk)


def _contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
        if not path.name.endswith("-shm")
    }


def choose_cuts(operations: Sequence[Operation], number: int, rng: random.Random) -> list[int]:
    """After how many operations the power fails: half of them beside a sync, some at the end."""
    last = len(operations)
    syncs = [n for n, op in enumerate(operations, 1) if op.kind in "SD"]
    beside = sorted({n + d for n in syncs for d in (-1, 0, 1)} & set(range(last + 1)))
    wanted = rng.sample(beside, min(len(beside), number // 2))
    return sorted([*wanted, last, *(rng.randint(0, last) for _ in range(number - len(wanted) - 1))])


def drill_cuts(
    stations: Stations,
    name: str,
    cuts: int,
    report: Report,
    *,
    seed: int = 0,
    broken: str | None = None,
) -> None:
    """Cut the power `cuts` times in a story, and go on after each."""
    rng = random.Random(f"{name} {seed}")
    recording = record(stations, name, broken)
    done = 0
    for number, place in enumerate(choose_cuts(recording.operations, cuts, rng)):
        while done < place:
            recording.disk.apply(recording.operations[done])
            done += 1
        variant = VARIANTS[number % len(VARIANTS)]
        report.cuts[name] += 1
        report.variants[variant] += 1
        where = f"{name}, after operation {place} of {len(recording.operations)}, {variant}"
        left = recording.disk.after_a_cut(variant, rng)
        for loss in _go_on(stations, recording, place, left, report, where):
            report.losses.append(f"{where}: {loss}")


def _go_on(
    stations: Stations,
    recording: Recording,
    place: int,
    left: dict[str, bytes | None],
    report: Report,
    where: str,
) -> list[str]:
    """The power is back: what is there, and what comes of it."""
    story = recording.story
    drill = stations.station(story.base)
    frames = snapshot(drill.frames)
    shutil.rmtree(drill.data, ignore_errors=True)
    below = {path: data for path, data in left.items() if path.startswith("data/")}
    put(below | {"data": None} if "data" in left else below, drill.root)
    try:
        found = _missing(drill, recording.operations[:place], report) + story.meanwhile(drill)
        if place == len(recording.operations):
            found += [f"it had ended well: {loss}" for loss in story.afterwards(drill)]
    except choose_sqlite().module.DatabaseError as error:
        return [f"the log cannot be read: {error}"]
    for command in (ONCE, story.command, ONCE):
        code = stations.forks.run(drill.config, filled_in(command, drill), stations.output)
        said = stations.said()
        if code < 0 or "Traceback" in said:
            report.crashes.append(f"{where}: {' '.join(command)}: {said[-300:]}")
        elif code != 0 and "is there already" not in said and "exists" not in said:
            found.append(f"{' '.join(command)} fails afterwards: {said[-300:]}")
    found += story.afterwards(drill)
    if snapshot(drill.frames) != frames:
        found.append("a photograph was changed")
    return found


def _missing(drill: Drill, before: list[Operation], report: Report) -> list[str]:
    """Rows that a commit had acknowledged before the cut, and that are not there."""
    told = marks(before)
    if not told:
        return []
    found = []
    for table, number in told[-1][1].items():
        report.acknowledged += number
        there = drill.number(f"SELECT count(*) FROM {table}")
        if there < number:
            found.append(f"{table}: {there} rows of {number} that were acknowledged")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The long form. Exit status 1 on any loss or crash."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stories", nargs="+", choices=tuple(STORIES), default=tuple(STORIES))
    parser.add_argument("--break", dest="broken", choices=PROTECTIONS)
    chosen = parser.parse_args(arguments)
    if reason := shim.why_not():
        parser.error(reason)
    report, started = Report(), time.monotonic()
    with temporary_stations("power-cut-") as stations:
        for name, cuts in shares(chosen.cuts, chosen.stories).items():
            drill_cuts(stations, name, cuts, report, seed=chosen.seed, broken=chosen.broken)
            print(f"{name}: {cuts} cuts, {len(report.losses)} losses so far", flush=True)
    report.seconds = time.monotonic() - started
    print(f"machine: {processor_name()}\n{report}")
    return int(bool(report.losses or report.crashes))


if __name__ == "__main__":
    sys.exit(main())
