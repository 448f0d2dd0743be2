"""What a reviewer costs the station: python benchmarks/web_ingest.py [--frames N] [--rounds R].

A real `trapwatch run` classifies N frames that arrive at once, in turn with and without somebody
who reviews meanwhile at `--per-hour` frames an hour: asks for frames, looks at their pictures and
at the film strip's, labels. The reviewer's own program runs on the same processor; a browser on a
tablet would not.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from pathlib import Path
from typing import Any

import bench
from bench import Spread, say
from frames import linked, real_frames
from trial import Trial
from web import free_port
from webclient import Asked, until_served

ASKED_AT_ONCE = 4
AHEAD = 12
START_FRAMES = 60
PENDING = "SELECT count(*) FROM media WHERE status = 'pending'"
CLASSIFIED = "SELECT count(*) FROM media WHERE status = 'classified'"
MOST_SECONDS = 900.0


class Reviewer(threading.Thread):
    """Looks at frames and labels them, at an even pace, until told to stop."""

    def __init__(self, port: int, per_hour: float) -> None:
        super().__init__()
        self._client, self._pause = Asked(port, "Ana"), 3600 / per_hour
        self._end = threading.Event()
        self.labelled = 0

    def run(self) -> None:
        """One frame after another."""
        held: list[Any] = []
        while not self._end.wait(self._pause):
            if len(held) <= AHEAD - ASKED_AT_ONCE:
                ids = [frame["media_id"] for frame in held]
                for frame in self._client.next(AHEAD - len(held), ids)["frames"]:
                    held.append(frame)
                    self._look_at(frame)
            if held:
                self._client.label(held.pop(0)["media_id"], "roe deer")
                self.labelled += 1

    def stop(self) -> None:
        """After the frame under way."""
        self._end.set()
        self.join()

    def _look_at(self, frame: Any) -> None:
        self._client.get(f"/api/v1/media/{frame['media_id']}/screen.jpg")
        for other in frame["film"]:
            self._client.get(f"/api/v1/media/{other['media_id']}/thumb.jpg")


def images_per_second(work: Path, name: str, paths: Any, first: Trial, chosen: Any) -> float:
    """One service, warm, and all frames at once; `chosen.per_hour` 0: nobody reviews."""
    port = free_port()
    trial = Trial(work / name, work / f"{name}-frames", chosen.engine, 0.5, port=port)
    trial.keep_from(first)
    linked(paths[:START_FRAMES], trial.frames)
    with trial.service():
        until_served(port)
        reader = _reader(trial)
        _wait(reader, CLASSIFIED, lambda n: n >= START_FRAMES)
        reviewer = Reviewer(port, chosen.per_hour) if chosen.per_hour else None
        if reviewer:
            reviewer.start()
        time.sleep(2.0)  # the reviewer has a stock of frames, the service is at rest
        hidden = work / f"{name}-hidden"
        linked(paths[START_FRAMES:], hidden)
        start = time.perf_counter()
        os.replace(hidden, trial.frames / "arrived")
        _wait(reader, CLASSIFIED, lambda n: n >= len(paths))
        seconds = time.perf_counter() - start
        if reviewer:
            reviewer.stop()
            say(f"{reviewer.labelled} frames labelled meanwhile")
    return (len(paths) - START_FRAMES) / seconds


def _reader(trial: Trial) -> Any:
    deadline = time.monotonic() + MOST_SECONDS
    while not (trial.data / "trapwatch.db").exists():
        if time.monotonic() > deadline:
            raise RuntimeError(trial.last_words())
        time.sleep(0.1)
    return trial.reader()


def _wait(reader: Any, question: str, enough: Any) -> None:
    deadline = time.monotonic() + MOST_SECONDS
    while not enough(reader.execute(question).fetchone()[0]):
        if time.monotonic() > deadline:
            raise RuntimeError("the frames were not classified in time")
        time.sleep(0.02)


def main() -> None:
    """Rounds in turn: alone, with a reviewer."""
    parser = bench.options(__doc__, "python benchmarks/web_ingest.py --frames 300 --rounds 3")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--per-hour", type=float, default=1000.0)
    parser.add_argument("--engine", default="auto", choices=("auto", "keras", "ncnn"))
    chosen = parser.parse_args()
    alone = argparse.Namespace(**{**vars(chosen), "per_hour": 0})
    with bench.workplace(chosen.work) as work:
        frames = real_frames(START_FRAMES + chosen.frames, work / "originals", source=chosen.source)
        say(frames.about)
        first = Trial(work / "first", work / "first-frames", chosen.engine)
        linked(frames.paths[:20], first.frames)
        first.run_once()
        shares, rates = [], []
        for number in range(chosen.rounds):
            without = images_per_second(work, f"a{number}", frames.paths, first, alone)
            beside = images_per_second(work, f"r{number}", frames.paths, first, chosen)
            rates.append((without, beside))
            shares.append(beside / without)
            say(f"alone {without:.2f}, with a reviewer {beside:.2f}: {shares[-1]:.3f}")
        share = Spread.of(shares)
        print(f"with one reviewer ({chosen.per_hour:.0f} frames/h): {share} of the rate without")
        figures = {"frames": chosen.frames, "per_hour": chosen.per_hour, "share": share,
                   "images_per_second": rates}  # fmt: skip
        bench.save("web_ingest", figures, "Images per second, alone and with a reviewer",
                   lambda axes: draw(axes, rates), chosen.save_in)  # fmt: skip


def draw(axes: Any, rates: Any) -> None:
    """Two bars a round."""
    for number, (without, beside) in enumerate(rates):
        axes.bar([number - 0.2, number + 0.2], [without, beside], 0.38, color=["#888", "#2a6"])
    axes.set_xticks(range(len(rates)), [f"round {n + 1}" for n in range(len(rates))])
    axes.set_ylabel("images/s")


if __name__ == "__main__":
    main()
