"""How likely luck alone explains what was seen, and how much more would have to be seen.

If two models are equally good, then it is a coin's throw which of them got an event right and which
one wrong. So every event is given a sign at random, many times over, and it is counted how often
that comes to as much as was seen: a sign-flip (paired permutation) test (Fisher 1935, "The Design
of Experiments", section 21; Good 2005, "Permutation, Parametric and Bootstrap Tests of
Hypotheses"). It needs no assumption about sizes: one event of ten frames, or a rare species that
weighs as much as a common one, is flipped as a whole. A percentile bootstrap at the same
confidence lets equal models through more often than it says (docs/gate.md).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from monitor.training.comparison import Values

SAMPLES = 2000
ALL_SIGNS_UP_TO = 11
"""With so few events every one of the 2^m ways is tried instead of a sample of them."""
POWER = 0.8
"""How likely a gain of the size seen should show, when it is said how much data that takes."""
ROUNDING = 1e-9
"""What sums of fractions leave of a zero."""

Signs = npt.NDArray[np.int8]


def signs(events: int, seed: int) -> Signs:
    """+1 or -1 for each event, in each of many draws: int8 (b, events); the first are all +1."""
    if events <= ALL_SIGNS_UP_TO:
        bits = (np.arange(2**events)[:, None] >> np.arange(events)) & 1
    else:
        bits = np.random.default_rng(seed).integers(0, 2, (SAMPLES, events), np.int8)
        bits[0] = 0
    drawn: Signs = (1 - 2 * bits).astype(np.int8)
    return drawn


def luck(gains: Values, seed: int, certain: float = 0.0) -> float:
    """The chance that equal models show such a sum of gains or a larger one.

    Args:
        gains: float64 (m,), of each event; an event that both judge alike has 0 and tells nothing.
        certain: what was gained beside where luck had no say: on species that only one of the two
            can name. The question is then whether luck hides a loss elsewhere that outweighs it.
    """
    telling = gains[np.abs(gains) > ROUNDING]
    sums = signs(len(telling), seed) @ telling
    return float((sums >= telling.sum() + certain - ROUNDING).mean())


def fewest(confidence: float) -> int:
    """How many events must differ, all in favour of one model, before luck can be ruled out."""
    return math.ceil(math.log2(1 / (1 - confidence)) - ROUNDING)


def events_needed(gains: Values, confidence: float, certain: float = 0.0) -> int:
    """How many events like these show a gain of this size with a power of 80 %, at `confidence`.

    The usual normal approximation: n x ((z(confidence) + z(power)) x error / gain)^2, and never
    fewer than bring `fewest` differing ones.

    Args:
        gains: float64 (n,), of each event, with at least one that is not 0.
        certain: as in `luck`; with the gains a sum above 0.
    """
    n, gain = len(gains), float(gains.sum()) + certain
    error = math.sqrt(float((gains**2).sum()))
    normal = NormalDist()
    wanted = normal.inv_cdf(confidence) + normal.inv_cdf(POWER)
    telling = int((np.abs(gains) > ROUNDING).sum())
    return math.ceil(n * max((wanted * error / gain) ** 2, fewest(confidence) / telling))
