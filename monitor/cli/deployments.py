"""`trapwatch deployments`: what each camera sent, for how long it watched, what its clock says."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from monitor.cli.app import (
    ByOption,
    ConfigOption,
    JsonOption,
    UsageError,
    app,
    moment_of,
    read_settings,
    who,
)
from monitor.core import moments
from monitor.core.config import Settings
from monitor.core.domain import How, parse_iso_utc, utc_now
from monitor.log.deployment_acts import Shifted
from monitor.log.species_log import SpeciesLog, open_log
from monitor.pipeline.deployments import read_deployments
from monitor.recovery.label_journal import keep_journal
from monitor.report.camera_days import deployments_of, still_proposed
from monitor.system.console import note, print_json, print_table

deployments = typer.Typer(
    no_args_is_help=True, help="Cameras: for how long they watched, and their clocks."
)
app.add_typer(deployments, name="deployments")

NameArgument = Annotated[str, typer.Argument(help="The deployment, as `list` names it.")]


@deployments.command("list")
def list_deployments(
    since: Annotated[str | None, typer.Option(help="2024-05-01, 2024-05-01T18:30, or 30d.")] = None,
    until: Annotated[str | None, typer.Option(help="The same; a day counts whole.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Every camera: first and last frame, days watched, outages, corrections of its clock.

    Days watched are counted from its start to its end (or from its first to its last frame),
    without outages, whether confirmed or only proposed.

    Example: `trapwatch deployments list`

    `trapwatch deployments list --since 2026-05-01 --until 2026-05-31 --json`
    """
    settings = read_settings(config)
    first, last = period_of(since, until, settings)
    with open_log(settings.database.url) as log:
        rows = deployments_of(settings, log, utc_now(), first, last)
    if as_json:
        print_json(rows)
        return
    print_table(
        (
            "deployment",
            "start",
            "end",
            "first frame",
            "last frame",
            "media",
            "days watched",
            "outages",
            "clock",
        ),
        [_line(row) for row in rows],
    )
    waiting = still_proposed(rows)
    if waiting:
        note(
            f"{len(waiting)} proposed outage(s) wait for your word: "
            "trapwatch deployments outage list"
        )


@deployments.command("set")
def set_period(
    name: NameArgument,
    start: Annotated[str | None, typer.Option(help="2026-05-01 or 2026-05-01T14:30.")] = None,
    end: Annotated[str | None, typer.Option(help='The same; a day counts whole. "": open.')] = None,
    by: ByOption = None,
    config: ConfigOption = None,
) -> None:
    """Say when a camera was put up and taken down. What is left out stays as it was; "" clears.

    A deployment that stands in `deployments.file` has its start and end from there.

    Example: `trapwatch deployments set north --start 2026-04-01 --end 2026-06-30`
    """
    settings = read_settings(config)
    if start is None and end is None:
        raise UsageError("name --start, --end or both")
    _refuse_listed(name, settings)
    with writable(settings) as log:
        known = next(iter(log.deployment_facts(utc_now(), name=name)), None)
        starts = known.start if known else None
        ends = known.end if known else None
        if start is not None:
            starts = moment(start, settings)
        if end is not None:
            ends = moment(end, settings, end=True)
        log.set_period(name, starts, ends, who(by), How.CLI, utc_now())
    note(f"{name}: from {shown(starts) or 'its first frame'} to {shown(ends) or 'now'}")


