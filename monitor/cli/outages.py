"""`trapwatch deployments outage`: when cameras did not watch, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from monitor.cli.app import ByOption, ConfigOption, JsonOption, UsageError, read_settings, who
from monitor.cli.deployments import NameArgument, deployments, moment, shown, writable
from monitor.core.domain import How, utc_now
from monitor.core.silence import Outage, OutageState, Reason
from monitor.log.deployment_acts import UNCHANGED
from monitor.log.species_log import open_log
from monitor.report.camera_days import outage_document
from monitor.system.console import note, print_json, print_table

outage = typer.Typer(no_args_is_help=True, help="When cameras did not watch, and why.")
deployments.add_typer(outage, name="outage")

IdArgument = Annotated[int, typer.Argument(help="The outage's number, as `list` shows it.")]
StartOption = Annotated[str | None, typer.Option(help="2026-05-01 or 2026-05-01T14:30.")]
EndOption = Annotated[
    str | None, typer.Option(help='The same; a day counts whole. Left out or "": it lasts.')
]
NoteOption = Annotated[str | None, typer.Option("--note", help="In your words.")]
ReasonOption = Annotated[Reason, typer.Option(help="Why the camera did not watch.")]


@outage.command("list")
def list_outages(
    deployment: Annotated[str | None, typer.Option(help="Of this one alone.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """All outages: those the station proposes, those people confirmed, those they dismissed.

    Example: `trapwatch deployments outage list --deployment north`
    """
    with open_log(read_settings(config).database.url) as log:
        rows = log.outages(deployment)
    if as_json:
        print_json([outage_document(row) for row in rows])
        return
    columns = ("id", "deployment", "from", "to", "state", "reason", "note", "by")
    print_table(columns, [_line(row) for row in rows])


@outage.command("add")
def add(
    name: NameArgument,
    start: Annotated[str, typer.Option(help="2026-05-01 or 2026-05-01T14:30.")],
    reason: ReasonOption,
    end: EndOption = None,
    text: NoteOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say that a camera did not watch.

    Example: `trapwatch deployments outage add north --start 2026-05-03T18:00 --end 2026-05-09
    --reason battery`
    """
    settings = read_settings(config)
    begins = moment(start, settings)
    if begins is None:
        raise UsageError("--start: when did it begin?")
    ends = moment(end, settings, end=True)
    with writable(settings) as log:
        said = Outage(
            0, name, begins, ends, OutageState.CONFIRMED, reason, text, who(by), utc_now()
        )
        _tell(log.say_outage(said, How.CLI), as_json=as_json)


@outage.command("confirm")
def confirm(
    number: IdArgument,
    reason: ReasonOption,
    start: StartOption = None,
    end: Annotated[
        str | None, typer.Option(help='Corrects it; a day counts whole. "": it lasts.')
    ] = None,
    text: NoteOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Confirm a proposed outage with its reason, or correct one; what is left out stays.

    Example: `trapwatch deployments outage confirm 7 --reason "card full" --end 2026-05-09T10:00`
    """
    changes: dict[str, Any] = {"reason": reason}
    settings = read_settings(config)
    if start:
        changes["start"] = moment(start, settings)
    if end is not None:
        changes["end"] = moment(end, settings, end=True)
    if text is not None:
        changes["note"] = text or None
    _judge(config, number, OutageState.CONFIRMED, by, changes, as_json=as_json)


@outage.command("dismiss")
def dismiss(
    number: IdArgument,
    text: NoteOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """It was none: the camera watched, there was just nothing to see. Its days count as watched.

    Example: `trapwatch deployments outage dismiss 7 --note "deep snow, nothing moved"`
    """
    changes = {"reason": None, "note": text if text is not None else UNCHANGED}
    _judge(config, number, OutageState.DISMISSED, by, changes, as_json=as_json)


def _judge(
    config: Path | None,
    number: int,
    state: OutageState,
    by: str | None,
    changes: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    with writable(read_settings(config)) as log:
        said = log.judge_outage(number, state, who(by), How.CLI, utc_now(), **changes)
        _tell(said, as_json=as_json)


def _tell(said: Outage, *, as_json: bool) -> None:
    if as_json:
        print_json(outage_document(said))
    reason = f" ({said.reason})" if said.reason is not None else ""
    lasts = shown(said.end) or "now, it lasts"
    note(f"{said.id} {said.deployment}: {said.state}{reason}, {shown(said.start)} to {lasts}")


def _line(row: Outage) -> tuple[object, ...]:
    ends = shown(row.end) or "it lasts"
    who_said = row.by or "the station"
    return (
        row.id,
        row.deployment,
        shown(row.start),
        ends,
        row.state,
        row.reason,
        row.note,
        who_said,
    )
