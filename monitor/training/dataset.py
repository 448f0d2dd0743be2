"""What a training learns from and is judged by: plain arrays, sides strictly apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.core.domain import UNKNOWN, Scope
from monitor.log.learning import LabelledMedia, SplitRow
from monitor.training.split import DEPLOYMENT, EVENT, HELD_OUT, Key, known_sides

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NotLearnt:
    """A species with too few labels to be learnt.

    Attributes:
        labels: on the training side.
        held_out: labels on the held-out side, which are never trained on.
        needed: labels it takes.
    """

    species: str
    labels: int
    held_out: int
    needed: int

    def __str__(self) -> str:
        aside = f" ({self.held_out} more are held out)" if self.held_out else ""
        return f"{self.species}: {self.labels} of {self.needed} labels{aside}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Who learns and who judges, before any feature is read.

    Attributes:
        classes: the species that can be learnt, by name.
        train: media to learn from, all of species in `classes`.
        held_out: media to judge by, of any species.
        left_out: reason -> how many media are used on neither side.
    """

    classes: tuple[str, ...]
    train: tuple[LabelledMedia, ...]
    held_out: tuple[LabelledMedia, ...]
    not_learnt: tuple[NotLearnt, ...]
    left_out: Mapping[str, int]

    @property
    def media(self) -> tuple[LabelledMedia, ...]:
        """Everything that features are needed of."""
        return self.train + self.held_out


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One side as arrays. `groups` are event ids: what must stay together in a resample.

    Attributes:
        features: float32 (n, d).
        species: names (n,).
        groups: int64 (n,).
        deployments: int64 (n,), ids.
        of_event: bool (n,), labels that were said of a whole event rather than of this frame.
    """

    features: Floats
    species: npt.NDArray[np.str_]
    groups: npt.NDArray[np.int64]
    deployments: npt.NDArray[np.int64]
    of_event: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.groups)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Part:
        """The rows that are `chosen`."""
        return Part(
            self.features[chosen],
            self.species[chosen],
            self.groups[chosen],
            self.deployments[chosen],
            self.of_event[chosen],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """The arrays of one training run.

    Attributes:
        classes: the k species to learn, by name.
        train: to learn from; every species of it is in `classes`.
        held_out: to judge by.
    """

    classes: tuple[str, ...]
    train: Part
    held_out: Part


def plan_learning(
    labelled: Sequence[LabelledMedia], split: Sequence[SplitRow], min_labels: int
) -> Plan:
    """Sort labelled media into training, held out and left out.

    A training media whose deployment or event is held out is left out, whatever its own row says:
    a late frame may have joined two events.
    """
    sides = {row.media_id: row for row in split}
    known = known_sides(labelled, split).sides
    held_keys = {key for key, side in known.items() if side == HELD_OUT}
    train: list[LabelledMedia] = []
    held: list[LabelledMedia] = []
    left_out = Counter[str]()
    for media in labelled:
        if (reason := _reason_to_leave_out(media, sides, held_keys)) is not None:
            left_out[reason] += 1
        else:
            (held if sides[media.media_id].side == HELD_OUT else train).append(media)
    learnt, aside = Counter(m.species for m in train), Counter(m.species for m in held)
    classes = tuple(sorted(name for name, count in learnt.items() if count >= min_labels))
    lacking = sorted((learnt.keys() | aside.keys()) - set(classes))
    plan = Plan(
        classes,
        tuple(sorted((m for m in train if m.species in classes), key=lambda m: m.media_id)),
        tuple(sorted(held, key=lambda m: m.media_id)),
        tuple(NotLearnt(name, learnt[name], aside[name], min_labels) for name in lacking),
        dict(left_out),
    )
    assert_apart(plan, split)
    return plan


def _reason_to_leave_out(
    media: LabelledMedia, sides: Mapping[int, SplitRow], held_keys: set[Key]
) -> str | None:
    if media.several:
        return "several species in one frame"
    if media.species == UNKNOWN:
        return "labelled as unknown"
    row = sides.get(media.media_id)
    if row is None:
        return "on no side yet"
    units = {(EVENT, media.event_id), (DEPLOYMENT, media.deployment_id)}
    if row.side != HELD_OUT and units & held_keys:
        return "its event or deployment became held out later"
    return None


def assert_apart(plan: Plan, split: Sequence[SplitRow]) -> None:
    """The invariant: no deployment or event that is held out as a whole is trained on."""
    rows = {row.media_id: row for row in split}
    events = {m.event_id for m in plan.held_out if rows[m.media_id].unit == EVENT}
    whole = {m.deployment_id for m in plan.held_out if rows[m.media_id].unit == DEPLOYMENT}
    for media in plan.train:
        assert rows[media.media_id].side != HELD_OUT, f"media {media.media_id} is held out"
        assert media.event_id not in events, f"event {media.event_id} is held out"
        assert media.deployment_id not in whole, f"deployment {media.deployment} is held out"


def build_dataset(plan: Plan, features: Mapping[str, Floats], size: int) -> Dataset:
    """Fill in the features.

    Args:
        features: SHA-256 -> float32 (size,), of every media of the plan.
    """
    train, held_out = (_part(side, features, size) for side in (plan.train, plan.held_out))
    return Dataset(plan.classes, train, held_out)


def _part(media: Sequence[LabelledMedia], features: Mapping[str, Floats], size: int) -> Part:
    vectors = [features[m.sha256] for m in media]
    return Part(
        np.stack(vectors).astype(np.float32) if vectors else np.empty((0, size), np.float32),
        np.array([m.species for m in media], np.str_),
        np.array([m.event_id for m in media], np.int64),
        np.array([m.deployment_id for m in media], np.int64),
        np.array([m.scope == Scope.EVENT for m in media], np.bool_),
    )
