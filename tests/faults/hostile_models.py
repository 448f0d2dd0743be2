"""Model directories whose files are damaged, exchanged, or made by somebody else."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from monitor import models
from monitor.backbone import BackboneError
from monitor.backbone.architectures import VGG16
from monitor.backbone.tail import Tail, TailError
from monitor.backbone.weight_files import read_arrays
from monitor.classifier import Head, predict
from monitor.head_file import head_bytes
from monitor.models import CARD_FILE, CARD_PAGE, HEAD_FILE, TAIL_FILE, ModelError, ModelStore
from monitor.recovery import adopt_models
from monitor.domain import utc_now
from monitor.log.species_log import open_log
from monitor.web.cards import CardUnreadable, pictures, read_card

from .drill import Drill, fill
from .mutate import mutate

PROTECTIONS = ("sums",)
"""Comparing SHA-256 before anything is read."""
FEATURES, CLASSES = 8, ("blank", "red fox", "roe deer")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 12345\n"
NONSENSE: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 10**400, float("nan"), float("inf"), "", "x", "\ud800", [], {}, [[1]],
    ["a", "a"], [None], {"a": 1}, "1" * 10_000, [0] * 1000, {"media": "x"}, [["red fox"]], ["\ud800"],
)  # fmt: skip
DTYPES = ("F32", "F64", "F16", "BF16", "F8_E4M3", "I64", "I8", "U8", "BOOL", "C64", "", "f32")
FIELDS = ("classes", "layout", "temperature", "tail_sha256", "coverage", "parts", "strange_above")


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
    words = rng.choice((("models", "promote", "v0001"), ("models", "show", "v0001", "--json"), ("run", "--once"),
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


def damage(version: Path, outside: Path, rng: random.Random) -> None:
    """Do something to a version's directory; most often so that its card agrees with it."""
    head, card = version / HEAD_FILE, version / CARD_FILE
    sort = rng.randrange(12)
    if sort < 2:
        path = rng.choice((head, card, version / CARD_PAGE))
        path.write_bytes(mutate(path.read_bytes(), rng))
    elif sort < 7:
        head.write_bytes(_crafted(head.read_bytes(), rng))
        if rng.random() < 0.8:
            _sign(head, card)
    elif sort < 9:
        card.write_bytes(_card(card.read_bytes(), rng))
    elif sort == 9:
        _replace(rng.choice((head, card, version / TAIL_FILE)), outside, rng)
    elif sort == 10:
        content = POINTER % rng.choice(
            (b"0" * 64, hashlib.sha256(head.read_bytes()).hexdigest().encode())
        )
        rng.choice((head, card)).write_bytes(content)
    else:
        for name in ("extra.bin", "..", ".hidden", "v0002", "w\n.svg", "a.svg", "\udcff.png"):
            if name != ".." and rng.random() < 0.5:
                (version / name).write_bytes(rng.randbytes(9))
        (version.parent / rng.choice(("v99999999999", "v٣٣٣٣", ".v0002.partial", "v0002"))).touch()


def _replace(path: Path, outside: Path, rng: random.Random) -> None:
    """Another sort of thing at the place of a file."""
    path.unlink(missing_ok=True)
    sort = rng.randrange(7)
    if sort == 0:
        path.symlink_to(outside / HEAD_FILE)
    elif sort == 1:
        path.symlink_to(path)
    elif sort == 2:
        path.mkdir()
    elif sort == 3:
        os.mkfifo(path)
    elif sort == 4:
        path.symlink_to(
            rng.choice(("/dev/zero", "/dev/null", "/etc/passwd", "/proc/self/mem", "/nowhere"))
        )
    elif sort == 5:
        with open(path, "wb") as file:
            file.truncate(rng.choice((10**6, 2**28 + 1, 2**40)))
    shutil.rmtree(
        path.parent, ignore_errors=sort == 6 and rng.random() < 0.3
    ) if sort == 6 else None


