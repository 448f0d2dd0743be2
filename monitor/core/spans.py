"""Stretches of time, and how they join and overlap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of time; `end` is not in it."""

    start: datetime
    end: datetime

    @property
    def days(self) -> float:
        """Its length in days of 24 hours."""
        return (self.end - self.start).total_seconds() / DAY_SECONDS


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same times in order, none twice; spans that touch become one, empty ones go."""
    found: list[Span] = []
    for span in sorted(span for span in spans if span.start < span.end):
        if found and span.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return tuple(found)


def without(spans: Iterable[Span], holes: Iterable[Span]) -> tuple[Span, ...]:
    """What is left of `spans` where `holes` are taken out."""
    left = list(joined(spans))
    for hole in joined(holes):
        parts = [
            (Span(s.start, min(s.end, hole.start)), Span(max(s.start, hole.end), s.end))
            for s in left
        ]
        left = [part for both in parts for part in both if part.start < part.end]
    return tuple(left)


def days_of(spans: Iterable[Span]) -> float:
    """Their length in days, no time counted twice."""
    return sum(span.days for span in joined(spans))
