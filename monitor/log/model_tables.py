"""The tables of the models: versions, what they said, and how they were trained."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from monitor.log.base import Base


class ModelVersion(Base):
    """One immutable directory of weights and its card. At most one row is `live`."""

    __tablename__ = "model_version"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str]
    created_at: Mapped[str]
    went_live_at: Mapped[str | None]
    backbone: Mapped[str]
    layout: Mapped[str]
    weights_sha256: Mapped[str]
    reason: Mapped[str]
    figures: Mapped[dict[str, Any]]
    __table_args__ = (
        Index("model_version_live", "state", unique=True, sqlite_where=text("state = 'live'")),
    )


class Prediction(Base):
    """What one model version said of one media. `current` marks the one a sighting shows.

    `captured_at` and `deployment_id` repeat the media's, so that one index answers 'this species
    (at this camera), newest first'.
    """

    __tablename__ = "prediction"
    id: Mapped[int] = mapped_column(primary_key=True)
    media_id: Mapped[int] = mapped_column(ForeignKey("media.id"))
    model_version_id: Mapped[int] = mapped_column(ForeignKey("model_version.id"))
    deployment_id: Mapped[int] = mapped_column(ForeignKey("deployment.id"))
    species_id: Mapped[int] = mapped_column(ForeignKey("species.id"))
    probability: Mapped[float]
    alternatives: Mapped[list[Any]]
    at: Mapped[str]
    captured_at: Mapped[str]
    current: Mapped[bool]
    __table_args__ = (
        UniqueConstraint("media_id", "model_version_id"),
        Index("prediction_current", "media_id", unique=True, sqlite_where=text("current = 1")),
        Index(
            "prediction_search",
            "captured_at",
            "species_id",
            "probability",
            "media_id",
            sqlite_where=text("current = 1"),
        ),
        Index(
            "prediction_by_deployment",
            "deployment_id",
            "captured_at",
            "species_id",
            "probability",
            "media_id",
            sqlite_where=text("current = 1"),
        ),
        Index(
            "prediction_by_species",
            "species_id",
            "captured_at",
            "probability",
            "media_id",
            sqlite_where=text("current = 1"),
        ),
        Index(  # by whole percents: new words on neighbouring media lie on few of its pages
            "prediction_by_probability",
            text("CAST(probability * 100 AS INTEGER)"),
            "media_id",
            "probability",
            sqlite_where=text("current = 1"),
        ),
        Index("prediction_by_version", "model_version_id", "current"),
    )


class Split(Base):
    """On which side of training a labelled media stands; chosen once, kept for good."""

    __tablename__ = "split"
    media_id: Mapped[int] = mapped_column(ForeignKey("media.id"), primary_key=True)
    side: Mapped[str]
    unit: Mapped[str]
    unit_key: Mapped[int]
    __table_args__ = (Index("split_by_unit", "unit", "unit_key"),)


class TrainingRun(Base):
    """One training run: when, why, how far, and how it ended."""

    __tablename__ = "training_run"
    id: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[str]
    finished_at: Mapped[str | None]
    state: Mapped[str]
    method: Mapped[str]
    trigger: Mapped[str]
    pid: Mapped[int]
    stage: Mapped[str]
    progress: Mapped[float]
    last_label_id: Mapped[int]
    model_version_id: Mapped[int | None] = mapped_column(ForeignKey("model_version.id"))
    message: Mapped[str]