def _sign(head: Path, card: Path) -> None:
    tree = json.loads(card.read_bytes())
    tree["weights_sha256"] = hashlib.sha256(head.read_bytes()).hexdigest()
    card.write_text(json.dumps(tree), encoding="utf-8")


def _crafted(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose header or numbers lie."""
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])
    facts = header["__metadata__"]
    for _ in range(rng.choice((1, 1, 2))):
        sort, name = (
            rng.randrange(7),
            rng.choice(("mean", "scale", "weights", "bias", "thresholds")),
        )
        if sort == 0 and name in header:
            header[name]["dtype"] = rng.choice(DTYPES)
        elif sort == 1 and name in header:
            header[name]["shape"] = rng.choice(
                ([], [0], [8], [-1], [2**40, 2**40], [1] * 70, [3, 8], [8, 3], "x", [2.5], None)
            )
        elif sort == 2 and name in header:
            header[name]["data_offsets"] = rng.choice(
                ([0, 0], [0, 2**63], [32, 0], [-1, 4], [0], [0, 32], "x")
            )
        elif sort == 3:
            facts[rng.choice(FIELDS)] = rng.choice(
                [_json(n) for n in NONSENSE] + ["", "{", "[" * 100_000, "nul", "1e999"]
            )
        elif sort == 4:
            at = rng.randrange(0, len(body) - 4, 4)
            body[at : at + 4] = struct.pack(
                "<f", rng.choice((float("nan"), float("inf"), -1e38, 0.0, 3e38, 1e-45))
            )
        elif sort == 5:
            header.pop(rng.choice((name, "__metadata__", "weights")), None)
        else:
            header[rng.choice((name, "__metadata__", "more", ""))] = rng.choice(NONSENSE)
    text = json.dumps(header).encode()
    if rng.random() < 0.05:
        text = b"[" * 50_000 + b"]" * 50_000
    size = rng.choice(
        (len(text),) * 12 + (0, 2**63, 2**64 - 1, len(text) - 1, len(text) + 1, 10**8 + 1)
    )
    crafted = struct.pack("<Q", size) + text + bytes(body)
    return crafted[: rng.randrange(len(crafted))] if rng.random() < 0.1 else crafted


def _json(value: Any) -> str:
    return json.dumps(value)


def _card(content: bytes, rng: random.Random) -> bytes:
    """A card whose JSON is broken, or says nonsense."""
    tree = json.loads(content)
    sort = rng.randrange(4)
    if sort == 0:
        return rng.choice((b"", b"[]", b"null", b"7", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{}", b"{",
            content.decode().encode("utf-16"), b"\xef\xbb\xbf" + content, b"1" * 5000, b'{"weights_sha256": 1}'))  # fmt: skip
    names = ("weights_sha256", "backbone", "held_out", "champion", "classes", "labels", "label_events", "pictures",
        "split", "learning", "gate", "seconds")  # fmt: skip
    for name in rng.sample(names, rng.choice((1, 2, 5))):
        tree[name] = rng.choice(NONSENSE)
    text = json.dumps(tree)
    return mutate(text.encode(), rng) if sort == 1 else text.encode()


def _other_files(here: Path, rng: random.Random) -> str:
    """A tail, and weights of one's own: only what is exactly a network's is taken."""
    sort = rng.choice((".safetensors", ".h5", ".onnx", ".bin"))
    content = _weights(rng) if sort == ".h5" else _crafted(head_bytes(head_of(3)), rng)
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


def _weights(rng: random.Random) -> bytes:
    """A damaged .h5 file with a few tensors."""
    import io

    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        for name, shape in list(VGG16.shapes.items())[:4]:
            made[f"{name}/{name}"] = np.zeros(shape, np.float32)
    return mutate(file.getvalue(), rng)


def _short(error: Exception) -> str:
    """What is wrong, without names and numbers."""
    words = str(error).partition("damaged: ")[2] or str(error)
    return " ".join(word for word in words.split()[:6] if not any(c.isdigit() for c in word))
