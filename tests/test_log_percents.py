"""The least sure predictions, by whole percents: found along the index, and none is missed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logbook import frames, predict, publish, rows
from sqlalchemy import create_engine, event, literal, select

from monitor.log import cursors as trails
from monitor.log.filters import BrowseFilter, percents
from monitor.log.species_log import SpeciesLog

BOUNDS = (0.0, 0.29, 0.3, 0.57, 0.58, 0.999, 1.0)
"""0.29, 0.57 and 0.58 times 100 are not whole in binary."""


@pytest.fixture
def log(tmp_path) -> Iterator[SpeciesLog]:
    with SpeciesLog(tmp_path / "log.db", create=True) as log:
        yield log


def asked_of(log: SpeciesLog, ask: Any) -> list[tuple[str, Any]]:
    """The statements of a question, with their values."""
    asked: list[tuple[str, Any]] = []

    def keep(_connection, _cursor, statement, values, *_rest):
        asked.append((statement, values))

    event.listen(log._engine, "before_cursor_execute", keep)
    ask()
    event.remove(log._engine, "before_cursor_execute", keep)
    return asked


def plan(log: SpeciesLog, asked: tuple[str, Any]) -> list[str]:
    with log._driver() as driver:
        found = driver.execute(f"EXPLAIN QUERY PLAN {asked[0]}", asked[1]).fetchall()
    return [row[3] for row in found]


def test_the_queue_walks_along_the_index_and_sorts_nothing(log):
    asked = asked_of(log, lambda: log.queue_candidates(10))
    steps = plan(log, next(one for one in asked if "prediction" in one[0]))
    assert "prediction_by_probability" in steps[0]
    assert not any("TEMP B-TREE" in step for step in steps), steps


@pytest.mark.parametrize(
    ("bounds", "stretch"),
    [
        ({"min_probability": 0.999}, "<expr>>?"),
        ({"max_probability": 0.2}, "<expr><?"),
        ({"min_probability": 0.3, "max_probability": 0.4}, "<expr>>? AND <expr><?"),
    ],
)
def test_few_that_are_so_probable_are_counted_along_a_stretch_of_the_index(log, bounds, stretch):
    frames(log, 1)
    asked = asked_of(log, lambda: log.browse(BrowseFilter(**bounds), 5))
    counted = next(one for one in asked if "count(*)" in one[0])
    steps = " ".join(plan(log, counted))
    assert f"USING COVERING INDEX prediction_by_probability ({stretch})" in steps


@pytest.mark.parametrize("few", [0, 5000])
@pytest.mark.parametrize("bound", BOUNDS)
def test_what_is_just_as_probable_as_was_asked_for_is_found(log, monkeypatch, bound, few):
    monkeypatch.setattr(trails, "FEW", few)
    publish(log)
    said = dict(zip(frames(log, len(BOUNDS)), BOUNDS, strict=True))
    predict(log, {media: ("fox", p) for media, p in said.items()})
    found = lambda **asked: {s.media_id for s in log.sightings(BrowseFilter(**asked))}  # noqa: E731
    assert found(min_probability=bound) == {m for m, p in said.items() if p >= bound}
    assert found(max_probability=bound) == {m for m, p in said.items() if p <= bound}
    assert found(min_probability=bound, max_probability=bound) == {
        m for m, p in said.items() if p == bound
    }


def test_the_least_sure_come_first_and_in_order(log):
    publish(log)
    media = frames(log, 6)
    sure = dict(zip(media, (0.5, 0.2, 0.9, 0.204, 0.209, 0.21), strict=True))
    predict(log, {one: ("fox", p) for one, p in sure.items()})
    in_order = [c.media_id for c in log.queue_candidates(9)]
    assert in_order == sorted(media, key=lambda one: sure[one])
    first = {c.media_id for c in log.queue_candidates(3)}
    assert first == set(in_order[:3])
    assert rows(log, "PRAGMA integrity_check") == [("ok",)]


PAIRS = st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted)


@given(PAIRS)
def test_a_larger_probability_never_has_fewer_percents(pair):
    with create_engine("sqlite://").connect() as connection:
        low, high = connection.execute(select(*(percents(literal(p)) for p in pair))).one()
    assert 0 <= low <= high <= 100
