"""config.yaml → one frozen `Settings` object. Every fault of a file is reported at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_origin

from pydantic import BaseModel, Field, ValidationError

from monitor.core.config.alerts import Alerts
from monitor.core.config.file import ConfigError, apply_environment, read_yaml, with_credentials
from monitor.core.config.sections import (
    Classifier,
    Database,
    Deployments,
    Gate,
    Models,
    Station,
    Training,
    Watch,
    Web,
)
from monitor.core.config.station import Backup, Disk, EffortRule, Journal
from monitor.core.config.station import Section as _Section
from monitor.core.config.values import SQLITE, absolute, sqlite_url

__all__ = [
    "Classifier",
    "ConfigError",
    "Deployments",
    "Gate",
    "Models",
    "Settings",
    "Station",
    "Training",
    "Watch",
    "Web",
    "find_config",
    "load_settings",
    "resolve_paths",
    "sqlite_path",
]
DEFAULT_PATHS = (Path("config.yaml"), Path("/etc/trapwatch/config.yaml"))
LONGEST_SHOWN = 200


class Settings(_Section):
    """Everything a station is told, validated and frozen. Paths are absolute."""

    station: Station = Station()
    database: Database = Database()
    watch: Watch = Watch()
    deployments: Deployments = Deployments()
    classifier: Classifier = Classifier()
    training: Training = Training()
    models: Models = Models()
    web: Web = Web()
    disk: Disk = Disk()
    effort: EffortRule = EffortRule()
    journal: Journal = Journal()
    alerts: Alerts = Alerts()
    backup: Backup = Backup()
    source: Path | None = Field(None, exclude=True)

    @property
    def data_directory(self) -> Path:
        """The folder of the log; features.db, locks and caches lie beside it."""
        return sqlite_path(self.database.url).parent


def sqlite_path(url: str) -> Path:
    """The file of a `sqlite:///…` URL. Raises ConfigError for any other kind."""
    try:
        return Path(sqlite_url(url).removeprefix(SQLITE))
    except ValueError as error:
        raise ConfigError(f"database.url: {error}") from None


def find_config(given: Path | None) -> Path:
    """The config file to use: the given one, else the first default that exists."""
    if given is not None:
        return given
    for path in DEFAULT_PATHS:
        if os.path.isfile(path):  # False also where a folder may not be looked into
            return path
    closed = DEFAULT_PATHS[-1].parent
    if os.path.isdir(closed) and not os.access(closed, os.X_OK):
        raise ConfigError(f"this user may not look into {closed}: sudo -u trapwatch trapwatch …")
    raise ConfigError("no config.yaml here and none in /etc/trapwatch; name one with --config PATH")


def load_settings(
    path: Path | None = None, environ: Mapping[str, str] = os.environ, *, thorough: bool = True
) -> Settings:
    """Read, override from the environment, validate.

    Args:
        thorough: also look into the schedule; left out by commands that never use it, because
            it costs them a quarter of their time.

    Raises:
        ConfigError: with one line for each fault, each with its place.
    """
    path = find_config(path)
    tree, faults = read_yaml(path)
    faults += apply_environment(tree, with_credentials(environ), _is_text)
    if "source" in tree:
        faults.append("source: unknown key")
    try:
        settings = Settings.model_validate(
            {**tree, "source": path.absolute()},
            context={"thorough": thorough, "base": path.absolute().parent},
        )
    except ValidationError as error:
        faults += [_describe(item) for item in error.errors()]
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        raise ConfigError(f"{path}: {len(faults)} fault(s)\n{lines}")
    return resolve_paths(settings, path.absolute().parent)


def resolve_paths(settings: Settings, base: Path) -> Settings:
    """Make every relative path absolute, seen from the folder of the config file."""

    at = partial(absolute, base)
    log = at(sqlite_path(settings.database.url))
    weights = settings.classifier.weights
    file = settings.deployments.file
    parts = {
        "database": Database(url=f"{SQLITE}{log}"),
        "watch": settings.watch.model_copy(
            update={"folders": tuple(at(f) for f in settings.watch.folders)}
        ),
        "deployments": settings.deployments.model_copy(update={"file": at(file) if file else None}),
        "classifier": settings.classifier.model_copy(
            update={"weights": weights if weights == "imagenet" else str(at(Path(weights)))}
        ),
        "models": settings.models.model_copy(update={"directory": at(settings.models.directory)}),
        "journal": settings.journal.at(base),
        "alerts": settings.alerts.at(base),
        "backup": settings.backup.at(base),
        "web": settings.web.model_copy(
            update={
                name: at(path)
                for name in ("certificate", "key")
                if (path := getattr(settings.web, name)) is not None
            }
        ),
    }
    return settings.model_copy(update=parts)


def _is_text(keys: tuple[str, ...]) -> bool:
    """True if the key at this place holds text, which the environment need not quote."""
    section: Any = Settings
    for key in keys:
        field = getattr(section, "model_fields", {}).get(key)
        section = field.annotation if field is not None else None
    return section is str or get_origin(section) is Literal


def _describe(item: Any) -> str:
    place = ""
    for part in item["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    if item["type"] == "extra_forbidden":
        return f"{place}: unknown key{_nearest(item['loc'])}"
    message = item["msg"].removeprefix("Value error, ")
    hidden = isinstance(item["input"], dict | BaseModel) or _may_be_secret(item)
    got = "" if hidden else f" (found: {_shown(item['input'])})"
    return f"{place}: {message}{got}" if place else message


def _shown(value: Any) -> str:
    """A value as it was written, as far as a line holds it."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out integers of thousands of digits
        return "a number without end"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _may_be_secret(item: Any) -> bool:
    """Addresses of alerts hold passwords, also where they stand in the wrong place."""
    return item["loc"][:1] == ("alerts",) and not isinstance(item["input"], int | float)


def _nearest(loc: tuple[Any, ...]) -> str:
    section: Any = Settings
    for part in loc[:-1]:
        section = section.model_fields[part].annotation
    known = [name for name in section.model_fields if name != "source"]
    close = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.0)
    return f"; the nearest known one is '{close[0]}'" if close else ""
