"""`trapwatch alerts`: whether people can be told, and what they were told."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from monitor.cli.app import ConfigOption, JsonOption, app, read_settings
from monitor.core.domain import TrapwatchError
from monitor.health.alert_channels import channels_of, shown
from monitor.health.alert_test import try_all
from monitor.log.alerts import DeliveryRow
from monitor.log.species_log import open_log
from monitor.system.console import note, print_json, print_table

alerts = typer.Typer(no_args_is_help=True, help="Tell people what happens at the station.")
app.add_typer(alerts, name="alerts")


@alerts.command("test")
def test(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Send a message over every channel now, and say what came of each. Exits 1 if any failed.

    Example: `trapwatch alerts test`

    Example: `sudo systemd-run --pty -p User=trapwatch
    -p LoadCredential=alerts:/etc/trapwatch/secrets/alerts trapwatch alerts test`
    """
    settings = read_settings(config)
    channels = channels_of(settings)
    if not channels:
        raise TrapwatchError("there is nobody to tell: name channels under alerts.urls")
    outcomes = try_all(settings, channels)
    if as_json:
        print_json([{"channel": n, "sent": p is None, "problem": p} for n, p in outcomes.items()])
    else:
        for name, problem in outcomes.items():
            note(f"{shown(name, channels)}: {'sent' if problem is None else f'failed: {problem}'}")
    if any(problem is not None for problem in outcomes.values()):
        raise typer.Exit(1)


@alerts.command("list")
def list_alerts(
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest.")] = 20,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """The last alerts and where they are: waiting, sent, or failed (given up).

    Example: `trapwatch alerts list --limit 5`
    """
    with open_log(read_settings(config).database.url) as log:
        rows = log.alerts(limit)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    columns = ("at", "kind", "alert", "channels")
    print_table(
        columns,
        [(r.at, r.kind, r.subject, "; ".join(map(_way, r.deliveries))) for r in rows],
    )


def _way(row: DeliveryRow) -> str:
    if row.state == "waiting" and row.attempts:
        return f"{row.channel}: waiting after {row.attempts} tries ({row.problem})"
    why = f" ({row.problem})" if row.problem else ""
    return f"{row.channel}: {row.state}{why}"
