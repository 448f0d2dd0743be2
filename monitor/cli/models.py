"""`trapwatch train` and `trapwatch models`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from monitor.cli.app import (
    ByOption,
    ConfigOption,
    JsonOption,
    app,
    log_to_stderr,
    read_settings,
    who,
)
from monitor.core.domain import TrapwatchError, utc_now
from monitor.log.species_log import open_log
from monitor.recovery.label_journal import keep_journal
from monitor.system.console import note, print_json, print_table, stage_bar

models = typer.Typer(no_args_is_help=True, help="Model versions: look, promote, roll back.")
app.add_typer(models, name="models")

VersionArgument = Annotated[str, typer.Argument(help="Name of a version, like v0003.")]


class Method(StrEnum):
    """How to train; see `training.method` in config.yaml."""

    AUTO = "auto"
    HEAD = "head"
    FINETUNE = "finetune"


@app.command("train")
def train(
    method: Annotated[
        Method | None,
        typer.Option(
            help="head: a new last layer, in seconds; finetune: the network's last blocks too; "
            "auto: a head, then finetune if labels and time suffice. Default: as configured."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also when there are few new labels.")
    ] = False,
    as_json: JsonOption = False,
    trigger: Annotated[str, typer.Option(hidden=True)] = "cli",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    config: ConfigOption = None,
) -> None:
    """Train once on all labels; the result goes live only if it is better than the live model.

    Example: `trapwatch train --force --method finetune`
    """
    from monitor.service.training_process import train_now  # brings in numpy and scikit-learn

    log_to_stderr(quiet=not quiet)
    settings = read_settings(config, thorough=True)
    if method is not None:
        training = settings.training.model_copy(update={"method": method.value})
        settings = settings.model_copy(update={"training": training})
    os.nice(settings.training.nice)
    with stage_bar(shown=not (quiet or as_json)) as progress:
        outcome = train_now(settings, trigger=trigger, force=force, progress=progress)
    if as_json:
        print_json(asdict(outcome))
    elif quiet:
        note(outcome.reason)
    else:
        verdict = "is live" if outcome.accepted else "stays out"
        print(
            f"{outcome.version} {verdict}: {outcome.reason}" if outcome.version else outcome.reason
        )


@models.command("list")
def list_models(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Every version, newest first, with its state and why.

    Example: `trapwatch models list`
    """
    with open_log(read_settings(config).database.url) as log:
        versions = log.versions()
    if as_json:
        print_json([asdict(version) for version in versions])
        return
    rows = [(v.name, v.state, v.created_at, v.went_live_at, v.reason) for v in versions]
    print_table(("version", "state", "made", "went live", "why"), rows)


@models.command("show")
def show(
    version: VersionArgument, as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """The model card of a version.

    Example: `trapwatch models show v0001`
    """
    from monitor.model.versions import CARD_PAGE, ModelStore

    settings = read_settings(config)
    with open_log(settings.database.url) as log:
        row = log.version(version)
    store = ModelStore(settings.models.directory)
    if as_json:
        print_json({**asdict(row), "card": store.card(version)})
        return
    print(f"{row.name}: {row.state}. {row.reason}\n")
    page = settings.models.directory / version / CARD_PAGE
    try:
        print(page.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrapwatchError(f"{page} cannot be read: {error.strerror}") from None


@models.command("promote")
def promote(
    version: VersionArgument,
    by: ByOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a version live because you say so, whatever the gate said.

    Example: `trapwatch models promote v0002 --by Ana`
    """
    from monitor.model.versions import ModelStore

    settings = read_settings(config)
    with keep_journal(open_log(settings.database.url), settings) as log:
        row = log.version(version)
        ModelStore(settings.models.directory).load(version, row.weights_sha256)
        log.go_live(version, f"promoted by {who(by)}", who(by), utc_now())
    _say_live(version, as_json=as_json)


@models.command("rollback")
def rollback(by: ByOption = None, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Bring back the version that was live before.

    Example: `trapwatch models rollback`
    """
    from monitor.model.versions import ModelStore

    settings = read_settings(config)
    store = ModelStore(settings.models.directory)
    with keep_journal(open_log(settings.database.url), settings) as log:
        version = log.roll_back(
            who(by), utc_now(), usable=lambda row: store.load(row.name, row.weights_sha256)
        )
    _say_live(version, as_json=as_json)


def _say_live(version: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"live": version}))
    else:
        note(f"{version} is live; a running service takes it over before its next batch")
