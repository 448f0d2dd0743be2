"""VGG19: the same two engines on another network, its weights proved by the published file's sum.

The published weights are not at hand: these tests run on a file of that form made for them.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from photographs import photographs
from safetensors.numpy import save_file
from test_backbone_tail import drawn_tail, off, off_by_part
from test_backbone_weights import keras_home, served, write_keras_file

import monitor.model.backbone.architectures as room
from monitor.cli import main
from monitor.images.decode import DecodeRules, decode
from monitor.model.backbone import BackboneOptions, MapBackbone, layout_of, open_backbone
from monitor.model.backbone.architectures import ARCHITECTURES, VGG16, VGG19, Architecture
from monitor.model.backbone.trial import attempt
from monitor.model.backbone.weights import (
    Arrays,
    WeightsMismatch,
    WeightsMissing,
    describe_sources,
    fingerprint,
    load_weights,
)

__all__ = ["keras_home", "served"]
CPU = BackboneOptions("vgg19", device="cpu", precision="float32", threads=2)


def drawn(network: Architecture) -> Arrays:
    """Weights that keep what goes through of one size (He et al. 2015)."""
    random = np.random.default_rng(19)
    return {
        name: random.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[:3]))
        if len(shape) == 4
        else np.zeros(shape, np.float32)
        for name, shape in network.shapes.items()
    }


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return drawn(VGG19)


@pytest.fixture(scope="module")
def file(arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the form that Keras publishes."""
    return write_keras_file(arrays, tmp_path_factory.mktemp("made") / VGG19.keras_file, VGG19)


@pytest.fixture(scope="module")
def vgg19(file: Path) -> Architecture:
    """As if that file were the published one."""
    return replace(VGG19, file_md5=hashlib.md5(file.read_bytes()).hexdigest())


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    return np.stack([decode(data, DecodeRules()) for data in photographs(2)])


@pytest.fixture(scope="module", params=["ncnn", "keras"])
def backbone(request: pytest.FixtureRequest, file: Path) -> Iterator[MapBackbone]:
    opened = open_backbone(replace(CPU, engine=request.param, weights=str(file)))
    yield opened
    opened.close()


# --- the network


def test_the_figures_are_those_of_keras_own_source() -> None:
    import inspect

    from keras.applications import vgg19

    source = inspect.getsource(sys.modules[vgg19.VGG19.__module__])
    assert VGG19.keras_file in source
    assert VGG19.file_md5 in source
    assert "keras-applications/vgg19/" in source.replace('"\n    "', "")
    assert VGG19.url.endswith(f"keras-applications/vgg19/{VGG19.keras_file}")
    assert [count for count, _ in VGG19.blocks] == [2, 2, 4, 4, 4]
    assert len(VGG19.layers) == 16


