"""Made-up held-out media, and made-up models whose true quality is known, to try the gate on.

A model is right about a media where a hidden number, normally distributed, stays below a limit that
its true recall of the species sets. The number has a part that all models share (some pictures are
hard), a part that all frames of an event share (a burst is nearly one picture), and a part that the
model can see itself: its probabilities follow from that part, so they mean what they say unless
they are sharpened on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from monitor.training.comparison import Answers

Values = npt.NDArray[np.float64]
SPECIES = np.array(["blank", "roe deer", "wild boar", "red fox", "badger", "marten", "lynx"])
FREQUENCY = np.array([0.45, 0.20, 0.13, 0.09, 0.06, 0.04, 0.03])
RECALL = np.array([0.92, 0.87, 0.83, 0.80, 0.75, 0.70, 0.60])
FRAMES = 10
"""An event has 1 to so many."""
ALIKE = 0.7
"""How much two models find the same pictures hard: two of them differ in a third of the events."""
ONE_EVENT = 0.7
"""How much the frames of an event are hard together."""
SEEN = 0.5
"""How much of what makes a picture hard the model can tell, as its probability."""
_grid = np.linspace(-4.5, 4.5, 2001)
_below = np.array([NormalDist().cdf(float(x)) for x in _grid])


def _cdf(x: Values) -> Values:
    return np.asarray(np.interp(x, _grid, _below))


def _quantile(p: Values) -> Values:
    return np.asarray(np.interp(p, _below, _grid))


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Held-out media: species numbers int64 (n,), event ids int64 (n,), and what is hard in them
    for every model."""

    kinds: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    hardness: Values

    @property
    def truth(self) -> npt.NDArray[np.str_]:
        truth: npt.NDArray[np.str_] = SPECIES[self.kinds]
        return truth


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A model: by how much its true recall of each species differs from RECALL, and its luck."""

    shift: Values
    luck: Values


def held_out(rng: np.random.Generator, events: int) -> HeldOut:
    """Media of so many events; some species may not occur."""
    frames = rng.integers(1, FRAMES + 1, events)
    groups = np.repeat(np.arange(events), frames)
    kinds = rng.choice(len(SPECIES), events, p=FREQUENCY)[groups]
    return HeldOut(kinds, groups, _field(rng, groups))


def a_model(
    rng: np.random.Generator,
    side: HeldOut,
    shift: float | Values = 0.0,
    like: Model | None = None,
    inherits: float = 0.5,
) -> Model:
    """A model whose true recall is RECALL + shift.

    Args:
        like: a model that it was made from, whose luck on these media it shares in part.
        inherits: in which part (a share of the variance).
    """
    luck = _field(rng, side.groups)
    if like is not None:
        luck = np.sqrt(inherits) * like.luck + np.sqrt(1 - inherits) * luck
    return Model(np.broadcast_to(np.asarray(shift, float), RECALL.shape), luck)


def answers(
    rng: np.random.Generator, side: HeldOut, model: Model, name: str, sharpened: float = 1.0
) -> Answers:
    """What a model says of the media.

    Args:
        sharpened: what its log odds are multiplied with: 1 means what it says, 3 is far too sure.
    """
    limit = _quantile(np.clip(RECALL + model.shift, 0.01, 0.99)[side.kinds])
    hidden, seen = (np.sqrt(ALIKE) * side.hardness + np.sqrt(1 - ALIKE) * model.luck).T
    right = np.sqrt(SEEN) * seen + np.sqrt(1 - SEEN) * hidden < limit
    sure = np.clip(_cdf((limit - np.sqrt(SEEN) * seen) / np.sqrt(1 - SEEN)), 1 / 7, 0.999)
    sure = np.minimum(1 / (1 + (1 / sure - 1) ** sharpened), 0.9999)
    predicted = np.where(right, side.kinds, _mistakes(rng, side.kinds))
    return Answers(name, SPECIES[predicted], tuple(SPECIES.tolist()), sure.astype(np.float32))


def _mistakes(rng: np.random.Generator, kinds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A blank is taken for some animal; an animal for nothing as often as for another one."""
    animals = len(SPECIES) - 1
    other = (kinds - 1 + rng.integers(1, animals, len(kinds))) % animals + 1
    any_animal = rng.integers(1, animals + 1, len(kinds))
    missed = np.where(rng.random(len(kinds)) < 0.5, 0, other)
    return np.asarray(np.where(kinds == 0, any_animal, missed))


def _field(rng: np.random.Generator, groups: npt.NDArray[np.int64]) -> Values:
    """Standard normal numbers that are alike within an event: (n, 2), hidden and seen."""
    events = rng.normal(size=(int(groups.max()) + 1, 2))[groups]
    frames = rng.normal(size=(len(groups), 2))
    return np.asarray(np.sqrt(ONE_EVENT) * events + np.sqrt(1 - ONE_EVENT) * frames)
