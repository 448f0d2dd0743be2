"""A tail: the last block or two of a network with weights of a station's own, from fine-tuning.

Everything before it stays ImageNet's, so that a version needs 28 or 52 MB on disk and not 59 to 80,
maps of the last frozen block may be kept and used again, and two versions share all lower blocks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.model.backbone import BackboneError, FeatureLayout
from monitor.model.backbone.architectures import architecture_of, block_of

Arrays = dict[str, NDArray[np.float32]]

FIRST_BLOCKS = (4, 5)
"""Where a tail may begin; it always reaches to the end."""
MARK_LENGTH = 12
MARK = "+"  # in a layout's name, before the first digits of the tail's SHA-256
MAX_TAIL_BYTES = 128 * 2**20
"""Far above any tail (VGG19's last two blocks are 71 MB): a limit for damaged files."""
MAP_SHAPES = {4: (28, 28, 256), 5: (14, 14, 512)}
"""Of what goes into a block, for the pictures that `Backbone.features` takes."""


class TailError(BackboneError):
    """These are no weights of a tail; says which and why."""


@dataclass(frozen=True, slots=True)
class Tail:
    """Weights of the last block or two. Two are equal when their sums are.

    Attributes:
        backbone: `vgg16` or `vgg19`.
        first_block: 4 or 5; all of this block and those behind it are replaced.
        sha256: of the file that `to_bytes` makes: of every weight, name and shape.
        arrays: {"block5_conv1/kernel": float32 H×W×in×out, "block5_conv1/bias": …}.
    """

    backbone: str
    first_block: int
    sha256: str
    arrays: Arrays = field(compare=False, repr=False)

    @classmethod
    def of(cls, backbone: str, arrays: Mapping[str, NDArray[Any]]) -> Tail:
        """A tail of these weights.

        Raises:
            TailError: not exactly the tensors of the last block or the last two, another shape, or
                a value that is not finite.
        """
        whole = {name: np.ascontiguousarray(array, "<f4") for name, array in arrays.items()}
        first_block = _first_block(backbone, whole)
        sha256 = hashlib.sha256(_packed(backbone, whole)).hexdigest()
        return cls(backbone, first_block, sha256, whole)

    @classmethod
    def from_bytes(cls, content: bytes) -> Tail:
        """The inverse of `to_bytes`. Raises TailError, in words, on anything else."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            arrays = load(content)
            length = int.from_bytes(content[:8], "little")
            backbone = json.loads(content[8 : 8 + length])["__metadata__"]["backbone"]
        except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise TailError(f"it does not hold a tail: {error!r}") from error
        if odd := [name for name, array in arrays.items() if array.dtype != np.float32]:
            raise TailError(f"{odd[0]} is {arrays[odd[0]].dtype}, not float32")
        first_block = _first_block(backbone, arrays)
        return cls(backbone, first_block, hashlib.sha256(content).hexdigest(), arrays)

    def to_bytes(self) -> bytes:
        """A .safetensors file: arrays only."""
        return _packed(self.backbone, self.arrays)

    def layout_on(self, layout: FeatureLayout) -> FeatureLayout:
        """The layout of a network whose layout without a tail is `layout`, with this tail."""
        return FeatureLayout(self.name_on(layout.name), layout.parts)

    def name_on(self, layout: str) -> str:
        """The name of `layout_on`, such as `vgg16-avg345/1+0123abcd4567`."""
        return f"{layout}{MARK}{self.sha256[:MARK_LENGTH]}"


def without_tail(layout: str) -> str:
    """The layout's name without its tail: `vgg16-avg345/1+0123abcd4567` -> `vgg16-avg345/1`."""
    return layout.partition(MARK)[0]


def tail_mark(layout: str) -> str | None:
    """The first digits of the SHA-256 of a layout's tail; None if it has none."""
    return layout.partition(MARK)[2] or None


def first_block_of_maps(
    maps: NDArray[Any], frozen: NDArray[np.float32], layout: FeatureLayout, tail: int | None
) -> int:
    """The block that takes these maps, checked together with the frames' frozen features.

    Args:
        maps: float16 or float32, (n, 14, 14, 512) of `block4_pool` or (n, 28, 28, 256) of
            `block3_pool`.
        frozen: float32 (n, layout.size).
        tail: the block in which the tail begins; None: there is no tail.

    Raises:
        BackboneError: another shape or type, or maps of a block that the tail has replaced.
    """
    blocks = [block for block, shape in MAP_SHAPES.items() if shape == maps.shape[1:]]
    if not blocks or maps.dtype not in (np.float16, np.float32):
        raise BackboneError(
            "Features are made of float16 or float32 maps of shape (n, 14, 14, 512) or "
            f"(n, 28, 28, 256), not of {maps.dtype} of shape {maps.shape}."
        )
    expected = (len(maps), layout.size)
    if frozen.dtype != np.float32 or frozen.shape != expected:
        raise BackboneError(
            f"Beside the maps, the frozen features must be float32 of shape {expected}, not "
            f"{frozen.dtype} of shape {frozen.shape}."
        )
    if tail is not None and blocks[0] > tail:
        raise BackboneError(
            f"These are maps of block {blocks[0] - 1}, but the tail begins with block {tail}: "
            f"give those of block {tail - 1}."
        )
    return blocks[0]


def frozen_length(layout: FeatureLayout, first_block: int) -> int:
    """How many numbers of a feature vector come from blocks before that one."""
    return sum(length for part, length in layout.parts if block_of(part) < first_block)


def _first_block(backbone: str, arrays: Arrays) -> int:
    """The block in which these begin. Raises TailError unless they are a whole, sound tail."""
    if not isinstance(backbone, str) or not backbone.startswith("vgg"):
        raise TailError(f"there is no tail for the backbone {backbone!r}; vgg16 and vgg19 have one")
    network = architecture_of(backbone)
    for first in FIRST_BLOCKS:
        shapes = {n: shape for n, shape in network.shapes.items() if block_of(n) >= first}
        if shapes.keys() == arrays.keys():
            break
    else:
        raise TailError(
            f"a tail is the kernels and biases of all convolutions of {network.title}'s block 5, "
            f"or of blocks 4 and 5; these are: {', '.join(sorted(arrays)) or 'none'}"
        )
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise TailError(f"{name} has shape {arrays[name].shape}, not {shape}")
        if not np.isfinite(arrays[name]).all():
            raise TailError(f"{name} holds numbers that are not finite")
    return first


def _packed(backbone: str, arrays: Arrays) -> bytes:
    from safetensors.numpy import save

    # one word of metadata: with more, their order and so the sum would be any
    return bytes(save(arrays, {"backbone": backbone}))


def check_fits(tail: Tail, backbone: str) -> None:
    """Raise BackboneError unless the tail is one of this backbone."""
    if tail.backbone != backbone:
        raise BackboneError(
            f"This model's tail is one of {tail.backbone}, but classifier.backbone is "
            f"'{backbone}': set it back, or train again."
        )
