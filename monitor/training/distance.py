"""`unknown`: which media are like nothing that was learnt, and how well that can be told.

Two scores are added, in units of their own spread: `classifier.strangeness`, and a direction from
what is labelled towards what is not. Frames of a species that nobody named yet lie among those
without a label, and only there (learning from positive and unlabelled data: Elkan & Noto 2008).
The limit is set so that few media of known species pass it; how many of an unnamed one would is
measured by leaving each species out in turn.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.model.head import Floats, Head
from monitor.training.conformal import event_weights, threshold
from monitor.training.dataset import Dataset, Part
from monitor.training.folds import sides
from monitor.training.head import FittedHead, balanced_weights, samples_of, standard
from monitor.training.logistic import Samples, fit_path

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Names = npt.NDArray[np.str_]

METHOD = "energy of the logits over the length of the standardised features"
WITH_UNNAMED = ", and the direction towards media without a label"
UNNAMED_STRENGTH, FEWEST_UNNAMED = 3e-3, 200
"""L2 strength of that direction, as in `head.STRENGTHS`; media without a label that it takes."""
MOST_SPECIES, MOST_ROWS, FEWEST = 12, 2500, 5
"""Species left out in turn, the commonest; rows that a head is fitted to meanwhile; held-out media
of a species, and of the others, below which nothing is measured."""


def with_unnamed(fitted: FittedHead, train: Part, unnamed: Floats) -> FittedHead:
    """The head with the direction towards media without a label, and the strangeness of the
    training side by directions that had not seen a row's fold.

    Args:
        unnamed: float32 (m, d), features; with too few of them nothing changes.
    """
    if len(unnamed) < FEWEST_UNNAMED or not fitted.judged.any():
        return fitted
    known, others = fitted.head.standard(train.features), fitted.head.standard(unnamed)
    weights = _mixed_alike(train.species, fitted.head, unnamed)
    along = np.zeros(len(train), np.float32)
    for fitting, aside in sides(fitted.folds):
        along[aside] = known[aside] @ _direction(known[fitting], weights[fitting], others)
    usual = fitted.head.strangeness(train.features[fitted.judged]).std()
    share = np.float32(usual / max(float(along[fitted.judged].std()), 1e-9))
    head = replace(fitted.head, strange_weights=share * _direction(known, weights, others))
    return replace(fitted, head=head, strangeness=fitted.strangeness + share * along)


def _direction(known: Floats, weights: Floats, others: Floats) -> Floats:
    """From what is named to what is not: float32 (d,)."""
    y = np.repeat(np.arange(2), (len(known), len(others)))
    both = np.concatenate([weights / weights.sum(), np.full(len(others), 1 / len(others))])
    samples = Samples(np.concatenate([known, others]), y, (both * len(y) / 2).astype(np.float32))
    (layer,) = fit_path(samples, 2, [UNNAMED_STRENGTH * known.shape[1]])
    return np.asarray(layer.weights[:, 1] - layer.weights[:, 0], np.float32)


def _mixed_alike(species: Names, head: Head, unnamed: Floats) -> Floats:
    """Weights float32 (n,) by which the labelled media are as mixed as those without a label, so
    that a species is not strange for being named seldom."""
    usual = dict(zip(head.classes, head.probabilities(unnamed).mean(axis=0).tolist(), strict=True))
    names, place, counts = np.unique(species, return_inverse=True, return_counts=True)
    wanted = np.array([usual[name] for name in names.tolist()])
    return np.asarray((wanted / counts)[place] + 1e-6 / len(species), np.float32)


def strange_above(strangeness: Floats, groups: Ints, judged: Bools, share: float) -> float | None:
    """The limit that at most `share` of new media of known species pass; None where so few events
    cannot tell, or none may pass.

    Args:
        strangeness: float32 (n,), from heads that had not seen the row.
        groups: int64 (n,), events; the rows of one count as one together.
        judged: bool (n,), rows that count.
    """
    if share <= 0 or not judged.any():
        return None
    usual = -strangeness[judged].astype(np.float64)
    found = threshold(usual, event_weights(groups[judged]), share)
    return None if found is None else -found


def unknown_figures(dataset: Dataset, fitted: FittedHead, unnamed: Floats) -> dict[str, Any]:
    """What the card says of `unknown`, as JSON values.

    `by_species`: AUROC of telling the held-out media of a species, which a head was not taught,
    from those of the species that it was; `auroc`: their mean; `false_unknown`: the share of
    held-out media of known species that passes the limit; `caught`: the share of a species left
    out that would, where as many of the others did.

    Args:
        unnamed: as of `with_unnamed`.
    """
    head = fitted.head
    figures: dict[str, Any] = {
        "method": METHOD + (WITH_UNNAMED if head.strange_weights is not None else ""),
        "unnamed_media": len(unnamed) if head.strange_weights is not None else 0,
        "threshold": head.strange_above,
        "false_unknown": _false_unknown(dataset.held_out, head),
        "auroc": None,
        "by_species": {},
        "caught": {},
    }
    if len(dataset.classes) < 3:
        return figures | {"skipped": "it takes three species to leave one out"}
    species = _to_leave_out(dataset)
    if not species:
        return figures | {"skipped": f"no species has {FEWEST} held-out media"}
    rows = _some_rows(dataset.train)
    for name in species:
        strange, known = _without(dataset, rows, name, fitted, unnamed)
        new = dataset.held_out.species == name
        figures["by_species"][name] = auroc(strange[known], strange[new])
        if (share := figures["false_unknown"]) is not None:
            limit = np.quantile(strange[known], 1 - share)
            figures["caught"][name] = float((strange[new] > limit).mean())
    return figures | {"auroc": float(np.mean(list(figures["by_species"].values())))}


def _false_unknown(held: Part, head: Head) -> float | None:
    known = np.isin(held.species, head.classes)
    if head.strange_above is None or not known.any():
        return None
    return float((head.strangeness(held.features[known]) > head.strange_above).mean())


def _to_leave_out(dataset: Dataset) -> list[str]:
    """The commonest species on the held-out side, of which the others leave enough too."""
    counts = Counter(dataset.held_out.species.tolist())
    total = sum(counts[name] for name in dataset.classes)
    enough = [n for n in dataset.classes if FEWEST <= counts[n] <= total - FEWEST]
    return sorted(sorted(enough, key=lambda name: -counts[name])[:MOST_SPECIES])


def _some_rows(train: Part) -> Bools:
    """At most about `MOST_ROWS` rows, the same share of every species."""
    chosen = np.zeros(len(train), np.bool_)
    step = max(1.0, len(train) / MOST_ROWS)
    for name in np.unique(train.species):
        rows = np.flatnonzero(train.species == name)
        chosen[rows[np.arange(0, len(rows), step).astype(np.intp)]] = True
    return chosen


def _without(
    dataset: Dataset, rows: Bools, name: str, fitted: FittedHead, unnamed: Floats
) -> tuple[Floats, Bools]:
    """Strangeness of the held-out media to a head that was not taught a species, float32 (n,); and
    which of them are of species that it was. Had nobody named that species, its training media
    would be without a label: among those they are put."""
    train, held = dataset.train, dataset.held_out
    chosen = rows & (train.species != name)
    classes = tuple(one for one in dataset.classes if one != name)
    part, parts = train.where(chosen), fitted.head.parts
    samples = samples_of(part, classes, parts)
    mean, scale = standard(samples.x)
    weights = balanced_weights(samples.y, len(classes), fitted.shares[chosen])
    standardised = Samples((samples.x - mean) / scale, samples.y, weights)
    (layer,) = fit_path(standardised, len(classes), [fitted.strength * len(mean)])
    bias, layout = layer.bias, fitted.head.layout
    head = Head(classes, mean, scale, layer.weights, bias, 1.0, layout, parts=parts)
    if fitted.head.strange_weights is not None:
        others = np.concatenate([unnamed, train.features[rows & (train.species == name)]])
        made = replace(
            fitted,
            head=head,
            folds=fitted.folds[chosen],
            judged=fitted.judged[chosen],
            strangeness=fitted.strangeness[chosen],
        )
        head = with_unnamed(made, part, others).head
    return head.strangeness(held.features), np.isin(held.species, classes)


def auroc(known: Floats, new: Floats) -> float:
    """Probability that a new media is stranger than a known one; ties count half.

    Mann & Whitney's U over the product of the counts.
    """
    values, place = np.unique(np.concatenate([known, new]), return_inverse=True)
    counts = np.bincount(place, minlength=len(values))
    rank = np.cumsum(counts) - (counts - 1) / 2
    above = rank[place[len(known) :]].sum() - len(new) * (len(new) + 1) / 2
    return float(above / (len(known) * len(new)))
