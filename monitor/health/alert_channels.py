"""The channels of the config: names for people, addresses for nobody but who sends."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import SecretStr

from monitor.core.config import Settings
from monitor.core.config.alerts import named, scheme_of
from monitor.core.config.file import plain_values
from monitor.core.domain import TrapwatchError


class ChannelsError(TrapwatchError):
    """The addresses of alerts cannot be read; says where and why, never what stands there."""


class ChannelsElsewhere(ChannelsError):
    """The path of the addresses names a variable that only the service is given."""


Channels = Mapping[str, SecretStr]


def channels_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> Channels:
    """Name -> address, of the config and of `alerts.urls_file`; none: nobody is told anything.

    Raises:
        ChannelsError: the file cannot be read or understood.
    """
    alerts = settings.alerts
    if alerts.urls_file is None:
        return alerts.urls
    return {**alerts.urls, **_read(_filled_in(alerts.urls_file, environ))}


def shown(name: str, channels: Channels) -> str:
    """A channel as people read of it: `mail (mailto)`."""
    url = channels.get(name)
    if url is None:
        return f"{name} (no longer in the config)"
    return f"{name} ({scheme_of(url.get_secret_value())})"


def words_of(settings: Settings) -> str:
    """The channels in a line. Raises ChannelsError."""
    channels = channels_of(settings)
    if not channels:
        return "nobody is told anything (alerts.urls)"
    return ", ".join(shown(name, channels) for name in channels)


def open_to_others(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Files with addresses that every user of this machine may read."""
    files = [settings.source] if settings.alerts.urls else []
    if settings.alerts.urls_file is not None:
        files.append(_filled_in(settings.alerts.urls_file, environ))
    return [file for file in files if file is not None and file.stat().st_mode & stat.S_IROTH]


def _filled_in(path: Path, environ: Mapping[str, str]) -> Path:
    """The path with variables like ${CREDENTIALS_DIRECTORY} in the place of which they stand."""
    text = str(path)
    for name, value in environ.items():
        text = text.replace(f"${{{name}}}", value)
    if "$" in text:
        raise ChannelsElsewhere(
            f"alerts.urls_file: {path}: this variable is not set here; systemd sets "
            "CREDENTIALS_DIRECTORY for the service alone (docs/alerts.md)"
        )
    return Path(text)


def _read(path: Path) -> Channels:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ChannelsError(f"alerts.urls_file: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ChannelsError(f"alerts.urls_file: {path}: is not UTF-8 text") from None
    try:
        found = named(plain_values(text)[0])
    except yaml.YAMLError as error:  # its own words would repeat the line
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise ChannelsError(
            f"alerts.urls_file: {path}: is not YAML{where}; write NAME: ADDRESS on each line"
        ) from None
    except ValueError as error:
        raise ChannelsError(f"alerts.urls_file: {path}: {error}") from None
    return {name: SecretStr(str(url)) for name, url in found.items()}