@deployments.command("shift-time")
def shift_time(
    name: NameArgument,
    by_time: Annotated[
        str | None, typer.Option("--by", help="'+3y 2d 04:00:00', '-1h', '+1d 30m'; y is 365 days.")
    ] = None,
    wrong: Annotated[str | None, typer.Option(help="A time as it is shown now …")] = None,
    right: Annotated[str | None, typer.Option(help="… and what it was in truth.")] = None,
    since: Annotated[str | None, typer.Option(help="Only frames shown from this time on.")] = None,
    until: Annotated[str | None, typer.Option(help="Only those before; a day: whole.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the last correction back.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; show some frames before and after.")
    ] = False,
    person: Annotated[str | None, typer.Option("--person", help="Who says so.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Correct the clock of a camera. What the camera wrote is kept; only what is shown moves.

    All times are the camera's wall clock, as `sightings` shows it. A shift in `deployments.file`
    counts besides: neither overwrites the other. Events are cut anew.

    Example: `trapwatch deployments shift-time north --by '+3y 2d 04:00:00' --dry-run`

    `trapwatch deployments shift-time north --wrong '2020-01-01 00:00' --right '2026-05-02 08:30'
    --until 2020-12-31`

    `trapwatch deployments shift-time north --undo`
    """
    settings = read_settings(config)
    shift = _shift(by_time, wrong, right, undo=undo)
    with writable(settings) as log:
        if shift is None:
            _undo(log, name, who(person), as_json=as_json)
            return
        outcome = log.correct_clock(
            name,
            shift,
            who(person),
            How.CLI,
            utc_now(),
            since=wall(since) if since else None,
            until=wall(until, end=True) if until else None,
            dry=dry_run,
        )
        said = [] if dry_run else [o for o in log.outages(name) if o.by is not None]
        listed = next(iter(log.deployment_facts(utc_now(), name=name))).shift_seconds
    if as_json:
        print_json(
            {
                "deployment": name,
                "seconds": shift.total_seconds(),
                "dry_run": dry_run,
                **asdict(outcome),
            }
        )
    else:
        _tell(outcome)
    would = "would be" if dry_run else "are"
    note(f"{outcome.media} frames {would} shown {shift.total_seconds():+,.0f} s later")
    if listed:
        note(f"{listed:+,.0f} s from deployments.file count besides")
    if said:
        note(f"{len(said)} outage(s) that people spoke of stay where they are: look at them")


def period_of(
    since: str | None, until: str | None, settings: Settings
) -> tuple[datetime | None, datetime | None]:
    """--since and --until. Raises UsageError."""
    first, last = moment(since, settings), moment(until, settings, end=True)
    if first is not None and last is not None and first >= last:
        raise UsageError("--since is not before --until; swap them")
    return first, last


def moment(text: str | None, settings: Settings, *, end: bool = False) -> datetime | None:
    """A time on the station's clock, in UTC; None for "". Raises UsageError."""
    found = moment_of(text or None, settings.station.zone, end=end)
    return parse_iso_utc(found) if found is not None else None


def wall(text: str, *, end: bool = False) -> datetime:
    """A time by a camera's wall clock. Raises UsageError."""
    try:
        return moments.wall_of(text, end=end)
    except moments.NoMoment as error:
        raise UsageError(str(error)) from None


def shown(moment: datetime | None) -> str:
    """A time for people."""
    return moment.strftime("%Y-%m-%d %H:%M UTC") if moment is not None else ""


def _shift(
    by_time: str | None, wrong: str | None, right: str | None, *, undo: bool
) -> timedelta | None:
    """How far to shift; None: undo. Raises UsageError."""
    ways = (by_time is not None) + (wrong is not None or right is not None) + undo
    if ways != 1 or (wrong is None) != (right is None):
        raise UsageError("give --by, or --wrong and --right, or --undo")
    if wrong is not None and right is not None:
        return wall(right) - wall(wrong)
    try:
        return moments.shift_of(by_time) if by_time is not None else None
    except moments.NoMoment as error:
        raise UsageError(str(error)) from None


def _undo(log: SpeciesLog, name: str, person: str, *, as_json: bool) -> None:
    undone = log.undo_clock(name, person, How.CLI, utc_now())
    if as_json:
        print_json({"deployment": name, "undone": asdict(undone)})
    note(f"taken back: {undone.seconds:+,.0f} s")


def _tell(outcome: Shifted) -> None:
    rows = [(one.path, one.camera_wrote, one.before, one.after) for one in outcome.examples]
    print_table(("frame", "camera wrote", "before", "after"), rows)


def _line(row: dict[str, Any]) -> tuple[object, ...]:
    effort, clock = row["effort"], row["clock"]
    states = [outage["state"] for outage in row["outages"]]
    counts = [f"{states.count(s)} {s}" for s in ("confirmed", "proposed") if s in states]
    seconds = clock["list_shift_seconds"]
    parts = [f"{seconds:+,.0f} s (list)"] if seconds else []
    parts += [f"{one['seconds']:+,.0f} s" for one in clock["corrections"]]
    parts += [f"doubted: {clock['doubt']}"] if clock["doubt"] else []
    return (
        row["name"],
        _minute(row["start"]),
        _minute(row["end"]),
        _minute(row["first_capture"]),
        _minute(row["last_capture"]),
        row["media"],
        f"{effort['watched_days']:.1f}" if effort else None,
        ", ".join(counts),
        "; ".join(parts),
    )


def _minute(text: str | None) -> str | None:
    return shown(parse_iso_utc(text)) if text is not None else None


def _refuse_listed(name: str, settings: Settings) -> None:
    file = settings.deployments.file
    if file is not None and any(
        row.name == name for row in read_deployments(file, settings.station.zone)
    ):
        raise UsageError(f"{name} stands in {file}, which says its start and end: change it there")


def writable(settings: Settings) -> SpeciesLog:
    """The log, which keeps its journal."""
    return keep_journal(open_log(settings.database.url, create=True), settings)
