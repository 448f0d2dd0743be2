"""The sections of config.yaml: keys, what they may be, and what they are where nothing is said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from monitor.core.config.power import Power
from monitor.core.config.station import LocalPath, Section
from monitor.core.config.values import (
    SQLITE,
    apart,
    cron,
    deployment_pattern,
    dotted,
    known_zone,
    sqlite_url,
)


class Station(Section):
    """Who and where this station is."""

    name: str = Field("station", min_length=1)
    timezone: Annotated[str, AfterValidator(known_zone)] = "UTC"

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


class Database(Section):
    """Where the species log lies."""

    url: Annotated[str, AfterValidator(sqlite_url)] = SQLITE + "data/trapwatch.db"


class Watch(Section):
    """Which folders are watched, and how."""

    folders: Annotated[tuple[LocalPath, ...], AfterValidator(apart)] = (Path("frames"),)
    extensions: tuple[Annotated[str, AfterValidator(dotted)], ...] = (
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
    reconcile_seconds: float = Field(300.0, ge=1, le=7 * 86_400)
    polling: bool = False


class Deployments(Section):
    """How a path tells its deployment, and what else is known of deployments."""

    path_pattern: Annotated[str, AfterValidator(deployment_pattern)] = "{deployment}/**"
    file: LocalPath | None = None
    event_gap_minutes: float = Field(30.0, gt=0, le=366 * 24 * 60)


class Classifier(Power):
    """The network, and what it may use."""

    backbone: Literal["vgg16", "vgg19", "small"] = "vgg16"
    weights: str = "imagenet"
    allow_download: bool = False
    engine: Literal["auto", "keras", "ncnn"] = "auto"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = Field(0, ge=0, le=1024)
    batch_size: int = Field(0, ge=0, le=1024)
    max_pixels: int = Field(100_000_000, ge=10_000)
    accept_truncated: bool = False
    unknown_below: float = Field(0.4, ge=0, le=1)
    unknown_share: float = Field(0.05, ge=0, le=0.5)
    feature_cache_mb: int = Field(2048, ge=1)


class Gate(Section):
    """When a challenger may replace the live model."""

    metric: Literal["accuracy", "macro_recall"] = "macro_recall"
    confidence: float = Field(0.95, gt=0.5, lt=1)
    bootstrap_samples: int = Field(2000, ge=100, le=100_000)
    protected_species: tuple[str, ...] = ()
    protected_margin: float = Field(0.02, ge=0, le=1)
    false_alarm_margin: float = Field(0.02, ge=0, le=1)
    calibration_margin: float = Field(0.03, ge=0, le=1)


class Training(Section):
    """When and how the classifier learns."""

    enabled: bool = True
    schedule: Annotated[str, AfterValidator(cron)] = "0 2 * * *"
    min_new_labels: int = Field(20, ge=1)
    min_labels_per_species: int = Field(5, ge=1)
    method: Literal["auto", "head", "finetune"] = "auto"
    max_minutes: float = Field(60.0, gt=0, le=7 * 24 * 60)
    tuned_blocks: Literal[1, 2] = 2
    finetune_epochs: int = Field(12, ge=1, le=1000)
    map_cache_mb: int = Field(4096, ge=1)
    holdout_fraction: float = Field(0.25, gt=0, lt=0.9)
    coverage: float = Field(0.9, ge=0.5, le=0.99)
    nice: int = Field(15, ge=0, le=19)
    seed: int = 0
    gate: Gate = Gate()


class Models(Section):
    """Where model versions lie."""

    directory: LocalPath = Path("data/models")
    keep: int = Field(10, ge=1)


class Web(Section):
    """The review pages, the dashboard and the JSON API."""

    enabled: bool = True
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8700, ge=0, le=65_535)
    certificate: LocalPath | None = None
    key: LocalPath | None = None
    session_days: float = Field(14.0, gt=0, le=366)
    picture_cache_mb: int = Field(1024, ge=16)
    private_species: tuple[str, ...] = ("person", "vehicle")
    metrics: Literal["local", "login", "closed"] = "local"
