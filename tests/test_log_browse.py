"""Browsing: any mixture of filters, page by page, against a plain search through all rows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logbook import DAWN, NOW, frames, item, predict, publish, rows, say, take_in
from sqlalchemy import event

from monitor.core.domain import MediaStatus, Sighting, Source, iso_utc
from monitor.core.privacy import hides_from_viewers
from monitor.log import browse as pages
from monitor.log import cursors as trails
from monitor.log.browse import BadCursor, Cursor
from monitor.log.filters import BrowseFilter
from monitor.log.species import UnknownSpecies
from monitor.log.species_log import SpeciesLog

NAMES = ("fox", "badger", "roe deer", "blank")
NORTH, SOUTH, WEST = "north", "südhang", "west_100%"


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """260 media of three cameras, many at one moment: labels, predictions of two versions, flags,
    a merged species, rejected and waiting files."""
    chance = random.Random(3)
    with SpeciesLog(tmp_path_factory.mktemp("busy") / "log.db", create=True) as log:
        media = [m for d in (NORTH, SOUTH, WEST) for m in frames(log, 70, 20, deployment=d)]
        take_in(log, [item(f"bad{n}", DAWN, NORTH, rejected="truncated") for n in range(25)])
        take_in(log, [item(f"new{n}", DAWN, SOUTH) for n in range(25)])
        publish(log)
        predict(log, {m: (chance.choice(NAMES), chance.random()) for m in media if m % 7})
        publish(log, "v0002")
        again = {m: (chance.choice(NAMES), chance.random()) for m in media if m % 5 == 0}
        predict(log, again, "v0002")
        for media_id in media[::3]:
            names = chance.sample(NAMES, chance.choice((1, 2)))
            say(log, media_id, *names, by=chance.choice(("Ana", "Ben")))
        for media_id in media[::9]:
            log.undo(media_id, "Ben", "cli", NOW)
        log.add_species("silver fox", "Ana", "cli", NOW)
        say(log, media[1], "silver fox")
        predict(log, {media[2]: ("silver fox", 0.5)}, "v0002")
        log.merge_species("silver fox", "fox", "Ana", "cli", NOW)
        for media_id in media[::11]:
            log.flag(media_id, True, "Ben", "web", NOW)
        yield log


def everything(log: SpeciesLog) -> list[Sighting]:
    every = log.sightings_of([row[0] for row in rows(log, "SELECT id FROM media")])
    return sorted(every, key=lambda s: (s.captured_at, s.media_id), reverse=True)


def fits(s: Sighting, wanted: BrowseFilter, flagged: set[int]) -> bool:
    """The filter's words, read plainly."""
    names = {o.species for o in s.observations} or {s.species}
    labelled = s.source is Source.LABEL
    p = 1.0 if labelled else s.probability
    least, most = wanted.min_probability, wanted.max_probability
    species = {"silver fox": "fox"}.get(wanted.species or "", wanted.species)
    return (
        (species is None or species in names)
        and (wanted.since is None or s.captured_at >= wanted.since)
        and (wanted.until is None or s.captured_at < wanted.until)
        and wanted.deployment in (None, s.deployment)
        and (least is None or (p is not None and p >= least))
        and (most is None or (p is not None and p <= most))
        and wanted.source in (None, s.source)
        and wanted.status in (None, s.status)
        and wanted.model_version in (None, s.model_version)
        and wanted.labelled_by in (None, s.labelled_by)
        and (wanted.path is None or wanted.path.lower() in s.path.lower())
        and (wanted.sha256 is None or s.sha256.startswith(wanted.sha256.lower()))
        and wanted.event_id in (None, s.event_id)
        and wanted.media_id in (None, s.media_id)
        and not (wanted.unreviewed and (labelled or s.status is MediaStatus.REJECTED))
        and not (wanted.flagged and s.media_id not in flagged)
        and not (wanted.private is not None and hides_from_viewers(s, wanted.private))
    )


def expected(log: SpeciesLog, wanted: BrowseFilter) -> list[int]:
    flagged = set(log.flagged())
    return [s.media_id for s in everything(log) if fits(s, wanted, flagged)]


def page_by_page(log: SpeciesLog, wanted: BrowseFilter, size: int) -> list[int]:
    """All pages one after the other, each given no time beyond its first stretch."""
    found: list[int] = []
    after: Cursor | None = None
    for _ in range(2000):
        page = log.browse(wanted, size, after, budget_seconds=0)
        assert len(page.media_ids) <= size
        assert after is None or page.next is None or page.next < after, "it must go on"
        found += page.media_ids
        if page.next is None:
            return found
        after = Cursor.read(str(page.next))
    raise AssertionError("the pages never end")


