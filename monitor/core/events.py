"""Independent sightings: the frames of one event speak together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from monitor.core.domain import BLANK, UNKNOWN, Sighting, Source

LEAST_WEIGHT = 0.1
"""What a frame that is surely blank weighs beside one that surely is not. Simulated in
benchmarks/event_rule.py: without it four animals in ten are missed where they stand in a few
frames of a burst; far lower, one sure mistake makes a blank event an animal."""
LEAST_PROBABILITY = 1e-4
"""No single frame rules a species out: its logarithm is what the others have to make good."""

OTHERS = ""
"""All species that no frame of an event names among its likeliest few."""

Alternatives = Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Said:
    """What a model said of one frame: the species shown, and (species, probability) of all
    species or of the likeliest few, in any order."""

    species: str
    alternatives: Alternatives


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
    beside an animal says nothing). Else what the model's frames say together: `speak_together`.

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
        species, probability = speak_together([_said(frame) for frame in predicted])
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
    return most_said(o.species for f in frames for o in f.observations)


def most_said(names: Iterable[str]) -> str | None:
    """What people said most often of the frames of one event, animals first; None: nothing."""
    votes = Counter(names)
    animals = Counter({name: n for name, n in votes.items() if name not in (BLANK, UNKNOWN)})
    ranked = (animals or votes).most_common(1)
    return ranked[0][0] if ranked else None


def _said(frame: Sighting) -> Said:
    name = frame.species or UNKNOWN
    return Said(name, frame.alternatives or ((name, frame.probability or 0.0),))


def speak_together(frames: Sequence[Said]) -> tuple[str, float]:
    """What the frames of one event say together: a species, and its probability.

    The mean of their log probabilities, weighed, and made to sum to 1 again (a logarithmic
    opinion pool: Genest & Zidek 1986, Statistical Science 1). The mean and not the sum, for the
    frames of a burst are nearly copies and no independent witnesses. A frame weighs 1 less its
    probability of being blank, at least `LEAST_WEIGHT`: an animal is in some frames of its visit.

    Of the species that at least one frame shows, the most probable one; `unknown` only where no
    frame shows anything else. So what every frame shows is what the event shows.

    Args:
        frames: at least one.
    """
    shown = {frame.species for frame in frames} - {UNKNOWN}
    today = _renamed(frames)
    rows = _spread([_todays(frame.alternatives, today) for frame in frames])
    weights = [max(LEAST_WEIGHT, 1 - row.get(BLANK, 0.0)) for row in rows]
    pooled = {name: _pooled([row[name] for row in rows], weights) for name in rows[0]}
    best = max(shown or pooled.keys() - {OTHERS}, key=lambda name: (pooled.get(name, 0.0), name))
    return best if shown else UNKNOWN, pooled.get(best, 0.0) / sum(pooled.values())


def _pooled(probabilities: Sequence[float], weights: Sequence[float]) -> float:
    pairs = zip(probabilities, weights, strict=True)
    return math.exp(sum(w * math.log(p) for p, w in pairs) / sum(weights))


def _renamed(frames: Sequence[Said]) -> dict[str, str]:
    """Names that the model knew -> what the list calls them now, as far as the frames tell."""
    said = [frame for frame in frames if frame.species != UNKNOWN]
    return {max(f.alternatives, key=itemgetter(1))[0]: f.species for f in said}


def _todays(alternatives: Alternatives, renamed: Mapping[str, str]) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, probability in alternatives:
        today = renamed.get(name, name)
        row[today] = row.get(today, 0.0) + probability
    return row


def _spread(rows: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Every row with every name of the event: those not among its likeliest few share what these
    leave with the species that no frame names, and none gets more than the least of them."""
    names = sorted({name for row in rows for name in row})
    return [_filled(row, names) for row in rows]


def _filled(row: dict[str, float], names: Sequence[str]) -> dict[str, float]:
    absent, left = len(names) - len(row), max(0.0, 1 - sum(row.values()))
    share = min(*row.values(), left / (absent + 1))
    full = {name: max(LEAST_PROBABILITY, row.get(name, share)) for name in names}
    return full | {OTHERS: max(LEAST_PROBABILITY, left - absent * share)}
