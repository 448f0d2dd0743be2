"""Where the model looked: the class activation map of a linear head on pooled features.

A head that is linear in spatial averages is a sum over places: the logit of a class is the sum of
the map, exactly (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.backbone import BackboneOptions
from monitor.classifier import Head
from monitor.domain import TrapwatchError
from monitor.imaging import DecodeRules


class NoLook(TrapwatchError):
    """There is no map for this model, backbone or species; says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Where in a picture a class gets its logit from.

    Attributes:
        species: the class.
        logit: uncalibrated, as `Head.logits` has it.
        constant: what does not come from any place (bias, means).
        map: float32 (28, 28): map.sum() + constant is the logit.
    """

    species: str
    logit: float
    constant: float
    map: npt.NDArray[np.float32]


class Looks:
    """Makes maps on demand; its backbone is opened when first asked and let go when idle."""

    def __init__(self, options: BackboneOptions, rules: DecodeRules) -> None:
        self._options, self._rules = options, rules

    def look(self, data: bytes, head: Head, species: str) -> Look:
        """Where `head` sees `species` in the picture with these bytes.

        Raises:
            NoLook: see there.
            ImageRejected: the bytes are no picture.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the backbone."""
