"""One pass of an image through a VGG's conv stack in ncnn.

ncnn computes 3×3 convolutions by Winograd's minimal filtering (Lavin & Gray 2016, "Fast Algorithms
for Convolutional Neural Networks"), in float32: less than half the multiplications, the same
features to 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.model.backbone import CLOSED, BackboneError
from monitor.model.backbone.architectures import VGG16, Architecture
from monitor.model.backbone.ncnn_files import Part, param_text, parts_of
from monitor.model.backbone.weights import MEAN_RGB

Floats = NDArray[np.float32]

AS_NUMPY, AS_IT_IS = 0, 1  # extract plain, or in ncnn's own packing for the next network
REACH = 2  # rows that two 3×3 convolutions look beyond their slab


class ConvStack:
    """The networks of all parts. `run` may be called by any number of threads at once.

    Args:
        ncnn: the module.
        files: weights files of the network's parts, in their order.
        low_precision: keep what goes from layer to layer in bfloat16.
        network: which one.

    Raises:
        BackboneError: ncnn cannot load a file.
    """

    def __init__(
        self,
        ncnn: Any,
        files: Sequence[Path],
        low_precision: bool,
        network: Architecture = VGG16,
    ) -> None:
        self._ncnn = ncnn
        # One pool of each kind for all networks: each would keep the memory of one image a lane.
        self._pools = ncnn.PoolAllocator(), ncnn.PoolAllocator()
        for pool in self._pools:
            pool.set_size_compare_ratio(0.0)  # any block that is large enough is used again
        self._networks = [
            (part, self._network(part, file, low_precision))
            for part, file in zip(parts_of(network), files, strict=True)
        ]

    def close(self) -> None:
        """Let go of the networks, then of the memory they work in."""
        self._networks.clear()
        for pool in self._pools:
            pool.clear()

    def run(
        self, entry: NDArray[np.uint8 | np.float32], wanted: Sequence[str], first_block: int = 1
    ) -> dict[str, Floats]:
        """The blobs of these names, each float32 (C, H, W).

        Args:
            entry: uint8 (height, width, 3), RGB, or, for a later block, float32 (C, H, W).
            wanted: layers of blocks 3-5, such as `block4_pool`.
            first_block: where it goes in: 1, or one of 3-5.

        Raises:
            BackboneError: closed, or memory ran out.
        """
        if not self._networks:
            raise BackboneError(CLOSED)
        blobs: dict[str, Floats] = {}
        maps: Any = entry
        for part, network in self._networks:
            if part.last < first_block:
                continue
            if part.slab is not None:
                maps = self._in_slabs(part, network, maps)
                continue
            inner = part.first < first_block
            extractor = network.create_extractor()
            source = f"block{first_block - 1}_pool" if inner else part.source
            extractor.input(source, self._mat(maps))
            for name in sorted(set(wanted)):  # shallow to deep: ncnn forgets what it passed
                if part.holds(name):
                    blobs[name] = np.array(_extract(extractor, name, AS_NUMPY))
            if part is not self._networks[-1][0]:
                maps = _extract(extractor, part.result, AS_IT_IS)
        return blobs

    def _network(self, part: Part, file: Path, low_precision: bool) -> Any:
        network = self._ncnn.Net()
        option = network.opt
        option.num_threads = 1
        option.use_vulkan_compute = False
        # Half precision is on by default, and gives NaN on some ARM processors (ncnn #6932).
        option.use_fp16_packed = option.use_fp16_storage = option.use_fp16_arithmetic = False
        option.use_bf16_storage = low_precision
        option.use_winograd43_convolution = part.large_tiles
        option.use_winograd63_convolution = part.large_tiles
        option.blob_allocator, option.workspace_allocator = self._pools
        if network.load_param_mem(param_text(part)) or network.load_model(str(file)):
            raise BackboneError(
                f"ncnn {self._ncnn.__version__} could not load {file}. Delete it, so that it is "
                "written anew, or set classifier.engine to 'keras'."
            )
        return network

    def _in_slabs(self, part: Part, network: Any, entry: NDArray[Any]) -> Floats:
        """One block, some rows at a time: an image or float32 (C, H, W) to float32 (C', H/2, W/2).

        Each 3×3 convolution reaches one row further, and zeros are added where a slab ends: so a
        slab takes two more rows on each side, and what comes of them is cut off.
        """
        axis = 0 if entry.dtype == np.uint8 else 1
        rows, slab = entry.shape[axis], part.slab or entry.shape[axis]
        pieces = []
        for start in range(0, rows // 2 * 2, slab):
            end = min(start + slab, rows)
            first, last = max(start - REACH, 0), min(end + REACH, rows)
            extractor = network.create_extractor()
            extractor.input(part.source, self._mat(entry.take(range(first, last), axis)))
            blob = np.array(_extract(extractor, part.result, AS_NUMPY))
            skipped = (start - first) // 2
            pieces.append(blob[:, skipped : skipped + (end - start) // 2])
        return np.concatenate(pieces, axis=1)

    def _mat(self, entry: Any) -> Any:
        """An image, mean subtracted and turned to BGR, or float32 (C, H, W), as ncnn's array."""
        if not isinstance(entry, np.ndarray):
            return entry
        entry = np.ascontiguousarray(entry)
        if entry.dtype != np.uint8:
            return self._ncnn.Mat(entry).clone()  # a Mat of an array only borrows its memory
        bgr = self._ncnn.Mat.PixelType.PIXEL_RGB2BGR
        mat = self._ncnn.Mat.from_pixels(entry, bgr, entry.shape[1], entry.shape[0])
        mat.substract_mean_normalize(list(MEAN_RGB[::-1]), [])
        return mat


def _extract(extractor: Any, name: str, kind: int) -> Any:
    code, blob = extractor.extract(name, kind)
    if code:
        raise BackboneError(
            f"ncnn could not compute {name} (code {code}): most likely memory ran out. Set "
            "classifier.threads to a smaller number."
        )
    return blob
