"""Cross-validation folds that imitate what will be asked of the head: places it never saw."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from monitor.training.dataset import Part

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

FOLDS = 5
FEWEST_DEPLOYMENTS = 3
MOST_UNKNOWN = 0.2
"""Folds by deployment are given up where more of the media would show a species that the other
folds lack."""


def make_folds(train: Part, seed: int, count: int = FOLDS) -> Ints:
    """Number of the fold of each row, int64 (n,); all 0 where nothing can be set aside.

    Whole deployments stay together where there are enough of them, else whole events: never
    single frames (Roberts et al. 2017, "Cross-validation strategies for data with … hierarchical
    structure"). Species are spread over the folds as evenly as that allows.
    """
    if len(np.unique(train.deployments)) >= FEWEST_DEPLOYMENTS:
        folds = _grouped(train.species, train.deployments, seed, count)
        if 1 - known_rows(train.species, folds).mean() <= MOST_UNKNOWN:
            return folds
    return _grouped(train.species, train.groups, seed, count)


def _grouped(species: npt.NDArray[np.str_], groups: Ints, seed: int, most: int) -> Ints:
    from sklearn.model_selection import StratifiedGroupKFold

    folds = np.zeros(len(groups), np.int64)
    _, labels = np.unique(species, return_counts=True)
    count = min(most, len(np.unique(groups)), int(labels.max()))
    if count < 2:
        return folds
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a species with fewer labels than folds is no surprise
        splits = splitter.split(np.zeros((len(groups), 1)), species, groups)
        for number, (_, aside) in enumerate(splits):
            folds[aside] = number
    return folds


def sides(folds: Ints) -> Iterator[tuple[Bools, Bools]]:
    """(rows to fit, rows set aside) of each fold."""
    numbers = np.unique(folds)
    if len(numbers) > 1:
        for number in numbers:
            yield folds != number, folds == number


def known_rows(species: npt.NDArray[np.str_], folds: Ints) -> Bools:
    """bool (n,): rows whose species also occurs outside their own fold."""
    known = np.zeros(len(species), np.bool_)
    for fitting, aside in sides(folds):
        known[aside] = np.isin(species[aside], species[fitting])
    return known
