"""Making trapwatch a systemd service: unit, user, folders and a first config, from what is shipped.

What is to be written is decided before anything is: the same list is what `--dry-run` shows.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import monitor
from monitor.core.domain import TrapwatchError
from monitor.system.files import write_whole

USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
NEVER_INSIDE = ("\n", "\r", "%", "$", '"', "\\")
"""What a path in a unit must not hold: systemd would read something else in it."""
STATE = "/var/lib/trapwatch"
FRAMES = "/media/cards"
SHIPPED_START = "/opt/trapwatch/bin/trapwatch run --config /etc/trapwatch/config.yaml"
OTHERS_MAY_ENTER = 0o001


class CannotInstall(TrapwatchError):
    """The service cannot be installed like this; the message says what to do."""


class Action(StrEnum):
    """What becomes of a file. `keep`: it is the user's. `same`: it is there already."""

    WRITE = "write"
    REPLACE = "replace"
    KEEP = "keep"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Step:
    """One file of the installation."""

    path: Path
    action: Action
    content: str
    mode: int


def plan(prefix: Path, user: str, start: Sequence[str]) -> list[Step]:
    """What installing does: reads what is there, writes nothing.

    Args:
        prefix: `/etc`; units, users, folders and config go below it.
        user: whom the service runs as.
        start: the program and its first arguments, as `start_of_this` finds them.

    Raises:
        CannotInstall: names that a unit cannot hold, or a program that the user cannot reach.
    """
    if not USER.fullmatch(user):
        raise CannotInstall(f"--user {user!r}: small letters, digits, - and _, at most 31")
    if user == "root":
        raise CannotInstall("--user root: the service needs no rights; give it a user of its own")
    prefix = Path(os.path.abspath(prefix))
    _check_words([*start, str(prefix)])
    config = prefix / "trapwatch" / "config.yaml"
    shipped = {name: _shipped(f"systemd/trapwatch.{name}") for name in _FOLDERS}
    return [
        _step(prefix / _FOLDERS["service"], unit_text(shipped["service"], user, start, config)),
        _step(prefix / _FOLDERS["sysusers"], _for_user(shipped["sysusers"], user)),
        _step(prefix / _FOLDERS["tmpfiles"], folders_text(shipped["tmpfiles"], user, config)),
        _config_step(config),
    ]


def carry_out(steps: Sequence[Step]) -> None:
    """Write what the plan says.

    Raises:
        CannotInstall: not root, or the disk is full; files before it are written.
    """
    for step in steps:
        if step.action in (Action.WRITE, Action.REPLACE):
            try:
                write_whole(step.content.encode(), step.path, step.mode)
                step.path.chmod(step.mode)  # the umask of whoever installs is not asked
            except OSError as error:
                raise CannotInstall(f"{step.path}: {error.strerror or error}") from error


def check_rights(steps: Sequence[Step], program: Sequence[str]) -> None:
    """Raises CannotInstall, with the command to type, where this user may not write."""
    for step in steps:
        there = next(p for p in step.path.parents if p.exists())
        if step.action in (Action.WRITE, Action.REPLACE) and not os.access(there, os.W_OK):
            command = f"sudo {shlex.join(program)} install-service"
            raise CannotInstall(
                f"{step.path} can only be written by root. Type: {command} "
                "(add --dry-run to look at it first, as any user)"
            )


def check_reach(program: Path) -> None:
    """Raises CannotInstall if a user of its own could not run this installation."""
    for folder in program.parents:
        if folder.is_dir() and not folder.stat().st_mode & OTHERS_MAY_ENTER:
            raise CannotInstall(
                f"{program} lies in {folder}, where the service's own user may not go. Install "
                "for the whole machine: sudo pipx install --global 'trapwatch[offline]', "
                "or into /opt/trapwatch (docs/install.md)"
            )


def start_of_this() -> tuple[str, ...]:
    """The program that runs now: `…/bin/trapwatch`, else this Python with `-m monitor`."""
    program = Path(sys.executable).with_name("trapwatch")
    if os.access(program, os.X_OK):
        return (str(program),)
    return (sys.executable, "-m", "monitor")


def next_steps(prefix: Path, user: str, start: Sequence[str]) -> list[str]:
    """What is left to do, as lines to type (remarks begin with #)."""
    config = prefix / "trapwatch" / "config.yaml"
    as_user = f"sudo -u {user} {shlex.join(start)}"
    where = f" --config {config}" if prefix != Path("/etc") else ""
    return [
        "sudo systemd-sysusers && sudo systemd-tmpfiles --create",
        f"# then set station, timezone and watch.folders: sudoedit {config}",
        f"{as_user} config check{where}",
        f"{as_user} doctor{where}",
        "sudo systemctl daemon-reload && sudo systemctl enable --now trapwatch",
        "journalctl -u trapwatch -f",
    ]


def unit_text(shipped: str, user: str, start: Sequence[str], config: Path) -> str:
    """The shipped unit for this installation. Pure."""
    command = " ".join(_quoted(word) for word in [*start, "run", "--config", str(config)])
    text = shipped.replace(SHIPPED_START, command)
    for key in ("User", "Group"):
        text = text.replace(f"\n{key}=trapwatch\n", f"\n{key}={user}\n")
    return text


def folders_text(shipped: str, user: str, config: Path) -> str:
    """The shipped list of folders for this user and this place of the config. Pure."""
    lines = [
        re.sub(r"(?<= )trapwatch(?= )", user, line) if not line.startswith("#") else line
        for line in shipped.splitlines()
    ]
    return "\n".join(lines).replace("/etc/trapwatch", str(config.parent)) + "\n"


def config_text(shipped: str) -> str:
    """The shipped config with its data where a service keeps them. Pure."""
    text = shipped.replace("sqlite:///data/", f"sqlite:///{STATE}/")
    text = re.sub(r"(?m)^(\s+\w+: )data(?=/|\s)", rf"\g<1>{STATE}", text)
    text = text.replace("folders: [frames]", f"folders: [{FRAMES}]")
    first = "# trapwatch: the config of this machine's service."
    return re.sub(r"\A# trapwatch:.*", first, text)


_FOLDERS: Mapping[str, str] = {
    "service": "systemd/system/trapwatch.service",
    "sysusers": "sysusers.d/trapwatch.conf",
    "tmpfiles": "tmpfiles.d/trapwatch.conf",
}


def _for_user(shipped: str, user: str) -> str:
    return shipped.replace("u trapwatch ", f"u {user} ")


def _step(path: Path, content: str) -> Step:
    return Step(path, _action(path, content), content, 0o644)


def _config_step(path: Path) -> Step:
    action = Action.KEEP if path.exists() else Action.WRITE
    return Step(path, action, config_text(_shipped("config.yaml")), 0o640)


def _action(path: Path, content: str) -> Action:
    try:
        before = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Action.WRITE
    return Action.SAME if before == content else Action.REPLACE


def _shipped(name: str) -> str:
    """A file that came with this program: inside the wheel, or at the top of the source tree."""
    package = Path(monitor.__file__).parent
    inside = package / name
    return (inside if inside.is_file() else package.parent / name).read_text(encoding="utf-8")


def _check_words(words: Sequence[str]) -> None:
    for word in words:
        if any(sign in word for sign in NEVER_INSIDE):
            raise CannotInstall(
                f'{word!r} cannot stand in a unit: take a path without line ends, %, $, " or \\'
            )


def _quoted(word: str) -> str:
    return f'"{word}"' if re.search(r"[\s';]", word) else word
