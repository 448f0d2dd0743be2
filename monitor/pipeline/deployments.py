"""Which deployment a frame belongs to: from its path, or from the station's list."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from monitor.core.config import ConfigError
from monitor.core.domain import iso_utc, shown_path

COLUMNS = ("deployment", "path", "latitude", "longitude", "start", "end", "clock_shift_seconds")
MOST_SHIFT_SECONDS = 100 * 366 * 86400
MOST_SHOWN, LONGEST_SHOWN = 5, 40


@dataclass(frozen=True, slots=True)
class DeploymentRow:
    """A line of `deployments.file`. `path` is a prefix below a watched folder, `start` is within
    the period, `end` is not (an end that is written as a day includes that day)."""

    name: str
    path: str
    latitude: float | None = None
    longitude: float | None = None
    start: datetime | None = None
    end: datetime | None = None
    clock_shift_seconds: float = 0.0

    def values(self) -> dict[str, Any]:
        """The row as the log keeps it."""
        return {
            "name": self.name,
            "latitude": self.latitude,
            "longitude": self.longitude,
            "start_at": iso_utc(self.start) if self.start else None,
            "end_at": iso_utc(self.end) if self.end else None,
            "clock_shift_seconds": self.clock_shift_seconds,
        }

    def covers(self, relative: str, captured_at: datetime) -> bool:
        """True if a frame at `relative`, taken at `captured_at`, is of this deployment."""
        prefix = self.path.strip("/")
        below = not prefix or relative == prefix or relative.startswith(prefix + "/")
        started = self.start is None or captured_at >= self.start
        return below and started and (self.end is None or captured_at < self.end)


class Deployments:
    """Names the deployment of a frame.

    The list is asked first: the longest path prefix whose period holds the capture time wins.
    Then the pattern: `{deployment}` stands for one folder, `*` for one, `**` for any number.
    Last, the first folder below the watched one, or the watched folder's own name.
    """

    def __init__(self, pattern: str, rows: Iterable[DeploymentRow] = ()) -> None:
        self.rows = tuple(sorted(rows, key=lambda row: -len(row.path.strip("/"))))
        self._pattern = compile_pattern(pattern)

    def name_of(self, folder: Path, path: bytes, captured_at: datetime) -> str:
        """The deployment of the file `path`, found in the watched `folder`."""
        relative = shown_path(os.path.relpath(path, os.fsencode(folder)))
        for row in self.rows:
            if row.covers(relative, captured_at):
                return row.name
        match = self._pattern.fullmatch(relative)
        if match:
            return match["deployment"]
        parts = relative.split("/")
        return parts[0] if len(parts) > 1 else shown_path(os.fsencode(folder.name)) or "/"


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """`{deployment}/*/**` as a regular expression over a path below a watched folder."""
    tokens = {
        "{deployment}": "(?P<deployment>[^/]+)",
        "**/": "(?:.*/)?",  # any number of folders may be none
        "**": ".*",
        "*": "[^/]*",
    }
    parts = re.split(r"(\{deployment\}|\*\*/|\*\*|\*)", pattern.strip("/"))
    return re.compile("".join(tokens.get(part, re.escape(part)) for part in parts), re.DOTALL)


def read_deployments(path: Path, zone: ZoneInfo) -> list[DeploymentRow]:
    """Read the CSV list (columns deployment, path and any of the others in COLUMNS).

    Raises:
        ConfigError: with one line for each row that cannot be used.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, faults = _parse_all(reader, zone)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"deployments.file: {path} cannot be read: {error}") from None
    if faults:
        raise ConfigError(f"deployments.file: {path}\n" + "\n".join(f"  {f}" for f in faults))
    return rows


def _parse_all(
    reader: csv.DictReader[str], zone: ZoneInfo
) -> tuple[list[DeploymentRow], list[str]]:
    names = reader.fieldnames or []
    missing = [column for column in COLUMNS[:2] if column not in names]
    unknown = [name for name in names if name not in COLUMNS]
    if missing or unknown:
        known = ", ".join(COLUMNS)
        odd = [name[:LONGEST_SHOWN] for name in unknown[:MOST_SHOWN]]
        return [], [f"columns missing: {missing}, unknown: {odd}; known are {known}"]
    rows: list[DeploymentRow] = []
    faults = []
    facts: dict[str, dict[str, Any]] = {}
    for line in reader:
        try:
            row = _parse(line, zone)
            if facts.setdefault(row.name, row.values()) != row.values():
                shown = row.name[:LONGEST_SHOWN]
                raise ValueError(f"'{shown}' is listed above with another place, time or clock")
            rows.append(row)
        except (ValueError, OverflowError) as error:
            faults.append(f"line {reader.line_num}: {error}")
    return rows, faults


def _parse(row: dict[str, str], zone: ZoneInfo) -> DeploymentRow:
    if not (row["deployment"] or "").strip():
        raise ValueError("the deployment has no name")
    start, end = _moment(row.get("start"), zone), _moment(row.get("end"), zone, whole_day=True)
    if start is not None and end is not None and end <= start:
        raise ValueError(f"it ends ({row['end']}) before it starts ({row['start']})")
    return DeploymentRow(
        row["deployment"].strip(),
        (row["path"] or "").strip(),
        _degrees(row.get("latitude"), 90),
        _degrees(row.get("longitude"), 180),
        start,
        end,
        _seconds(row.get("clock_shift_seconds")),
    )


def _seconds(text: str | None) -> float:
    if not text:
        return 0.0
    value = _number(text)
    if abs(value) > MOST_SHIFT_SECONDS:
        raise ValueError(f"a clock shift of {text} seconds is more than a hundred years")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"'{text[:LONGEST_SHOWN]}' is no number")
    return value


def _degrees(text: str | None, most: float) -> float | None:
    if not text:
        return None
    value = _number(text)
    if not -most <= value <= most:
        raise ValueError(f"{value} is no coordinate in degrees (at most {most:g})")
    return value


def _moment(text: str | None, zone: ZoneInfo, *, whole_day: bool = False) -> datetime | None:
    """A time as ISO 8601; without an offset on the station's clock. `whole_day`: a date alone
    means the end of that day."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
        if whole_day and len(text.strip()) == len("2026-01-31"):
            moment += timedelta(days=1)
    except (ValueError, OverflowError):
        shown = text[:LONGEST_SHOWN]
        raise ValueError(f"'{shown}' is no time; write one like 2026-05-31T14:30") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
