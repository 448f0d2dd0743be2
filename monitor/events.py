"""Independent sightings: the frames of one event speak together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from monitor.domain import BLANK, UNKNOWN, Sighting, Source


@dataclass(frozen=True, slots=True)
class EventSighting:
    """One event of one deployment, and the best statement about it."""

    event_id: int
    deployment: str
    start: str  # ISO 8601, UTC
    end: str
    start_local: str
    species: str | None
    frames: int
    count: int | None  # the largest count a person gave
    probability: float | None
    source: Source


def summarise(frames: Sequence[Sighting], about: str | None = None) -> EventSighting:
    """What the frames of one event say together.

    A person's word goes before the model's: the species labelled on most frames (a blank frame
    beside an animal says nothing). Else the species with the highest mean probability over the
    event's frames, blanks and unknowns only where no frame shows anything else.

    Args:
        frames: at least one, oldest first.
        about: if a person named this species in the event, speak of it, although it was not the
            only one.
    """
    labelled = [f for f in frames if f.source is Source.LABEL]
    predicted = [f for f in frames if f.source is Source.PREDICTION]
    species, probability, source = None, None, Source.NONE
    if labelled:
        named = {o.species for f in labelled for o in f.observations}
        species = about if about in named else _most_labelled(labelled)
        source = Source.LABEL
    elif predicted:
        species, probability = _most_probable(predicted)
        source = Source.PREDICTION
    counts = [o.count for f in labelled for o in f.observations if o.count and o.species == species]
    first = frames[0]
    return EventSighting(
        first.event_id or 0,
        first.deployment,
        first.captured_at,
        frames[-1].captured_at,
        first.captured_local,
        species,
        len(frames),
        max(counts, default=None),
        probability,
        source,
    )


def _most_labelled(frames: Sequence[Sighting]) -> str | None:
    votes = Counter(o.species for f in frames for o in f.observations)
    animals = Counter({name: n for name, n in votes.items() if name not in (BLANK, UNKNOWN)})
    ranked = (animals or votes).most_common(1)
    return ranked[0][0] if ranked else None


def _most_probable(frames: Sequence[Sighting]) -> tuple[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter()
    for frame in frames:
        name = frame.species or UNKNOWN
        sums[name] += frame.probability or 0.0
        counts[name] += 1
    animals = [name for name in sums if name not in (BLANK, UNKNOWN)]
    best = max(animals or list(sums), key=lambda name: (sums[name], name))
    return best, sums[best] / counts[best]
