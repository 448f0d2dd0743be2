"""A head as a file: its arrays in the safetensors format, and a few facts as JSON beside them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.model.backbone.tail import MARK_LENGTH, tail_mark
from monitor.model.head import Head

ARRAYS: dict[str, str] = {"mean": "d", "scale": "d", "weights": "dk", "bias": "k"}
"""Field -> its axes: d features, k classes. Any other letter stands for one length of its own."""
OPTIONAL_ARRAYS: dict[str, str] = {"thresholds": "k", "strange_weights": "d"}
"""The same of fields that may be None, and are then not in the file."""
FACTS = ("classes", "layout", "temperature")
OPTIONAL_FACTS = ("tail_sha256", "coverage", "parts", "strange_above")
"""Fields that may be None, and are then not in the file: older ones have none of them."""

TOO_MUCH = (AttributeError, OverflowError, RecursionError)
"""What JSON from elsewhere raises besides: another kind of value, a number or a depth too large."""


def head_bytes(head: Head) -> bytes:
    """A head as a safetensors file. Raises ValueError, in words, if it is not a sound one."""
    from safetensors.numpy import save

    _check(head)
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in _arrays(head)}
    facts = {name: json.dumps(getattr(head, name)) for name in FACTS}
    facts |= {
        name: json.dumps(value)
        for name in OPTIONAL_FACTS
        if (value := getattr(head, name)) is not None
    }
    return bytes(save(arrays, facts))


def head_from_bytes(content: bytes) -> Head:
    """The inverse of `head_bytes`. Raises ValueError, in words, on anything else."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        fields: dict[str, Any] = {name: json.loads(metadata[name]) for name in FACTS}
        fields |= {name: arrays[name] for name in ARRAYS}
        fields |= {name: json.loads(metadata[name]) for name in OPTIONAL_FACTS if name in metadata}
        fields |= {name: arrays[name] for name in OPTIONAL_ARRAYS if name in arrays}
        fields["classes"] = tuple(fields["classes"])
        if "parts" in fields:
            fields["parts"] = tuple(int(length) for length in fields["parts"])
        fields["temperature"] = float(fields["temperature"])
        head = Head(**fields)
    except (SafetensorError, LookupError, TypeError, ValueError, *TOO_MUCH) as error:
        raise ValueError(f"it does not hold a head: {error!r}") from error
    _check(head)
    return head


def _check(head: Head) -> None:
    """Raise ValueError unless shapes agree and every number is finite."""
    names = head.classes
    if not names or not all(isinstance(n, str) for n in names) or len(set(names)) != len(names):
        raise ValueError("its classes are not different names")
    _check_layout(head)
    if head.parts is not None and (min(head.parts) < 1 or sum(head.parts) != head.mean.size):
        raise ValueError(f"its parts {head.parts} are not those of {head.mean.size} features")
    lengths = {"d": head.mean.size, "k": len(names)}
    for name, array in _arrays(head):
        axes = (ARRAYS | OPTIONAL_ARRAYS)[name]
        if array.ndim == len(axes):
            lengths = dict(zip(axes, array.shape, strict=True)) | lengths
        shape = tuple(lengths.get(axis) for axis in axes)
        if array.dtype != np.float32 or array.shape != shape:
            raise ValueError(f"{name} is {array.dtype} {array.shape}, not float32 {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds numbers that are not finite")
    if not (head.scale > 0).all():
        raise ValueError("scale holds numbers that are not above 0")
    if not (np.isfinite(head.temperature) and head.temperature > 0):
        raise ValueError(f"the temperature is {head.temperature}, not a number above 0")
    for name in ("coverage", "strange_above"):
        value = getattr(head, name)
        if value is not None and not (isinstance(value, float) and np.isfinite(value)):
            raise ValueError(f"{name} is {value!r}, not a number")


def _check_layout(head: Head) -> None:
    """Raise ValueError unless the layout is a name, and its tail, if any, the one whose sum is
    given."""
    if not isinstance(head.layout, str):
        raise ValueError("its layout is not a name")
    tail = head.tail_sha256
    if tail is not None and not (isinstance(tail, str) and len(tail) == 64):
        raise ValueError("the sum of its tail is no SHA-256")
    if tail_mark(head.layout) != (tail[:MARK_LENGTH] if tail is not None else None):
        raise ValueError(f"its layout {head.layout} and the sum of its tail, {tail}, disagree")


def _arrays(head: Head) -> list[tuple[str, npt.NDArray[Any]]]:
    """Every array that the head has."""
    named = [(name, getattr(head, name)) for name in (*ARRAYS, *OPTIONAL_ARRAYS)]
    return [(name, array) for name, array in named if array is not None]
