"""A VGG's conv stack in the two files ncnn reads: the network as text, the weights as bytes.

A weights file is written once from verified arrays and kept beside them, so that a start neither
reads nor turns 59 MB of arrays. It is trusted only while its SHA-256 is the one it must have.

Source of the format: ncnn's "param and model file spec" (docs/how-to-use-and-FAQ in its
repository): layer type, name, number of inputs and outputs, their names, then numbered parameters.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from monitor.model.backbone.architectures import VGG16, Architecture, block_of
from monitor.model.backbone.weight_files import Arrays
from monitor.system.files import write_whole

log = logging.getLogger(__name__)

PARAM_MAGIC = 7767517
NO_WINOGRAD = 1 << 6  # of ncnn's per-layer switches
FLOAT32_TAG = b"\0\0\0\0"  # before each kernel: what follows is raw float32


@dataclass(frozen=True, slots=True)
class Part:
    """Some consecutive blocks of the stack, loaded as one ncnn network.

    Attributes:
        first, last: numbers of the blocks, 1-5.
        imagenet_sha256: of its weights file for the published ImageNet arrays. Together with
            `packed`, which is deterministic, it says as much as their sums do. None where the
            published arrays' sums are not known.
        slab: rows of its input that go through at once, an even number; None: all of them.
        large_tiles: Winograd tiles of 4×4 and 6×6, else of 2×2.
        network: what it is a part of.
    """

    first: int
    last: int
    imagenet_sha256: str | None
    slab: int | None = None
    large_tiles: bool = True
    network: Architecture = VGG16

    @property
    def name(self) -> str:
        """For people and file names."""
        return f"block{self.first}" if self.first == self.last else f"block{self.first}-{self.last}"

    @property
    def source(self) -> str:
        """Name of the blob that goes in."""
        return "images" if self.first == 1 else f"block{self.first - 1}_pool"

    @property
    def result(self) -> str:
        """Name of the blob that comes out."""
        return f"block{self.last}_pool"

    def holds(self, blob: str) -> bool:
        """Whether that blob, named like a layer of Keras, is computed in this part."""
        return self.first <= block_of(blob) <= self.last


# Blocks 1 and 2 work on maps of 13 and 6 MB, and Winograd's transformed input is twice as large
# again: in slabs of rows they need a fraction of that, which saves 136 MB on two lanes and costs
# nothing that could be measured. Block 5 sees 14×14 cells, which larger tiles do not fill: 2×2
# tiles are as fast there, and save 50 MB of transformed kernels (benchmarks/variants.py).
PARTS = (
    Part(1, 1, "7279d3cdf47992ff8c9e525621ebbee6b49cb1cfa0eac40943cdff4317154fd6", slab=56),
    Part(2, 2, "87613045720c694377c1080a7e7378640f55979c36366e5db91cefe82c826bcb", slab=56),
    Part(3, 4, "d58bdbd9c2c6b62dfab5ef90620886d8b6ba60a2eb33a0529b99cd02c95368b0"),
    Part(
        5, 5, "865dfd32e25d37112949c52e7e92f083fa69fc6d047f9c01f2e8b0d86f2361e3", large_tiles=False
    ),
)


def parts_of(network: Architecture) -> tuple[Part, ...]:
    """The same division of any network: it is the maps' sizes that it goes by."""
    if network is VGG16:
        return PARTS
    return tuple(replace(part, imagenet_sha256=None, network=network) for part in PARTS)


