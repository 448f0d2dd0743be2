"""Which species and which days a chart speaks of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.log.detected import MINUTES_A_DAY, Detections, Integers

LONGEST_SILENCE = 60
"""Days: a camera that took nothing for longer was not at work, or its clock was wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class Effort:
    """When cameras were at work: from a frame to the next, unless that is long after.

    Attributes:
        deployment: code of each stretch, (n,).
        first, last: its days, both included.
    """

    deployment: Integers
    first: Integers
    last: Integers

    @property
    def camera_days(self) -> int:
        """Days at work, summed over cameras."""
        return int((self.last - self.first + 1).sum())

    def until(self, day: int) -> int:
        """Camera-days up to a day, that day included."""
        return int(np.maximum(0, np.minimum(self.last, day) - self.first + 1).sum())


def effort(detections: Detections) -> Effort:
    """The work of the cameras, from all their events, whoever they show."""
    last_days = detections.last_local_minutes // MINUTES_A_DAY
    cameras = np.concatenate([detections.deployment_code, detections.deployment_code])
    camera, day = different_pairs(cameras, np.concatenate([detections.days, last_days]))
    if not len(camera):
        return Effort(camera, day, day)
    new = (np.diff(camera) != 0) | (np.diff(day) > LONGEST_SILENCE)
    starts = np.concatenate([[True], new])
    ends = np.concatenate([new, [True]])
    return Effort(camera[starts], day[starts], day[ends])


def different_pairs(first: Integers, second: Integers) -> tuple[Integers, Integers]:
    """Each pair that occurs, once, in order."""
    if not len(first):
        return first, second
    low = int(second.min())
    span = int(second.max()) - low + 1
    keys = np.unique(first.astype(np.int64) * span + (second - low))
    return keys // span, keys % span + low


def top_species(detections: Detections, most: int) -> tuple[str, ...]:
    """The species with the most detections, those first; equal ones by name."""
    said = detections.species_code[detections.species_code >= 0]
    counts = np.bincount(said, minlength=len(detections.species))
    order = sorted(range(len(counts)), key=lambda code: (-counts[code], code))
    return tuple(detections.species[code] for code in order[:most] if counts[code])
