"""Where the model looked: the class activation map of a linear head on pooled features.

A head that is linear in spatial averages is a sum over places: the logit of a class is the sum of
the map, exactly (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization").
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from monitor.core.domain import TrapwatchError
from monitor.images.decode import DecodeRules, decode
from monitor.model.backbone import INPUT_SIZES, LAYOUTS, BackboneOptions
from monitor.model.backbone.architectures import ARCHITECTURES
from monitor.model.backbone.ncnn_engine import NcnnBackbone, open_ncnn
from monitor.model.backbone.tail import Tail, tail_mark, without_tail
from monitor.model.head import SMALLEST_NORM, Head

GRID = 28  # rows and columns of a map: those of the finest block
KEPT_MAPS = 8  # pictures whose block outputs (1.3 MB each) stay for another species
IDLE_SECONDS = 120.0
WAIT_SECONDS = 30.0

Floats = npt.NDArray[np.float32]
Exact = npt.NDArray[np.float64]
Maps = tuple[Floats, Floats, Floats]


class NoLook(TrapwatchError):
    """There is no map for this model, backbone or species; says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Where in a picture a class gets its logit from.

    Attributes:
        species: the class.
        logit: uncalibrated, as `Head.logits` has it.
        constant: what does not come from any place (bias, means).
        probability: calibrated, as `Head.probabilities` has it.
        map: float32 (28, 28): map.sum() + constant is the logit.
    """

    species: str
    logit: float
    constant: float
    probability: float
    map: Floats


class ActivationMaps:
    """Makes maps on demand; its backbone is opened when first asked and let go when idle.

    Safe to share between threads; one picture goes through the backbone at a time. The backbone
    is always on ncnn, whatever labels: it is the one engine that opens in a second beside a running
    service, and its features are the same. It has the tail of the model that was asked about last.

    Args:
        idle_seconds: so long after the last look the backbone's memory is given back.
    """

    def __init__(
        self, options: BackboneOptions, rules: DecodeRules, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._options = replace(
            options,
            backbone=options.backbone if options.backbone in ARCHITECTURES else "vgg16",
            engine="ncnn",
            device="cpu",
            precision="float32",
            threads=1,
            batch_size=1,
        )
        self._rules = replace(rules, size=INPUT_SIZES[self._options.backbone])
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._backbone: NcnnBackbone | None = None
        self._tail_mark: str | None = None
        self._maps: OrderedDict[bytes, Maps] = OrderedDict()
        self._used_at = 0.0  # time.monotonic()
        self._closed = threading.Event()
        self._watch: threading.Thread | None = None

    def look(
        self,
        data: bytes,
        head: Head,
        species: str | None = None,
        tail: Callable[[], Tail | None] = lambda: None,
    ) -> Look:
        """Where `head` sees `species` in the picture with these bytes.

        Args:
            species: one of `head.classes`; None takes the one it finds most likely.
            tail: gives the one that `head` was trained with; called when the backbone has another.

        Raises:
            NoLook: see there.
            ImageRejected: the bytes are no picture.
            BackboneError: the backbone cannot be opened; says what to do.
        """
        check_head(head)
        if species is not None and species not in head.classes:
            raise NoLook(
                f"this model does not know '{species}'; it knows {', '.join(head.classes)}"
            )
        if not self._lock.acquire(timeout=WAIT_SECONDS):
            raise NoLook("other maps are being made; ask again in a minute")
        try:
            layout, maps = self._maps_of(data, head, tail)
        finally:
            self._lock.release()
        if layout != head.layout:
            raise NoLook(
                f"this model was trained on {head.layout} features, but the configured weights "
                f"give {layout}: its map cannot be drawn"
            )
        return map_of(maps, head, species)

    @property
    def is_open(self) -> bool:
        """True while the backbone is in memory."""
        return self._backbone is not None

    def close(self) -> None:
        """Let go of the backbone."""
        self._closed.set()
        with self._lock:
            self._let_go()
        if self._watch is not None:
            self._watch.join()

    def _maps_of(
        self, data: bytes, head: Head, tail: Callable[[], Tail | None]
    ) -> tuple[str, Maps]:
        """The layout's name, and the block outputs of a picture. The lock is held."""
        if self._closed.is_set():
            raise NoLook("trapwatch is ending; ask again when it runs")
        backbone = self._opened(tail_mark(head.layout), tail)
        image = hashlib.sha256(data).digest()
        maps = self._maps.pop(image, None)
        if maps is None:
            maps = backbone.pooled_maps(decode(data, self._rules))
        self._maps[image] = maps
        while len(self._maps) > KEPT_MAPS:
            self._maps.popitem(last=False)
        self._used_at = time.monotonic()
        return backbone.layout.name, maps

    def _opened(self, mark: str | None, tail: Callable[[], Tail | None]) -> NcnnBackbone:
        was_closed = self._backbone is None
        if mark != self._tail_mark:
            self._let_go()
        if self._backbone is None:
            self._backbone = open_ncnn(replace(self._options, tail=tail() if mark else None))
            self._tail_mark = mark
        if was_closed:
            self._watch = threading.Thread(target=self._wait_until_idle, name="look", daemon=True)
            self._used_at = time.monotonic()
            self._watch.start()
        return self._backbone

    def _wait_until_idle(self) -> None:
        """In a thread of its own: let go of the backbone when nobody has asked for long."""
        left = self._idle_seconds
        while left > 0 and not self._closed.wait(left):
            with self._lock:
                left = self._used_at + self._idle_seconds - time.monotonic()
                if left <= 0:
                    self._let_go()

    def _let_go(self) -> None:
        if self._backbone is not None:
            self._backbone.close()
            self._backbone = None
        self._maps.clear()


