"""The whole loop of a station, played on the rendered world with the real service."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from monitor.cli.demo.world import WorldPlan, plan, write_world
from monitor.core.config import Classifier, Settings, load_settings
from monitor.core.domain import How, Observation, Scope, Sighting, TrapwatchError, utc_now
from monitor.log.filters import BrowseFilter
from monitor.log.species_log import SpeciesLog, open_log
from monitor.system.console import count_bar, print_table

MARK = "# made by trapwatch demo"
FRAMES = 240
LABELLED_OF_TEN = 6
TRUTH = "the demo's own truth"
PATIENCE_SECONDS = 900.0
CONFIG = """{mark}; look around, change it, run: trapwatch status --config {path}
station:
  name: demo
  timezone: UTC
database:
  url: sqlite:///data/trapwatch.db
watch:
  folders: ["{folder}"]
  settle_seconds: 1
models:
  directory: data/models
"""
WHERE = """deployment,path,latitude,longitude
forest-edge,forest-edge,52.9312,13.7421
ridge,ridge,52.9268,13.7593
waterhole,waterhole,52.9219,13.7468
"""
"""Places that are made up, like the world; so the dashboard has a map to draw."""


class DemoFailed(TrapwatchError):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Score:
    """How often sightings of frames that nobody labelled are right."""

    right: int
    frames: int
    by_species: dict[str, tuple[int, int]]

    @property
    def accuracy(self) -> float:
        """Share that is right, 0-1."""
        return self.right / self.frames if self.frames else 0.0


def run_demo(
    directory: Path, seed: int, frames: int = FRAMES, classifier: Classifier | None = None
) -> Score:
    """Render, watch, classify, label a part, train, pass the gate, go live, re-score, show.

    Args:
        frames: how large the world is.
        classifier: where the weights come from and what may be used; None: the defaults.

    Returns:
        how well the trained model does on frames that nobody labelled.

    Raises:
        DemoFailed: `directory` holds something else, or a step came to nothing.
    """
    started = time.monotonic()
    settings = _build(directory, directory / "frames", classifier, WHERE)
    world = plan(seed, frames)
    print(f"A station in {directory}, with a world of {len(world.frames)} rendered frames.")
    with open_log(settings.database.url, create=True) as log, _service(settings):
        with count_bar("rendering the world into the watched folder") as progress:
            write_world(world, directory / "frames", seed, progress=progress)
        _wait_until_classified(log, len(world.frames))
        asked = _events_to_label(world)
        before = _score(log, world, asked)
        _say_before(world, asked, before)
        _label(log, world, asked)
        _train(settings)
        _wait_until_rescored(log)
        after = _score(log, world, asked)
        _show(log, settings, before, after)
    print(f"\nAll of it took {time.monotonic() - started:.0f} s.")
    if after.accuracy <= before.accuracy:
        raise DemoFailed("the trained model is no better than none; that should not happen")
    return after


def run_on_photographs(directory: Path, frames: Path, classifier: Classifier | None = None) -> None:
    """Take in and classify the user's own photographs, and show what was read."""
    from monitor.service.once import run_once

    if not frames.is_dir():
        raise DemoFailed(f"{frames} is no folder of photographs")
    settings = _build(directory, frames.absolute(), classifier)
    with count_bar("classifying your photographs") as progress:
        counts = run_once(settings, progress)
    with open_log(settings.database.url) as log:
        _print_sightings(list(log.sightings(limit=20)))
    print(
        f"\n{counts['media']} media: {counts['classified']} classified, "
        f"{counts['rejected']} rejected. No model is trained yet, so no species is named:\n"
        f"label some, then train:"
    )
    for words in ("web", "label queue", 'label set 1 "red fox" --event', "train"):
        print(f"  {_command(settings, words)}")


def _build(
    directory: Path, folder: Path, classifier: Classifier | None, deployments: str = ""
) -> Settings:
    """A fresh station; an earlier demo's is replaced, anything else is left alone."""
    path = directory / "config.yaml"
    if directory.exists() and any(directory.iterdir()):
        if not (path.is_file() and path.read_text(encoding="utf-8").startswith(MARK)):
            raise DemoFailed(f"{directory} is not empty and no earlier demo; name another --dir")
        for old in ("data", "frames"):
            shutil.rmtree(directory / old, ignore_errors=True)
    (directory / "frames").mkdir(parents=True, exist_ok=True)
    text = CONFIG.format(mark=MARK, path=path, folder=folder.absolute())
    if deployments:
        (directory / "deployments.csv").write_text(deployments, encoding="utf-8")
        text += "deployments:\n  file: deployments.csv\n"
    if classifier is not None:
        text += yaml.safe_dump({"classifier": classifier.model_dump(exclude_defaults=True)})
    path.write_text(text, encoding="utf-8")
    return load_settings(path)


@contextmanager
def _service(settings: Settings) -> Iterator[None]:
    """The real service in a process of its own, its journal in data/service.log."""
    settings.data_directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "monitor", "run", "--config", str(settings.source)]
    with open(settings.data_directory / "service.log", "wb") as journal:
        environ = {**os.environ, "TRAPWATCH_WEB__ENABLED": "false"}  # its port may be in use
        service = subprocess.Popen(command, stdout=journal, stderr=journal, env=environ)
        try:
            yield
            if service.poll() is not None:
                raise DemoFailed(f"the service has ended early; see {journal.name}")
        finally:
            service.send_signal(signal.SIGTERM)
            try:
                service.wait(15)
            except subprocess.TimeoutExpired:
                service.kill()
                service.wait()


