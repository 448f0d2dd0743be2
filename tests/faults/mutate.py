"""Feeds trapwatch ten thousand damaged photographs and looks what became of each.

python -m tests.faults.mutate --mutants 10000
python -m tests.faults.mutate --mutants 0 --backbone vgg16      peak memory of a real run
python -m tests.faults.mutate --mutants 50 --break refusing     must report

What else a file can hold against the program, EXIF, CSV files, configs and model directories, is
in `hostile`.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .drill import SUFFIXES, Drill, fill, snapshot
from .losses import losses
from .random_kill import REAL_FRAMES, processor_name

HARD_INPUTS = REAL_FRAMES.parent / "hard-inputs"
MOST_BYTES = 1.6e9
PROTECTIONS = ("refusing",)
BIGGEST_SOURCE = 400_000
"""Mutants are made of smaller files, so that ten thousand of them fit on a disk."""


@dataclass(slots=True)
class Report:
    """What became of the files."""

    files: int = 0
    contents: int = 0
    media: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    peak_bytes: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"machine: {processor_name()}",
                f"files: {self.files} ({self.contents} different); media: {dict(self.media)}",
                f"time: {self.seconds:.1f} s; peak memory: {self.peak_bytes / 1e6:.0f} MB",
                *(f"  {number:6d} rejected: {why}" for why, number in self.reasons.most_common(12)),
                f"faults: {len(self.faults)}",
                *(f"  {fault}" for fault in self.faults[:20]),
            ]
        )


def sources(drawn: Path) -> list[Path]:
    """Real frames and hard inputs where they are; frames drawn into `drawn` where they are not."""
    if REAL_FRAMES.is_dir():
        found = [*REAL_FRAMES.rglob("*"), *HARD_INPUTS.iterdir()]
        return sorted(p for p in found if p.is_file())
    fill(Drill(drawn))
    return sorted((drawn / "frames").rglob("*.JPG"))


def mutate(content: bytes, rng: random.Random) -> bytes:
    """`content` with flipped bits, cut off, with a zeroed block, or several of these."""
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not damaged:
            break
        kind = rng.randrange(4)
        if kind == 0:
            for _ in range(rng.choice((1, 4, 32))):
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        elif kind == 1:  # in the headers, where it hurts most
            for _ in range(rng.choice((1, 3))):
                damaged[rng.randrange(min(600, len(damaged)))] = rng.randrange(256)
        elif kind == 2:
            del damaged[rng.randrange(len(damaged)) :]
        else:
            start = rng.randrange(len(damaged))
            end = min(len(damaged), start + rng.choice((16, 512, 8192)))
            damaged[start:end] = bytes(end - start)
    return bytes(damaged)


def write_mutants(originals: Sequence[Path], folder: Path, number: int, seed: int) -> None:
    """`number` damaged copies in `folder`."""
    rng = random.Random(seed)
    small = [p for p in originals if p.stat().st_size <= BIGGEST_SOURCE]
    contents = {path: path.read_bytes() for path in small}
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        source = rng.choice(small)
        (folder / _image_name(f"m{i:05d}{source.suffix}")).write_bytes(
            mutate(contents[source], rng)
        )


def _image_name(name: str) -> str:
    """A name that is looked at: what a .gif or .mp4 holds comes as a .jpg."""
    return name if Path(name).suffix.lower() in SUFFIXES else f"{name}.jpg"


def feed(
    root: Path,
    mutants: int,
    *,
    seed: int = 0,
    backbone: str = "small",
    broken: str | None = None,
) -> Report:
    """Take in originals and mutants with one `run --once` in a process of its own.

    Args:
        broken: the protection to take away first; see `PROTECTIONS`.
    """
    drill, report = Drill(root), Report()
    drill.configure(backbone=backbone)
    originals = sources(root / "drawn")
    for number, path in enumerate(originals):
        (drill.frames / "originals").mkdir(exist_ok=True)
        shutil.copy2(path, drill.frames / "originals" / f"{number:02d}-{_image_name(path.name)}")
    write_mutants(originals, drill.frames / "mutants", mutants, seed)
    before = snapshot(drill.frames)
    started = time.monotonic()
    with open(drill.output, "ab") as output:
        command = drill.command("run", "--once", broken=broken)
        process = subprocess.Popen(command, stdout=output, stderr=output)
        while process.poll() is None:
            report.peak_bytes = max(report.peak_bytes, _peak_bytes(process.pid))
            time.sleep(0.02)
    report.seconds = time.monotonic() - started
    report.faults = list(_faults(drill, report, process.returncode, before))
    return report


def _peak_bytes(pid: int) -> int:
    """The most memory of a process so far. Not getrusage's: that counts what the process which
    started it had in memory."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def _faults(
    drill: Drill, report: Report, code: int, before: dict[str, tuple[str, int]]
) -> Iterator[str]:
    if code != 0:
        yield f"exit status {code}: {drill.output.read_text(errors='replace')[-2000:]}"
    files = [p for p in drill.frames.rglob("*") if p.is_file()]
    contents = {hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    report.files, report.contents = len(files), len(contents)
    report.media = Counter(dict(drill.query("SELECT status, count(*) FROM media GROUP BY 1")))
    reasons = drill.query("SELECT rejected_reason FROM media WHERE status = 'rejected'")
    report.reasons = Counter(" ".join((why or "").split()[:7]) for (why,) in reasons)
    yield from losses(drill)
    rows = {row[0] for row in drill.query("SELECT sha256 FROM media")}
    if rows != contents:
        yield f"{len(contents - rows)} files without media, {len(rows - contents)} media too many"
    if snapshot(drill.frames) != before:
        yield "a user's file was changed"
    if report.peak_bytes > MOST_BYTES:
        yield f"peak memory {report.peak_bytes / 1e9:.2f} GB"


def main(arguments: Sequence[str] | None = None) -> int:
    """The long form. Exit status 1 on any fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone", default="small", choices=("small", "vgg16"))
    parser.add_argument("--break", dest="broken", choices=PROTECTIONS)
    parser.add_argument("--keep", type=Path, help="a new folder to work in, kept afterwards")
    chosen = parser.parse_args(arguments)
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="mutate-"))
    report = feed(
        folder, chosen.mutants, seed=chosen.seed, backbone=chosen.backbone, broken=chosen.broken
    )
    print(report)
    if not chosen.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return int(bool(report.faults))


if __name__ == "__main__":
    sys.exit(main())
