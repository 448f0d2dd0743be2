"""Which labelled media are held out, and which are trained on: chosen once, kept for good.

The unit is the deployment, so that a model is judged at places it never saw; where only one
deployment has labels (or none of them can be spared) it is the event. Never the single image:
neighbours of a burst are nearly the same picture (Beery et al. 2018, "Recognition in Terra
Incognita", for what splitting by image hides).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.core.domain import UNKNOWN
from monitor.log.learning import LabelledMedia, SplitRow

TRAIN, HELD_OUT = "train", "heldout"
DEPLOYMENT, EVENT = "deployment", "event"
THIN = 0.25
"""Whole deployments are not used to start a held-out side below this part of what is wanted."""

Species = Counter[str]
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Unit:
    """Media that stay together: how many of each species."""

    key: Key  # ('deployment', its id) or ('event', its id)
    species: Species


@dataclass(frozen=True, slots=True)
class KnownSides:
    """What the rows written so far say of the units that new media may belong to."""

    sides: dict[Key, str]
    by_event: frozenset[int]  # deployments that were once split by event

    def of(self, media: LabelledMedia) -> tuple[Key, str] | None:
        """The unit of a media and its side, where that is decided already."""
        for key in ((EVENT, media.event_id), (DEPLOYMENT, media.deployment_id)):
            if key in self.sides:
                return key, self.sides[key]
        return None


def is_usable(media: LabelledMedia) -> bool:
    """False for frames that a single-label classifier would be taught wrongly by."""
    return not media.several and media.species != UNKNOWN


def known_sides(labelled: Sequence[LabelledMedia], existing: Sequence[SplitRow]) -> KnownSides:
    """Read the rows: where a unit carries both sides (events that were joined), it is held out."""
    media = {m.media_id: m for m in labelled}
    sides: dict[Key, str] = {}
    by_event = set()
    for row in existing:
        keys = [(row.unit, row.unit_key)]
        if row.unit == EVENT and row.media_id in media:  # a late frame may have joined two events
            keys.append((EVENT, media[row.media_id].event_id))
            by_event.add(media[row.media_id].deployment_id)
        for key in keys:
            if sides.get(key) != HELD_OUT:
                sides[key] = row.side
    return KnownSides(sides, frozenset(by_event))


def assign_sides(
    labelled: Sequence[LabelledMedia],
    existing: Sequence[SplitRow],
    holdout_fraction: float,
    seed: int,
    keep: int = 1,
) -> list[SplitRow]:
    """Sides for the usable media that have none yet.

    A unit that has a side keeps it. New units are placed so that the held-out share of the media,
    and of every species, comes close to `holdout_fraction`.

    Args:
        labelled: everything that is labelled now.
        existing: the rows of earlier rounds.
        keep: labels of a species that should stay on the training side where it has them.

    Returns:
        rows to add, in the order of `labelled`.
    """
    known = known_sides(labelled, existing)
    sided = {row.media_id: row for row in existing}
    usable = [m for m in labelled if is_usable(m)]
    rows, open_media = [], []
    counts = {TRAIN: Counter[str](), HELD_OUT: Counter[str]()}
    for media in usable:
        decided = known.of(media)
        if media.media_id in sided:
            counts[sided[media.media_id].side][media.species] += 1
        elif decided is None:
            open_media.append(media)
        else:
            (unit, key), side = decided
            counts[side][media.species] += 1
            rows.append(SplitRow(media.media_id, side, unit, key))
    several = len({m.deployment_id for m in usable}) >= 2
    placer = _Placer(counts[TRAIN], counts[HELD_OUT], holdout_fraction, seed, keep)
    rows += _place_new(open_media, placer, known.by_event, several)
    order = {m.media_id: position for position, m in enumerate(labelled)}
    return sorted(rows, key=lambda row: order[row.media_id])


def _place_new(
    media: Sequence[LabelledMedia], placer: _Placer, by_event: frozenset[int], several: bool
) -> list[SplitRow]:
    """Place media of units without a side: whole deployments if they can serve, else events."""

    def unit_of(one: LabelledMedia, whole: bool) -> Key:
        if whole and one.deployment_id not in by_event:
            return DEPLOYMENT, one.deployment_id
        return EVENT, one.event_id

    keys = [unit_of(one, several) for one in media]
    held = placer.place(keys, media)
    if several and media and not placer.holds_enough(held, keys, media):
        keys = [unit_of(one, False) for one in media]
        held = placer.place(keys, media)
    return [
        SplitRow(one.media_id, HELD_OUT if key in held else TRAIN, *key)
        for one, key in zip(media, keys, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Placer:
    """Chooses units for the held-out side, given what stands on both sides already."""

    train: Species
    held: Species
    fraction: float
    seed: int
    keep: int

    def place(self, keys: Sequence[Key], media: Sequence[LabelledMedia]) -> frozenset[Key]:
        """The keys to hold out. With nothing held out yet, `keep` yields before giving up."""
        units = units_of(zip(keys, (m.species for m in media), strict=True))
        chosen = hold_out(units, self.train, self.held, self.fraction, self.seed, self.keep)
        if not chosen and not self.held:
            chosen = hold_out(units, self.train, self.held, self.fraction, self.seed, 1)
        return chosen

    def holds_enough(
        self, chosen: frozenset[Key], keys: Sequence[Key], media: Sequence[LabelledMedia]
    ) -> bool:
        """False if nothing was held out before, and what would be now is too thin to judge by."""
        now = sum(key in chosen for key in keys)
        return bool(self.held) or now >= THIN * self.fraction * (self.train.total() + len(media))


def units_of(named: Iterable[tuple[Key, str]]) -> list[Unit]:
    """Group (key, species) into units, ordered by key."""
    species: dict[Key, Species] = {}
    for key, name in named:
        species.setdefault(key, Counter())[name] += 1
    return [Unit(key, species[key]) for key in sorted(species)]


def hold_out(
    units: Sequence[Unit], train: Species, held: Species, fraction: float, seed: int, keep: int
) -> frozenset[Key]:
    """Greedily move the unit that brings the held-out shares closest to `fraction`, and again.

    The cost is |share of all media - fraction| plus the mean over species of the same, as in
    stratified group splitting. At least one unit moves if nothing was held out before and one
    can; a species never loses its last label for training, nor falls below `keep` there.

    Args:
        units: all start on the training side.
        train, held: labels that stand on each side already.

    Returns:
        keys of the units to hold out.
    """
    if not units:
        return frozenset()
    names = sorted(set(train) | set(held) | {name for unit in units for name in unit.species})
    shuffled = [units[i] for i in np.random.default_rng(seed).permutation(len(units))]
    table = np.array([[unit.species[name] for name in names] for unit in shuffled], float)
    left = np.array([train[name] for name in names], float) + table.sum(axis=0)
    out = np.array([held[name] for name in names], float)
    whole = left + out
    chosen: list[int] = []
    while True:
        free = np.setdiff1d(np.flatnonzero(_may_go(table, left, keep)), chosen)
        if not len(free):
            break
        costs = _cost(out + table[free], whole, fraction)
        best = int(np.argmin(costs))
        if out.any() and costs[best] >= _cost(out[None], whole, fraction)[0]:
            break
        chosen.append(int(free[best]))
        left, out = left - table[chosen[-1]], out + table[chosen[-1]]
    return frozenset(shuffled[i].key for i in chosen)


def _may_go(
    table: npt.NDArray[np.float64], left: npt.NDArray[np.float64], keep: int
) -> npt.NDArray[np.bool_]:
    """Which units can go without taking from a species what it needs for training."""
    needed = np.where(left >= keep, keep, 1)
    allowed: npt.NDArray[np.bool_] = ((left - table >= needed) | (table == 0)).all(axis=1)
    return allowed


def _cost(
    out: npt.NDArray[np.float64], whole: npt.NDArray[np.float64], fraction: float
) -> npt.NDArray[np.float64]:
    """How far the held-out shares are from `fraction`: (m, k) counts -> (m,)."""
    overall = np.abs(out.sum(axis=1) / whole.sum() - fraction)
    cost: npt.NDArray[np.float64] = overall + np.abs(out / whole - fraction).mean(axis=1)
    return cost
