"""The command tree, and what its commands share."""

from __future__ import annotations

import getpass
import logging
import os
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from monitor import __version__
from monitor.core import moments
from monitor.core.config import Settings, load_settings
from monitor.core.domain import TrapwatchError, shown_path, utc_now

app = typer.Typer(
    name="trapwatch",
    help="Watches camera-trap folders, labels what is in the frames, and learns from your labels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Config file (default: ./config.yaml, else /etc/trapwatch/config.yaml)."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who says so (default: your login).")]


class UsageError(TrapwatchError):
    """Arguments that do not go together."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    pass


def read_settings(config: Path | None, *, thorough: bool = False) -> Settings:
    """The settings a command runs with."""
    return load_settings(config, thorough=thorough)


def who(by: str | None) -> str:
    """The name under which an act is recorded."""
    if by and by.strip():
        return shown_path(os.fsencode(by.strip()))
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def moment_of(text: str | None, zone: ZoneInfo, *, end: bool = False) -> str | None:
    """As `moments.moment_of`, ages counted from now. Raises UsageError."""
    try:
        return moments.moment_of(text, zone, utc_now(), end=end)
    except moments.NoMoment as error:
        raise UsageError(str(error)) from None


def log_to_stderr(*, quiet: bool = False) -> None:
    """One line an event; with the priorities of the journal where systemd reads them."""
    handler = logging.StreamHandler()
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_JournalFormatter("%(name)s: %(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING if quiet else logging.INFO)
    # the first start tries engines for up to a minute: that is told, or it looks like hanging
    logging.getLogger("monitor.model.backbone.trial").setLevel(logging.INFO)
    for chatty in ("apscheduler", "alembic", "absl", "h5py", "tensorflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3}.get(record.levelname, 2)
        return f"<{level}>" + super().format(record).replace("\n", " | ")


# The commands register themselves; they come last because they import this page.
from monitor.cli import (  # noqa: E402
    alerts,  # noqa: F401
    backup,  # noqa: F401
    deployments,  # noqa: F401
    install,  # noqa: F401
    labels,  # noqa: F401
    models,  # noqa: F401
    outages,  # noqa: F401
    queue,  # noqa: F401
    report,  # noqa: F401
    service,  # noqa: F401
    sightings,  # noqa: F401
    species,  # noqa: F401
    web,  # noqa: F401
)
