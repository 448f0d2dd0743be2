"""Labels said of a whole event: not every frame of it shows the animal.

"This burst is a fox" is true of at least one of its frames (multiple-instance learning: Dietterich
et al. 1997). So the frame that looks most like a fox is believed, and every other one as far as it
looks more like a fox than like a blank, to heads that had not seen its event.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from monitor.core.domain import BLANK
from monitor.training.dataset import Part

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

SURE = 0.5
"""A row that is believed less is not used to calibrate, to promise or to doubt anything."""
LEAST = 1e-3
"""Nothing is wholly disbelieved, so that no species is left without a row."""


def doubtful_rows(part: Part, classes: Sequence[str]) -> Bools:
    """bool (n,): rows that may be blank although their event was called something else.

    None where blank is no class: then nobody can say what a blank looks like.
    """
    if BLANK not in classes:
        return np.zeros(len(part), np.bool_)
    return np.asarray(part.of_event & (part.species != BLANK), np.bool_)


def shares_of_event_labels(
    aside: Floats, part: Part, classes: Sequence[str], doubtful: Bools
) -> Floats:
    """How much of each row is believed, float32 (n,), above 0 and at most 1.

    p(label)^2 / (p(label)^2 + p(blank)^2). The square was compared with the first power and with
    leaving frames out altogether (docs/probabilities.md).

    Args:
        aside: float32 (n, k), probabilities from heads that had not seen the row.
        doubtful: bool (n,), see `doubtful_rows`; all others are believed.
    """
    of_label, of_blank = label_and_blank(aside, part, classes)
    shares = np.ones(len(part), np.float32)
    rows = np.flatnonzero(doubtful)
    label, blank = of_label[rows] ** 2, of_blank[rows] ** 2
    shares[rows] = np.maximum(label / np.maximum(label + blank, 1e-12), LEAST)
    shares[best_of_events(of_label, part, doubtful)] = 1.0
    return shares


def label_and_blank(
    probabilities: Floats, part: Part, classes: Sequence[str]
) -> tuple[Floats, Floats]:
    """What a model gives the label of each row and `blank`, two float32 (n,); 0 for strangers."""
    index = {name: i for i, name in enumerate(classes)}
    padded = np.column_stack([probabilities, np.zeros(len(part), np.float32)])
    column = np.array([index.get(name, -1) for name in part.species.tolist()], np.intp)
    return padded[np.arange(len(part)), column], padded[:, index.get(BLANK, -1)]


def best_of_events(of_label: Floats, part: Part, doubtful: Bools) -> npt.NDArray[np.intp]:
    """Of each event, the doubtful row that looks most like its label."""
    rows = np.flatnonzero(doubtful)
    rows = rows[np.argsort(-of_label[rows], kind="stable")]
    keys = np.array(
        [f"{group} {name}" for group, name in zip(part.groups, part.species, strict=True)], np.str_
    )
    _, first = np.unique(keys[rows], return_index=True)
    return rows[first]


def rows_to_judge_by(part: Part, opinions: Sequence[tuple[Floats, Sequence[str]]]) -> Bools:
    """bool (n,): held-out rows whose label is likely true of the frame itself.

    A frame of an event that was labelled as a whole is left out where every model that is judged
    finds `blank` likelier than the label, and another frame of the event likelier to show it. All
    of them are wrong there, or none is: no model wins by its own opinion of what is to count.

    Args:
        opinions: probabilities float32 (n, k) and the k classes, of each model.
    """
    doubtful = part.of_event & (part.species != BLANK)
    blank_looking = doubtful & bool(opinions)
    total = np.zeros(len(part), np.float32)
    for probabilities, classes in opinions:
        of_label, of_blank = label_and_blank(probabilities, part, classes)
        blank_looking &= of_blank > of_label
        total += of_label
    blank_looking[best_of_events(total, part, doubtful)] = False
    return np.asarray(~blank_looking, np.bool_)
