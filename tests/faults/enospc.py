"""The disk is full at the n-th write, for every n: nothing is lost, and it goes on afterwards.

python -m tests.faults.enospc [--stories intake labels …] [--every 5]
python -m tests.faults.enospc --stories labels --break transactions    must report a loss
"""

from __future__ import annotations

import argparse
import errno
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from monitor.log.engine import choose_sqlite

from . import shim
from .disk_stories import STORIES, Stations, Story, filled_in, go_on, temporary_stations
from .drill import Drill, snapshot
from .losses import losses
from .random_kill import processor_name
from .shim import Fault, preloaded

PROTECTIONS = ("transactions",)
MODES = {
    "full once": (False, errno.ENOSPC),
    "stays full": (True, errno.ENOSPC),
    "read or write error": (False, errno.EIO),
}
"""Name -> (do all later writes fail, too; with which error)."""
FULL_SECONDS = 1.5
PATIENCE_SECONDS = 90.0
UNPICKED = "no call was reached"


@dataclass(slots=True)
class Report:
    """What a story came to with a failure at each of its writes."""

    story: str
    calls: int = 0
    tries: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.story}: {self.calls} writes, {self.tries} tries: {len(self.losses)} lost or "
            f"double, {len(self.crashes)} crashes; {dict(self.ended)}; {self.seconds:.0f} s",
            *(f"  lost: {loss}" for loss in self.losses[:20]),
            *(f"  crash: {crash}" for crash in self.crashes[:20]),
        ]
        return "\n".join(lines)


def drill_story(
    stations: Stations,
    name: str,
    *,
    every: int = 1,
    modes: Sequence[str] = tuple(MODES),
    broken: str | None = None,
) -> Report:
    """Let each `every`-th write of a story fail, once in each mode, and look what is left.

    Args:
        broken: the protection to take away first; see `PROTECTIONS`.
    """
    story, report, started = STORIES[name], Report(name), time.monotonic()
    report.calls = len(calls_of(stations, story))
    for offset, mode in enumerate(modes):
        for n in range(1 + offset % every, report.calls + 1, every):
            where, faults = fail_at(stations, story, n, mode, report, broken)
            report.tries += 1
            report.losses += [f"{where}: {fault}" for fault in faults]
    report.seconds = time.monotonic() - started
    return report


def drill_service(stations: Stations, calls: Sequence[int]) -> Report:
    """The disk of a running service is full from its n-th write on; then space returns, and it
    must go on by itself. Where it ends instead, with a message, it is started again, as systemd
    does.

    Args:
        calls: the values of n.
    """
    report, started = Report("service"), time.monotonic()
    for n in calls:
        drill = stations.station("empty")
        fault = Fault(drill.data, stations.folder / "notes", n, stays=True)
        where = f"service, full from write {n} on"
        report.losses += [f"{where}: {loss}" for loss in _serve(drill, fault, report)]
        said = drill.output.read_text(encoding="utf-8", errors="replace")
        if "Traceback" in said:
            report.crashes.append(f"{where}: {said[said.index('Traceback') :][-600:]}")
        report.tries += 1
    report.seconds = time.monotonic() - started
    return report


def _serve(drill: Drill, fault: Fault, report: Report) -> Iterator[str]:
    environ = preloaded(fault.environ())
    deadline, full_since = time.monotonic() + PATIENCE_SECONDS, None
    while time.monotonic() < deadline:
        with drill.service(environ) as service:
            while service.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
                if full_since is None and fault.count() >= fault.fail_at:
                    full_since = time.monotonic()
                elif full_since is not None and time.monotonic() - full_since > FULL_SECONDS:
                    fault.space_returns()
                    if _is_done(drill):
                        service.send_signal(signal.SIGTERM)
                        code = service.wait(30)
                        report.ended[f"exit {code}"] += 1
                        yield from losses(drill)
                        return
            report.ended[f"started again after exit {service.poll()}"] += 1
    yield f"it does not go on: {drill.output.read_text(encoding='utf-8')[-500:]}"


def _is_done(drill: Drill) -> bool:
    try:
        done = drill.number("SELECT count(*) FROM media WHERE status <> 'pending'")
    except choose_sqlite().module.OperationalError:
        return False
    return done == sum(drill.sorted not in path.parents for path in drill.files())


def calls_of(stations: Stations, story: Story) -> list[str]:
    """What a story does to its disk when nothing fails: `number operation path` of each call."""
    drill = stations.station(story.base)
    fault = Fault(drill.root, stations.folder / "notes")
    command = filled_in(story.command, drill)
    code = stations.forks.run(drill.config, command, stations.output, environ=fault.environ())
    assert code == 0, stations.said()
    return fault.calls()


def fail_at(
    stations: Stations, story: Story, n: int, mode: str, report: Report, broken: str | None = None
) -> tuple[str, list[str]]:
    """Let the n-th call fail: (where it was, what was lost)."""
    stays, number = MODES[mode]
    drill = stations.station(story.base)
    frames = snapshot(drill.frames)
    fault = Fault(drill.root, stations.folder / "notes", n, stays, number)
    command = filled_in(story.command, drill)
    code = stations.forks.run(
        drill.config, command, stations.output, environ=fault.environ(), broken=broken
    )
    reached = [call for call in fault.calls() if call.startswith(f"{n} ")]
    where = f"{mode} at {(reached or [f'{n} {UNPICKED}'])[0]}"
    if reached:
        report.ended[f"exit {code}"] += 1
        report.crashes += _crashes(where, code, stations.said())
    else:
        report.ended[UNPICKED] += 1
    faults = story.meanwhile(drill)
    if code == 0:
        faults += [f"it had said that all went well: {loss}" for loss in story.afterwards(drill)]
    faults += go_on(stations, drill, story)
    if snapshot(drill.frames) != frames:
        faults.append("a photograph was changed")
    return where, faults


def _crashes(where: str, code: int, said: str) -> Iterator[str]:
    if code < 0:
        yield f"{where}: ended by signal {-code}"
    elif "Traceback" in said:
        yield f"{where}: {said.strip().splitlines()[-1]}"
    elif code not in (0, 1):
        yield f"{where}: exit status {code}: {said[-200:]}"
    elif code == 1 and not said.strip():
        yield f"{where}: it failed without a word"


def main(arguments: Sequence[str] | None = None) -> int:
    """The long form. Exit status 1 on any loss or crash."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", nargs="+", choices=tuple(STORIES), default=tuple(STORIES))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--modes", nargs="+", choices=tuple(MODES), default=tuple(MODES))
    parser.add_argument("--break", dest="broken", choices=PROTECTIONS)
    chosen = parser.parse_args(arguments)
    if reason := shim.why_not():
        parser.error(reason)
    print(f"machine: {processor_name()}")
    bad = 0
    with temporary_stations("enospc-") as stations:
        for name in chosen.stories:
            report = drill_story(
                stations, name, every=chosen.every, modes=chosen.modes, broken=chosen.broken
            )
            print(report, flush=True)
            bad += len(report.losses) + len(report.crashes)
        if chosen.broken is None and tuple(chosen.stories) == tuple(STORIES):
            report = drill_service(stations, range(1, 420, 20 * chosen.every))
            print(report, flush=True)
            bad += len(report.losses) + len(report.crashes)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
