"""A GPU that is lost in the middle of the night: the processor goes on in its place."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.model.backbone import Backbone, BackboneError, BackboneOptions, FeatureLayout

log = logging.getLogger(__name__)


class DeviceLost(BackboneError):
    """The GPU gave up in the middle of a batch: a driver's fault, heat, or a loose card."""


def gpu_gone(before: Mapping[str, Any], options: BackboneOptions, backbone: Backbone) -> str | None:
    """Why a GPU that worked at an earlier start is missed now; None: none is expected, or it works.

    Args:
        before: what was kept of the engine: its `description`, and why its GPU was lost.
    """
    had = before.get("gpu_lost") or ", GPU," in str(before.get("description"))
    if not had or isinstance(backbone, WithSpare):
        return None
    if options.device == "cpu" or options.engine == "ncnn" or options.backbone == "small":
        return None
    return (
        "The GPU that worked here before is not found any more: see nvidia-smi, and start the "
        "service anew. If it was taken out for good, set classifier.device to 'cpu'."
    )


class WithSpare:
    """A backbone on a GPU, and one on the processor from the moment at which the GPU is lost.

    The batch in hand is computed again, so nothing is lost. The GPU is tried again when a backbone
    is opened anew: at the next start of the service.

    Args:
        options: those of `first`.
        open_spare: opens another backbone of the same features; `open_backbone`.

    Attributes:
        on_lost: called once with the reason in words.
    """

    def __init__(
        self,
        first: Backbone,
        options: BackboneOptions,
        open_spare: Callable[[BackboneOptions], Backbone],
    ) -> None:
        self._current, self._options, self._open_spare = first, options, open_spare
        self._lock = threading.Lock()
        self.lost: str | None = None
        self.on_lost: Callable[[str], None] = lambda reason: None

    @property
    def name(self) -> str:
        """See Backbone."""
        return self._current.name

    @property
    def layout(self) -> FeatureLayout:
        """See Backbone; the spare one's is the same."""
        return self._current.layout

    @property
    def input_size(self) -> int:
        """See Backbone."""
        return self._current.input_size

    @property
    def batch_size(self) -> int:
        """See Backbone."""
        return self._current.batch_size

    @property
    def lanes(self) -> int:
        """See Backbone: 1 on the GPU, all of the processor without it."""
        return self._current.lanes

    @property
    def description(self) -> str:
        """See Backbone."""
        return self._current.description

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See Backbone; on the processor, where the GPU is lost."""
        used = self._current
        try:
            return used.features(images)
        except DeviceLost as error:
            self._replace(used, error)
            return self._current.features(images)

    def close(self) -> None:
        """Let go of memory."""
        self._current.close()

    def __getattr__(self, name: str) -> Any:
        """What only some backbones can do, such as `features_and_maps`."""
        return getattr(self._current, name)

    def _replace(self, used: Backbone, error: DeviceLost) -> None:
        with self._lock:
            if self._current is not used:  # another thread was faster
                return
            log.error("%s Going on with the processor; the GPU is tried at the next start.", error)
            options = replace(self._options, device="cpu", engine="ncnn", batch_size=0)
            self._current = self._open_spare(options)
            self.lost = str(error)
            used.close()
        self.on_lost(self.lost)
