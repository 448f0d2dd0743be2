"""kill -9 at a random moment of one thing a station does: it is as if nothing was lost.

python -m tests.faults.story_kills --kills 500
python -m tests.faults.story_kills --kills 20 --stories labels --break transactions    must report

Where random_kill kills the running service, this kills one command at a time: taking in, labelling,
training with its publishing, re-scoring after a swap, a backup, an upgrade of the log.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import shim
from .disk_stories import STORIES, Stations, filled_in, go_on, shares, temporary_stations
from .drill import snapshot
from .enospc import PROTECTIONS
from .random_kill import processor_name


@dataclass(slots=True)
class Report:
    """What a number of kills came to.

    Attributes:
        kills: of each story. Commands that ended before their moment came are not counted.
        seconds: how long each story takes when nothing kills it.
    """

    kills: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        took = {name: f"{seconds:.2f} s" for name, seconds in self.seconds.items()}
        return "\n".join(
            [
                f"kills: {self.kills.total()} {dict(self.kills)}; undisturbed: {took}",
                f"lost or double: {len(self.losses)}",
                *(f"  {loss}" for loss in self.losses[:20]),
            ]
        )


def drill_kills(
    stations: Stations,
    name: str,
    kills: int,
    report: Report,
    *,
    seed: int = 0,
    broken: str | None = None,
) -> None:
    """Kill a story `kills` times, each time from its beginning, and go on after each.

    Args:
        broken: the protection to take away first; see `enospc.PROTECTIONS`.
    """
    story, rng = STORIES[name], random.Random(f"{name} {seed}")
    report.seconds[name] = _undisturbed(stations, name)
    while report.kills[name] < kills:
        drill = stations.station(story.base)
        frames, moment = snapshot(drill.frames), rng.uniform(0.001, report.seconds[name])
        code = stations.forks.run(
            drill.config,
            filled_in(story.command, drill),
            stations.output,
            broken=broken,
            kill_after=moment,
        )
        if code != -signal.SIGALRM:
            assert code == 0, stations.said()
            continue
        report.kills[name] += 1
        found = story.meanwhile(drill) + go_on(stations, drill, story)
        if snapshot(drill.frames) != frames:
            found.append("a photograph was changed")
        report.losses += [f"{name}, killed after {moment:.3f} s: {loss}" for loss in found]


def _undisturbed(stations: Stations, name: str) -> float:
    story = STORIES[name]
    drill, started = stations.station(story.base), time.monotonic()
    stations.run(drill, story.command)
    return time.monotonic() - started


def main(arguments: Sequence[str] | None = None) -> int:
    """The long form. Exit status 1 on any loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stories", nargs="+", choices=tuple(STORIES), default=tuple(STORIES))
    parser.add_argument("--break", dest="broken", choices=PROTECTIONS)
    chosen = parser.parse_args(arguments)
    if reason := shim.why_not():
        parser.error(reason)
    report = Report()
    with temporary_stations("kills-") as stations:
        for name, kills in shares(chosen.kills, chosen.stories).items():
            drill_kills(stations, name, kills, report, seed=chosen.seed, broken=chosen.broken)
            print(f"{name}: {kills} kills, {len(report.losses)} losses so far", flush=True)
    print(f"machine: {processor_name()}\n{report}")
    return int(bool(report.losses))


if __name__ == "__main__":
    sys.exit(main())
