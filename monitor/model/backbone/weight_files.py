"""The arrays of a VGG's conv stack, and the kinds of file they are read from.

Every reader returns {"block1_conv1/kernel": float32 H×W×in×out, "block1_conv1/bias": ...}, and
reads arrays only: nothing in a weights file is ever executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.model.backbone import BackboneError
from monitor.model.backbone.architectures import VGG16, Architecture
from monitor.system.files import write_whole

Arrays = dict[str, NDArray[np.float32]]

_LAYER = re.compile(r"(?<![a-z0-9])(block[1-5]_conv[1-4])(?![0-9])")
_NUMBERED = re.compile(r"(?:^|/)conv2d(?:_(\d+))?(?:/|$)")


class WeightsMismatch(BackboneError):
    """A weights file is not what it should be; names the tensor, the file and what to do."""


class WeightsMissing(BackboneError):
    """No weights were found; says how to get them."""


def read_arrays(path: Path, network: Architecture = VGG16) -> Arrays:
    """Read the conv stack from a .safetensors, .h5 or .onnx file.

    Returns:
        every tensor of `network.shapes`, in that order.

    Raises:
        WeightsMismatch: the file is no such file, lacks a tensor, or has one of another shape.
        WeightsMissing: it is an .onnx file and the package `onnx` is not installed.
    """
    try:
        arrays = _reader_of(path)(path, network)
    except BackboneError:
        raise
    except Exception as error:  # each library has errors of its own for a damaged file
        raise WeightsMismatch(
            f"{path} cannot be read as a weights file ({error}). "
            "It is damaged or of another kind: replace it."
        ) from error
    _check(arrays, path, network)
    return {name: arrays[name] for name in network.shapes}


def _reader_of(path: Path) -> Callable[[Path, Architecture], Arrays]:
    readers = {
        ".safetensors": _read_safetensors,
        ".h5": _read_h5,
        ".hdf5": _read_h5,
        ".onnx": _read_onnx,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise WeightsMismatch(
            f"{path} is no weights file that trapwatch reads. "
            "It takes .safetensors, .h5 (Keras, no top) and .onnx."
        )
    return reader


def _check(arrays: Arrays, path: Path, network: Architecture) -> None:
    shapes, title = network.shapes, network.title
    for name in (*shapes, *arrays):
        if name not in shapes:
            problem = f"is in it, and {title} has no such layer"
        elif name not in arrays:
            problem = "is not in it"
        elif arrays[name].shape != shapes[name]:
            problem = f"has shape {arrays[name].shape} where {title} has {shapes[name]}"
        elif not np.isfinite(arrays[name]).all():
            problem = "has values that are not finite numbers"
        else:
            continue
        raise WeightsMismatch(
            f"{path} does not hold the conv weights of {title}: {name} {problem}. "
            f"Use a file saved from keras.applications.{title}(include_top=False)."
        )


def _as_float32(array: Any) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype="<f4")


def _read_safetensors(path: Path, network: Architecture) -> Arrays:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        held = [name for name in file.keys() if _LAYER.match(name)]  # noqa: SIM118  no dict
        return {name: _as_float32(file.get_tensor(name)) for name in held}


def _read_h5(path: Path, network: Architecture) -> Arrays:
    import h5py

    with h5py.File(path, "r") as file:
        return {
            f"{layer}/{'kernel' if dataset.ndim == 4 else 'bias'}": _as_float32(dataset[()])
            for layer, dataset in _h5_tensors(file, network)
        }


def _h5_tensors(file: Any, network: Architecture) -> Iterator[tuple[str, Any]]:
    """(layer, dataset) of a legacy Keras file, a .weights.h5, or a whole model of either."""
    import h5py

    found: list[Any] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    for dataset in found:
        layer = _h5_layer(dataset, network.layers)
        if layer is not None and dataset.ndim in (1, 4):
            yield layer, dataset


def _h5_layer(dataset: Any, layers: tuple[str, ...]) -> str | None:
    """The layer a dataset belongs to, by a name in its path, its group, or its number.

    A .weights.h5 of Keras 3 calls the k-th convolution `conv2d_k`, whatever its name was.
    """
    group = dataset.parent
    named = _LAYER.search(f"{dataset.name}/{group.attrs.get('name', '')}")
    if named:
        return named.group(1)
    numbered = _NUMBERED.search(dataset.name)
    index = int(numbered.group(1) or 0) if numbered else len(layers)
    return layers[index] if index < len(layers) else None


def _read_onnx(path: Path, network: Architecture) -> Arrays:
    """Kernels of an ONNX graph are out×in×H×W. External data files are never followed."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise WeightsMissing(
            f"{path} needs the package 'onnx' to be read: pip install 'trapwatch[offline]'."
        ) from error
    arrays: Arrays = {}
    for tensor in onnx.load(str(path), load_external_data=False).graph.initializer:
        layer = _LAYER.search(tensor.name)
        if layer and len(tensor.dims) == 4:
            array = numpy_helper.to_array(tensor).transpose(2, 3, 1, 0)
            arrays[f"{layer.group(1)}/kernel"] = _as_float32(array)
        elif layer and len(tensor.dims) == 1:
            arrays[f"{layer.group(1)}/bias"] = _as_float32(numpy_helper.to_array(tensor))
    return arrays


def write_arrays(arrays: Arrays, path: Path) -> None:
    """Write a .safetensors file whole or not at all, also through a power cut.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    from safetensors.numpy import save

    write_whole(save(arrays), path)
