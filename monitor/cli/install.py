"""Making trapwatch a service of this machine: install-service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.app import JsonOption, app
from monitor.system.console import note, print_json, print_table


@app.command("install-service")
def install_service(
    prefix: Annotated[
        Path, typer.Option("--prefix", help="Units, users, folders and config go below it.")
    ] = Path("/etc"),
    user: Annotated[str, typer.Option("--user", help="Whom the service runs as.")] = "trapwatch",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be written.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make this installation a systemd service: unit, user, folders, and a config if there is none.

    An existing config is never touched. Nothing is started: what to type next is printed.

    Example: `trapwatch install-service --dry-run`
    """
    from monitor.service.install import (
        carry_out,
        check_reach,
        check_rights,
        next_steps,
        plan,
        start_of_this,
    )

    prefix, start = prefix.absolute(), start_of_this()
    steps = plan(prefix, user, start)
    if not dry_run:
        check_rights(steps, start)
        check_reach(Path(start[0]))
        carry_out(steps)
    todo = next_steps(prefix, user, start)
    if as_json:
        files = [
            {"path": str(s.path), "action": s.action, "mode": f"{s.mode:04o}", "content": s.content}
            for s in steps
        ]
        print_json({"dry_run": dry_run, "files": files, "next": todo})
        return
    print_table(("what", "file", "mode"), [(s.action, s.path, f"{s.mode:04o}") for s in steps])
    note("nothing was written (--dry-run); without it, next:" if dry_run else "now type:")
    for line in todo:
        note(f"  {line}")
