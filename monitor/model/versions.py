"""Model versions on disk: one immutable directory each, published whole or not at all.

    data/models/v0003/head.safetensors    arrays only; loading it can run no code
                      tail.safetensors    of a fine-tuned version: the backbone's last block or two
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
import stat
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from monitor.core.domain import TrapwatchError
from monitor.model.backbone import layout_of
from monitor.model.backbone.tail import MAX_TAIL_BYTES, Tail, TailError, without_tail
from monitor.model.head import Head
from monitor.model.head_file import head_bytes, head_from_bytes
from monitor.system.files import make_folder, sync

HEAD_FILE = "head.safetensors"
TAIL_FILE = "tail.safetensors"
CARD_FILE = "model_card.json"
CARD_PAGE = "model_card.md"
MAX_HEAD_BYTES = 256 * 2**20
"""Far above any head (1,280 features x 1,000 species are 5 MB): a limit for damaged files."""

_NAME = re.compile(r"v[0-9]{4,9}")
PLOT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.(svg|png)")
"""Also safe in an address."""
MISTAKES_FILE = "mistakes.png"
"""The one picture of a version that shows frames: for people who may review them."""


class ModelError(TrapwatchError):
    """A model version cannot be written or found; the message says why and what to do."""


class ModelDamaged(ModelError):
    """A version's files are not what was published; says what, where and what to do."""


class ModelUnreadable(ModelDamaged):
    """A version's files are missing or cannot be read: they may come back, as a disk does."""


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
        tail: Tail | None = None,
    ) -> str:
        """Write a version under a hidden name, sync it, then rename it: whole or not at all.

        Args:
            card: JSON values; `weights_sha256` is added to it.
            plots: file name (`.svg`, `.png`) -> content.
            tail: of the features that the head was trained on; its sum is kept in
                head.safetensors, whose own sum proves both.

        Returns:
            the SHA-256 of head.safetensors.

        Raises:
            ModelError: the name is taken, head and tail do not belong together, or the disk
                refuses.
        """
        final = self.path(name)
        if os.path.lexists(final):
            raise ModelError(f"{final} exists already, and a published model is never changed")
        try:
            weights = head_bytes(_with_tail(head, tail))
        except ValueError as error:
            raise ModelError(f"this head cannot be published: {error}") from error
        sha256 = hashlib.sha256(weights).hexdigest()
        page = json.dumps(card | {"weights_sha256": sha256}, indent=2, allow_nan=False)
        files = {HEAD_FILE: weights, CARD_FILE: page.encode(), CARD_PAGE: card_markdown.encode()}
        if tail is not None:
            files[TAIL_FILE] = tail.to_bytes()
        for plot, content in plots.items():
            if not PLOT_NAME.fullmatch(plot):
                raise ModelError(f"'{plot}' is no name for a plot; write one like confusion.svg")
            files[plot] = content
        partial = self.directory / f".{name}.partial"
        try:
            make_folder(self.directory)
            _write_whole(partial, final, files)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise ModelError(f"{final} cannot be written: {error.strerror or error}") from error
        return sha256

    def load(self, name: str, expected_sha256: str | None) -> tuple[Head, Tail | None]:
        """All that labels: the head, and the tail of its features if they have one; see there."""
        head = self.load_head(name, expected_sha256)
        return head, self.load_tail(name, head)

    def load_head(self, name: str, expected_sha256: str | None) -> Head:
        """Read a version's head; nothing is parsed before its SHA-256 has been compared.

        Args:
            expected_sha256: from the log; None takes the sum that the version's own card names.

        Raises:
            ModelDamaged: missing, changed, or with impossible shapes or values.
            ModelError: a name that cannot be one.
        """
        file = self.path(name) / HEAD_FILE
        content = _read(file, MAX_HEAD_BYTES)
        _compare(file, content, expected_sha256 or self.card(name).get("weights_sha256"))
        try:
            return head_from_bytes(content)
        except ValueError as error:
            raise _damaged(file, str(error)) from error

    def load_tail(self, name: str, head: Head) -> Tail | None:
        """Read the tail that a version's head was trained with; None if it was trained with none.
        Nothing is parsed before its SHA-256 has been compared with the one in the head.

        Raises:
            ModelDamaged: missing, changed, or no tail of the head's backbone.
        """
        if head.tail_sha256 is None:
            return None
        file = self.path(name) / TAIL_FILE
        content = _read(file, MAX_TAIL_BYTES)
        _compare(file, content, head.tail_sha256)
        try:
            tail = Tail.from_bytes(content)
        except TailError as error:
            raise _damaged(file, str(error)) from error
        if not _belong_together(head, tail):
            raise _damaged(file, f"it is no tail of a head for {head.layout}")
        return tail

    def card(self, name: str) -> dict[str, Any]:
        """The model card. Raises ModelDamaged if it cannot be read."""
        file = self.path(name) / CARD_FILE
        try:
            card = json.loads(_read(file, MAX_HEAD_BYTES))
            json.dumps(card, ensure_ascii=False, allow_nan=False).encode()  # whoever asks shows it
        except (ValueError, RecursionError) as error:
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

    def has_weights(self, name: str) -> bool:
        """False for a version whose weights were dropped, or lost."""
        return (self.path(name) / HEAD_FILE).exists()

    def drop_weights(self, name: str) -> int:
        """Keep the card and the plots of a version that will not be needed again, nothing else.

        Returns:
            how many bytes that freed; 0 if they were dropped before.
        """
        freed = 0
        for file in (TAIL_FILE, HEAD_FILE, MISTAKES_FILE):  # the head last: it says "whole"
            path = self.path(name) / file
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                continue
            freed += size
        return freed

    def discard_unless(self, name: str, known: Collection[str]) -> None:
        """Remove a version that could not be entered in the log: nobody would ever use it.

        Args:
            known: all that the log knows; of these none is removed.
        """
        if name not in known:
            shutil.rmtree(self.path(name), ignore_errors=True)

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


