"""Labels from a CSV file or from folders named by species. An import can be repeated safely."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from monitor.core.domain import How, Observation, TrapwatchError, shown_path

COLUMNS = ("path", "species", "count", "by", "sex", "life_stage", "behaviour")
LONGEST_PATH = 4095  # Linux's PATH_MAX
LONGEST_WORDS = 1000
LONGEST_SHOWN = 100


class ImportFailed(TrapwatchError):
    """Nothing of a file or folder can be imported; the message says why."""


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One thing a file says: what is on the media at `path`."""

    place: str  # where it was read, such as "line 7"
    path: bytes  # absolute
    observations: tuple[Observation, ...]
    by: str | None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import came to."""

    labelled: int
    said_before: int
    faults: tuple[str, ...]
    new_species: tuple[str, ...]


def rows_of_csv(path: Path) -> Iterator[LabelRow | str]:
    """Read `path,species[,count,by,…]`; rows of one path one after the other are one label.

    Paths are absolute, or relative to the file's folder.

    Yields:
        a label, or a fault in words with its line number.

    Raises:
        ImportFailed: the file cannot be read or lacks a column.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            yield from _joined(_csv_rows(csv.DictReader(file), path.absolute().parent))
    except OSError as error:
        raise ImportFailed(f"{path} cannot be read: {error.strerror}") from None


def rows_of_folder(folder: Path, extensions: frozenset[str]) -> Iterator[LabelRow | str]:
    """Read DIR/<species>/**: every image below a folder shows what the folder is named for."""
    if not folder.is_dir():
        raise ImportFailed(f"{folder} is no folder; it should hold one folder for each species")
    try:
        inside = sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    except OSError as error:
        raise ImportFailed(f"{folder} cannot be read: {error.strerror}") from None
    faults: list[OSError] = []
    for species in inside:
        said = (Observation(species.name.replace("_", " ")),)
        for root, folders, names in os.walk(os.fsencode(species), onerror=faults.append):
            folders.sort()
            for name in sorted(names):
                suffix = os.path.splitext(os.fsdecode(name))[1].lower()
                if suffix in extensions and name[:1] != b".":
                    path = os.path.abspath(os.path.join(root, name))
                    yield LabelRow(shown_path(path), path, said, None)
    for fault in faults:
        yield f"{shown_path(os.fsencode(fault.filename))} cannot be read: {fault.strerror}"


def import_labels(
    rows: Iterator[LabelRow | str],
    media_of: Callable[[bytes], int | None],
    label: Callable[[int, LabelRow], tuple[bool, tuple[str, ...]]],
    progress: Callable[[int], None] = lambda done: None,
) -> ImportReport:
    """Put what `rows` say into the log; what cannot be used is told, the others go in.

    Args:
        media_of: the media of a path, taken in if need be; None if there is no such file.
        label: records one label; returns (whether it was new, species nobody had used before).
    """
    labelled = before = 0
    faults: list[str] = []
    new_species: dict[str, None] = {}
    for number, row in enumerate(rows, 1):
        if isinstance(row, str):
            faults.append(row)
            continue
        try:
            media_id = media_of(row.path)
            if media_id is None:
                faults.append(f"{row.place}: no such file, and none known: {shown_path(row.path)}")
                continue
            is_new, names = label(media_id, row)
        except TrapwatchError as error:
            faults.append(f"{row.place}: {error}")
            continue
        labelled, before = labelled + is_new, before + (not is_new)
        new_species |= dict.fromkeys(names)
        progress(number)
    return ImportReport(labelled, before, tuple(faults), tuple(new_species))


def how_of(path: Path) -> How:
    """The way labels from `path` come in."""
    return How.FOLDER if path.is_dir() else How.CSV


def _csv_rows(reader: csv.DictReader[str], base: Path) -> Iterator[LabelRow | str]:
    try:
        names = reader.fieldnames or []
    except csv.Error as error:
        raise ImportFailed(f"its first line is no list of columns: {error}") from None
    missing = [name for name in ("path", "species") if name not in names]
    if missing:
        raise ImportFailed(f"the file has no column {' and no column '.join(missing)}")
    while True:
        try:
            yield _csv_row(next(reader), f"line {reader.line_num}", base)
        except StopIteration:
            return
        except (ValueError, csv.Error) as error:
            yield f"line {reader.line_num}: {error}"


def _csv_row(row: dict[str, str | None], place: str, base: Path) -> LabelRow:
    facts = {name: (row.get(name) or "").strip() for name in COLUMNS}
    if not facts["path"]:
        raise ValueError("no path")
    if not facts["species"]:
        raise ValueError("no species")
    if len(facts["path"]) > LONGEST_PATH:
        raise ValueError(f"the path is longer than {LONGEST_PATH:,} letters, as none can be")
    if "\0" in facts["path"]:
        raise ValueError("the path holds a zero byte")
    for name in COLUMNS[1:]:
        must_be_words(name, facts[name])
    observation = Observation(
        facts["species"],
        count_of(facts["count"]) if facts["count"] else None,
        facts["sex"] or None,
        facts["life_stage"] or None,
        facts["behaviour"] or None,
    )
    path = os.path.normpath(os.path.join(os.fsencode(base), os.fsencode(facts["path"])))
    return LabelRow(place, path, (observation,), facts["by"] or None)


def count_of(text: str) -> int:
    """A count as people write it. Raises ValueError in words."""
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and int(text)):
        raise ValueError(f"the count '{text[:40]}' is no whole number from 1 to 999999")
    return int(text)


def must_be_words(name: str, text: str) -> None:
    """Raise ValueError, in words, for a cell that is no text, or longer than anybody writes."""
    if not is_text(text):
        raise ValueError(f"the {name} {shown_text(text)[:LONGEST_SHOWN]} is not UTF-8")
    if len(text) > LONGEST_WORDS:
        raise ValueError(f"the {name} has {len(text):,} letters; at most {LONGEST_WORDS:,}")


def is_text(text: str) -> bool:
    """False where bytes were read that are not UTF-8 (they stand as surrogates), and where there
    are zeros, of which UTF-16 is full."""
    return text.isprintable() or not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text)


def shown_text(text: str) -> str:
    """Such a text, made printable."""
    return shown_path(os.fsencode(text))


def _joined(rows: Iterator[LabelRow | str]) -> Iterator[LabelRow | str]:
    """Rows of one path that follow each other are one label with several observations; a row that
    repeats the one above says nothing new."""
    held: LabelRow | None = None
    for row in rows:
        if isinstance(row, str):
            yield row
        elif held is not None and held.path == row.path and held.by == row.by:
            more = tuple(o for o in row.observations if o not in held.observations)
            held = LabelRow(held.place, held.path, held.observations + more, held.by)
        else:
            if held is not None:
                yield held
            held = row
    if held is not None:
        yield held
