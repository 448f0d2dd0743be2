"""One row of what benchmarks/variants.py measures, and the table of all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bench import Spread, short
from engines import same_answers
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one round gave for one variant.

    Attributes:
        processor_ms: processor time / frames.
        wall_ms: wall time x cores / frames; None where one thread was measured.
        peak_mb: the most memory of its process (VmHWM); None where it had none of its own.
    """

    processor_ms: float
    wall_ms: float | None = None
    peak_mb: float | None = None


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How far features are from those of the group's reference.

    Attributes:
        difference: |a-b| / |a| over all frames.
        same_answer: share of frames for which a random linear head names the same class.
    """

    difference: float
    same_answer: float

    @classmethod
    def of(cls, reference: Floats, features: Floats) -> Accuracy:
        """Both float32 (n, 1280), of the same pictures."""
        distance = np.linalg.norm(reference - features) / np.linalg.norm(reference)
        return cls(float(distance), same_answers(reference, features))


@dataclass(frozen=True, slots=True)
class Row:
    """One variant. Ratios are to what trapwatch does, taken in the same round.

    Attributes:
        group: what is varied; the first row of each group is what trapwatch does.
    """

    group: str
    name: str
    processor_ms: Spread
    ratio: Spread
    wall_ms: Spread | None
    wall_ratio: Spread | None
    peak_mb: Spread | None
    accuracy: Accuracy | None
    note: str


def row_of(
    group: str,
    name: str,
    costs: Sequence[Cost],
    ours: Sequence[Cost],
    accuracy: Accuracy | None,
    note: str,
) -> Row:
    """From the rounds of one variant, and those of what trapwatch does."""
    walls = [(a.wall_ms, b.wall_ms) for a, b in zip(costs, ours, strict=True)]
    walls = [(a, b) for a, b in walls if a and b]
    peaks = [one.peak_mb for one in costs if one.peak_mb]
    pairs = zip(costs, ours, strict=True)
    return Row(
        group,
        name,
        processor_ms=Spread.of([one.processor_ms for one in costs]),
        ratio=Spread.of([a.processor_ms / b.processor_ms for a, b in pairs]),
        wall_ms=Spread.of([a for a, _ in walls]) if walls else None,
        wall_ratio=Spread.of([a / b for a, b in walls]) if walls else None,
        peak_mb=Spread.of(peaks) if peaks else None,
        accuracy=accuracy,
        note=note,
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown, all rows; medians, and the range of the processor time."""
    head = ["variant", "processor ms/frame", "ratio", "wall x cores ms", "ratio", "peak MB"]
    head += ["difference", "same answer", "note"]
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = [" | ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    return "\n".join([lines[0], " | ".join("-" * width for width in widths), *lines[1:]])


def _cells(row: Row) -> list[str]:
    accuracy = row.accuracy
    return [
        f"{row.group}: {row.name}",
        str(row.processor_ms),
        f"{row.ratio.median:.2f}",
        str(row.wall_ms or ""),
        f"{row.wall_ratio.median:.2f}" if row.wall_ratio else "",
        short(row.peak_mb.median) if row.peak_mb else "",
        f"{accuracy.difference:.1e}" if accuracy else "",
        f"{accuracy.same_answer:.2%}" if accuracy else "",
        row.note,
    ]
