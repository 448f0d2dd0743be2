"""Two models beside each other on the same held-out media: plain arrays, nothing judged yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.training.bootstrap import Metric
from monitor.training.evaluate import Names

Bools = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What one model said of the held-out media.

    Attributes:
        name: of the model, for the reason.
        predicted: species (n,).
        classes: every species it can answer.
        confidence: float32 (n,), the probability of the predicted species; None if it gives none.
    """

    name: str
    predicted: Names
    classes: tuple[str, ...]
    confidence: npt.NDArray[np.float32] | None = None

    def where(self, chosen: Bools) -> Answers:
        """The answers to the media that are `chosen`."""
        sure = None if self.confidence is None else self.confidence[chosen]
        return Answers(self.name, self.predicted[chosen], self.classes, sure)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A challenger and what it is held against.

    Attributes:
        truth: species (n,), as people said.
        groups: int64 (n,), the event of each media: what is one piece of evidence.
    """

    truth: Names
    groups: npt.NDArray[np.int64]
    challenger: Answers
    against: Answers

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def events(self) -> int:
        """How many events the media come from."""
        return len(np.unique(self.groups))

    @property
    def right(self) -> Bools:
        """Where the challenger is right."""
        right: Bools = self.challenger.predicted == self.truth
        return right

    @property
    def other(self) -> Bools:
        """Where the other one is right."""
        other: Bools = self.against.predicted == self.truth
        return other

    def where(self, chosen: Bools) -> Pair:
        """The pair on the media that are `chosen`."""
        return Pair(
            self.truth[chosen],
            self.groups[chosen],
            self.challenger.where(chosen),
            self.against.where(chosen),
        )

    def of(self, species: str) -> Pair:
        """The pair on the media that show one species."""
        return self.where(self.truth == species)

    def by_event(self, values: npt.ArrayLike) -> Values:
        """Sum a value of each media over its event: (n, …) -> (events, …), in order of id."""
        each = np.asarray(values, float)
        names, event = np.unique(self.groups, return_inverse=True)
        sums = np.zeros((len(names), *each.shape[1:]))
        np.add.at(sums, event, each)
        return sums

    def weights(self, metric: Metric) -> Values:
        """What each media weighs in the metric: float64 (n,), with a sum of 1."""
        if metric == "accuracy":
            return np.full(len(self), 1 / max(1, len(self)))
        _, kind, count = np.unique(self.truth, return_inverse=True, return_counts=True)
        weights: Values = 1 / (len(count) * count[kind])
        return weights

    @property
    def known_to_both(self) -> Bools:
        """Which media show a species that both can name."""
        both = set(self.challenger.classes) & set(self.against.classes)
        return np.isin(self.truth, sorted(both))

    def gains(self, metric: Metric, only: Bools | None = None) -> Values:
        """What each event adds to challenger minus other in the metric: float64 (events,).

        Args:
            only: bool (n,), the media that are counted; all if None.
        """
        each = self.weights(metric) * (self.right.astype(float) - self.other)
        return self.by_event(each if only is None else each * only)