moments = st.integers(0, 1600).map(lambda m: iso_utc(NOW.replace(month=4, day=1 + m // 1440)))


def maybe(*values: object) -> st.SearchStrategy[object]:
    """Mostly not asked for, so that mixtures find something now and then."""
    return st.one_of(st.none(), st.none(), st.sampled_from(values))


FILTERS = st.builds(
    BrowseFilter,
    species=maybe(*NAMES, "silver fox"),
    since=st.one_of(st.none(), st.none(), moments),
    until=st.one_of(st.none(), st.none(), moments),
    deployment=maybe(NORTH, SOUTH, WEST, "nowhere"),
    min_probability=maybe(0.0, 0.5, 1.0),
    max_probability=maybe(0.0, 0.5, 1.0),
    source=maybe(*Source),
    status=maybe(*MediaStatus),
    model_version=maybe("v0001", "v0002", "v0003"),
    labelled_by=maybe("Ana", "Ben", "Eve"),
    path=maybe("NORTH", "SÜDHANG/00", "_100%/", "/00_", "0012", "["),
    sha256=maybe("a", "3", "F0", "zz"),
    event_id=maybe(1, 71, 9999),
    media_id=maybe(5, 100, 9999),
    unreviewed=st.sampled_from([False, False, True]),
    flagged=st.sampled_from([False, False, True]),
    private=maybe(frozenset(), frozenset({"fox", "nobody's"}), frozenset({"badger", "blank"})),
)


@settings(max_examples=250, deadline=None)
@given(
    wanted=FILTERS,
    few=st.sampled_from([0, 12, 5000]),
    size=st.sampled_from([1, 3, 50]),
    stretch=st.sampled_from([1, 7, 2000]),
)
def test_pages_of_any_mixture_of_filters_together_hold_what_a_plain_search_finds(
    busy, wanted, few, size, stretch
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trails, "FEW", few)
        patch.setattr(pages, "FIRST_ROWS", stretch)
        assert page_by_page(busy, wanted, size) == expected(busy, wanted)


EACH = [
    ("species", "silver fox"),
    ("since", iso_utc(NOW.replace(month=4, day=1, hour=7))),
    ("until", iso_utc(NOW.replace(month=4, day=1, hour=7))),
    ("deployment", SOUTH),
    ("min_probability", 0.5),
    ("max_probability", 0.5),
    *(("source", source) for source in Source),
    *(("status", status) for status in MediaStatus),
    ("model_version", "v0002"),
    ("labelled_by", "Ben"),
    ("path", "SüdHang/00"),
    ("path", "T_100%/"),
    ("sha256", "F"),
    ("event_id", 1),
    ("media_id", 5),
    ("unreviewed", True),
    ("flagged", True),
]


@pytest.mark.parametrize("few", [0, 5000])
@pytest.mark.parametrize(("name", "value"), EACH)
def test_each_filter_alone_finds_some_and_leaves_some_out(busy, monkeypatch, name, value, few):
    monkeypatch.setattr(trails, "FEW", few)
    wanted = replace(BrowseFilter(), **{name: value})
    found = list(busy.browse(wanted, 500).media_ids)
    assert found == expected(busy, wanted)
    assert 0 < len(found) < len(everything(busy))


def test_what_is_looked_for_in_vain_is_nothing_or_an_error_in_words(busy):
    for nobody in ({"deployment": "nowhere"}, {"model_version": "v0003"}, {"labelled_by": "Eve"}):
        page = busy.browse(BrowseFilter(**nobody), 10)
        assert (page.media_ids, page.next, page.reached) == ((), None, None)
    with pytest.raises(UnknownSpecies, match="no species answers to 'wombat'"):
        busy.browse(BrowseFilter(species="wombat"), 10)


def test_a_search_that_finds_nothing_ends_its_page_when_its_time_is_up(busy, monkeypatch):
    monkeypatch.setattr(trails, "FEW", 0)
    monkeypatch.setattr(pages, "FIRST_ROWS", 10)
    nothing = BrowseFilter(path="nothing like it")
    first = busy.browse(nothing, 10, budget_seconds=0)
    assert first.media_ids == ()
    tenth = everything(busy)[9]
    assert first.next == (tenth.captured_at, tenth.media_id)
    assert first.reached == tenth.captured_at
    whole = busy.browse(nothing, 10, budget_seconds=60)
    assert (whole.media_ids, whole.next) == ((), None)


def test_a_media_taken_in_between_two_pages_moves_nothing(log):
    media = frames(log, 6)
    first = log.browse(BrowseFilter(), 3)
    take_in(log, [item("late.jpg", DAWN, "late")])  # the oldest moment: it comes after
    take_in(log, [item("new.jpg", NOW.replace(tzinfo=None), "new")])  # the newest: it came before
    second = log.browse(BrowseFilter(), 10, first.next)
    assert first.media_ids == tuple(media[:2:-1])
    assert second.media_ids == (media[2], media[1], 7, media[0])


def test_a_cursor_is_read_as_it_was_written():
    place = Cursor("2024-05-01T03:04:05.000Z", 1234)
    assert str(place) == "2024-05-01T03:04:05.000Z_1234"
    assert Cursor.read(str(place)) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "2024-05-01_5",
        "2024-05-01T03:04:05.000Z",
        "2024-05-01T03:04:05.000Z_",
        "2024-05-01T03:04:05.000Z_-1",
        "2024-05-01T03:04:05.000Z_²",
        "2024-05-01T03:04:05.000Z_" + "9" * 19,
        "2024-05-01T03:04:05.000Z_1\n",
    ],
)
def test_what_is_no_cursor_is_refused_in_words(text):
    with pytest.raises(BadCursor, match="is no cursor; send back `next`"):
        Cursor.read(text)


def test_which_of_some_media_fit_is_what_browsing_finds(busy):
    media_ids = [s.media_id for s in everything(busy)]
    for wanted in (BrowseFilter(species="fox"), BrowseFilter(flagged=True), BrowseFilter()):
        assert busy.which_fit(wanted, media_ids) == set(expected(busy, wanted))
        assert busy.which_fit(wanted, media_ids[:9]) == set(expected(busy, wanted)) & set(
            media_ids[:9]
        )
    assert busy.which_fit(BrowseFilter(), []) == set()


def test_a_film_is_the_event_around_a_frame_oldest_first(log):
    visit = frames(log, 9, minutes=1)
    alone = frames(log, 1, deployment="south")
    (broken,) = take_in(log, [item("bad.jpg", DAWN, rejected="truncated")])
    films = log.films([visit[0], visit[4], visit[8], alone[0], broken, 9999], most=4)
    assert films == {
        visit[0]: visit[:4],
        visit[4]: visit[2:6],
        visit[8]: visit[5:],
        alone[0]: alone,
        broken: [broken],
        9999: [9999],
    }
    assert log.films([visit[4]]) == {visit[4]: visit}


def test_dimensions_are_told_where_they_are_known(log):
    media = frames(log, 2)
    with log._write() as connection:
        connection.exec_driver_sql("UPDATE media SET width = NULL WHERE id = ?", (media[1],))
    assert log.dimensions(media) == {media[0]: (64, 48)}


WALKED = {
    "media_by_time": BrowseFilter(path="x"),
    "media_by_deployment": BrowseFilter(deployment=SOUTH, status=MediaStatus.CLASSIFIED),
    "media_labelled": BrowseFilter(source=Source.LABEL, sha256="a"),
    "prediction_search": BrowseFilter(source=Source.PREDICTION, min_probability=0.5),
    "prediction_by_species": BrowseFilter(source=Source.PREDICTION, species="badger"),
    "prediction_by_deployment": BrowseFilter(
        source=Source.PREDICTION, species="badger", deployment=SOUTH, model_version="v0001"
    ),
}


@pytest.mark.parametrize("index", WALKED)
def test_a_large_log_is_walked_along_an_index_in_order_of_time(busy, monkeypatch, index):
    monkeypatch.setattr(trails, "FEW", 0)
    asked: list[tuple[str, object]] = []

    def keep(_connection, _cursor, statement, parameters, *_rest):
        asked.append((statement, parameters))

    event.listen(busy._engine, "before_cursor_execute", keep)
    busy.browse(WALKED[index], 5, Cursor("2026-04-02T00:00:00.000Z", 1))
    event.remove(busy._engine, "before_cursor_execute", keep)
    walks = [one for one in asked if "ORDER BY" in one[0]]
    assert len(walks) == 2
    with busy._driver() as driver:
        for statement, parameters in walks:
            plan = driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            first = plan[0][3]
            assert f"{index} (" in first and "captured_at<?" in first, plan