def _write_whole(partial: Path, final: Path, files: Mapping[str, bytes]) -> None:
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    for name, content in files.items():
        with open(partial / name, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o440)
    sync(partial)
    os.rename(partial, final)
    sync(final.parent)


def _with_tail(head: Head, tail: Tail | None) -> Head:
    """The head with the sum of its tail. Raises ValueError if it is not the tail of its layout."""
    if tail is None:
        return replace(head, tail_sha256=None)
    if not _belong_together(head, tail):
        raise ValueError(f"its layout {head.layout} is not one with the tail {tail.sha256[:12]}…")
    return replace(head, tail_sha256=tail.sha256)


def _belong_together(head: Head, tail: Tail) -> bool:
    base = without_tail(head.layout)
    is_its_backbone = base.partition("@")[0] == layout_of(tail.backbone).name
    return is_its_backbone and head.layout == tail.name_on(base)


def _read(file: Path, most: int) -> bytes:
    try:
        facts = file.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise _damaged(file, "it is no regular file")
        if facts.st_size > most:
            raise _damaged(file, f"it is larger than {most} bytes")
        return file.read_bytes()
    except OSError as error:
        hint = " (of old versions only the card is kept)" * isinstance(error, FileNotFoundError)
        what = f"it cannot be read: {error.strerror}{hint}"
        raise _damaged(file, what, ModelUnreadable) from error


def _compare(file: Path, content: bytes, published: str | None) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != published:
        raise _damaged(file, f"its SHA-256 is {found[:12]}…, published was {published}")


def _damaged(file: Path, what: str, kind: type[ModelDamaged] = ModelDamaged) -> ModelDamaged:
    return kind(
        f"{file} is damaged: {what}. Restore the directory {file.parent.name} from a backup, "
        "go back with: trapwatch models rollback, or train anew with: trapwatch train --force"
    )
