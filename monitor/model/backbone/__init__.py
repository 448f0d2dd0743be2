"""From pixels to feature vectors: one small interface over every engine.

    options = BackboneOptions(backbone="vgg16", device="cpu")
    backbone = open_backbone(options)
    features = backbone.features(images)  # (n, backbone.layout.size) float32

Importing this package costs nothing: an engine is imported when it is opened.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from monitor.core.domain import TrapwatchError

if TYPE_CHECKING:
    from monitor.model.backbone.tail import Tail


class BackboneError(TrapwatchError):
    """The classifier's backbone cannot be opened or used; says why and what to do."""


CLOSED = "This backbone was closed; open another one."


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
    """One opened engine. Any number of threads may call it at once; `lanes` of them pay off."""

    @property
    def name(self) -> str:
        """`vgg16`, `vgg19` or `small`."""

    @property
    def layout(self) -> FeatureLayout:
        """What `features` returns. Carries the weights' fingerprint if they are a user's own, and
        that of the tail if there is one."""

    @property
    def input_size(self) -> int:
        """Height and width of the images it takes, in pixels."""

    @property
    def batch_size(self) -> int:
        """Up to how many images in one call pay off; may fall when memory runs out."""

    @property
    def lanes(self) -> int:
        """Threads in `features` at once that keep the device busy: all of a CPU, 1 on a GPU."""

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


Engine = Literal["auto", "keras", "ncnn"]
"""`auto` is whichever of the others a trial found fastest on this machine."""

Name = Literal["vgg16", "vgg19", "small"]

MapLayer = Literal["block3_pool", "block4_conv3", "block4_pool"]
"""Maps that scene memory and fine-tuning start from."""
MAP_CELLS: dict[MapLayer, int] = {"block3_pool": 8, "block4_conv3": 8, "block4_pool": 16}
"""Height and width of the part of a picture that one cell of a map stands for, in pixels."""


class MapBackbone(Backbone, Protocol):
    """A backbone that also shows where in a picture its features lie: VGG on any engine."""

    def features_and_maps(
        self, images: NDArray[np.uint8], layer: MapLayer = "block4_pool"
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Feature vectors and one layer's maps, from one pass.

        Args:
            images: uint8 (n, height, width, 3), RGB; n from 1, any height and width from 32.

        Returns:
            float32 (n, layout.size) and float32 (n, height / 8 or 16, width / 8 or 16, channels),
            rounded down; 256 channels of block 3, 512 of block 4.

        Raises:
            BackboneError: the array has another shape or type, or memory ran out.
        """

    def features_from_maps(
        self, maps: NDArray[np.float16 | np.float32], frozen: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Feature vectors of frames whose maps are kept, without the blocks before those.

        Args:
            maps: float16 or float32, (n, 14, 14, 512) of `block4_pool`, or (n, 28, 28, 256) of
                `block3_pool`, from 224×224 pixels and a network with the same lower blocks; any n
                from 0.
            frozen: float32 (n, layout.size), any features of these frames with the same lower
                blocks: the parts before the maps are taken from them.

        Returns:
            float32 (n, layout.size): what `features` would say of the frames.

        Raises:
            BackboneError: an array has another shape or type, or the maps are those of a block
                that the tail has replaced.
        """


@dataclass(frozen=True, slots=True)
class BackboneOptions:
    """The part of `classifier` in config.yaml that an engine needs.

    Attributes:
        weights: `imagenet`, or a path of a user's own .safetensors or .h5 file.
        engine: `auto` takes the one that a trial found fastest on this machine.
        threads: processor threads an engine may use; 0 means all.
        batch_size: images at once; 0 leaves it to the engine, or to the trial on a GPU.
        weights_cache: folder in which verified weights are kept for fast starts.
        allow_download: whether the ImageNet weights may be fetched from the network.
        tail: what stands in for the last block or two of `weights`; None leaves them.
    """

    backbone: Name = "vgg16"
    weights: str = "imagenet"
    engine: Engine = "auto"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = 0
    batch_size: int = 0
    weights_cache: Path | None = None
    allow_download: bool = False
    tail: Tail | None = None


_AVERAGES = (("block3_avg", 256), ("block4_avg", 512), ("block5_avg", 512))
LAYOUTS = {
    # Averages over space of a block's output *after* its pooling: block5_avg is exactly what
    # keras.applications.VGG16(include_top=False, pooling="avg") returns.
    "vgg16": FeatureLayout("vgg16-avg345/1", _AVERAGES),
    "vgg19": FeatureLayout("vgg19-avg345/1", _AVERAGES),
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


SMALLEST_SIDE = 32  # of a picture: five poolings leave one cell of it
INPUT_SIZES = {"vgg16": 224, "vgg19": 224, "small": 64}
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


def check_pictures(images: NDArray[np.uint8]) -> None:
    """Raise BackboneError unless `images` is uint8 (n, height, width, 3), n >= 1, sides >= 32."""
    sound = images.ndim == 4 and images.shape[3] == 3 and min(images.shape[1:3]) >= SMALLEST_SIDE
    if images.dtype != np.uint8 or not sound or not len(images):
        raise BackboneError(
            f"Maps are made of uint8 images of shape (n, height, width, 3), n from 1, height and "
            f"width from {SMALLEST_SIDE}, not of {images.dtype} of shape {images.shape}."
        )


def usable_threads(threads: int) -> int:
    """The given number; for 0, the processors that this process may run on."""
    if threads:
        return threads
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_backbone(options: BackboneOptions) -> Backbone:
    """Load the weights and make the engine ready.

    Raises:
        BackboneError: an unknown name, no such device, or (its subclasses WeightsMissing and
            WeightsMismatch) no weights that can be trusted.
    """
    layout_of(options.backbone)
    if options.tail is not None:
        from monitor.model.backbone.tail import check_fits

        check_fits(options.tail, options.backbone)
    if options.backbone == "small":
        from monitor.model.backbone.small_engine import SmallBackbone

        return SmallBackbone(options.batch_size, usable_threads(options.threads))
    if options.engine == "auto":
        from monitor.model.backbone.trial import with_best_engine

        options = with_best_engine(options)
    if options.engine == "ncnn":
        from monitor.model.backbone.ncnn_engine import open_ncnn

        return open_ncnn(options)
    if options.engine != "keras":
        raise BackboneError(f"There is no engine '{options.engine}'; known are: auto, keras, ncnn.")
    from monitor.model.backbone.keras_engine import open_keras

    opened = open_keras(options)
    if not opened.on_gpu:
        return opened
    from monitor.model.backbone.spare import WithSpare

    return WithSpare(opened, options, open_backbone)
