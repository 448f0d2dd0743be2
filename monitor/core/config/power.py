"""What the classifier may take of the machine and when: hours of work, battery, cores, niceness."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from monitor.core.config.station import Section

_SPAN = re.compile(r"\s*(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)\s*", re.ASCII)
DAY = 24 * 60  # minutes
NO_BATTERY = (
    "this machine tells nothing of a battery, so classifier.rest_below_battery_percent does "
    "nothing: classifying goes on"
)
HOURS_NOT_KEPT = (
    "classifier.active_hours is not kept while the clock cannot be right: work goes on at any hour"
)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of every day, by the clock on the wall: minutes since midnight, `end` not included.
    It goes over midnight where `end` is before `start`."""

    start: int
    end: int

    def holds(self, moment: time) -> bool:
        """Whether this time of the day lies in it."""
        minute = moment.hour * 60 + moment.minute
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


def span_of(text: str) -> Span:
    """`20:00-06:00` as minutes.

    Raises:
        ValueError: it is no two times of a day, or both are the same.
    """
    found = _SPAN.fullmatch(text)
    hours = [int(part) for part in found.groups()] if found else []
    if not hours or hours[0] > 23 or hours[1] > 59 or hours[3] > 59:
        raise ValueError(f"'{text}' is no part of a day; write it like '20:00-06:00'")
    start, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
    if end > DAY or start == end:
        raise ValueError(
            f"'{text}' is no part of a day; write it like '20:00-06:00', and [] for always"
        )
    return Span(start, end)


def _span_text(text: str) -> str:
    span_of(text)
    return text


def _as_list(value: Any) -> Any:
    """One part of the day may stand alone, without the brackets of a list."""
    return (value,) if isinstance(value, str) else value


class Power(Section):
    """When the classifier rests, and how much of the processor it may have."""

    active_hours: Annotated[
        tuple[Annotated[str, AfterValidator(_span_text)], ...], BeforeValidator(_as_list)
    ] = ()
    rest_below_battery_percent: float | None = Field(None, ge=0, le=100)
    nice: int = Field(0, ge=0, le=19)
    cores: int = Field(0, ge=0, le=1024)

    @property
    def active_spans(self) -> tuple[Span, ...]:
        """The hours of work; none means always."""
        return tuple(span_of(text) for text in self.active_hours)
