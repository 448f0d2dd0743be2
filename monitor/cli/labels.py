"""`trapwatch label`: what people say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.app import (
    ByOption,
    ConfigOption,
    JsonOption,
    UsageError,
    app,
    read_settings,
    who,
)
from monitor.core.config import Settings
from monitor.core.domain import How, Observation, Scope, utc_now
from monitor.exchange.labels import (
    ImportReport,
    LabelRow,
    count_of,
    how_of,
    import_labels,
    rows_of_csv,
    rows_of_folder,
)
from monitor.log.species_log import SpeciesLog, open_log
from monitor.recovery.label_journal import keep_journal
from monitor.system.console import note, print_json

label = typer.Typer(no_args_is_help=True, help="Say what is in a frame; take it back; import.")
app.add_typer(label, name="label")

MediaArgument = Annotated[str, typer.Argument(help="An id, a path, or the start of a SHA-256.")]
NewOption = Annotated[
    bool, typer.Option("--new", help="Insist on a species whose name is nearly a known one.")
]


@label.command("set")
def set_label(
    media: MediaArgument,
    species: Annotated[list[str], typer.Argument(help="SPECIES or SPECIES:COUNT, one or more.")],
    event: Annotated[bool, typer.Option("--event", help="Of all frames of the event.")] = False,
    new: NewOption = False,
    sex: Annotated[str | None, typer.Option(help="Of the first species.")] = None,
    life_stage: Annotated[str | None, typer.Option(help="Of the first species.")] = None,
    behaviour: Annotated[str | None, typer.Option(help="Of the first species.")] = None,
    by: ByOption = None,
    config: ConfigOption = None,
) -> None:
    """Say what is in a frame. A correction keeps what it does not touch.

    Example: `trapwatch label set 17 "roe deer:2" --event --by Ana`
    """
    observations = [observation_of(text) for text in species]
    first = observations[0]
    observations[0] = Observation(first.species, first.count, sex, life_stage, behaviour)
    with _writable(config) as log:
        outcome = log.label(
            [log.find(media, absolute(media))],
            observations,
            who(by),
            How.CLI,
            utc_now(),
            scope=Scope.EVENT if event else Scope.FRAME,
            insist=new,
        )
        tell_new(outcome.new_species)
        for sighting in log.sightings_of(outcome.media_ids):
            note(f"{sighting.media_id} {sighting.path}: {_said(sighting.observations)}")


@label.command("undo")
def undo(
    media: Annotated[str | None, typer.Argument(help="Default: the last act of all.")] = None,
    by: ByOption = None,
    config: ConfigOption = None,
) -> None:
    """Withdraw the last label act; what was said before it counts again. Nothing is deleted.

    Example: `trapwatch label undo 17`
    """
    with _writable(config) as log:
        media_id = log.find(media, absolute(media)) if media is not None else None
        undone = log.undo(media_id, who(by), How.CLI, utc_now())
        for sighting in log.sightings_of(undone):
            said = _said(sighting.observations) or "no label"
            note(f"{sighting.media_id} {sighting.path}: {said}")


@label.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="CSV with columns path,species[,count,by].")],
    new: NewOption = False,
    by: ByOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Take labels from a CSV file. Bad lines are told, the others go in; repeating does no harm.

    Two lines of one path after each other are one label with two species. Files that the log
    does not know are taken in.

    Example: `trapwatch label import labels.csv --by "field team"`
    """
    settings = read_settings(config)
    _import(settings, file, rows_of_csv(file), who(by), new=new, as_json=as_json)


@label.command("import-folder")
def import_folder(
    folder: Annotated[Path, typer.Argument(help="Holds one folder of images for each species.")],
    new: NewOption = False,
    by: ByOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Take labels from sorted images: DIR/<species>/*.jpg. Files are found by their content.

    Example: `trapwatch label import-folder sorted/ --by Ana`
    """
    settings = read_settings(config)
    rows = rows_of_folder(folder, frozenset(settings.watch.extensions))
    _import(settings, folder, rows, who(by), new=new, as_json=as_json)


def _writable(config: Path | None) -> SpeciesLog:
    settings = read_settings(config)
    return keep_journal(open_log(settings.database.url), settings)


def _import(
    settings: Settings,
    source: Path,
    rows: Iterator[LabelRow | str],
    by: str,
    *,
    new: bool,
    as_json: bool,
) -> None:
    from monitor.service.station import Station  # numpy and Pillow, to read the files

    station = Station(settings)
    log, how = station.log, how_of(source)

    def say(media_id: int, row: LabelRow) -> tuple[bool, tuple[str, ...]]:
        outcome = log.label(
            [media_id], row.observations, row.by or by, how, utc_now(), insist=new, once=True
        )
        return bool(outcome.media_ids), outcome.new_species

    def media_of(path: bytes) -> int | None:
        return station.take_in_file(path) or log.media_of_path(path)

    try:
        report = import_labels(rows, media_of, say)
    finally:
        station.close()
    _tell(report, as_json=as_json)


def _tell(report: ImportReport, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(report))
    else:
        for fault in report.faults:
            note(fault)
        tell_new(report.new_species)
        note(
            f"{report.labelled} media labelled, {report.said_before} had been said before, "
            f"{len(report.faults)} could not be used"
        )
    if report.faults:
        raise typer.Exit(1)


def tell_new(names: tuple[str, ...]) -> None:
    """Say which names nobody had used before."""
    for name in names:
        note(f"new species on the list: {name}")


def observation_of(text: str) -> Observation:
    """`roe deer:2` in the words of the log. Raises UsageError."""
    name, colon, count = text.rpartition(":")
    if not colon:
        return Observation(text)
    try:
        return Observation(name, count_of(count))
    except ValueError:
        raise UsageError(f"'{text}': after the colon stands a count, like 'roe deer:2'") from None


def _said(observations: tuple[Observation, ...]) -> str:
    return ", ".join(f"{o.species}{f' x {o.count}' if o.count else ''}" for o in observations)


def absolute(reference: str) -> bytes:
    """What a person wrote, as the path that it may be."""
    return os.path.abspath(os.fsencode(reference))
