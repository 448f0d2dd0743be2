"""`trapwatch report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.app import ConfigOption, UsageError, app, moment_of, read_settings
from monitor.core.domain import parse_iso_utc, utc_now
from monitor.log.species_log import open_log
from monitor.system.console import stage_bar


@app.command("report")
def report(
    out: Annotated[Path, typer.Option("--out", help="Folder for report.html; made if needed.")],
    since: Annotated[str | None, typer.Option(help="2024-05-01, 2024-05-01T18:30, or 30d.")] = None,
    until: Annotated[str | None, typer.Option(help="The same; a day counts whole.")] = None,
    config: ConfigOption = None,
) -> None:
    """One page with all of it: tables, charts, best frames. One file to mail, print or keep.

    Frames of private species (config: `web.private_species`) are in none of it.

    Example: `trapwatch report --out reports/may --since 2024-05-01 --until 2024-05-31`
    """
    from monitor.report.document import Period, write_report  # brings in numpy and the charts

    settings = read_settings(config, thorough=True)
    zone = settings.station.zone
    first, last = moment_of(since, zone), moment_of(until, zone, end=True)
    if first is not None and last is not None and first >= last:
        raise UsageError("--since is not before --until; swap them")
    period = Period(
        parse_iso_utc(first) if first is not None else None,
        parse_iso_utc(last) if last is not None else None,
    )
    with open_log(settings.database.url) as log, stage_bar() as progress:
        written = write_report(settings, log, out, period, utc_now(), progress)
    size = written.size_bytes / 1e6
    print(f"{written.path}: {size:.1f} MB, {written.pictures} pictures")
