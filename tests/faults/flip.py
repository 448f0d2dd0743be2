"""Changes bytes in the files of a station, lets it run, and counts what is lost.

python -m tests.faults.flip --flips 200
python -m tests.faults.flip --flips 20 --break journal    must report a loss
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monitor.core.config import load_settings
from monitor.core.domain import utc_now
from monitor.log.engine import choose_sqlite
from monitor.recovery.backups import back_up

from .drill import Drill, Zygote, fill
from .losses import losses
from .random_kill import processor_name

TARGETS = ("log", "wal", "features", "weights", "card", "pointer", "journal")
PROTECTIONS = ("journal",)
PAGE = 4096
EARLIER, LIVE = "v0001", "v0002"
LABELS = """SELECT m.sha256, a.at, a.by, a.how, a.kind, s.name, o.count,
    EXISTS (SELECT 1 FROM label w WHERE w.withdraws_id = l.id), l.withdraws_id IS NOT NULL
    FROM label l JOIN act a ON a.id = l.act_id JOIN media m ON m.id = l.media_id
    LEFT JOIN observation o ON o.label_id = l.id LEFT JOIN species s ON s.id = o.species_id"""
LATE_LABELS = """
import os, sys
from pathlib import Path
from monitor.core.config import load_settings
from monitor.core.domain import Observation, utc_now
from monitor.recovery.label_journal import keep_journal
from monitor.log.species_log import open_log
settings = load_settings(Path(sys.argv[1]))
log = keep_journal(open_log(settings.database.url), settings)
for media in (2, 5, 9):
    log.label([media], [Observation("roe deer", 2)], "Zoe", "web", utc_now())
