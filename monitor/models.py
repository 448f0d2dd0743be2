"""Model versions on disk: one immutable directory each, published whole or not at all.

    data/models/v0003/head.safetensors    arrays only; loading it can run no code
                      model_card.json     what it knows, from what, how well
                      model_card.md       the same for people

Which version is live is a row of the log, not a file here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.classifier import Head
from monitor.domain import TrapwatchError
from monitor.durable import sync

HEAD_FILE = "head.safetensors"
CARD_FILE = "model_card.json"
CARD_PAGE = "model_card.md"
MAX_HEAD_BYTES = 256 * 2**20
"""Far above any head (1,280 features x 1,000 species are 5 MB): a limit for damaged files."""

_NAME = re.compile(r"v[0-9]{4,9}")
PLOT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.(svg|png)")
"""Also safe in an address."""


class ModelError(TrapwatchError):
    """A model version cannot be written or found; the message says why and what to do."""


class ModelDamaged(ModelError):
    """A version's files are not what was published; says what, where and what to do."""


class ModelStore:
    """The directory of all model versions. One process writes (the one that trains)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        """The directory of a version. Raises ModelError for a name that cannot be one."""
        if not _NAME.fullmatch(name):
            raise ModelError(f"'{name}' is no model version; they are called like v0001")
        return self.directory / name

    def next_name(self, known: Collection[str] = ()) -> str:
        """The next free name: above every directory here, left over or whole, and all `known`."""
        there = [p.name for p in self.directory.iterdir()] if self.directory.is_dir() else []
        numbers = [
            int(match.group()[1:])
            for name in (*there, *known)
            if (match := _NAME.fullmatch(name.removeprefix(".").removesuffix(".partial")))
        ]
        return f"v{max(numbers, default=0) + 1:04d}"

    def publish(
        self,
        name: str,
        head: Head,
        card: dict[str, Any],
        card_markdown: str,
        plots: Mapping[str, bytes] = {},
    ) -> str:
        """Write a version under a hidden name, sync it, then rename it: whole or not at all.

        Args:
            card: JSON values; `weights_sha256` is added to it.
            plots: file name (`.svg`, `.png`) -> content.

        Returns:
            the SHA-256 of head.safetensors.

        Raises:
            ModelError: the name is taken, or the disk refuses.
        """
        final = self.path(name)
        if os.path.lexists(final):
            raise ModelError(f"{final} exists already, and a published model is never changed")
        weights = head_bytes(head)
        sha256 = hashlib.sha256(weights).hexdigest()
        page = json.dumps(card | {"weights_sha256": sha256}, indent=2, allow_nan=False)
        files = {HEAD_FILE: weights, CARD_FILE: page.encode(), CARD_PAGE: card_markdown.encode()}
        for plot, content in plots.items():
            if not PLOT_NAME.fullmatch(plot):
                raise ModelError(f"'{plot}' is no name for a plot; write one like confusion.svg")
            files[plot] = content
        partial = self.directory / f".{name}.partial"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            _write_whole(partial, final, files)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise ModelError(f"{final} cannot be written: {error.strerror or error}") from error
        return sha256

    def load_head(self, name: str, expected_sha256: str | None) -> Head:
        """Read a version's weights; nothing is parsed before its SHA-256 has been compared.

        Args:
            expected_sha256: from the log; None takes the sum that the version's own card names.

        Raises:
            ModelDamaged: missing, changed, or with impossible shapes or values.
            ModelError: a name that cannot be one.
        """
        file = self.path(name) / HEAD_FILE
        expected = expected_sha256 or self.card(name).get("weights_sha256")
        content = _read(file)
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise _damaged(file, f"its SHA-256 is {found[:12]}…, published was {expected}")
        try:
            return head_from_bytes(content)
        except ValueError as error:
            raise _damaged(file, str(error)) from error

    def card(self, name: str) -> dict[str, Any]:
        """The model card. Raises ModelDamaged if it cannot be read."""
        file = self.path(name) / CARD_FILE
        try:
            card = json.loads(_read(file))
        except ValueError as error:
            raise _damaged(file, f"it is not JSON: {error}") from error
        if not isinstance(card, dict):
            raise _damaged(file, "it is not a JSON object")
        return card

    def names(self) -> list[str]:
        """The published versions, oldest first."""
        if not self.directory.is_dir():
            return []
        found = [p.name for p in self.directory.iterdir() if _NAME.fullmatch(p.name)]
        return sorted(found, key=lambda name: int(name[1:]))

    def remove_partials(self) -> list[str]:
        """Delete what a killed training left half-written; returns the names of those versions.

        Call it only while no other process can be publishing (under the training lock).
        """
        removed = []
        for left in sorted(self.directory.glob(".v*.partial")):
            name = left.name.removeprefix(".").removesuffix(".partial")
            if _NAME.fullmatch(name) and left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
                removed.append(name)
        return removed


def head_bytes(head: Head) -> bytes:
    """A head as a safetensors file. Raises ModelError if it is not a sound one."""
    from safetensors.numpy import save

    arrays = {
        name: np.ascontiguousarray(getattr(head, name), np.float32)
        for name in ("mean", "scale", "weights", "bias")
    }
    try:
        _check(head)
    except ValueError as error:
        raise ModelError(f"this head cannot be published: {error}") from error
    metadata = {
        "classes": json.dumps(head.classes),
        "layout": json.dumps(head.layout),
        "temperature": json.dumps(head.temperature),
    }
    return bytes(save(arrays, metadata))


def head_from_bytes(content: bytes) -> Head:
    """The inverse of `head_bytes`. Raises ValueError, in words, on anything else."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        classes = json.loads(metadata["classes"])
        layout = json.loads(metadata["layout"])
        temperature = json.loads(metadata["temperature"])
        mean, scale, weights, bias = (arrays[n] for n in ("mean", "scale", "weights", "bias"))
        head = Head(tuple(classes), mean, scale, weights, bias, float(temperature), layout)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"it does not hold a head: {error!r}") from error
    _check(head)
    return head


