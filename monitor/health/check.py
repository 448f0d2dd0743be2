"""One thing that the doctor looked at."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "FAIL"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `state` is ok, warn or FAIL."""

    state: str
    name: str
    finding: str
    advice: str = ""
