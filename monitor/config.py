"""config.yaml → one frozen `Settings` object. Every fault of a file is reported at once.

Settings are also taken from the environment: `TRAPWATCH_DATABASE__URL=…` stands for
`database.url`; lists and numbers are written as in YAML.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from monitor.domain import TrapwatchError

ENV_PREFIX = "TRAPWATCH_"
DEFAULT_PATHS = (Path("config.yaml"), Path("/etc/trapwatch/config.yaml"))


class ConfigError(TrapwatchError):
    """The configuration cannot be used; the message lists every fault with its place."""


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"'{name}' is no time zone this machine knows; write one like Europe/Berlin or UTC"
        ) from None
    return name


def _dotted(suffix: str) -> str:
    suffix = suffix.lower()
    return suffix if suffix.startswith(".") else f".{suffix}"


def _cron(expression: str, info: ValidationInfo) -> str:
    if not (info.context or {}).get("thorough"):
        return expression
    from apscheduler.triggers.cron import CronTrigger  # 0.16 s of processor time

    try:
        CronTrigger.from_crontab(expression, timezone="UTC")
    except ValueError as error:
        raise ValueError(
            f"'{expression}' is no cron expression of five fields, like '0 2 * * *': {error}"
        ) from None
    return expression


def _pattern(pattern: str) -> str:
    if pattern.count("{deployment}") != 1:
        raise ValueError("write {deployment} exactly once, like '{deployment}/**'")
    return pattern


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Station(_Section):
    """Who and where this station is."""

    name: str = Field("station", min_length=1)
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


class Database(_Section):
    """Where the species log lies."""

    url: str = "sqlite:///data/trapwatch.db"


class Watch(_Section):
    """Which folders are watched, and how."""

    folders: tuple[Path, ...] = (Path("frames"),)
    extensions: tuple[Annotated[str, AfterValidator(_dotted)], ...] = (
        ".jpg",
        ".jpeg",
        ".png",
        ".tif",
        ".tiff",
        ".webp",
        ".heic",
        ".heif",
    )
    settle_seconds: float = Field(2.0, ge=0, le=3600)
    reconcile_seconds: float = Field(300.0, ge=1)
    polling: bool = False


class Deployments(_Section):
    """How a path tells its deployment, and what else is known of deployments."""

    path_pattern: Annotated[str, AfterValidator(_pattern)] = "{deployment}/**"
    file: Path | None = None
    event_gap_minutes: float = Field(30.0, gt=0)


class Classifier(_Section):
    """The network, and what it may use."""

    backbone: Literal["vgg16", "small"] = "vgg16"
    weights: str = "imagenet"
    allow_download: bool = False
    engine: Literal["auto", "keras"] = "auto"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = Field(0, ge=0, le=1024)
    batch_size: int = Field(0, ge=0, le=1024)
    max_pixels: int = Field(100_000_000, ge=10_000)
    accept_truncated: bool = False
    unknown_below: float = Field(0.4, ge=0, le=1)
    feature_cache_mb: int = Field(2048, ge=1)


class Gate(_Section):
    """When a challenger may replace the live model."""

    metric: Literal["accuracy", "macro_recall"] = "macro_recall"
    confidence: float = Field(0.9, gt=0.5, lt=1)
    bootstrap_samples: int = Field(2000, ge=100, le=100_000)
    protected_species: tuple[str, ...] = ()
    protected_margin: float = Field(0.02, ge=0, le=1)


class Training(_Section):
    """When and how the classifier learns."""

    enabled: bool = True
    schedule: Annotated[str, AfterValidator(_cron)] = "0 2 * * *"
    min_new_labels: int = Field(20, ge=1)
    min_labels_per_species: int = Field(5, ge=1)
    method: Literal["head"] = "head"
    holdout_fraction: float = Field(0.25, gt=0, lt=0.9)
    max_epochs: int = Field(300, ge=1)
    nice: int = Field(15, ge=0, le=19)
    seed: int = 0
    gate: Gate = Gate()


class Models(_Section):
    """Where model versions lie."""

    directory: Path = Path("data/models")


class Settings(_Section):
    """Everything a station is told, validated and frozen. Paths are absolute."""

    station: Station = Station()
    database: Database = Database()
    watch: Watch = Watch()
    deployments: Deployments = Deployments()
    classifier: Classifier = Classifier()
    training: Training = Training()
    models: Models = Models()
    source: Path | None = Field(None, exclude=True)

    @model_validator(mode="after")
    def _folders_differ(self) -> Settings:
        seen: list[Path] = []
        for folder in self.watch.folders:
            for other in seen:
                if folder == other or other in folder.parents or folder in other.parents:
                    raise ValueError(
                        f"watch.folders: '{folder}' and '{other}' overlap; name the outer one only"
                    )
            seen.append(folder)
        return self

    @property
    def data_directory(self) -> Path:
        """The folder of the log; features.db, locks and caches lie beside it."""
        return sqlite_path(self.database.url).parent


def sqlite_path(url: str) -> Path:
    """The file of a `sqlite:///…` URL. Raises ConfigError for any other kind."""
    prefix = "sqlite:///"
    if not url.startswith(prefix) or len(url) == len(prefix):
        raise ConfigError(
            f"database.url: '{url}' is not supported; write sqlite:///PATH, "
            "like sqlite:///data/trapwatch.db"
        )
    return Path(url[len(prefix) :])


def find_config(given: Path | None) -> Path:
    """The config file to use: the given one, else the first default that exists."""
    if given is not None:
        return given
    for path in DEFAULT_PATHS:
        if path.is_file():
            return path
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
    tree = _read_yaml(path)
    faults = _apply_environment(tree, environ)
    try:
        settings = Settings.model_validate(
            {**tree, "source": path.absolute()}, context={"thorough": thorough}
        )
    except ValidationError as error:
        faults += [_describe(item) for item in error.errors()]
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        raise ConfigError(f"{path}: {len(faults)} fault(s)\n{lines}")
    return resolve_paths(settings, path.absolute().parent)


def resolve_paths(settings: Settings, base: Path) -> Settings:
    """Make every relative path absolute, seen from the folder of the config file."""

    def at(path: Path) -> Path:
        return Path(os.path.normpath(base / path.expanduser()))

    log = at(sqlite_path(settings.database.url))
    weights = settings.classifier.weights
    file = settings.deployments.file
    parts = {
        "database": Database(url=f"sqlite:///{log}"),
        "watch": settings.watch.model_copy(
            update={"folders": tuple(at(f) for f in settings.watch.folders)}
        ),
        "deployments": settings.deployments.model_copy(update={"file": at(file) if file else None}),
        "classifier": settings.classifier.model_copy(
            update={"weights": weights if weights == "imagenet" else str(at(Path(weights)))}
        ),
        "models": Models(directory=at(settings.models.directory)),
    }
    return settings.model_copy(update=parts)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"{path}: must be keys and values, like 'station:'")
    return tree


def _apply_environment(tree: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    faults = []
    for name, text in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX) or "__" not in name:
            continue
        *parents, leaf = name[len(ENV_PREFIX) :].lower().split("__")
        node: Any = tree
        for parent in parents:
            node = node.setdefault(parent, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            faults.append(f"{name}: '{'.'.join(parents)}' holds no keys")
            continue
        try:
            node[leaf] = yaml.safe_load(text)
        except yaml.YAMLError:
            node[leaf] = text
    return faults


def _describe(item: Any) -> str:
    place = ""
    for part in item["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    if item["type"] == "extra_forbidden":
        return f"{place}: unknown key{_nearest(item['loc'])}"
    message = item["msg"].removeprefix("Value error, ")
    got = "" if isinstance(item["input"], dict | BaseModel) else f" (found: {item['input']!r})"
    return f"{place}: {message}{got}" if place else message


def _nearest(loc: tuple[Any, ...]) -> str:
    section: Any = Settings
    for part in loc[:-1]:
        section = section.model_fields[part].annotation
    known = [name for name in section.model_fields if name != "source"]
    close = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.0)
    return f"; the nearest known one is '{close[0]}'" if close else ""
