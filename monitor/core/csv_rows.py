"""Rows of values as CSV: lists as JSON text, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from io import StringIO
from typing import Any, Protocol

from monitor.core.domain import Sighting

SIGHTING_COLUMNS = tuple(field.name for field in fields(Sighting))
"""Of `trapwatch sightings --csv` and of /api/v1/sightings.csv."""
OTHERS_WORDS = ("path", "species", "deployment", "labelled_by")
"""Columns that repeat what others wrote: names of files and folders, of species, of people."""
RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")


class Writable(Protocol):
    """A text file, opened with newline=''."""

    def write(self, text: str, /) -> object:
        """Take this text."""


def write_rows(file: Writable, names: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """A header and the rows."""
    writer = csv.DictWriter(file, names)
    writer.writeheader()
    writer.writerows(map(flat, rows))


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose lists are JSON text."""
    return {
        key: json.dumps(value, ensure_ascii=False) if isinstance(value, tuple) else value
        for key, value in row.items()
    }


def safe(row: dict[str, Any]) -> dict[str, Any]:
    """A row that may be opened in a spreadsheet, whoever named a file or a species.

    Spreadsheets run a cell that begins with = + - @, a tab or a return as a formula
    (https://owasp.org/www-community/attacks/CSV_Injection); in the columns that repeat what others
    wrote such a cell gets a ' before it, which spreadsheets do not show.
    """
    shown = dict(row)
    for name in OTHERS_WORDS:
        value = row.get(name)
        if isinstance(value, str) and value.startswith(RUN_BY_SPREADSHEETS):
            shown[name] = f"'{value}"
    return shown


def sightings_text(pages: Iterable[Iterable[Sighting]]) -> Iterator[str]:
    """The CSV file of sightings, safe for spreadsheets, in pieces: the header, then each page."""
    text = StringIO(newline="")
    writer = csv.DictWriter(text, SIGHTING_COLUMNS)
    writer.writeheader()
    for page in pages:
        yield text.getvalue()
        text.seek(0)
        text.truncate()
        writer.writerows(flat(safe(asdict(sighting))) for sighting in page)
    yield text.getvalue()