def _wait_until_classified(log: SpeciesLog, frames: int) -> None:
    with count_bar("the service takes in and classifies") as progress:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            counts = log.counts()
            done = counts["classified"] + counts["rejected"]
            progress(done, frames)
            if done >= frames:
                return
            time.sleep(0.5)
    raise DemoFailed(f"the service classified {done} of {frames} frames in {PATIENCE_SECONDS} s")


def _wait_until_rescored(log: SpeciesLog) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        counts = log.counts()
        if counts["predicted_by_live"] >= counts["classified"] - counts["labelled"] > 0:
            return
        time.sleep(0.3)
    raise DemoFailed("the service did not take over the new model")


def _events_to_label(world: WorldPlan) -> set[int]:
    """Six of ten events, drawn evenly from every species, camera and light."""
    kinds: defaultdict[tuple[str, bool, str], list[int]] = defaultdict(list)
    for frame in world.frames:
        kind = kinds[frame.species, frame.infrared, frame.deployment]
        if frame.event not in kind:
            kind.append(frame.event)
    chosen: set[int] = set()
    due = 0
    for _, events in sorted(kinds.items()):
        for event in events:
            due += LABELLED_OF_TEN
            if due >= 10:
                due -= 10
                chosen.add(event)
    return chosen


def _label(log: SpeciesLog, world: WorldPlan, asked: set[int]) -> None:
    """One act for each event, as a person would; the truth is the renderer's."""
    ids = _ids_by_path(log)
    for event in sorted(asked):
        frame = next(f for f in world.frames if f.event == event)
        observation = Observation(frame.species, frame.count or None)
        log.label(
            [ids[str(frame.path)]], [observation], TRUTH, How.DEMO, utc_now(), scope=Scope.EVENT
        )


def _train(settings: Settings) -> None:
    print("Training on them, through the gate …")
    command = [sys.executable, "-m", "monitor", "train", "--config", str(settings.source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise DemoFailed(f"the training failed: {result.stderr.strip()}")
    print(f"  {result.stdout.strip()}")


def _score(log: SpeciesLog, world: WorldPlan, asked: set[int]) -> Score:
    said = {_relative(sighting): sighting.species for sighting in log.sightings()}
    right: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for frame in world.frames:
        if frame.event not in asked:
            seen[frame.species] += 1
            right[frame.species] += said.get(str(frame.path)) == frame.species
    by_species = {name: (right[name], seen[name]) for name in sorted(seen)}
    return Score(right.total(), seen.total(), by_species)


def _say_before(world: WorldPlan, asked: set[int], before: Score) -> None:
    most = Counter(f.species for f in world.frames if f.event in asked).most_common(1)[0][0]
    guess = before.by_species.get(most, (0, 0))[1] / before.frames
    frames = sum(f.event in asked for f in world.frames)
    print(
        f"Before any label no species is known: {before.accuracy:.2f} right on {before.frames} "
        f"frames (always saying '{most}' would be {guess:.2f}).\n"
        f"Now {frames} frames of {len(asked)} events are labelled from the known truth, in the "
        f"name of '{TRUTH}'; the other {before.frames} frames nobody labels."
    )


def _show(log: SpeciesLog, settings: Settings, before: Score, after: Score) -> None:
    print("\nThe newest sightings that nobody labelled (trapwatch sightings --unreviewed):")
    _print_sightings(list(log.sightings(BrowseFilter(unreviewed=True), 12)))
    print(
        f"\nOn the {after.frames} frames that nobody labelled: {before.accuracy:.2f} right before, "
        f"{after.accuracy:.2f} after."
    )
    rows = [(name, f"{right} of {seen}") for name, (right, seen) in after.by_species.items()]
    print_table(("species", "right"), rows)
    live = log.live_version()
    card = settings.models.directory / (live.name if live else "") / "model_card.md"
    print(f"\nWhere to look next:\n  {_near(card)}")
    for words in ("web", "sightings --species badger", "events", "label queue", "status"):
        print(f"  {_command(settings, words)}")


def _command(settings: Settings, words: str) -> str:
    """A command as the reader can type it here."""
    program = "trapwatch" if shutil.which("trapwatch") else _near(Path(sys.argv[0]))
    return f"{program} {words} --config {_near(settings.source or Path())}"


def _near(path: Path) -> str:
    """A path, relative to where the reader is if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _print_sightings(sightings: list[Sighting]) -> None:
    rows = [
        (
            s.media_id,
            s.captured_local,
            s.deployment,
            s.species or "–",
            f"{s.probability:.2f}" if s.probability is not None else "",
            s.labelled_by or s.model_version or "",
        )
        for s in sightings
    ]
    print_table(("id", "captured", "deployment", "species", "p", "by"), rows)


def _ids_by_path(log: SpeciesLog) -> dict[str, int]:
    return {_relative(sighting): sighting.media_id for sighting in log.sightings()}


def _relative(sighting: Sighting) -> str:
    return "/".join(Path(sighting.path).parts[-2:])
