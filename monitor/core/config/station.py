"""Sections of the config for a station that is alone: what keeps it going with nobody to call."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from monitor.core.config.values import absolute, usable_path
from monitor.core.silence import Rule

LocalPath = Annotated[Path, AfterValidator(usable_path)]


class Section(BaseModel):
    """What all sections have in common: frozen, and no key that is not known."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any) -> Any:
        return {} if value is None else value  # `watch:` with every key below it commented out


class Journal(Section):
    """The journal of labels beside the log, and a second one, best on another disk."""

    enabled: bool = True
    second: LocalPath | None = None

    def at(self, base: Path) -> Journal:
        """The same with an absolute path, seen from the folder of the config file."""
        if self.second is None:
            return self
        return self.model_copy(update={"second": absolute(base, self.second)})


class Backup(Section):
    """How often the log is copied, where to, and which copies are kept."""

    enabled: bool = True
    folder: LocalPath | None = None
    second_folder: LocalPath | None = None
    every_hours: float = Field(24.0, ge=1, le=31 * 24)
    keep_daily: int = Field(7, ge=1, le=366)
    keep_weekly: int = Field(4, ge=0, le=520)

    def at(self, base: Path) -> Backup:
        """The same with absolute paths, seen from the folder of the config file."""
        places = {"folder": self.folder, "second_folder": self.second_folder}
        found = {name: absolute(base, path) for name, path in places.items() if path is not None}
        return self.model_copy(update=found)


class Disk(Section):
    """How much must stay free where the station keeps its data."""

    warn_mb: int = Field(2000, ge=1)
    stop_mb: int = Field(500, ge=0)

    @model_validator(mode="after")
    def _warned_before_it_stops(self) -> Self:
        if self.stop_mb >= self.warn_mb:
            raise ValueError(
                f"stop_mb ({self.stop_mb}) must be smaller than warn_mb ({self.warn_mb})"
            )
        return self


class EffortRule(Section):
    """When a camera counts as silent, so that an outage is proposed."""

    silent_days: float = Field(3.0, gt=0, le=366)
    silent_gaps: float = Field(3.0, ge=1, le=100)

    @property
    def rule(self) -> Rule:
        """The same, as it is reckoned with."""
        return Rule(timedelta(days=self.silent_days), self.silent_gaps)
