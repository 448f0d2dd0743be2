"""`trapwatch web`: serve the pages, and say who may come in."""

from __future__ import annotations

import getpass
import os
import select
import sys
import threading
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli.app import (
    ConfigOption,
    JsonOption,
    UsageError,
    app,
    log_to_stderr,
    read_settings,
    who,
)
from monitor.core.domain import utc_now
from monitor.system.console import note, print_json, print_table

if TYPE_CHECKING:
    from monitor.web.accounts import Role

web = typer.Typer()
app.add_typer(web, name="web")

STDIN_SECONDS = 0.2


class RoleName(StrEnum):
    """The roles as they are written; monitor.web.accounts.Role says what they mean."""

    VIEWER = "viewer"
    REVIEWER = "reviewer"
    ADMIN = "admin"


RoleOption = Annotated[
    RoleName | None,
    typer.Option("--role", help="viewer looks, reviewer labels, admin also changes the station."),
]
NameArgument = Annotated[str, typer.Argument(help="Of the person or the token.")]


@web.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Instead of web.host.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Instead of web.port; 0: any free one.")
    ] = None,
    until_stdin_ends: Annotated[bool, typer.Option("--until-stdin-ends", hidden=True)] = False,
    config: ConfigOption = None,
) -> None:
    """Serve the review pages, the dashboard and the API; say who may come in.

    Without a command: until Ctrl-C, also where no service runs.

    Example: `trapwatch web --port 8701`
    """
    if context.invoked_subcommand is not None:
        if (host, port, config) != (None, None, None):
            raise UsageError(
                f"write the options behind: trapwatch web {context.invoked_subcommand} …"
            )
        return
    from monitor.web.serving import server

    settings = read_settings(config)
    given = {"host": host, "port": port}
    changed = {name: value for name, value in given.items() if value is not None}
    settings = settings.model_copy(update={"web": settings.web.model_copy(update=changed)})
    log_to_stderr()
    stop = threading.Event()
    with server.ending_on_signals(stop):
        if not until_stdin_ends:
            server.serve(settings, stop)
            return
        watching = threading.Thread(target=_end_with_stdin, args=(stop,), name="stdin")
        watching.start()
        try:
            server.serve(settings, stop)
        finally:
            stop.set()
            watching.join()


@web.command("password")
def password(
    name: Annotated[str | None, typer.Argument(help="Whose (default: your login).")] = None,
    role: RoleOption = None,
    from_stdin: Annotated[
        bool, typer.Option("--stdin", help="Read it from the first line of stdin.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Give somebody a password, or another one; from then on a login is demanded.

    Who gets the first password becomes an admin, others reviewers, unless --role says so.

    Example: `trapwatch web password Ana --role reviewer`
    """
    from monitor.web.accounts import Accounts, usable_password

    accounts = Accounts(read_settings(config).data_directory)
    name = who(name)
    text = sys.stdin.readline().rstrip("\r\n") if from_stdin else _asked_twice(name)
    person = accounts.set_password(name, usable_password(text), _role(role))
    note(f"{person.name} may log in, as {person.role.name.lower()}; older sessions have ended")


@web.command("token")
def token(
    name: Annotated[str, typer.Argument(help="What uses it: the API records its acts so.")],
    role: RoleOption = RoleName.VIEWER,
    days: Annotated[
        float | None, typer.Option(min=0.001, max=36_600, help="It ends after so many days.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Make a token for a program that uses the API. It is printed once, and kept nowhere.

    Example: `trapwatch web token nightly-export --role viewer --days 365`
    """
    from monitor.web.accounts import Accounts, Role

    accounts = Accounts(read_settings(config).data_directory)
    print(accounts.add_token(name, _role(role) or Role.VIEWER, utc_now(), days))
    note("send it as: Authorization: Bearer TOKEN; it cannot be shown again")
    if not accounts.book().people:
        note("the pages demand a login now, and nobody has a password: trapwatch web password")


@web.command("people")
def people(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Who has a password, and which tokens there are.

    Example: `trapwatch web people`
    """
    from monitor.web.accounts import Accounts

    book = Accounts(read_settings(config).data_directory).book()
    rows: list[tuple[str | None, ...]] = [
        (p.name, p.role.name.lower(), "password", None, None) for p in book.people
    ]
    rows += [
        (t.name, t.role.name.lower(), "token", t.created_at, t.expires_at) for t in book.tokens
    ]
    columns = ("name", "role", "kind", "created_at", "expires_at")
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)


@web.command("remove")
def remove(name: NameArgument, config: ConfigOption = None) -> None:
    """Take a password or a token away; its sessions end at once. What was labelled stays.

    Example: `trapwatch web remove Ana`
    """
    from monitor.web.accounts import Accounts

    accounts = Accounts(read_settings(config).data_directory)
    accounts.remove(name)
    note(f"{name} may not come in any more")
    if not accounts.exist():
        note("nobody has an account now: at this machine everybody may do all")


def _role(name: RoleName | None) -> Role | None:
    from monitor.web.accounts import Role

    return None if name is None else Role[name.name]


def _asked_twice(name: str) -> str:
    first = getpass.getpass(f"Password for {name} (at least 10 characters): ")
    if getpass.getpass("Once more: ") != first:
        raise UsageError("the two are not the same; nothing was changed")
    return first


def _end_with_stdin(stop: threading.Event) -> None:
    """Whoever started this holds the other end of stdin, and never writes into it."""
    while not stop.is_set():
        if select.select([sys.stdin], [], [], STDIN_SECONDS)[0] and not os.read(
            sys.stdin.fileno(), 1024
        ):
            stop.set()
