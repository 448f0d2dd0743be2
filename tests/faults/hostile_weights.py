"""Damage to a model directory, and weights files that lie: for `hostile_models`."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from monitor.model.backbone.architectures import VGG16
from monitor.model.versions import CARD_FILE, CARD_PAGE, HEAD_FILE, TAIL_FILE

from .mutate import mutate

FIELDS = ("classes", "layout", "temperature", "tail_sha256", "coverage", "parts", "strange_above")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 12345\n"
NONSENSE: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 10**400, float("nan"), float("inf"), "", "x", "\ud800", [], {}, [[1]],
    ["a", "a"], [None], {"a": 1}, "1" * 10_000, [0] * 1000, {"media": "x"}, [["red fox"]],
        ["\ud800"],
)  # fmt: skip
DTYPES = ("F32", "F64", "F16", "BF16", "F8_E4M3", "I64", "I8", "U8", "BOOL", "C64", "", "f32")


def damage(version: Path, outside: Path, rng: random.Random) -> None:
    """Do something to a version's directory; most often so that its card agrees with it."""
    head, card = version / HEAD_FILE, version / CARD_FILE
    sort = rng.randrange(12)
    if sort < 2:
        path = rng.choice((head, card, version / CARD_PAGE))
        path.write_bytes(mutate(path.read_bytes(), rng))
    elif sort < 7:
        head.write_bytes(crafted(head.read_bytes(), rng))
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
        for name in ("extra.bin", ".hidden", "v0002", "w\n.svg", "a.svg", "\udcff.png"):
            if rng.random() < 0.5:
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
    else:
        shutil.rmtree(path.parent)


def _sign(head: Path, card: Path) -> None:
    tree = json.loads(card.read_bytes())
    tree["weights_sha256"] = hashlib.sha256(head.read_bytes()).hexdigest()
    card.write_text(json.dumps(tree), encoding="utf-8")


def crafted(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose header or numbers lie."""
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])
    facts = header["__metadata__"]
    for _ in range(rng.choice((1, 1, 2))):
        sort, name = (
            rng.randrange(7),
            rng.choice(("mean", "scale", "weights", "bias", "thresholds")),
        )
        entry = header.get(name)
        lies = entry if isinstance(entry, dict) else {}
        if sort == 0:
            lies["dtype"] = rng.choice(DTYPES)
        elif sort == 1:
            lies["shape"] = rng.choice(
                ([], [0], [8], [-1], [2**40, 2**40], [1] * 70, [3, 8], [8, 3], "x", [2.5], None)
            )
        elif sort == 2:
            lies["data_offsets"] = rng.choice(
                ([0, 0], [0, 2**63], [32, 0], [-1, 4], [0], [0, 32], "x")
            )
        elif sort == 3:
            facts[rng.choice(FIELDS)] = rng.choice(
                [json.dumps(n) for n in NONSENSE] + ["", "{", "[" * 100_000, "nul", "1e999"]
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
    content = struct.pack("<Q", size) + text + bytes(body)
    return content[: rng.randrange(len(content))] if rng.random() < 0.1 else content


def _card(content: bytes, rng: random.Random) -> bytes:
    """A card whose JSON is broken, or says nonsense."""
    tree = json.loads(content)
    sort = rng.randrange(4)
    if sort == 0:
        return rng.choice((b"", b"[]", b"null", b"7", b"[" * 100_000, b'{"a":' * 100_000,
            b"\xff\xfe{}", b"{",
            content.decode().encode("utf-16"), b"\xef\xbb\xbf" + content, b"1" * 5000,
                b'{"weights_sha256": 1}'))  # fmt: skip
    names = ("weights_sha256", "backbone", "held_out", "champion", "classes", "labels",
        "label_events", "pictures",
        "split", "learning", "gate", "seconds")  # fmt: skip
    for name in rng.sample(names, rng.choice((1, 2, 5))):
        tree[name] = rng.choice(NONSENSE)
    text = json.dumps(tree)
    return mutate(text.encode(), rng) if sort == 1 else text.encode()


def weights_file(rng: random.Random) -> bytes:
    """A damaged .h5 file with a few tensors."""
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        for name, shape in list(VGG16.shapes.items())[:4]:
            made[f"{name}/{name}"] = np.zeros(shape, np.float32)
    return mutate(file.getvalue(), rng)
