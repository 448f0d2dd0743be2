"""The tables of the species log. Times are ISO 8601 text in UTC of one width (`domain.iso_utc`),
so that their order is time's order and R, QGIS and `sqlite3` read them as they are."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from monitor.log.base import Base
from monitor.log.model_tables import ModelVersion, Prediction, Split, TrainingRun
from monitor.log.station_tables import Alert, Delivery, Outage, PoisonFile

__all__ = [
    "Act",
    "Alert",
    "Base",
    "Delivery",
    "Deployment",
    "File",
    "Flag",
    "Label",
    "Lease",
    "Media",
    "ModelVersion",
    "Observation",
    "Outage",
    "PoisonFile",
    "Prediction",
    "Species",
    "SpeciesName",
    "Split",
    "State",
    "TrainingRun",
]


class Deployment(Base):
    """One camera at one location for one period."""

    __tablename__ = "deployment"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    start_at: Mapped[str | None]
    end_at: Mapped[str | None]
    clock_shift_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")


class Media(Base):
    """One image, by the SHA-256 of its bytes.

    `captured_wall` is what the camera wrote and never changes; `captured_local` and `captured_at`
    are what is shown: the same, moved by the deployment's clock correction. `label_id` points to
    the label that counts (the newest one not withdrawn), so that no query has to search for it.
    """

    __tablename__ = "media"
    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    width: Mapped[int | None]
    height: Mapped[int | None]
    status: Mapped[str]
    rejected_reason: Mapped[str | None]
    deployment_id: Mapped[int] = mapped_column(ForeignKey("deployment.id"))
    event_id: Mapped[int | None]
    captured_wall: Mapped[str]
    utc_offset_seconds: Mapped[int]
    captured_at_source: Mapped[str]
    utc_offset_source: Mapped[str]
    captured_at: Mapped[str]
    captured_local: Mapped[str]
    camera_make: Mapped[str | None]
    camera_model: Mapped[str | None]
    camera_serial: Mapped[str | None]
    temperature_celsius: Mapped[float | None]
    taken_in_at: Mapped[str]
    classified_at: Mapped[str | None]
    absent_since: Mapped[str | None]
    label_id: Mapped[int | None]

    __table_args__ = (
        Index("media_by_time", "captured_at", "label_id", "status"),
        Index("media_by_deployment", "deployment_id", "captured_at", "label_id", "status"),
        Index("media_by_event", "event_id"),
        Index("media_by_status", "status", "absent_since"),
        Index(
            "media_pending",
            "captured_at",
            "id",
            sqlite_where=text("status = 'pending' AND absent_since IS NULL"),
        ),
        Index(
            "media_labelled", "captured_at", "label_id", sqlite_where=text("label_id IS NOT NULL")
        ),
        {"sqlite_autoincrement": True},
    )


class File(Base):
    """A path that was seen, exactly as its bytes are, and the media its content was taken in as.

    `media_id` is null while the file cannot be read; `problem` then says why.
    """

    __tablename__ = "file"
    path_bytes: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    path: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    mtime_ns: Mapped[int] = mapped_column(BigInteger)
    media_id: Mapped[int | None] = mapped_column(ForeignKey("media.id"), index=True)
    problem: Mapped[str | None]
    __table_args__ = (
        Index("file_by_path", "path"),
        Index("file_problem", "problem", sqlite_where=text("problem IS NOT NULL")),
        {"sqlite_with_rowid": False},
    )


class Species(Base):
    """A row of the station's list. A merged species points to the one it became; `hotkey` names
    it while reviewing."""

    __tablename__ = "species"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    scientific_name: Mapped[str | None]
    taxon_key: Mapped[str | None]
    names: Mapped[dict[str, Any]]
    merged_into: Mapped[int | None] = mapped_column(ForeignKey("species.id"))
    group_name: Mapped[str | None]
    hotkey: Mapped[str | None]
    __table_args__ = (
        Index("species_by_name", "name", unique=True, sqlite_where=text("merged_into IS NULL")),
    )


class SpeciesName(Base):
    """Every name a species answers to, folded to lower case: its own, scientific, local, old."""

    __tablename__ = "species_name"
    folded: Mapped[str] = mapped_column(primary_key=True)
    species_id: Mapped[int] = mapped_column(ForeignKey("species.id"))


class Act(Base):
    """One thing one person did at one time: a label, an undo, a change of the species list.

    Append-only, like what it says: triggers refuse every UPDATE and DELETE. `request` is the
    sender's own name for the act, so that one sent twice over a bad line counts once.
    """

    __tablename__ = "act"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str]
    by: Mapped[str]
    how: Mapped[str]
    kind: Mapped[str]
    scope: Mapped[str | None]
    details: Mapped[dict[str, Any] | None]
    request: Mapped[str | None]
    __table_args__ = (
        Index("act_by_request", "request", unique=True, sqlite_where=text("request IS NOT NULL")),
        Index("act_by_person", "by", "kind"),
        {"sqlite_autoincrement": True},
    )


class Label(Base):
    """What an act said of one media; with `withdraws_id`, that an earlier label no longer counts.

    Append-only: triggers refuse every UPDATE and DELETE.
    """

    __tablename__ = "label"
    id: Mapped[int] = mapped_column(primary_key=True)
    act_id: Mapped[int] = mapped_column(ForeignKey("act.id"), index=True)
    media_id: Mapped[int] = mapped_column(ForeignKey("media.id"), index=True)
    withdraws_id: Mapped[int | None] = mapped_column(ForeignKey("label.id"), unique=True)
    __table_args__ = ({"sqlite_autoincrement": True},)


class Observation(Base):
    """One species in one label, the first at position 0. Append-only."""

    __tablename__ = "observation"
    label_id: Mapped[int] = mapped_column(ForeignKey("label.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    species_id: Mapped[int] = mapped_column(ForeignKey("species.id"))
    count: Mapped[int | None]
    sex: Mapped[str | None]
    life_stage: Mapped[str | None]
    behaviour: Mapped[str | None]
    __table_args__ = (
        Index("observation_by_species", "species_id", "position", "label_id"),
        {"sqlite_with_rowid": False},
    )


class Lease(Base):
    """An event that one reviewer looks at: no other gets it before `until_at`."""

    __tablename__ = "lease"
    event_id: Mapped[int] = mapped_column(primary_key=True)
    by: Mapped[str]
    until_at: Mapped[str]


class Flag(Base):
    """A media that somebody wants looked at again; the acts say who flagged and unflagged it."""

    __tablename__ = "flag"
    media_id: Mapped[int] = mapped_column(ForeignKey("media.id"), primary_key=True)
    act_id: Mapped[int] = mapped_column(ForeignKey("act.id"))


class State(Base):
    """Small facts that other processes want to see: last reconcile, files of other types …"""

    __tablename__ = "state"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]
    updated_at: Mapped[str]