def test_block_5_is_what_keras_applications_gives(backbone, arrays, frames) -> None:
    import keras

    reference = keras.applications.VGG19(weights=None, include_top=False, pooling="avg")
    for layer in VGG19.layers:
        reference.get_layer(layer).set_weights([arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"]])
    prepared = keras.applications.vgg19.preprocess_input(frames.astype("float32"))
    expected = np.asarray(reference(prepared))
    assert off(backbone.features(frames)[:, -512:], expected) <= 1e-4
    assert backbone.name == "vgg19"


def test_kept_maps_give_the_same_features(backbone, frames) -> None:
    for layer in ("block3_pool", "block4_pool"):
        features, maps = backbone.features_and_maps(frames, layer)
        assert off_by_part(features, backbone.features(frames)) <= 1e-5
        assert off_by_part(backbone.features_from_maps(maps, features), features) <= 1e-5


@pytest.mark.parametrize("first", [4, 5])
def test_a_tail_works_in_both(file, arrays, frames, first, tmp_path) -> None:
    tail = drawn_tail(first, network=VGG19)
    save_file(arrays | tail.arrays, tmp_path / "own.safetensors")
    own = replace(CPU, engine="ncnn", weights=str(tmp_path / "own.safetensors"))
    expected = open_backbone(own).features(frames)
    for engine in ("ncnn", "keras"):
        opened = open_backbone(replace(CPU, engine=engine, weights=str(file), tail=tail))
        assert off_by_part(opened.features(frames), expected) <= 1e-4
        assert opened.layout.name.startswith("vgg19-avg345/1@")
        assert opened.layout.name.endswith(f"+{tail.sha256[:12]}")
        opened.close()


def test_the_engine_is_tried_on_it(file) -> None:
    found = attempt(replace(CPU, engine="ncnn", weights=str(file)))
    assert found.problem is None
    assert found.images_per_second > 0


def test_weights_that_make_no_numbers_are_noticed_in_the_trial(arrays, tmp_path) -> None:
    huge = {name: array * np.float32(1e9) for name, array in arrays.items()}
    save_file(huge, tmp_path / "huge.safetensors")
    options = replace(CPU, engine="ncnn", weights=str(tmp_path / "huge.safetensors"))
    assert "wrong features" in str(attempt(options).problem)


# --- where its weights come from


def test_the_published_file_is_known_by_its_sum_and_kept(
    vgg19, file, arrays, keras_home, tmp_path, monkeypatch
) -> None:
    (keras_home / "models").mkdir(parents=True)
    (keras_home / "models" / VGG19.keras_file).hardlink_to(file)
    cache = tmp_path / "cache"
    assert fingerprint(load_weights(vgg19, "imagenet", cache)) == fingerprint(arrays)
    assert [path.name for path in cache.iterdir()] == [VGG19.keras_file]
    (keras_home / "models" / VGG19.keras_file).unlink()
    assert fingerprint(load_weights(vgg19, "imagenet", cache)) == fingerprint(arrays)
    monkeypatch.setitem(ARCHITECTURES, "vgg19", vgg19)
    for engine in ("ncnn", "keras"):
        opened = open_backbone(replace(CPU, engine=engine, weights_cache=cache))
        assert opened.layout == layout_of("vgg19")
        opened.close()
    given = replace(CPU, engine="ncnn", weights=str(cache / VGG19.keras_file))
    assert open_backbone(given).layout == layout_of("vgg19")


def test_another_file_is_named_and_not_parsed(file, keras_home, tmp_path, monkeypatch) -> None:
    """The real VGG19's sum is not that of the file made for the test."""
    (keras_home / "models").mkdir(parents=True)
    (keras_home / "models" / VGG19.keras_file).hardlink_to(file)
    monkeypatch.setattr(
        "monitor.model.backbone.weights.read_arrays", lambda *a: pytest.fail("parsed")
    )
    with pytest.raises(WeightsMismatch, match=r"not the file of VGG19 that Keras publishes"):
        load_weights(VGG19, "imagenet", tmp_path)


def test_a_download_is_verified_and_kept(vgg19, file, served, keras_home, tmp_path) -> None:
    folder, url = served
    (folder / VGG16.keras_file).hardlink_to(file)  # the name in `url`
    arrays = load_weights(vgg19, "imagenet", tmp_path / "cache", download=True, url=url)
    assert arrays.keys() == VGG19.shapes.keys()
    assert (keras_home / "models" / VGG19.keras_file).is_file()
    assert (tmp_path / "cache" / VGG19.keras_file).is_file()


def test_wrong_bytes_from_the_network_are_thrown_away(file, served, keras_home) -> None:
    folder, url = served
    (folder / VGG16.keras_file).hardlink_to(file)
    with pytest.raises(WeightsMismatch, match="MD5"):
        load_weights(VGG19, "imagenet", None, download=True, url=url)
    assert not (keras_home / "models" / VGG19.keras_file).exists()


def test_a_damaged_copy_is_noticed_and_rebuilt(vgg19, file, keras_home, tmp_path, caplog) -> None:
    (keras_home / "models").mkdir(parents=True)
    (keras_home / "models" / VGG19.keras_file).hardlink_to(file)
    copy = tmp_path / VGG19.keras_file
    copy.write_bytes(file.read_bytes()[:-1000])
    with caplog.at_level(logging.WARNING):
        load_weights(vgg19, "imagenet", tmp_path)
    assert str(copy) in caplog.text
    assert copy.read_bytes() == file.read_bytes()


def test_without_weights_it_says_what_to_do_and_promises_no_package(keras_home) -> None:
    with pytest.raises(WeightsMissing) as caught:
        load_weights(VGG19, "imagenet", None)
    said = str(caught.value)
    for words in ("VGG19", "trapwatch weights fetch", "classifier.weights", VGG19.keras_file):
        assert words in said
    assert "trapwatch[offline]" not in said
    names = [source.name for source in describe_sources(VGG19, "imagenet", Path("cache"))]
    assert names == ["own cache", "Keras cache"]


def test_one_network_is_not_taken_for_the_other(file, arrays, tmp_path) -> None:
    with pytest.raises(WeightsMismatch, match="VGG16 has no such layer"):
        load_weights(VGG16, str(file), None)
    save_file({n: a for n, a in arrays.items() if "conv4" not in n}, tmp_path / "16.safetensors")
    with pytest.raises(WeightsMismatch, match=r"conv weights of VGG19: block3_conv4/kernel"):
        load_weights(VGG19, str(tmp_path / "16.safetensors"), None)
    with pytest.raises(room.BackboneError, match="those that have are: vgg16, vgg19"):
        room.architecture_of("small")


# --- the commands


def run(config: Path, monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["trapwatch", *words, "--config", str(config)])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_commands_know_it(config, vgg19, file, keras_home, monkeypatch, capfd) -> None:
    text = config.read_text()
    config.write_text(text.replace("backbone: small", "backbone: vgg19"))
    monkeypatch.setitem(ARCHITECTURES, "vgg19", vgg19)
    assert run(config, monkeypatch, "weights", "verify") == 1
    assert "weights of VGG19 are not on this machine" in capfd.readouterr().err
    run(config, monkeypatch, "doctor")
    assert "no ImageNet weights of VGG19" in capfd.readouterr().out
    (keras_home / "models").mkdir(parents=True)
    (keras_home / "models" / VGG19.keras_file).hardlink_to(file)
    assert run(config, monkeypatch, "config", "check") == 0
    assert run(config, monkeypatch, "weights", "verify") == 0
    assert "32 tensors" in capfd.readouterr().err
    run(config, monkeypatch, "doctor")
    assert VGG19.keras_file in capfd.readouterr().out.replace("\n", "")
