"""Model directories whose files are damaged, exchanged, or made by somebody else."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from monitor.core.domain import utc_now
from monitor.log.species_log import open_log
from monitor.model import versions as models
from monitor.model.backbone import BackboneError
from monitor.model.backbone.architectures import VGG16
from monitor.model.backbone.tail import Tail, TailError
from monitor.model.backbone.weight_files import read_arrays
from monitor.model.head import Head, predict
from monitor.model.head_file import head_bytes
from monitor.model.versions import HEAD_FILE, ModelError, ModelStore
from monitor.recovery.recovery import adopt_models
from monitor.web.cards import CardUnreadable, pictures, read_card

from .drill import Drill, fill
from .hostile_weights import FIELDS, crafted, damage, weights_file

PROTECTIONS = ("sums",)
"""Comparing SHA-256 before anything is read."""
FEATURES, CLASSES = 8, ("blank", "red fox", "roe deer")


class Subject:
    """A store with two versions: a sound one, whose neighbour is damaged again and again."""

    def __init__(self, folder: Path, broken: str | None) -> None:
        self._here, self._outside = folder / "current", folder / "outside"
        self._outside.mkdir()
        self.store = ModelStore(self._here / "models")
        self._head = head_of(1)
        card = {"version": "v0001", "classes": list(CLASSES), "held_out": {}, "champion": None}
        self._sha256 = self.store.publish("v0001", self._head, card, "# Model\n")
        self._kept = folder / "kept-model"
        shutil.copytree(self.store.path("v0001"), self._kept)
        (self._outside / HEAD_FILE).write_bytes(head_bytes(head_of(2)))
        self._log = open_log(f"sqlite:///{folder}/trapwatch.db", create=True)
        if broken == "sums":
            models._compare = lambda file, content, published: None

    def attempt(self, rng: random.Random) -> tuple[str, list[str]]:
        """Damage the version, and load it in every way there is."""
        version = self.store.path("v0001")
        shutil.rmtree(version.parent)
        shutil.copytree(self._kept, version, copy_function=shutil.copyfile)
        damage(version, self._outside, rng)
        faults: list[str] = []
        words = self._load(rng, faults)
        self._cards(faults)
        if rng.random() < 0.1:
            adopt_models(self._log, self.store, utc_now())
        if rng.random() < 0.2:
            words = f"{words}; {_other_files(self._here, rng)}"
        return words, faults

    def close(self) -> list[str]:
        """The log is closed."""
        self._log.close()
        return []

    def _load(self, rng: random.Random, faults: list[str]) -> str:
        features = np.random.default_rng(0).normal(size=(4, FEATURES)).astype(np.float32)
        try:
            head, _ = self.store.load("v0001", self._sha256)
        except ModelError as error:
            words = f"refused: {_short(error)}"
            if not str(error).strip():
                faults.append("wrong: no message")
        else:
            words = "as published"
            if not same(head, self._head):
                faults.append("wrong: other weights than were published are served")
        try:
            own, _ = self.store.load("v0001", None)
        except ModelError as error:
            return f"{words}; by its card: {_short(error)}"
        if own.mean.size == FEATURES:
            with np.errstate(all="ignore"):
                predict(own, [1, 2, 3, 4], features, 0.4)
        return f"{words}; by its card: loaded"

    def _cards(self, faults: list[str]) -> None:
        """What pages and commands do with the card."""
        try:
            tree = self.store.card("v0001")
            json.dumps(tree, ensure_ascii=False).encode()
            read_card("v0001", tree)
            pictures(["a.svg", "a.png"], tree)
        except UnicodeEncodeError:
            faults.append("wrong: a card that cannot be printed")
        except (ModelError, CardUnreadable):
            pass
        self.store.names()
        self.store.has_weights("v0001")


def command(folder: Path, rng: random.Random) -> subprocess.CompletedProcess[str]:
    """`trapwatch models promote` and `models show --json` of such a version."""
    drill = Drill(folder / "current")
    kept = folder / "kept"
    if not kept.exists():
        fill(drill)
        for words in (
            ("run", "--once"),
            ("label", "import-folder", str(drill.sorted)),
            ("train", "--force"),
        ):
            done = drill.trapwatch(*words)
            assert done.returncode == 0, done.stderr
        shutil.copytree(drill.data / "models", kept)
        (folder / "outside").mkdir()
        (folder / "outside" / HEAD_FILE).write_bytes(head_bytes(head_of(2)))
    shutil.rmtree(drill.data / "models")
    shutil.copytree(kept, drill.data / "models", copy_function=shutil.copyfile)
    damage(drill.data / "models" / "v0001", folder / "outside", rng)
    words = rng.choice((("models", "promote", "v0001"), ("models", "show", "v0001", "--json"),
        ("run", "--once"),
        ("models", "show", "v0001")))  # fmt: skip
    return drill.trapwatch(*words, seconds=60)


def head_of(seed: int) -> Head:
    """A small sound head."""
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    k = len(CLASSES)
    scale = np.abs(numbers(FEATURES)) + 0.1
    head = Head(CLASSES, numbers(FEATURES), scale, numbers(FEATURES, k), numbers(k), 1.5, "small/1")
    thresholds = np.abs(numbers(k))
    return replace(head, thresholds=thresholds, coverage=0.9, parts=(3, 5), strange_above=0.5)


def same(one: Head, other: Head) -> bool:
    """True if two heads would say the same of everything."""
    names = ("mean", "scale", "weights", "bias", "thresholds")
    arrays = all(np.array_equal(getattr(one, n), getattr(other, n)) for n in names)
    facts = all(getattr(one, n) == getattr(other, n) for n in (*FIELDS, "strange_weights"))
    return arrays and facts


def _other_files(here: Path, rng: random.Random) -> str:
    """A tail, and weights of one's own: only what is exactly a network's is taken."""
    sort = rng.choice((".safetensors", ".h5", ".onnx", ".bin"))
    content = weights_file(rng) if sort == ".h5" else crafted(head_bytes(head_of(3)), rng)
    path = here / f"weights{sort}"
    path.write_bytes(content)
    try:
        read_arrays(path, VGG16)
    except BackboneError as error:
        words = f"weights refused ({type(error).__name__})"
    else:
        words = "weights read"
    finally:
        path.unlink()
    try:
        Tail.from_bytes(content)
    except TailError:
        return words
    return f"{words}, a tail"


def _short(error: Exception) -> str:
    """What is wrong, without names and numbers."""
    words = str(error).partition("damaged: ")[2] or str(error)
    return " ".join(word for word in words.split()[:6] if not any(c.isdigit() for c in word))
