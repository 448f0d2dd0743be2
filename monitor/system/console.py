"""What people see in a terminal: tables, JSON, remarks, progress bars."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    json.dump(document, sys.stdout, ensure_ascii=False, indent=1)
    sys.stdout.write("\n")


def print_json_rows(documents: Iterable[Any]) -> None:
    """A JSON list on stdout, written as it comes."""
    start = "[\n"
    for document in documents:
        sys.stdout.write(start + json.dumps(document, ensure_ascii=False))
        start = ",\n"
    sys.stdout.write("[]\n" if start == "[\n" else "\n]\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table for people; tab-separated where stdout is no terminal, so that scripts can cut it."""
    if not sys.stdout.isatty():
        print("\t".join(columns))
        for row in rows:
            print("\t".join("" if cell is None else str(cell) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, header_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    Console().print(table)


def note(message: str) -> None:
    """A remark beside the result, on stderr."""
    print(message, file=sys.stderr)


@contextmanager
def count_bar(title: str, *, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A bar over things that are counted; call it with (done, total)."""
    if not (shown and sys.stderr.isatty()):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def stage_bar(*, shown: bool = True) -> Iterator[Callable[[str, float], None]]:
    """A bar over named stages; call it with (stage, fraction of the whole)."""
    if not (shown and sys.stderr.isatty()):
        yield lambda stage, fraction: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn

    columns = ("{task.description:<28}", BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("starting", total=1.0)
        yield lambda stage, fraction: progress.update(task, description=stage, completed=fraction)
