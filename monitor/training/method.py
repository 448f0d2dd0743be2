"""Which method a training takes, and why: said in the card, so that nobody has to guess."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitor.core.config import Settings
from monitor.log.learning import LabelledMedia
from monitor.training.dataset import Dataset
from monitor.training.head import FittedHead

FEWEST_LABELS = 300
"""With fewer, `auto` does not try: seven million weights learn little from them but the labels by
heart, and an hour is better spent labelling."""


def may_fine_tune(settings: Settings, usable: Sequence[LabelledMedia]) -> str | None:
    """Why fine-tuning is out of the question here; None if it is to be tried."""
    training = settings.training
    if settings.classifier.backbone == "small":
        return "the backbone 'small' has no blocks to tune"
    if training.method == "head":
        return "training.method is 'head'"
    if training.method == "auto" and len(usable) < FEWEST_LABELS:
        return f"fine-tuning is tried from {FEWEST_LABELS} labels on, and there are {len(usable)}"
    return None


def tuned_is_better(head: FittedHead, tuned: FittedHead, dataset: Dataset) -> tuple[bool, str]:
    """Whether a fine-tuned version tells more of rows that neither learnt from, and the figures.

    Compared by negative log-likelihood on the training side's rows that the tuned one set aside and
    that cross-validation judged: the held-out side is for the gate alone.
    """
    rows = tuned.judged & head.judged
    if not rows.any():
        return False, "no labels could be set aside to compare it with the head alone"
    index = {name: i for i, name in enumerate(dataset.classes)}
    y = np.array([index[name] for name in dataset.train.species[rows].tolist()])
    before, after = (
        float(-np.log(np.maximum(one.aside[rows][np.arange(len(y)), y], 1e-12)).mean())
        for one in (head, tuned)
    )
    return after < before, (
        f"on {len(y)} labels set aside, its negative log-likelihood is {after:.3f}, that of the "
        f"head alone {before:.3f}"
    )
