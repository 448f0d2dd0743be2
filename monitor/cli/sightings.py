"""Reading the log: sightings, events, status."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from monitor.cli.app import (
    ConfigOption,
    JsonOption,
    UsageError,
    app,
    moment_of,
    read_settings,
)
from monitor.core.config import Settings
from monitor.core.csv_rows import SIGHTING_COLUMNS, write_rows
from monitor.core.domain import Sighting, shown_path
from monitor.core.events import EventSighting
from monitor.log.filters import BrowseFilter
from monitor.log.species_log import open_log
from monitor.review.event_walk import events as events_of
from monitor.system.console import note, print_json, print_json_rows, print_table

TABLE_ROWS = 50

SpeciesOption = Annotated[str | None, typer.Option(help="Any name of a species of the list.")]
SinceOption = Annotated[str | None, typer.Option(help="2024-05-01, 2024-05-01T18:30, or 7d.")]
UntilOption = Annotated[str | None, typer.Option(help="The same; a day counts whole.")]
DeploymentOption = Annotated[str | None, typer.Option(help="Only this deployment.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="At most so many.")]
CsvOption = Annotated[
    Path | None, typer.Option("--csv", help="Write to this CSV file (- for stdout).")
]


@app.command("sightings")
def sightings(
    species: SpeciesOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    deployment: DeploymentOption = None,
    min_probability: Annotated[
        float | None, typer.Option(min=0, max=1, help="Labels of people count as certain.")
    ] = None,
    unreviewed: Annotated[bool, typer.Option(help="Only what nobody labelled.")] = False,
    limit: LimitOption = None,
    as_json: JsonOption = False,
    csv_file: CsvOption = None,
    config: ConfigOption = None,
) -> None:
    """What was seen, newest first: a person's label where there is one, else the live model's word.

    Example: `trapwatch sightings --species "red fox" --since 30d --min-probability 0.8`
    """
    settings = read_settings(config)
    shown = _shown(limit, as_json, csv_file)
    wanted = _filter(settings, species, since, until, deployment)
    wanted = replace(wanted, min_probability=min_probability, unreviewed=unreviewed)
    with open_log(settings.database.url) as log:
        found = log.sightings(wanted, shown)
        if csv_file:
            write_csv(csv_file, SIGHTING_COLUMNS, map(asdict, found))
        elif as_json:
            print_json_rows(map(asdict, found))
        else:
            rows = [_row(sighting) for sighting in found]
            print_table(("id", "captured", "deployment", "species", "p", "by", "path"), rows)
            if limit is None and len(rows) == TABLE_ROWS:
                note(f"the newest {TABLE_ROWS}; for more: --limit N")


@app.command("events")
def events(
    species: SpeciesOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    deployment: DeploymentOption = None,
    limit: LimitOption = None,
    as_json: JsonOption = False,
    csv_file: CsvOption = None,
    config: ConfigOption = None,
) -> None:
    """Independent sightings, newest first: the frames of one event (a visit) together.

    Example: `trapwatch events --species badger --csv badgers.csv`
    """
    settings = read_settings(config)
    wanted = _filter(settings, species, since, until, deployment)
    shown = _shown(limit, as_json, csv_file)
    with open_log(settings.database.url) as log:
        found = list(events_of(log, wanted, shown))
    if csv_file:
        write_csv(csv_file, [f.name for f in fields(EventSighting)], map(asdict, found))
    elif as_json:
        print_json_rows(map(asdict, found))
    else:
        columns = ("event", "start", "deployment", "species", "frames", "count", "p", "by")
        print_table(columns, [_event_row(event) for event in found])


@app.command("status")
def status(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """How the station stands: counts, live model, last and next training, disk, lag.

    Example: `trapwatch status --json`
    """
    from monitor.health.status import status_lines, status_of

    settings = read_settings(config, thorough=True)
    with open_log(settings.database.url) as log:
        facts = status_of(settings, log)
    if as_json:
        print_json(facts)
    else:
        print_table(("", ""), status_lines(facts))


def _shown(limit: int | None, as_json: bool, csv_file: Path | None) -> int | None:
    if as_json and csv_file:
        raise UsageError("--json and --csv do not go together; use one of them")
    return limit or (None if as_json or csv_file else TABLE_ROWS)


def _filter(
    settings: Settings,
    species: str | None,
    since: str | None,
    until: str | None,
    deployment: str | None,
) -> BrowseFilter:
    zone = settings.station.zone
    return BrowseFilter(
        species,
        moment_of(since, zone),
        moment_of(until, zone, end=True),
        shown_path(os.fsencode(deployment)) if deployment is not None else None,
    )


def _row(s: Sighting) -> tuple[object, ...]:
    probability = f"{s.probability:.2f}" if s.probability is not None else ""
    by = s.labelled_by if s.source == "label" else s.model_version
    name = s.species or (f"({s.status}: {s.rejected_reason})" if s.rejected_reason else "–")
    return (s.media_id, s.captured_local, s.deployment, name, probability, by or "", s.path)


def _event_row(e: EventSighting) -> tuple[object, ...]:
    probability = f"{e.probability:.2f}" if e.probability is not None else ""
    start = e.start_local
    return (
        e.event_id,
        start,
        e.deployment,
        e.species or "–",
        e.frames,
        e.count,
        probability,
        e.source,
    )


def write_csv(path: Path, names: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Rows as UTF-8 CSV; lists as JSON text. The file appears whole or not at all."""
    if str(path) == "-":
        write_rows(sys.stdout, names, rows)
        return
    special = path.exists() and not path.is_file()  # a pipe, /dev/null: written as it is
    partial = path if special else path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "w", newline="", encoding="utf-8") as file:
            write_rows(file, names, rows)
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        if not special:
            partial.unlink(missing_ok=True)
