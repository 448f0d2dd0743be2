"""Multinomial logistic regression with an L2 penalty: a convex problem, so that the same labels
always give the same head. Solved by scikit-learn (L-BFGS: Liu & Nocedal 1989)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MOST_STEPS = 500
TOLERANCE = 1e-4
"""Of the gradient; weights then move in the fourth digit, answers do not."""
NEVER_SEEN = -30.0
"""Logit of a class without a sample, against the lowest of those that have some."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Standardised inputs float32 (n, d), class numbers int64 (n,), weights float32 (n,)."""

    x: Floats
    y: Ints
    weight: Floats

    def where(self, chosen: npt.NDArray[np.bool_]) -> Samples:
        """The rows that are `chosen`."""
        return Samples(self.x[chosen], self.y[chosen], self.weight[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A fitted layer: logits = x @ weights (d, k) + bias (k,). `steps` of the solver."""

    weights: Floats
    bias: Floats
    steps: int

    def logits(self, x: Floats) -> Floats:
        """float32 (n, d) -> float32 (n, k)."""
        return np.asarray(x @ self.weights + self.bias, np.float32)


def fit_path(
    samples: Samples,
    classes: int,
    strengths: Sequence[float],
    on_fit: Callable[[], None] = lambda: None,
) -> Iterator[Layer]:
    """Minimise mean weighted cross-entropy + strength x |weights|^2 for one strength after another,
    each from where the one before ended.

    Args:
        samples: of at least two different classes.
        classes: k; a class without a sample gets zero weights and is never answered.
        strengths: > 0, the strongest first.
        on_fit: called after each fit.
    """
    from sklearn.linear_model import LogisticRegression

    there = np.unique(samples.y)
    # scikit-learn sums the losses, halves the penalty, and has one column of weights, the
    # difference, for two classes.
    total = 2.0 * float(samples.weight.sum())
    columns = 2.0 if len(there) == 2 else 1.0
    model = LogisticRegression(max_iter=MOST_STEPS, tol=TOLERANCE, warm_start=True)
    for strength in strengths:
        model.set_params(C=columns / (total * strength))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged: near enough, and the same each time
            model.fit(samples.x, samples.y, samples.weight)
        weights, bias = model.coef_.T, model.intercept_
        if len(there) == 2:
            weights, bias = np.hstack([-weights, weights]) / 2, np.array([-bias[0], bias[0]]) / 2
        yield _spread(weights, bias, there, classes, int(model.n_iter_[0]))
        on_fit()


def _spread(
    weights: npt.NDArray[np.floating],
    bias: npt.NDArray[np.floating],
    there: Ints,
    k: int,
    steps: int,
) -> Layer:
    """Columns for all classes from those that had samples."""
    whole = np.zeros((len(weights), k), np.float32)
    offsets = np.full(k, float(bias.min()) + NEVER_SEEN, np.float32)
    whole[:, there], offsets[there] = weights, bias
    return Layer(whole, offsets, steps)
