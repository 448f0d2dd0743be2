"""What single values of the config may be. Each raises ValueError in words."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import ValidationInfo

from monitor.core.cron import cron_trigger

SQLITE = "sqlite:///"


def known_zone(name: str) -> str:
    """A name of the time zone database."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"'{name}' is no time zone this machine knows; write one like Europe/Berlin or UTC"
        ) from None
    return name


def dotted(suffix: str) -> str:
    """`JPG` as `.jpg`."""
    suffix = suffix.lower()
    return suffix if suffix.startswith(".") else f".{suffix}"


def cron(expression: str, info: ValidationInfo) -> str:
    """A cron expression of five fields; looked into only where the context says `thorough`."""
    if not (info.context or {}).get("thorough"):
        return expression
    try:
        cron_trigger(expression, ZoneInfo("UTC"))
    except ValueError as error:
        raise ValueError(
            f"'{expression}' is no cron expression of five fields, like '0 2 * * *': {error}"
        ) from None
    return expression


def usable_path(path: Path) -> Path:
    """A path that a file system could know."""
    if "\0" in str(path) or not path.parts:
        raise ValueError("is no path")
    return path


def sqlite_url(url: str) -> str:
    """`sqlite:///` and the path of a file."""
    prefix, path = SQLITE, url.removeprefix(SQLITE)
    if not url.startswith(prefix) or "\0" in url or path.endswith("/") or not path:
        raise ValueError(
            f"'{url}' is not supported; write sqlite:///PATH, like sqlite:///data/trapwatch.db"
        )
    return url


def apart(folders: tuple[Path, ...], info: ValidationInfo) -> tuple[Path, ...]:
    """Folders none of which lies in another; seen from `base` of the context."""
    base = (info.context or {}).get("base", Path())
    places = [absolute(base, folder) for folder in folders]
    for number, place in enumerate(places):
        for other in places[:number]:
            if place == other or other in place.parents or place in other.parents:
                raise ValueError(f"'{other}' and '{place}' overlap; name the outer one only")
    return folders


def deployment_pattern(pattern: str) -> str:
    """A pattern that names the deployment once."""
    if pattern.count("{deployment}") != 1:
        raise ValueError("write {deployment} exactly once, like '{deployment}/**'")
    return pattern


def absolute(base: Path, path: Path) -> Path:
    """`path` as seen from `base`, without `..`; `~` is the home folder."""
    with suppress(RuntimeError):  # `~name` of nobody: a folder of that name, then
        path = path.expanduser()
    return Path(os.path.normpath(base / path))
