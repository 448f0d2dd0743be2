"""Labels that look wrong: what people said against what heads say that had not seen it.

Confident learning (Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in
Dataset Labels"): a species has its own bar, the mean probability that media labelled as it get for
it; a label is doubted where the likeliest species above its bar is another one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from monitor.model.head import Floats

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
MOST = 200

Doubt = list[int | str | float]
"""[media id, label, suggested, probability of the suggested]: JSON values."""


def doubts(
    aside: Floats,
    labels: Sequence[str],
    judged: Bools,
    media_ids: Sequence[int],
    classes: Sequence[str],
    most: int = MOST,
) -> list[Doubt]:
    """Media whose label looks wrong, the most suspicious first: by how much the suggested species
    is likelier than the one that was said.

    Args:
        aside: float32 (n, k), probabilities from heads that had not seen the row.
        labels: n species, all of them in `classes`.
        judged: bool (n,), rows that may be doubted.
        media_ids: n of them.
        classes: k names.
    """
    rows = np.flatnonzero(judged)
    index = {name: i for i, name in enumerate(classes)}
    said = np.array([index[labels[row]] for row in rows.tolist()], np.int64)
    spoken, place = aside[rows], np.arange(len(rows))
    above = np.where(spoken >= _bars(spoken, said), spoken, -1.0)
    suggested = above.argmax(axis=1)
    margin = np.where(above[place, suggested] > 0, spoken[place, suggested], 0.0)
    margin = margin - spoken[place, said]
    order = [i for i in np.argsort(-margin, kind="stable") if margin[i] > 0][:most]
    return [
        [
            int(media_ids[rows[i]]),
            classes[said[i]],
            classes[suggested[i]],
            round(float(spoken[i, suggested[i]]), 5),
        ]
        for i in order
    ]


def _bars(spoken: Floats, said: Ints) -> Floats:
    """Mean probability of each class on the rows labelled as it, float32 (k,); above everything
    for a class that nothing is labelled as."""
    bars = np.full(spoken.shape[1], 2.0, np.float32)
    for species in np.unique(said):
        bars[species] = spoken[said == species, species].mean()
    return bars