def _check(head: Head) -> None:
    """Raise ValueError unless shapes agree and every number is finite."""
    names = head.classes
    if not names or len(set(names)) != len(names) or not all(isinstance(n, str) for n in names):
        raise ValueError("its classes are not different names")
    if not isinstance(head.layout, str):
        raise ValueError("its layout is not a name")
    d, k = head.mean.size, len(names)
    expected: dict[str, tuple[int, ...]] = {"mean": (d,), "scale": (d,), "weights": (d, k)}
    for name, shape in {**expected, "bias": (k,)}.items():
        array: npt.NDArray[Any] = getattr(head, name)
        if array.dtype != np.float32 or array.shape != shape:
            raise ValueError(f"{name} is {array.dtype} {array.shape}, not float32 {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds numbers that are not finite")
    if not (head.scale > 0).all():
        raise ValueError("scale holds numbers that are not above 0")
    if not (np.isfinite(head.temperature) and head.temperature > 0):
        raise ValueError(f"the temperature is {head.temperature}, not a number above 0")


def _write_whole(partial: Path, final: Path, files: Mapping[str, bytes]) -> None:
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    for name, content in files.items():
        with open(partial / name, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o444)
    sync(partial)
    os.rename(partial, final)
    sync(final.parent)


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_HEAD_BYTES:
            raise _damaged(file, f"it is larger than {MAX_HEAD_BYTES} bytes")
        return file.read_bytes()
    except OSError as error:
        raise _damaged(file, f"it cannot be read: {error.strerror}") from error


def _damaged(file: Path, what: str) -> ModelDamaged:
    return ModelDamaged(
        f"{file} is damaged: {what}. Restore the directory {file.parent.name} from a backup, "
        "go back with: trapwatch models rollback, or train anew with: trapwatch train --force"
    )
