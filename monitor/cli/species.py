"""`trapwatch species`: the station's list."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TextIO

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
from monitor.core.domain import How, utc_now
from monitor.exchange.labels import ImportFailed
from monitor.exchange.species import import_species as import_csv
from monitor.log.species_log import SpeciesLog, open_log
from monitor.recovery.label_journal import keep_journal
from monitor.system.console import note, print_json, print_table

species = typer.Typer(no_args_is_help=True, help="The station's list: names, aliases, languages.")
app.add_typer(species, name="species")

NameOption = Annotated[
    list[str] | None,
    typer.Option("--name", help="A name in a language, like de=Rotfuchs; as often as you like."),
]


@species.command("list")
def list_species(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Every species, with all its names and how many media are labelled so.

    Example: `trapwatch species list`
    """
    with open_log(read_settings(config).database.url) as log:
        rows = log.species()
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    columns = (
        "species",
        "scientific name",
        "key",
        "group",
        "hotkey",
        "also called",
        "labelled media",
    )
    print_table(
        columns,
        [
            (
                row.name,
                row.scientific_name,
                row.taxon_key,
                row.group,
                row.hotkey,
                ", ".join(row.aliases),
                row.labels,
            )
            for row in rows
        ],
    )


@species.command("add")
def add(
    name: Annotated[str, typer.Argument(help="How sightings will call it.")],
    scientific: Annotated[str | None, typer.Option(help="Scientific name.")] = None,
    key: Annotated[str | None, typer.Option(help="Taxon key, such as GBIF's.")] = None,
    names: NameOption = None,
    alias: Annotated[list[str] | None, typer.Option(help="Another name.")] = None,
    group: Annotated[str | None, typer.Option(help='Such as "deer"; "" takes it away.')] = None,
    hotkey: Annotated[
        str | None, typer.Option(help='The key that names it while reviewing; "" takes it away.')
    ] = None,
    by: ByOption = None,
    config: ConfigOption = None,
) -> None:
    """Add a species, or complete a known one.

    Example: `trapwatch species add "red fox" --scientific "Vulpes vulpes" --name de=Rotfuchs`
    """
    with _writable(config) as log:
        is_new = log.add_species(
            name,
            who(by),
            How.CLI,
            utc_now(),
            scientific_name=scientific,
            taxon_key=key,
            names=_by_language(names or []),
            aliases=tuple(alias or ()),
            group=group,
            hotkey=hotkey,
        )
    note(f"{'added' if is_new else 'completed'}: {name}")


@species.command("rename")
def rename(old: str, new: str, by: ByOption = None, config: ConfigOption = None) -> None:
    """Give a species a new name; the old one goes on answering.

    Example: `trapwatch species rename fox "red fox"`
    """
    with _writable(config) as log:
        log.rename_species(old, new, who(by), How.CLI, utc_now())
    note(f"{old} is now called {new}")


@species.command("merge")
def merge(source: str, into: str, by: ByOption = None, config: ConfigOption = None) -> None:
    """Make SOURCE mean INTO from now on; what was labelled stays recorded as it was said.

    Example: `trapwatch species merge "silver fox" "red fox"`
    """
    with _writable(config) as log:
        log.merge_species(source, into, who(by), How.CLI, utc_now())
    note(f"{source} is {into} from now on")


@species.command("import")
def import_species(
    file: Annotated[
        Path, typer.Argument(help="CSV: species[,scientific_name,key,aliases,group,hotkey,de,…]")
    ],
    by: ByOption = None,
    config: ConfigOption = None,
) -> None:
    """Add a whole list; columns named by a language (de, es, pt-BR …) are names in it.

    Aliases are parted by `;`. Rows that cannot be used are told by line; the others go in.

    Example: `trapwatch species import species.csv`
    """
    with _writable(config) as log, _open_csv(file) as text:
        try:
            report = import_csv(
                text, lambda rows: log.add_all_species(rows, who(by), How.CSV, utc_now())
            )
        except ImportFailed as error:
            raise UsageError(f"{file}: {error}") from None
    for fault in report.faults:
        note(f"{file}, {fault}")
    left_out = f", {len(report.faults)} lines left out" if report.faults else ""
    note(f"{report.added} new species{left_out}")
    if report.faults:
        raise typer.Exit(1)


def _by_language(pairs: list[str]) -> dict[str, str]:
    names = {}
    for pair in pairs:
        language, equals, name = pair.partition("=")
        if not (language and equals and name):
            raise UsageError(f"'{pair}' is no LANGUAGE=NAME, like de=Rotfuchs")
        names[language] = name
    return names


def _writable(config: Path | None) -> SpeciesLog:
    settings = read_settings(config)
    return keep_journal(open_log(settings.database.url, create=True), settings)


def _open_csv(path: Path) -> TextIO:
    try:
        return open(path, newline="", encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
