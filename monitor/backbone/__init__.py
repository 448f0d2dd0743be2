"""From pixels to feature vectors: one small interface over every engine.

    options = BackboneOptions(backbone="vgg16", device="cpu")
    backbone = open_backbone(options)
    features = backbone.features(images)  # (n, backbone.layout.size) float32

Importing this package costs nothing: an engine is imported when it is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from monitor.domain import TrapwatchError


class BackboneError(TrapwatchError):
    """The classifier's backbone cannot be opened or used; says why and what to do."""


@dataclass(frozen=True, slots=True)
class FeatureLayout:
    """What each number of a feature vector is.

    Vectors of two layouts may be compared only when their names are equal.

    Attributes:
        name: versioned; other weights or another meaning of a part give another name.
        parts: (part, length), in the order in which they lie in the vector.
    """

    name: str
    parts: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        """Length of one feature vector."""
        return sum(length for _, length in self.parts)


class Backbone(Protocol):
    """One opened engine. Not thread-safe itself: one thread calls it, others may run beside."""

    @property
    def name(self) -> str:
        """`vgg16` or `small`."""

    @property
    def layout(self) -> FeatureLayout:
        """What `features` returns. Carries the weights' fingerprint if they are a user's own."""

    @property
    def input_size(self) -> int:
        """Height and width of the images it takes, in pixels."""

    @property
    def batch_size(self) -> int:
        """How many images go through at once; may fall when memory runs out."""

    @property
    def description(self) -> str:
        """For people, such as `Keras 3.15 on TensorFlow 2.21, CPU, bfloat16`."""

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn images into feature vectors.

        Args:
            images: uint8 (n, input_size, input_size, 3), RGB; any n from 0.

        Returns:
            float32 (n, layout.size); row i depends on image i alone.

        Raises:
            BackboneError: the array has another shape or type, or memory ran out.
        """

    def close(self) -> None:
        """Let go of memory; the backbone cannot be used afterwards."""


@dataclass(frozen=True, slots=True)
class BackboneOptions:
    """The part of `classifier` in config.yaml that an engine needs.

    Attributes:
        weights: `imagenet`, or a path of a user's own .safetensors or .h5 file.
        threads: processor threads an engine may use; 0 means all.
        batch_size: images at once; 0 means 8 on a CPU and 64 on a GPU.
        weights_cache: folder in which verified weights are kept for fast starts.
        allow_download: whether the ImageNet weights may be fetched from the network.
    """

    backbone: Literal["vgg16", "small"] = "vgg16"
    weights: str = "imagenet"
    engine: Literal["auto", "keras"] = "auto"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = 0
    batch_size: int = 0
    weights_cache: Path | None = None
    allow_download: bool = False


LAYOUTS = {
    # Averages over space of a block's output *after* its pooling: block5_avg is exactly what
    # keras.applications.VGG16(include_top=False, pooling="avg") returns.
    "vgg16": FeatureLayout(
        "vgg16-avg345/1", (("block3_avg", 256), ("block4_avg", 512), ("block5_avg", 512))
    ),
    "small": FeatureLayout(
        "small/1",
        (
            ("level1_avg", 24),
            ("level1_max", 24),
            ("level2_avg", 24),
            ("level2_max", 24),
            ("colour_grid", 12),
            ("colour_spread", 3),
        ),
    ),
}


INPUT_SIZES = {"vgg16": 224, "small": 64}
"""Height and width of the images each backbone takes, in pixels."""


def layout_of(backbone: str) -> FeatureLayout:
    """The layout of a backbone with its standard weights, without opening it."""
    try:
        return LAYOUTS[backbone]
    except KeyError:
        known = ", ".join(sorted(LAYOUTS))
        raise BackboneError(f"There is no backbone '{backbone}'; known are: {known}.") from None


def check_images(images: NDArray[np.uint8], input_size: int) -> None:
    """Raise BackboneError unless `images` is uint8 (n, input_size, input_size, 3)."""
    expected = (input_size, input_size, 3)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
        raise BackboneError(
            f"A backbone takes uint8 images of shape (n, {input_size}, {input_size}, 3), "
            f"not {images.dtype} of shape {images.shape}."
        )


def open_backbone(options: BackboneOptions) -> Backbone:
    """Load the weights and make the engine ready.

    Raises:
        BackboneError: an unknown name, no such device, or (its subclasses WeightsMissing and
            WeightsMismatch) no weights that can be trusted.
    """
    layout_of(options.backbone)
    if options.backbone == "small":
        from monitor.backbone.small_engine import SmallBackbone

        return SmallBackbone(options.batch_size)
    if options.engine not in ("auto", "keras"):
        raise BackboneError(f"There is no engine '{options.engine}'; known are: auto, keras.")
    from monitor.backbone.keras_engine import open_keras

    return open_keras(options)
