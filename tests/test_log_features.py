"""The feature cache: bounded, exact to float16, and never a reason to stop."""

from __future__ import annotations

import hashlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from monitor.log.engine import LogError
from monitor.log.features import PAGE_BYTES, FeatureStore

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


def test_layouts_lie_beside_each_other_and_each_store_keeps_to_its_own(path):
    store = open_store(path)
    other = store.of_layout("small-1+0123abcd4567")
    store.put([(sha(1), vector(1)), (sha(2), vector(2))])
    other.put([(sha(1), vector(9))])
    assert [s.get([sha(1)])[sha(1)][0] for s in (store, other)] == [1, 9]
    assert [s.count() for s in (store, other)] == [2, 1]
    assert sha(2) not in other.get([sha(2)])
    assert [store.layout, other.layout] == ["small-1", "small-1+0123abcd4567"]
    store.close()
    again = open_store(path, "small-1+0123abcd4567")
    assert again.get([sha(1)])[sha(1)][0] == 9
    again.close()


def test_the_bound_is_that_of_all_layouts_together(path):
    store = open_store(path, most=40 * PAGE_BYTES)
    stores = [store.of_layout(f"small-1+{number}") for number in range(4)]
    for start in range(0, 2000, 40):
        for one in stores:
            one.put([(sha(n), vector(1)) for n in range(start, start + 40)])
    assert size_of(path, store) <= 40 * PAGE_BYTES
    assert sum(one.count() for one in stores) > 1000
    assert all(sha(1999) in one.get([sha(1999)]) for one in stores)
    assert not any(one.get([sha(0)]) for one in stores)
    store.close()


def test_after_a_damage_every_layout_has_the_new_file(path):
    filled(path)
    store = open_store(path)
    other = store.of_layout("small-2")
    path.write_bytes(garbage(bytearray(path.read_bytes())))
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    other.put([(sha(1), vector(3))])
    store.put([(sha(1), vector(4))])
    assert [s.get([sha(1)])[sha(1)][0] for s in (store, other)] == [4, 3]
    store.close()


def test_threads_with_layouts_of_their_own_never_see_anothers(path):
    store = open_store(path, most=10**8)

    def turn(number: int) -> None:
        mine = store.of_layout(f"small-1+{number}")
        for n in range(60):
            mine.put([(sha(n), vector(number))])
            assert all(
                found[0] == number for found in mine.get([sha(k) for k in range(n)]).values()
            )
            assert mine.count() == n + 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(turn, range(4)))
    store.close()


def test_thousands_are_found_at_once(path):
    store = open_store(path)
    store.put([(sha(n), vector(n % 100)) for n in range(1200)])
    found = store.get([sha(n) for n in range(1300)])
    assert len(found) == 1200
    assert found[sha(7)][0] == 7
    store.close()


def test_the_oldest_go_when_the_cache_is_full(path):
    most = 24 * PAGE_BYTES
    for start in range(0, 6000, 60):  # each run of the program puts few
        store = open_store(path, most=most)
        store.put([(sha(n), vector(1)) for n in range(start, start + 60)])
        store.close()
    store = open_store(path, most=most)
    assert size_of(path, store) <= most
    assert 500 < store.count() < 5000
    assert sha(5999) in store.get([sha(5999)])
    assert store.get([sha(0)]) == {}
    store.close()


def size_of(path, store) -> int:
    """Bytes of the file, once all is in it."""
    store._file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return path.stat().st_size


LARGE = 1280
"""Numbers of a vector of VGG16."""


def put_large(store, numbers) -> None:
    for start in range(0, len(numbers), 50):
        page = numbers[start : start + 50]
        store.put([(sha(n), np.full(LARGE, n % 1000, np.float32)) for n in page])


def test_a_full_cache_has_no_more_bytes_than_it_may_and_wastes_few(path):
    most = 3 * 2**20
    store = FeatureStore(path, "vgg16-avg345/1+0123abcd4567", LARGE, most)
    put_large(store, range(2000))
    assert 0.95 * most < size_of(path, store) <= most
    assert store.count() * 2 * LARGE > 0.85 * most
    assert sha(1999) in store.get([sha(1999)])
    store.close()


def of_an_older_release(path, rows: int) -> None:
    """A file with SQLite's usual pages."""
    path.parent.mkdir(exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA page_size=4096")
        connection.execute(
            "CREATE TABLE features (layout TEXT NOT NULL, sha256 BLOB NOT NULL, "
            "vector BLOB NOT NULL, crc INTEGER NOT NULL, UNIQUE (layout, sha256))"
        )
    connection.close()
    store = FeatureStore(path, "vgg16-avg345/1", LARGE, 2**30)
    put_large(store, range(rows))
    store.close()


def test_a_file_of_an_older_release_goes_on_as_it_is(path):
    of_an_older_release(path, 300)
    store = FeatureStore(path, "vgg16-avg345/1", LARGE, 2**30)
    assert store._file._number("PRAGMA page_size") == 4096
    put_large(store, range(300, 400))
    assert len(store.get([sha(n) for n in range(400)])) == 400
    store.close()


def test_a_file_that_is_larger_than_its_bound_grows_no_more_and_keeps_what_it_can(path):
    of_an_older_release(path, 600)
    store = FeatureStore(path, "vgg16-avg345/1", LARGE, 2**20)
    before = size_of(path, store)
    assert (store.count(), before > 2 * 2**20) == (600, True)
    put_large(store, range(600, 1000))
    assert size_of(path, store) == before
    assert store.count() > 500
    assert sha(999) in store.get([sha(999)])
    store.close()


def test_a_store_that_is_closed_says_so_and_leaves_the_file_alone(path):
    filled(path)
    store = open_store(path)
    other = store.of_layout("small-2")
    store.close()
    before = path.read_bytes()
    for use in (lambda: store.get([sha(1)]), other.count, lambda: store.put([(sha(9), vector(9))])):
        with pytest.raises(LogError, match="is closed"):
            use()
    store.close()
    assert path.read_bytes() == before
    again = open_store(path)
    assert again.count() == 400
    again.close()


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
    store._file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
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
@example(harm=[(16310, b"\x80")])  # in the schema: the error message itself is not UTF-8
@example(harm=[(18, b"\xff")])  # a write version of the future: "readonly database"
@given(harm=st.lists(st.tuples(st.integers(0, 100_000), st.binary(min_size=1, max_size=64))))
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
    pages = store._file._connection.execute("PRAGMA page_count").fetchone()[0]
    store._file._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(LogError, match="full"):
        store.put([(sha(n), vector(n)) for n in range(3000)])
    store._file._connection.execute("PRAGMA max_page_count=100000")
    works(store)
