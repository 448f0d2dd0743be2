"""A species list from a CSV file: species[,scientific_name,key,aliases,group,hotkey,de,es,…]."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from monitor.exchange.labels import ImportFailed, is_text, must_be_words
from monitor.log.engine import LogError
from monitor.log.species_list import SpeciesEntry

COLUMNS = ("species", "scientific_name", "key", "aliases", "group", "hotkey")
"""What is not the name of a language."""
AT_ONCE = 200
"""So many rows are one transaction: one write to the disk, and others do not wait for long."""


@dataclass(frozen=True, slots=True)
class SpeciesReport:
    """What an import came to; a fault says its line."""

    added: int
    completed: int
    faults: tuple[str, ...]


def import_species(
    text: TextIO,
    add: Callable[[Sequence[SpeciesEntry]], Sequence[bool | LogError]],
    most_rows: int | None = None,
) -> SpeciesReport:
    """Put the rows of a file on the list; what cannot be used is told, the others go in.

    Columns named by a language (de, es, pt-BR …) are names in it; aliases are parted by `;`. An
    empty cell leaves what the list has. Bytes that are not UTF-8 stand as surrogates in `text`.

    Args:
        add: `SpeciesLog.add_all_species`; tells for each row whether it is new, or what is wrong.
        most_rows: a file with more is refused whole.

    Raises:
        ImportFailed: the file has no column 'species', or too many rows.
    """
    rows = list(_rows(csv.DictReader(text)))
    if most_rows is not None and len(rows) > most_rows:
        raise ImportFailed(f"the file has {len(rows)} rows; at most {most_rows} are taken at once")
    good = [row for row in rows if isinstance(row, _Row)]
    faults = [row for row in rows if isinstance(row, _Fault)]
    outcomes: list[bool] = []
    for start in range(0, len(good), AT_ONCE):
        part = good[start : start + AT_ONCE]
        for row, outcome in zip(part, add([row.entry for row in part]), strict=True):
            if isinstance(outcome, LogError):
                faults.append(_Fault(row.line, str(outcome)))
            else:
                outcomes.append(outcome)
    told = sorted(faults, key=lambda fault: fault.line)
    return SpeciesReport(
        sum(outcomes),
        len(outcomes) - sum(outcomes),
        tuple(f"line {fault.line}: {fault.words}" for fault in told),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    entry: SpeciesEntry


@dataclass(frozen=True, slots=True)
class _Fault:
    line: int
    words: str


def _rows(reader: csv.DictReader[str]) -> Iterator[_Row | _Fault]:
    try:
        names = reader.fieldnames or []
    except csv.Error as error:
        raise ImportFailed(f"its first line is no list of columns: {error}") from None
    if "species" not in names:
        raise ImportFailed("has no column 'species'; columns are parted by commas")
    while True:
        try:
            entry = _entry(next(reader))
        except StopIteration:
            return
        except (ValueError, csv.Error) as error:
            yield _Fault(reader.line_num, str(error))
        else:
            yield _Row(reader.line_num, entry)


def _entry(row: dict[str, str | None]) -> SpeciesEntry:
    facts = {name: (row.get(name) or "").strip() for name in COLUMNS}
    if not facts["species"]:
        raise ValueError("the species has no name")
    for name in COLUMNS:
        must_be_words(name, facts[name])
    languages = {
        column: value
        for column, value in row.items()
        if column and column not in COLUMNS and value and is_text(column) and is_text(value)
    }
    return SpeciesEntry(
        facts["species"],
        facts["scientific_name"] or None,
        facts["key"] or None,
        languages,
        tuple(alias.strip() for alias in facts["aliases"].split(";") if alias.strip()),
        facts["group"] or None,
        facts["hotkey"] or None,
    )
