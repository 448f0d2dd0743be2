"""A station whose clock starts in 1970, is set, falls back, and goes through leap days and DST,
while frames arrive and trainings fall due: counts what is lost, double, stalled or too much.

python -m tests.faults.clocks                    the daemon, its clock moved by libfaketime
python -m tests.faults.clocks --break settle     must report (also: due, ticks)
python -m tests.faults.clocks --jumps 300        more jumps inside one process, by time-machine
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from monitor.core.domain import Observation
from monitor.log.species_log import SpeciesLog

from .broken_clocks import BREAKS
from .drill import COLOURS, HURRIED, Drill, draw_frame
from .losses import losses
from .random_kill import processor_name, settle

LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
)
PATIENCE_SECONDS = 120.0
"""A training steps back behind all else: on a busy machine it takes long."""
QUIET_SECONDS = 4.0
"""Longer than the pause between two looks whether a training is due; see `HURRIED`."""
EACH = 6
BERLIN, SAO_PAULO = "Europe/Berlin", "America/Sao_Paulo"
PASSED_OVER = "classified media that the live version passed over"
"""Judged by times, which mean nothing here; this drill looks itself."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One time that the clock is set to."""

    name: str
    at: datetime


def _local(zone: str, *moment: int) -> datetime:
    return datetime(*moment, tzinfo=ZoneInfo(zone)).astimezone(UTC)  # type: ignore[misc,arg-type]


def stages(zone: str, today: datetime) -> list[Stage]:
    """1970, today, back a day, a leap day, and both changes of summer time."""
    if zone == BERLIN:
        changes = [
            Stage("before summer time", _local(zone, 2029, 3, 25, 1, 58)),
            Stage("after the hour that is not", _local(zone, 2029, 3, 25, 3, 2)),
            Stage("in the hour that comes twice", _local(zone, 2029, 10, 28, 2, 30)),
            Stage("after it", _local(zone, 2029, 10, 28, 3, 30)),
        ]
    else:  # where summer time began at midnight; it was given up in 2019
        changes = [
            Stage("before summer time", _local(zone, 2018, 11, 3, 23, 58)),
            Stage("after the midnight that is not", _local(zone, 2018, 11, 4, 1, 2)),
            Stage("before the hour that comes twice", _local(zone, 2019, 2, 16, 22, 58)),
            Stage("after it", _local(zone, 2019, 2, 17, 0, 30)),
        ]
    return [
        Stage("today", today),
        Stage("back a day", today - timedelta(days=1)),
        Stage("leap day", datetime(2028, 2, 29, 12, tzinfo=UTC)),
        *changes,
        Stage("1970 again", datetime(1970, 1, 1, 0, 5, tzinfo=UTC)),
        Stage("today at last", today + timedelta(hours=1)),
    ]


BOOT = Stage("1970", datetime(1970, 1, 1, 0, 0, 20, tzinfo=UTC))


@dataclass(slots=True)
class Report:
    """What a drill came to."""

    stages: int = 0
    files: int = 0
    trainings: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{self.stages} times set, {self.files} files, {self.trainings} trainings"
        return "\n".join([counts, f"faults: {len(self.faults)}", *(f"  {f}" for f in self.faults)])


def library() -> Path | None:
    """libfaketime, if this machine has it (Debian: apt-get install libfaketime)."""
    return next((Path(name) for name in LIBRARIES if Path(name).exists()), None)


class FakeClock:
    """The wall clock of the processes that have `environ`; the monotonic one stays real."""

    def __init__(self, folder: Path, faketime: Path) -> None:
        self._file = folder / "clock"
        self._offset = timedelta(0)
        self.environ: Mapping[str, str] = {
            "LD_PRELOAD": str(faketime),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
            "NO_FAKE_STAT": "1",  # files keep the times that they have
        }

    def set(self, moment: datetime) -> None:
        """Let it be this time now."""
        self._offset = moment - datetime.now(UTC)
        partial = self._file.with_suffix(".partial")
        partial.write_text(f"{self._offset.total_seconds():+.0f}")
        partial.replace(self._file)

    def now(self) -> datetime:
        """What the processes see."""
        return datetime.now(UTC) + self._offset


