"""Images per second from files to rows: a naive script, trapwatch, and what the machine allows.

In each round, one after the other: the naive script; `trapwatch run --once` on a few and on many
frames (start-up and the opened engine cancel out of the difference); decoding and the forward pass
of every engine alone. The limit is

    cores / (core-seconds of a draft decode + core-seconds of the fastest forward pass)

with all cores busy with that one thing; the quiet limit is the same with one core busy and the
others idle, which flatters the processor's clock and caches.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import bench
import forward
import plots
from bench import Spread, say
from frames import linked, real_frames
from trial import OneRun, Trial, TrialFailed

from monitor.images.decode import DecodeRules, decode

SHARED_NAIVE = bench.TOP.parent / "shared" / "bench" / "naive_loop.py"
OWN_NAIVE = Path(__file__).with_name("naive.py")
FEW = 8
DECODED = 32


@dataclass(frozen=True, slots=True)
class Round:
    """One round. Rates are images per second, costs are core-milliseconds per image."""

    naive: float
    ours: float
    limit: float
    quiet_limit: float
    decode_core_ms: float
    forward_core_ms: float
    quiet_decode_core_ms: float
    quiet_forward_core_ms: float
    ours_processor_ms: float
    ours_peak_mb: float
    fastest: str

    @property
    def ours_per_naive(self) -> float:
        """How many times as fast as the script."""
        return self.ours / self.naive

    @property
    def ours_per_limit(self) -> float:
        """Share of what the machine allows."""
        return self.ours / self.limit

    @property
    def ours_per_quiet_limit(self) -> float:
        """Share of what its cores would allow if each were alone."""
        return self.ours / self.quiet_limit


class Throughput:
    """Frames, the first (uncounted) station, and the rounds.

    Args:
        few, many: folders of FEW frames and of all.
    """

    def __init__(self, work: Path, few: Path, many: Path, chosen: argparse.Namespace) -> None:
        self._work, self._few, self._many, self._chosen = work, few, many, chosen
        paths = sorted(many.rglob("*.JPG"))[:DECODED]
        self._files = [path.read_bytes() for path in paths]
        self._pixels = forward.decoded(self._files)
        self._first = Trial(work / "first", few, chosen.engine)

    def prepare(self) -> None:
        """The run that is not counted: weights are verified, the engine is chosen."""
        say("the first run, not counted: weights, choice of the engine")
        self._first.run_once()

    def round(self, number: int) -> Round:
        """Everything once, in turn."""
        naive = self._naive(number)
        say(f"naive: {naive:.2f} images/s")
        few, many = self._run(number, self._few), self._run(number, self._many)
        counted = many.counts["classified"] - few.counts["classified"]
        ours = counted / (many.wall_seconds - few.wall_seconds)
        say(f"ours: {ours:.2f} images/s")
        decode_ms = self._decode_core_ms(bench.cores())
        say(f"decode: {decode_ms:.1f} core-ms")
        engines = {
            name: figures for name, (figures, _) in self._measure_engines(self._chosen.seconds)
        }
        best = min(engines.values(), key=lambda one: one.core_ms)
        quiet_decode_ms = self._decode_core_ms(1)
        quiet = forward.measure_apart(
            best.engine,
            best.precision,
            self._pixels,
            self._weights,
            self._chosen.seconds,
            one_core=True,
        )[0]
        say(f"quiet: {quiet_decode_ms:.1f} + {quiet.core_ms:.1f} core-ms ({best.name})")
        return Round(
            naive=naive,
            ours=ours,
            limit=_limit(decode_ms, best.core_ms),
            quiet_limit=_limit(quiet_decode_ms, quiet.core_ms),
            decode_core_ms=decode_ms,
            forward_core_ms=best.core_ms,
            quiet_decode_core_ms=quiet_decode_ms,
            quiet_forward_core_ms=quiet.core_ms,
            ours_processor_ms=1000 * (many.processor_seconds - few.processor_seconds) / counted,
            ours_peak_mb=many.peak_mb,
            fastest=best.name,
        )

    @property
    def _weights(self) -> Path:
        return self._first.data / "weights"

    def _measure_engines(self, seconds: float) -> Sequence[tuple[str, Any]]:
        found = forward.measure_all(self._pixels, self._weights, say, seconds=seconds)
        among = self._chosen.among
        chosen = [(name, one) for name, one in found.items() if among in (None, one[0].engine)]
        if not chosen:
            sys.exit("no engine runs here")
        return chosen

    def _naive(self, number: int) -> float:
        command = [sys.executable, str(self._chosen.naive), str(self._many)]
        command.append(str(self._work / f"naive{number}.db"))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = re.search(r"([\d.]+) images/s", done.stdout)
        if said is None:
            sys.exit(f"the naive script failed: {done.stderr[-1000:]}")
        return float(said[1])

    def _run(self, number: int, frames: Path) -> OneRun:
        trial = Trial(self._work / f"{frames.name}{number}", frames, self._chosen.engine)
        trial.keep_from(self._first)
        run = trial.run_once()
        if run.counts["classified"] != run.counts["media"]:
            raise TrialFailed(f"not everything was classified: {run.counts}")
        return run

    def _decode_core_ms(self, threads: int) -> float:
        """Of `monitor.images.decode.decode` on bytes in memory, that many threads at once."""
        files, rules = cycle(self._files), DecodeRules()

        def act() -> int:
            decode(next(files), rules)
            return 1

        forward.rate(act, threads, 0.2)
        return 1000 * threads / forward.rate(act, threads, self._chosen.seconds)


def _limit(decode_ms: float, forward_ms: float) -> float:
    return 1000 * bench.cores() / (decode_ms + forward_ms)


def summary(rounds: Sequence[Round]) -> dict[str, Spread]:
    """Median and range of every figure of the rounds."""
    names = [name for name in Round.__dataclass_fields__ if name != "fastest"]
    names += ["ours_per_naive", "ours_per_limit", "ours_per_quiet_limit"]
    return {name: Spread.of([getattr(one, name) for one in rounds]) for name in names}


def main() -> None:
    example = "python benchmarks/throughput.py --frames 300 --rounds 3"
    parser = bench.options(__doc__, example)
    parser.add_argument("--frames", type=int, default=300, help="at least 40")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", default="auto", choices=("auto", "keras", "ncnn"))
    default = SHARED_NAIVE if SHARED_NAIVE.is_file() else OWN_NAIVE
    parser.add_argument("--naive", type=Path, default=default, help="FRAMES_DIR OUT.db script")
    parser.add_argument(
        "--among", choices=("keras", "ncnn"), help="the limit of this engine, not of the fastest"
    )
    parser.add_argument("--name", default="throughput", help="of the JSON and the plot")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each part alone")
    chosen = parser.parse_args()
    with bench.workplace(chosen.work) as work:
        copied = real_frames(chosen.frames, work / "many", source=chosen.source)
        linked(copied.paths[:FEW], work / "few")
        say(f"frames: {copied.about}")
        measured = Throughput(work, work / "few", work / "many", chosen)
        measured.prepare()
        rounds = []
        for number in range(1, chosen.rounds + 1):
            say(f"round {number} of {chosen.rounds}")
            rounds.append(measured.round(number))
    figures = summary(rounds)
    for name, spread in figures.items():
        print(f"{name:24} {spread}")
    print(f"fastest engine alone: {', '.join(sorted({one.fastest for one in rounds}))}")
    rows = [("naive script", figures["naive"]), ("trapwatch", figures["ours"])]
    rows.append(("the machine's limit", figures["limit"]))
    bench.save(
        chosen.name,
        {
            "engine": chosen.engine,
            "limit_of": chosen.among,
            "frames": copied.about,
            **figures,
            "rounds": rounds,
        },
        f"From files to rows, {copied.about}",
        lambda axes: plots.bars(axes, rows, "images per second"),
        chosen.save_in,
    )


if __name__ == "__main__":
    main()