def param_text(part: Part) -> str:
    """The network of one part, as ncnn's text format; blobs are named like Keras' layers."""
    lines = [f"Input {part.source} 0 1 {part.source}"]
    blob = part.source
    for layer, inputs, filters in _convolutions(part):
        options = f"0={filters} 1=3 4=1 5=1 6={9 * inputs * filters} 9=1"  # same padding, ReLU
        if inputs == 3:  # three channels fill no Winograd tile: plain is twice as fast
            options += f" 31={NO_WINOGRAD}"
        lines.append(f"Convolution {layer} 1 1 {blob} {layer} {options}")
        blob = layer
        if layer.endswith(f"conv{part.network.blocks[block_of(layer) - 1][0]}"):
            pool = f"block{block_of(layer)}_pool"
            lines.append(f"Pooling {pool} 1 1 {blob} {pool} 0=0 1=2 2=2 5=1")  # 5=1: floor
            blob = pool
    return "\n".join([str(PARAM_MAGIC), f"{len(lines)} {len(lines)}", *lines, ""])


def packed(arrays: Arrays, part: Part) -> bytes:
    """The weights of one part as ncnn reads them: kernels out×in×H×W, then their biases."""
    return b"".join(_packed_layer(arrays, layer) for layer, _, _ in _convolutions(part))


def with_tail(content: bytes, arrays: Arrays, part: Part) -> bytes:
    """The weights of one part, those of the layers in `arrays` in place of the ones there."""
    pieces, start = [], 0
    for layer, inputs, filters in _convolutions(part):
        end = start + len(FLOAT32_TAG) + 4 * filters * (9 * inputs + 1)
        is_new = f"{layer}/kernel" in arrays
        pieces.append(_packed_layer(arrays, layer) if is_new else content[start:end])
        start = end
    return b"".join(pieces)


def write_tail(
    arrays: Arrays, files: Sequence[Path], parts: Sequence[Part], folder: Path
) -> list[Path]:
    """The weights files of all parts, those that hold layers of `arrays` written anew in `folder`.

    Raises:
        OSError: a file cannot be read, the folder cannot be written, or the disk is full.
    """
    first, paths = min(block_of(name) for name in arrays), list(files)
    for number, (part, file) in enumerate(zip(parts, files, strict=True)):
        if part.last >= first:
            paths[number] = folder / f"tail-{part.name}.bin"
            paths[number].write_bytes(with_tail(file.read_bytes(), arrays, part))
    return paths


def _packed_layer(arrays: Arrays, layer: str) -> bytes:
    kernel = arrays[f"{layer}/kernel"].astype("<f4", copy=False)
    bias = arrays[f"{layer}/bias"].astype("<f4", copy=False)
    turned = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
    return FLOAT32_TAG + turned.tobytes() + bias.tobytes()


def cached_imagenet(cache: Path, parts: Sequence[Part] = PARTS) -> list[Path] | None:
    """The weights files of all parts for ImageNet, if they lie in `cache` and are whole; None too
    where nothing tells what they must be."""
    paths = []
    for part in parts:
        if part.imagenet_sha256 is None:
            return None
        paths.append(cache / _file_name(part, part.imagenet_sha256))
        if not _is_whole(paths[-1], part.imagenet_sha256):
            return None
    return paths


def write_parts(arrays: Arrays, cache: Path, parts: Sequence[Part] = PARTS) -> list[Path]:
    """Write the weights files of all parts, except those that are there and whole.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    paths = []
    for part in parts:
        content = packed(arrays, part)
        sha256 = hashlib.sha256(content).hexdigest()
        path = cache / _file_name(part, sha256)
        if not _is_whole(path, sha256):
            write_whole(content, path)
        paths.append(path)
    return paths


def _file_name(part: Part, sha256: str) -> str:
    return f"{part.network.name}-{part.name}-{sha256[:16]}.ncnn.bin"


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return False
    except OSError as error:
        log.warning("%s cannot be read (%s); it is written anew", path, error)
        return False
    if found != sha256:
        log.warning("%s is damaged; it is written anew", path)
    return found == sha256


def _convolutions(part: Part) -> list[tuple[str, int, int]]:
    """(layer, channels in, channels out) of the part's convolutions, in order."""
    return [c for c in part.network.convolutions if part.first <= block_of(c[0]) <= part.last]
