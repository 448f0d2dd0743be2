"""The feature cache: bounded, exact to float16, and never a reason to stop."""

from __future__ import annotations

import hashlib
import sqlite3

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from monitor.log.features import FeatureStore

SIZE = 8


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def vector(number: float) -> np.ndarray:
    return np.full(SIZE, number, np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "features.db"


def open_store(path, layout="small-1", most=10**6) -> FeatureStore:
    return FeatureStore(path, layout, SIZE, most)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.lists(st.floats(-1e9, 1e9, width=32), min_size=SIZE, max_size=SIZE))
def test_what_is_kept_comes_back_as_its_nearest_float16(path, values):
    store = open_store(path)
    array = np.array(values, np.float32)
    store.put([(sha(1), array)])
    found = store.get([sha(1), sha(2)])
    store.close()
    assert list(found) == [sha(1)]
    expected = np.clip(array, -65504, 65504).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(found[sha(1)], expected)
    assert found[sha(1)].dtype == np.float32


def test_features_of_another_layout_are_not_found(path):
    store = open_store(path)
    store.put([(sha(1), vector(1))])
    store.close()
    other = open_store(path, layout="small-2")
    assert other.get([sha(1)]) == {}
    assert other.count() == 0
    other.close()


def test_thousands_are_found_at_once(path):
    store = open_store(path)
    store.put([(sha(n), vector(n % 100)) for n in range(1200)])
    found = store.get([sha(n) for n in range(1300)])
    assert len(found) == 1200
    assert found[sha(7)][0] == 7
    store.close()


def test_the_oldest_go_when_the_cache_is_full(path):
    most = 100 * (2 * SIZE + 120)
    for start in range(0, 600, 60):  # each run of the program puts few
        store = open_store(path, most=most)
        store.put([(sha(n), vector(1)) for n in range(start, start + 60)])
        store.close()
    store = open_store(path, most=most)
    assert store.count() <= 160
    assert sha(599) in store.get([sha(599)])
    assert store.get([sha(0)]) == {}
    store.close()


def test_a_changed_bit_is_noticed(path):
    store = open_store(path)
    store.put([(sha(1), vector(1)), (sha(2), vector(2))])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE features SET vector = zeroblob(16) WHERE sha256 = ?", [bytes.fromhex(sha(1))]
        )
    connection.close()
    store = open_store(path)
    assert list(store.get([sha(1), sha(2)])) == [sha(2)]
    store.close()


def filled(path, rows=400):
    store = open_store(path)
    store.put([(sha(n), vector(n)) for n in range(rows)])
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    store.close()


def works(store) -> None:
    store.put([(sha(5000), vector(5))])
    store.put([(sha(5001), vector(6))])
    assert store.get([sha(5000)])[sha(5000)][0] == 5
    store.close()


def garbage(data: bytearray) -> bytes:
    return b"this is no database at all" * 50


def overwritten(data: bytearray) -> bytes:
    data[4096:] = b"\xa5" * (len(data) - 4096)
    return bytes(data)


def truncated(data: bytearray) -> bytes:
    return bytes(data[: len(data) // 2])


def header_gone(data: bytearray) -> bytes:
    return b"\0" * 100 + bytes(data[100:])


@pytest.mark.parametrize("harm", [garbage, overwritten, truncated, header_gone])
def test_a_damaged_file_is_made_anew(path, harm, caplog):
    filled(path)
    path.write_bytes(harm(bytearray(path.read_bytes())))
    works(open_store(path))
    assert "made anew" in caplog.text


@pytest.mark.parametrize("harm", [garbage, overwritten, truncated, header_gone])
def test_a_file_damaged_while_in_use_is_made_anew(path, harm):
    filled(path)
    store = open_store(path)
    data = bytearray(path.read_bytes())
    with open(path, "r+b") as file:
        file.truncate(0)
        file.write(harm(data))
    found = store.get([sha(n) for n in range(400)])
    assert all(value[0] == n for n in range(400) if (value := found.get(sha(n))) is not None)
    works(store)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(harm=[(44, b"\0\0\0\5")])  # a schema format of the future: "unsupported file format"
@example(harm=[(4022, b"\x80")])  # in the schema: the error message itself is not UTF-8
@example(harm=[(18, b"\xff")])  # a write version of the future: "readonly database"
@given(harm=st.lists(st.tuples(st.integers(0, 40_000), st.binary(min_size=1, max_size=64))))
def test_no_damage_makes_it_fail_or_tell_wrong_features(path, harm):
    path.unlink(missing_ok=True)
    filled(path)
    data = bytearray(path.read_bytes())
    for number, other in harm:
        place = number % len(data)
        data[place : place + len(other)] = other[: len(data) - place]
    path.write_bytes(data)
    store = open_store(path)
    found = store.get([sha(n) for n in range(400)])
    assert all(value[0] == n for n in range(400) if (value := found.get(sha(n))) is not None)
    works(store)


def test_another_programs_table_is_not_trusted(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE features (name TEXT)")
    connection.close()
    works(open_store(path))


def test_a_full_disk_is_raised_and_leaves_the_cache_usable(path):
    store = open_store(path)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(store._sqlite.OperationalError, match="full"):
        store.put([(sha(n), vector(n)) for n in range(3000)])
    store._connection.execute("PRAGMA max_page_count=100000")
    works(store)
