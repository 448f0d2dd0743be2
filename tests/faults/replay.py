"""What a disk holds after a power cut, from the record that shim.c writes.

A strict disk: data survives once its file was synced, a name once its folder was synced; of all
else any part may be there or not, and a write may be torn at a sector.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
DROPPED, KEPT, NAMES, MIXED = "dropped", "kept", "names", "mixed"
VARIANTS = (DROPPED, KEPT, NAMES, MIXED)
"""Of what was not synced: nothing survives, all does, names but no data, any part of it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the record: see `note` in shim.c.

    Attributes:
        kind: Create, Truncate, Write, Sync of a file, D (sync of a folder), Rename, Unlink,
            K (mkdir), X (rmdir), Link, Mark.
        number: the inode.
        at: offset or size.
    """

    kind: str
    number: int
    at: int
    path: str
    other: str
    data: bytes


def read_record(file: Path) -> list[Operation]:
    """All operations, in their order."""
    return list(_operations(file.read_bytes()))


def _operations(content: bytes) -> Iterator[Operation]:
    place = 0
    while place < len(content):
        end = content.index(b"\n", place)
        kind, number, at, *sizes = content[place:end].split(b" ")
        place, parts = end + 1, []
        for size in map(int, sizes):
            parts.append(content[place : place + size])
            place += size
        path, other = (os.fsdecode(part) for part in parts[:2])
        yield Operation(kind.decode(), int(number), int(at), path, other, parts[2])


@dataclass(slots=True, eq=False)
class File:
    """Bytes that are safe, and writes and truncations that are not yet: (offset, data), or
    (size, None)."""

    safe: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Folder:
    """Names that are safe, and changes that are not yet, each with the act that it is part of."""

    safe: dict[str, File | Folder] = field(default_factory=dict)
    now: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[tuple[int, str, File | Folder | None]] = field(default_factory=list)


class Disk:
    """A folder on a disk, operation by operation.

    Args:
        root: as it is now; all of it counts as safe.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._numbers: dict[int, File] = {}
        self._acts = 0
        self._top = self._read(root)

    def _read(self, path: Path) -> Folder:
        folder = Folder()
        for child in sorted(path.iterdir()) if path.is_dir() else ():
            if child.is_dir():
                folder.safe[child.name] = self._read(child)
            else:
                node = File(bytearray(child.read_bytes()))
                folder.safe[child.name] = self._numbers[child.stat().st_ino] = node
        folder.now = dict(folder.safe)
        return folder

    def apply(self, operation: Operation) -> None:
        """Let it happen."""
        self._acts += 1
        kind = operation.kind
        if kind == "W":
            self._numbers[operation.number].pending.append((operation.at, operation.data))
        elif kind == "T":
            self._numbers[operation.number].pending.append((operation.at, None))
        elif kind == "S":
            _sync_file(self._numbers[operation.number])
        elif kind == "D":
            _sync_folder(self._folder(operation.path))
        elif kind != "M":
            self._rename(operation)

    def _rename(self, operation: Operation) -> None:
        parent, name = self._place(operation.path)
        match operation.kind:
            case "C":
                self._numbers[operation.number] = node = File()
                self._set(parent, name, node)
            case "K":
                self._set(parent, name, Folder())
            case "U" | "X":
                self._set(parent, name, None)
            case "R":
                node_there = parent.now[name]
                self._set(*self._place(operation.other), node_there)
                self._set(parent, name, None)
            case "L":
                self._set(*self._place(operation.other), parent.now[name])

    def _set(self, parent: Folder, name: str, node: File | Folder | None) -> None:
        parent.pending.append((self._acts, name, node))
        if node is None:
            parent.now.pop(name, None)
        else:
            parent.now[name] = node

    def _place(self, path: str) -> tuple[Folder, str]:
        return self._folder(os.path.dirname(path)), os.path.basename(path)

    def _folder(self, path: str) -> Folder:
        node: File | Folder = self._top
        for part in Path(path).relative_to(self._root).parts:
            assert isinstance(node, Folder)
            node = node.now[part]
        assert isinstance(node, Folder)
        return node

    def after_a_cut(self, variant: str, rng: random.Random) -> dict[str, bytes | None]:
        """What is there when the power comes back: path below the root -> bytes, or None for a
        folder. Memory that processes share (-shm) is gone."""
        left: dict[str, bytes | None] = {}
        decisions: dict[int, bool] = {}
        _collect(self._top, "", variant, rng, decisions, left)
        return {path: data for path, data in left.items() if not path.endswith("-shm")}


def _sync_file(file: File) -> None:
    for at, data in file.pending:
        _write(file.safe, at, data)
    file.pending.clear()


def _sync_folder(folder: Folder) -> None:
    folder.safe = dict(folder.now)
    folder.pending.clear()


def _write(content: bytearray, at: int, data: bytes | None) -> None:
    end = at if data is None else at + len(data)
    content.extend(bytes(max(0, end - len(content))))
    if data is None:
        del content[at:]
    else:
        content[at:end] = data


def _collect(
    folder: Folder,
    prefix: str,
    variant: str,
    rng: random.Random,
    decisions: dict[int, bool],
    left: dict[str, bytes | None],
) -> None:
    names = dict(folder.safe)
    for act, name, node in folder.pending:
        coin = decisions.setdefault(act, rng.random() < 0.5)
        if variant in (KEPT, NAMES) or (variant == MIXED and coin):
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node
    for name, node in names.items():
        if isinstance(node, Folder):
            left[prefix + name] = None
            _collect(node, f"{prefix}{name}/", variant, rng, decisions, left)
        else:
            left[prefix + name] = _content(node, variant, rng)


def _content(file: File, variant: str, rng: random.Random) -> bytes:
    content = bytearray(file.safe)
    kept = file.pending if variant == KEPT else []
    if variant == MIXED:
        kept = [write for write in file.pending if rng.random() < 0.5]
        if kept and kept[-1][1] is not None:
            kept[-1] = _torn(*kept[-1], rng)
    for at, data in kept:
        _write(content, at, data)
    return bytes(content)


def _torn(at: int, data: bytes | None, rng: random.Random) -> tuple[int, bytes]:
    """The first sectors of a write."""
    assert data is not None
    sectors = (at + len(data)) // SECTOR - at // SECTOR
    whole = rng.randint(0, sectors)
    return at, data[: (at // SECTOR + whole) * SECTOR - at] if whole else b""


def put(left: dict[str, bytes | None], root: Path) -> None:
    """Write what is left into a folder."""
    root.mkdir(parents=True, exist_ok=True)
    for path, data in sorted(left.items()):
        if data is None:
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).write_bytes(data)


def marks(operations: list[Operation]) -> list[tuple[int, dict[str, int]]]:
    """(place in the record, rows that were committed for certain) of each mark."""
    return [(n, json.loads(op.path)) for n, op in enumerate(operations) if op.kind == "M"]