log.undo(5, "Zoe", "web", utc_now())
log.rename_species("roe deer", "deer", "Zoe", "web", utc_now())
os.kill(os.getpid(), 9)  # the write-ahead log stays, as after a power cut
"""


@dataclass(slots=True)
class Report:
    """What the flips came to."""

    flips: Counter[str] = field(default_factory=Counter)
    restored: Counter[str] = field(default_factory=Counter)
    lost_labels: int = 0
    doubled_labels: int = 0
    lost_media: int = 0
    crashes: int = 0
    silent_models: int = 0
    losses: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"machine: {processor_name()}",
            f"flips: {self.flips.total()} {dict(self.flips)}, {self.seconds:.0f} s",
            f"logs restored: {self.restored.total()} {dict(self.restored)}",
            f"labels lost: {self.lost_labels}, doubled: {self.doubled_labels}; "
            f"media lost: {self.lost_media}; damaged models not told: {self.silent_models}; "
            f"crashes: {self.crashes}; all findings: {len(self.losses)}",
            *(f"  {loss}" for loss in self.losses[:20]),
        ]
        return "\n".join(lines)


class Patient:
    """A station with something in every file, made once; `fresh` puts it back as it was.

    Args:
        broken: the protection to take away; see `PROTECTIONS`.
        backup: make a backup in the middle of the story.
    """

    def __init__(
        self, folder: Path, zygote: Zygote, broken: str | None = None, *, backup: bool = True
    ) -> None:
        self._zygote, self._kept = zygote, folder / "kept"
        self.drill = Drill(folder / "station")
        if broken == "journal":
            config = self.drill.config.read_text(encoding="utf-8")
            self.drill.config.write_text(config + "journal: {enabled: false}\n", encoding="utf-8")
        self._make(backup=backup)
        shutil.copytree(self.drill.root, self._kept, symlinks=True)
        self.labels = labels_of(self.drill)
        self.live = self._live()
        self.fresh()

    def fresh(self) -> Drill:
        """The station as it was made, at the same place."""
        shutil.rmtree(self.drill.root)
        shutil.copytree(self._kept, self.drill.root, symlinks=True)
        return self.drill

    def run(self) -> int:
        """`trapwatch run --once`; its exit status."""
        return self._zygote.run(self.drill, "run", "--once")

    def _make(self, *, backup: bool) -> None:
        fill(self.drill)
        self._do("run", "--once")
        self._do("label", "import-folder", str(self.drill.sorted))
        if backup:
            back_up(load_settings(self.drill.config), utc_now())
        for _ in range(2):
            self._do("train", "--force")
        self._do("models", "promote", EARLIER)
        self._do("models", "promote", LIVE)
        self._do("run", "--once")
        command = [sys.executable, "-c", LATE_LABELS, str(self.drill.config)]
        killed = subprocess.run(command, check=False)
        assert killed.returncode == -signal.SIGKILL

    def _do(self, *arguments: str) -> None:
        code = self._zygote.run(self.drill, *arguments)
        assert code == 0, self.drill.output.read_text(encoding="utf-8")[-3000:]

    def _live(self) -> str:
        rows = self.drill.query("SELECT name FROM model_version WHERE state = 'live'")
        return str(rows[0][0]) if rows else ""


def labels_of(drill: Drill) -> Counter[tuple[object, ...]]:
    """What people said, by content, and how often it is there."""
    return Counter(drill.query(LABELS))


def drill_flips(
    folder: Path,
    flips: int,
    *,
    seed: int = 0,
    broken: str | None = None,
    targets: Sequence[str] = TARGETS,
    backup: bool = True,
) -> Report:
    """Change something, run twice, count; `flips` times, the targets in turn."""
    zygote, report, rng = Zygote(), Report(), random.Random(seed)
    started = time.monotonic()
    try:
        patient = Patient(folder, zygote, broken, backup=backup)
        for number in range(flips):
            target = targets[number % len(targets)]
            one_flip(patient, target, rng, report)
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            zygote.close()
    report.seconds = time.monotonic() - started
    return report


def one_flip(patient: Patient, target: str, rng: random.Random, report: Report) -> None:
    """Change one file of a fresh patient, run it, and enter what came of it."""
    drill = patient.fresh()
    what = change(drill, patient.live, target, rng)
    report.flips[target] += 1
    found: list[str] = []
    for attempt in ("first", "second"):
        if (code := patient.run()) != 0:
            report.crashes += 1
            tail = drill.output.read_text(encoding="utf-8", errors="replace")[-700:]
            found.append(f"{attempt} run: exit status {code}: {tail}")
    aside = list(drill.data.glob("*.damaged-*[0-9Z]"))
    report.restored[target] += bool(aside)
    if len(aside) > 1:
        found.append("it was restored more than once")
    found += _count(patient, target, report)
    report.losses += [f"{what}: {loss}" for loss in found]


def _count(patient: Patient, target: str, report: Report) -> list[str]:
    drill, found = patient.drill, []
    try:
        now = labels_of(drill)
        others = losses(drill)
    except choose_sqlite().module.DatabaseError as error:
        report.lost_labels += patient.labels.total()
        return [f"the log cannot be read: {error}"]
    lost, more = patient.labels - now, now - patient.labels
    report.lost_labels += lost.total()
    report.doubled_labels += more.total()
    report.lost_media += sum(loss.startswith(("lost", "still pending")) for loss in others)
    found += [f"label lost: {label}" for label in list(lost)[:2]]
    found += [f"label too much: {label}" for label in list(more)[:2]]
    broken = [loss for loss in others if loss.startswith("broken model")]
    if broken and target == "card":
        others = [loss for loss in others if loss not in broken]
    if broken and target == "weights":
        report.silent_models += 1
    states = dict(drill.query("SELECT name, state FROM model_version"))
    expected = EARLIER if states.get(patient.live) == "damaged" else patient.live
    if target != "weights" and expected != patient.live:
        found.append(f"{patient.live} was set aside, although its weights are sound")
    if expected != patient._live():
        found.append(f"{expected} should be live, now it is '{patient._live()}'")
    return found + others


def change(drill: Drill, live: str, target: str, rng: random.Random) -> str:
    """Change a file of a station; returns what was done."""
    model = drill.data / "models" / live
    path = {
        "log": drill.data / "trapwatch.db",
        "pointer": drill.data / "trapwatch.db",
        "wal": drill.data / "trapwatch.db-wal",
        "features": drill.data / "features.db",
        "weights": model / "head.safetensors",
        "card": model / "model_card.json",
        "journal": drill.data / "labels.jsonl",
    }[target]
    if not path.exists():
        return f"{target}: not there"
    content = bytearray(path.read_bytes())
    if target == "pointer":
        place = _pointer(content, rng)
        content[place] ^= 1 << rng.randrange(8)
        what = f"a bit of the live pointer, byte {place}"
    elif rng.random() < 0.3:
        start = rng.randrange(len(content)) // PAGE * PAGE
        length = min(PAGE, len(content) - start)
        content[start : start + length] = bytes(length)
        what = f"{target}: {length} bytes from {start} zeroed"
    else:
        place = rng.randrange(len(content))
        if rng.random() < 0.15:
            place = rng.randrange(min(100, len(content)))  # headers are small, and matter most
        content[place] ^= rng.randrange(1, 256)
        what = f"{target}: byte {place}"
    mode = path.stat().st_mode
    os.chmod(path, 0o644)
    path.write_bytes(content)
    os.chmod(path, mode)
    return what


def _pointer(content: bytearray, rng: random.Random) -> int:
    """A byte of a row that says which version is live, or of its index."""
    places, start = [], content.find(b"live")
    while start >= 0:
        places.append(start)
        start = content.find(b"live", start + 1)
    return rng.choice(places) + rng.randrange(-6, 8)


def main(arguments: Sequence[str] | None = None) -> int:
    """The long form. Exit status 1 on any loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--break", dest="broken", choices=PROTECTIONS)
    parser.add_argument("--no-backup", action="store_true", help="there is only the journal")
    parser.add_argument("--keep", type=Path, help="a new folder to work in, kept afterwards")
    chosen = parser.parse_args(arguments)
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="flip-"))
    targets = tuple(chosen.target or TARGETS)
    report = drill_flips(
        folder,
        chosen.flips,
        seed=chosen.seed,
        broken=chosen.broken,
        targets=targets,
        backup=not chosen.no_backup,
    )
    print(report)
    if not chosen.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return int(bool(report.losses))


if __name__ == "__main__":
    sys.exit(main())