def drill_clocks(
    root: Path,
    faketime: Path,
    *,
    zone: str = BERLIN,
    broken: str | None = None,
    most: int | None = None,
    last_patience: float = PATIENCE_SECONDS,
) -> Report:
    """Run a daemon from 1970 on through `stages`.

    Args:
        broken: the protection to take away first; see `broken_clocks.BREAKS`.
        most: so many stages only.
        last_patience: seconds after which, at the last stage, what has not come is stalled.
    """
    drill, report = Drill(root), Report()
    drill.configure(schedule="* * * * *", min_new_labels=EACH)
    text = drill.config.read_text().replace(
        "reconcile_seconds: 2", "reconcile_seconds: 2, polling: true"
    )
    drill.config.write_text(f"station: {{timezone: {zone}}}\n{text}")
    command = drill.command("run", code=HURRIED)
    if broken is not None:
        script = Path(__file__).with_name("broken_clocks.py")
        command = [sys.executable, str(script), broken, *drill.command("run")[3:]]
    clock = FakeClock(root, faketime)
    clock.set(BOOT.at)
    story = Story(drill, clock.now, report)
    chosen = stages(zone, datetime.now(UTC))[:most]
    with drill.service(clock.environ, command):
        story.frames()
        story.wait_for("its frames", BOOT, story.all_classified)
        for stage in chosen:
            story.frames()
            if not story.wait_for("its frames", BOOT, story.all_classified):
                break
            story.label()
            before = story.runs()
            if stage is chosen[-1]:
                story.patience = last_patience
            clock.set(stage.at)
            story.frames()
            report.stages += 1
            ok = story.wait_for("its frames", stage, story.all_classified)
            ok &= story.wait_for("a training", stage, lambda before=before: story.runs() > before)
            if not ok:
                break
        if not report.faults:
            story.keeps_quiet()
    story.count(broken=broken)
    return report


class Story:
    """What happens at the station meanwhile, and what must come of it."""

    def __init__(
        self,
        drill: Drill,
        now: Callable[[], datetime],
        report: Report,
    ) -> None:
        self._drill, self._now, self._report = drill, now, report
        self.patience = PATIENCE_SECONDS
        self._due = 0

    def frames(self) -> None:
        """Some more frames arrive."""
        for _ in range(3):
            for species in COLOURS:
                number = self._report.files
                at = datetime(2026, 5, 1) + timedelta(minutes=40 * number)
                camera = ("north", "south", "west")[number // 3 % 3]
                draw_frame(self._drill.frames / camera / f"F{number:04d}.JPG", species, at, number)
                self._report.files += 1

    def label(self) -> None:
        """As many frames are labelled as make a training due."""
        rows = self._drill.query(
            "SELECT id, path FROM media WHERE label_id IS NULL ORDER BY id LIMIT ?", EACH
        )
        with SpeciesLog(self._drill.data / "trapwatch.db") as log:
            for media_id, path in rows:
                species = tuple(COLOURS)[int(Path(path).stem[1:]) % 3]
                said = [Observation(species)]
                log.label([media_id], said, "drill", "cli", self._now(), insist=True)
        self._due += 1

    def runs(self) -> int:
        """Trainings that have ended."""
        return self._drill.number("SELECT count(*) FROM training_run WHERE state <> 'running'")

    def all_classified(self) -> bool:
        """True once every file that was written is a classified media."""
        query = "SELECT count(*) FROM media WHERE status = 'classified'"
        return self._drill.number(query) == self._report.files

    def wait_for(self, what: str, stage: Stage, there: Callable[[], bool]) -> bool:
        """False, and a fault, if it does not come in time."""
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            if there():
                return True
            time.sleep(0.2)
        self._report.faults.append(f"{stage.name} ({stage.at:%Y-%m-%d}): stalled, without {what}")
        return False

    def keeps_quiet(self) -> None:
        """Nothing more is due: no training may come."""
        time.sleep(QUIET_SECONDS)
        if self.runs() > self._due:
            self._report.faults.append(f"{self.runs()} trainings where {self._due} were due")

    def count(self, *, broken: str | None) -> None:
        """What was lost or double, once all is taken in with a true clock."""
        self._report.trainings = self.runs()
        if broken is None:
            settle(self._drill)
        found = losses(self._drill, settled=broken is None)
        self._report.faults += [loss for loss in found if not loss.startswith(PASSED_OVER)]
        if broken is None and self._drill.number("SELECT count(*) FROM model_version"):
            unseen = self._drill.number(
                "SELECT count(*) FROM media WHERE status = 'classified' AND label_id IS NULL "
                "AND NOT EXISTS (SELECT 1 FROM prediction WHERE media_id = media.id) AND EXISTS "
                "(SELECT 1 FROM model_version WHERE state = 'live')"
            )
            self._report.faults += [f"never predicted: {unseen}"] if unseen else []


def main(arguments: Sequence[str] | None = None) -> int:
    """The long form. Exit status 1 on any fault."""
    from .clocks_inside import drill_inside

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jumps", type=int, default=100, help="inside one process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--break", dest="broken", choices=tuple(BREAKS))
    chosen = parser.parse_args(arguments)
    print(f"machine: {processor_name()}")
    faults = 0
    folder = Path(tempfile.mkdtemp(prefix="clocks-"))
    if chosen.broken is None:
        report = drill_inside(folder / "inside", chosen.jumps, chosen.seed)
        print(f"inside one process: {report}")
        faults += len(report.faults)
    faketime = library()
    if faketime is None:
        print("the daemon: skipped, for libfaketime is not installed (apt-get install libfaketime)")
    else:
        for zone in (BERLIN, SAO_PAULO):
            name = zone.replace("/", "-")
            report = drill_clocks(folder / name, faketime, zone=zone, broken=chosen.broken)
            print(f"the daemon, {zone}: {report}", flush=True)
            faults += len(report.faults)
    shutil.rmtree(folder, ignore_errors=True)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
