"""Asking the log: every filter, alone and together, against a plain search through all rows."""

from __future__ import annotations

import random
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logbook import DAWN, NOW, fill, frames, item, predict, publish, rows, say, take_in

from monitor.core.domain import MediaStatus, Source, iso_utc
from monitor.log import browse
from monitor.log import cursors as trails
from monitor.log.filters import BrowseFilter
from monitor.log.sightings import COLUMNS
from monitor.log.species_log import SpeciesLog

NAMES = ("fox", "badger", "roe deer", "blank")


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """120 media of three cameras, some at the same moment; labels, predictions, rejects."""
    chance = random.Random(3)
    with SpeciesLog(tmp_path_factory.mktemp("busy") / "log.db", create=True) as log:
        media = [m for d in "abc" for m in frames(log, 36, minutes=40, deployment=d)]
        take_in(log, [item(f"bad{n}", DAWN, "a", rejected="truncated") for n in range(12)])
        publish(log)
        predict(log, {m: (chance.choice(NAMES), chance.random()) for m in media if m % 7})
        for media_id in media[::3]:
            say(log, media_id, *chance.sample(NAMES, chance.choice((1, 2))))
        log.add_species("silver fox", "Ana", "cli", NOW)
        say(log, media[1], "silver fox")
        log.merge_species("silver fox", "fox", "Ana", "cli", NOW)
        yield log


def fits(sighting, wanted: BrowseFilter) -> bool:
    names = {o.species for o in sighting.observations} or {sighting.species}
    labelled = sighting.source is Source.LABEL
    p = wanted.min_probability
    return (
        (wanted.species is None or wanted.species in names)
        and (wanted.since is None or sighting.captured_at >= wanted.since)
        and (wanted.until is None or sighting.captured_at < wanted.until)
        and (wanted.deployment is None or sighting.deployment == wanted.deployment)
        and (p is None or labelled or (sighting.probability or -1) >= p)
        and not (wanted.unreviewed and (labelled or sighting.status is MediaStatus.REJECTED))
    )


moments = st.one_of(
    st.none(), st.integers(0, 1600).map(lambda m: iso_utc(NOW.replace(month=4, day=1 + m // 1440)))
)


@settings(max_examples=150, deadline=None)
@given(
    wanted=st.builds(
        BrowseFilter,
        st.sampled_from([None, *NAMES]),
        moments,
        moments,
        st.sampled_from([None, "a", "b", "nowhere"]),
        st.sampled_from([None, 0.0, 0.5, 1.0]),
        unreviewed=st.booleans(),
    ),
    limit=st.sampled_from([None, 1, 7, 50]),
    few=st.sampled_from([0, 2000]),
    size=st.sampled_from([3, 500]),
)
def test_any_mixture_of_filters_finds_what_a_plain_search_finds(busy, wanted, limit, few, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trails, "FEW", few)
        patch.setattr(browse, "PAGE", size)
        found = list(busy.sightings(wanted, limit))
    every = busy.sightings_of([row[0] for row in rows(busy, "SELECT id FROM media")])
    expected = [s for s in every if fits(s, wanted)]
    expected.sort(key=lambda s: (s.captured_at, s.media_id), reverse=True)
    assert found == expected[:limit]


def test_rows_are_read_page_by_page(busy, monkeypatch):
    monkeypatch.setattr(browse, "PAGE", 10)
    reads = []
    plain = busy._read
    monkeypatch.setattr(busy, "_read", lambda: reads.append(1) or plain())
    assert next(busy.sightings()).media_id
    assert len(reads) == 3  # what is searched, one stretch of it, ten rows


def test_a_frame_without_a_model_is_shown_with_no_species(log):
    (media_id,) = frames(log, 1)
    (sighting,) = log.sightings()
    assert (sighting.species, sighting.source, sighting.probability) == (None, Source.NONE, None)
    assert (sighting.status, sighting.media_id) == (MediaStatus.CLASSIFIED, media_id)


def test_a_rejected_file_is_shown_with_its_reason(log):
    take_in(log, [item("bad", rejected="the file is truncated")])
    (sighting,) = log.sightings()
    assert sighting.rejected_reason == "the file is truncated"


def test_a_prediction_is_shown_with_its_alternatives_and_version(log):
    (media_id,) = frames(log, 1)
    publish(log)
    predict(log, {media_id: ("fox", 0.75)})
    (sighting,) = log.sightings()
    assert (sighting.species, sighting.probability, sighting.model_version) == (
        "fox",
        0.75,
        "v0001",
    )
    assert sighting.alternatives == (("fox", 0.75), ("blank", 0.25))


def test_a_new_version_speaks_and_the_old_word_stays_as_history(log):
    (media_id,) = frames(log, 1)
    publish(log)
    predict(log, {media_id: ("fox", 0.75)})
    publish(log, "v0002")
    ((found, sha256, says),) = log.to_rescore("v0002", 10, 0)
    assert (found, sha256) == (media_id, log.sightings_of([media_id])[0].sha256)
    assert rows(log, f"SELECT name FROM species WHERE id = {says}") == [("fox",)]
    predict(log, {media_id: ("badger", 0.6)}, "v0002")
    assert log.sightings_of([media_id])[0].species == "badger"
    assert len(rows(log, "SELECT * FROM prediction")) == 2
    assert log.drop_unchanged_history(10) == 0
    predict(log, {media_id: ("fox", 0.9)}, "v0002")
    assert log.drop_unchanged_history(10) == 1


def test_the_view_answers_sqlite3_users_with_the_same_columns_and_rows(tmp_path):
    path = tmp_path / "log.db"
    with fill(path) as log:
        shown = {s.media_id: s for s in log.sightings()}
        log.checkpoint()
    connection = sqlite3.connect(path)
    cursor = connection.execute("SELECT * FROM sightings")
    assert [c[0] for c in cursor.description] == list(COLUMNS)
    for row in cursor.fetchall():
        sighting = shown[row[0]]
        assert row[1:10] == (
            sighting.path,
            sighting.sha256,
            sighting.captured_at,
            sighting.captured_local,
            sighting.deployment,
            sighting.species,
            sighting.probability,
            sighting.source,
            sighting.model_version,
        )
    foxes = connection.execute("SELECT count(*) FROM sightings WHERE species = 'red fox'")
    assert foxes.fetchone() == (2,)


def test_counts_say_where_every_media_stands(filled):
    counts = filled.counts()
    assert counts == {
        "pending": 1,
        "classified": 9,
        "rejected": 1,
        "media": 11,
        "waiting_for_their_file": 0,
        "labelled": 2,
        "unreadable_files": 1,
        "predicted_by_live": 2,
    }
    assert filled.unreadable(5) == [("/frames/locked.jpg", "Permission denied")]
    assert filled.oldest_pending() == iso_utc(NOW)


def test_paths_that_are_not_utf_8_are_kept_exactly_and_shown_escaped(filled):
    raw = b"/frames/north/caf\xe9 \xf0\x9f\xa6\x8a.jpg"
    media_id = filled.media_of_path(raw)
    assert filled.sightings_of([media_id])[0].path == "/frames/north/caf\\xe9 🦊.jpg"
    assert filled.find_media([media_id])[0].paths == (raw,)
    assert filled.known_files([raw])[raw].media_id == media_id
