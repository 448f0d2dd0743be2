"""The map cache: bounded, found again, and never believed when it is damaged."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from monitor.training.feature_maps import MapStore

SHAPE = (2, 3, 4)


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def vector(number: int) -> np.ndarray:
    return np.full(5, number, np.float32)


def one_map(number: int) -> np.ndarray:
    return np.random.default_rng(number).random(SHAPE).astype(np.float16)


def store(folder: Path, maps: int = 4) -> MapStore:
    return MapStore(folder / "maps" / "x.maps", 5, SHAPE, maps * (52 + 2 * (5 + 24)))


def test_what_was_put_is_found_again_also_by_another_process(tmp_path: Path) -> None:
    one = store(tmp_path)
    one.put((sha(1), 0), vector(1), one_map(1))
    one.put((sha(1), 2), vector(2), one_map(2))
    other = store(tmp_path)
    assert len(other) == 2 and (sha(1), 1) not in other
    vectors, maps = other.get([(sha(1), 2), (sha(1), 0)])
    assert vectors.tolist() == [[2] * 5, [1] * 5]
    assert np.array_equal(maps[0], one_map(2)) and np.array_equal(maps[1], one_map(1))
    other.put((sha(3), 0), vector(3), one_map(3))
    assert len(store(tmp_path)) == 3


def test_the_oldest_gives_way_and_the_file_does_not_grow(tmp_path: Path) -> None:
    one = store(tmp_path, 3)
    assert one.capacity == 3
    for number in range(5):
        one.put((sha(number), 0), vector(number), one_map(number))
        one = store(tmp_path, 3)
    assert [(sha(number), 0) in one for number in range(5)] == [False, False, True, True, True]
    assert one.path.stat().st_size == 3 * (52 + 58)


def test_a_damaged_map_is_forgotten(tmp_path: Path) -> None:
    one = store(tmp_path)
    one.put((sha(1), 0), vector(1), one_map(1))
    content = bytearray(one.path.read_bytes())
    content[80] ^= 1
    one.path.write_bytes(content)
    again = store(tmp_path)
    with pytest.raises(KeyError):
        again.get([(sha(1), 0)])
    assert (sha(1), 0) not in again


@pytest.mark.parametrize("content", [b"", b"nonsense" * 40, bytes(400)])
def test_a_foreign_file_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "x.maps").write_bytes(content)
    one = store(tmp_path)
    assert len(one) == 0
    one.put((sha(1), 0), vector(1), one_map(1))
    assert store(tmp_path).get([(sha(1), 0)])[0][0, 0] == 1


def test_a_record_cut_short_is_not_believed(tmp_path: Path) -> None:
    one = store(tmp_path)
    one.put((sha(1), 0), vector(1), one_map(1))
    one.put((sha(2), 0), vector(2), one_map(2))
    one.path.write_bytes(one.path.read_bytes()[:-7])
    again = store(tmp_path)
    assert (sha(1), 0) in again and (sha(2), 0) not in again


def test_a_map_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        store(tmp_path).put((sha(1), 0), vector(1), np.zeros((2, 2, 2), np.float16))