def check_head(head: Head) -> None:
    """Raise NoLook unless the head is linear in the spatial averages of a VGG's blocks."""
    if head.layout == LAYOUTS["small"].name:
        raise NoLook(
            "this model works on the 'small' backbone, which also takes maxima: there is no "
            "exact map of where it looked"
        )
    base = without_tail(head.layout).partition("@")[0]  # whoever's weights: they are compared later
    fitting = [LAYOUTS[name] for name in ARCHITECTURES if LAYOUTS[name].name == base]
    if not fitting or head.mean.size != fitting[0].size:
        known = " and ".join(LAYOUTS[name].name for name in ARCHITECTURES)
        raise NoLook(f"this model was trained on {head.layout} features; maps are made of {known}")


def map_of(maps: Maps, head: Head, species: str | None = None) -> Look:
    """The exact map of one class.

    With f_c the mean of channel c over its block's n cells, the logit is the sum over c of
    w_c (f_c - mean_c) / scale_c, plus b: so a cell of a block is given the sum over the block's
    channels of w_c / scale_c * value / n, and the rest, which no place has a part in, is the
    constant. Where a head takes each block at length 1, w_c is divided by the length that the block
    has in this frame, which the sum leaves exact. A cell of a coarse block is spread evenly over
    the fine cells that it covers.

    Args:
        maps: float32 (C, rows, rows) of each part of the head's features, rows dividing 28.
    """
    means = [block.reshape(len(block), -1).mean(axis=1, dtype=np.float64) for block in maps]
    features = np.concatenate(means).astype(np.float32)[np.newaxis]
    number = head.classes.index(species) if species else int(head.logits(features).argmax())
    weights = head.weights[:, number].astype(np.float64) / head.scale
    constant = float(head.bias[number]) - float(weights @ head.mean)
    total: Exact = np.zeros((GRID, GRID))
    start = 0
    for block in maps:
        part = weights[start : start + len(block)]
        if head.parts is not None:
            length = np.linalg.norm(features[0, start : start + len(block)])
            part = part / max(float(length), SMALLEST_NORM)
        start += len(block)
        cells = np.tensordot(part, block.astype(np.float64), axes=1) / block[0].size
        factor = GRID // block.shape[1]
        total += np.kron(cells, np.full((factor, factor), 1 / factor**2))
    return Look(
        head.classes[number],
        float(total.sum()) + constant,
        constant,
        float(head.probabilities(features)[0, number]),
        total.astype(np.float32),
    )
