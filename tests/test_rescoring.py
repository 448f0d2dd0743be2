"""Past media under a new model: what is renewed, what becomes history, what is left alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
from field import NOW, Camp, jpeg, sure_of
from hypothesis import given, settings
from hypothesis import strategies as st
from logbook import frames, predict, publish, rows, say

import monitor.pipeline.rescoring as page
from monitor.core.domain import Prediction
from monitor.health.status import _rescoring, _rescoring_line
from monitor.log.batch_predictions import Said
from monitor.log.engine import LogError
from monitor.log.features import FeatureStore
from monitor.log.species_log import SpeciesLog
from monitor.model.backbone.tail import Tail
from monitor.model.head import answers
from monitor.pipeline.rescoring import LEAST_PAGE, MOST_PAGE, WRITE_SECONDS, next_size, said_of

HISTORY = (
    "SELECT p.media_id, v.name, s.name, p.current FROM prediction p"
    " JOIN model_version v ON v.id = p.model_version_id JOIN species s ON s.id = p.species_id"
    " ORDER BY p.media_id, p.current, v.id"
)
FIVE = [f"202605{day:02d}_120000.jpg" for day in range(1, 6)]


@pytest.fixture
def log(tmp_path) -> Iterator[SpeciesLog]:
    with SpeciesLog(tmp_path / "log.db", create=True) as log:
        yield log


@pytest.fixture
def camp(tmp_path, monkeypatch) -> Iterator[Camp]:
    monkeypatch.setattr(page, "WAIT_SECONDS", 20.0)
    one = Camp(tmp_path)
    yield one
    one.close()


def speak(log: SpeciesLog, version: str, says: dict[int, str], limit: int = 100) -> None:
    """Let `version` speak of all of these media that it should speak of, `limit` at a time."""
    after = 0
    while found := log.to_rescore(version, limit, after):
        after = found[-1].media_id
        found = [one for one in found if one.media_id in says]
        words = Said.of([word(one.media_id, says[one.media_id]) for one in found])
        log.rescore(version, words, [one.says for one in found], NOW)


def word(media_id: int, species: str, probability: float = 0.5) -> Prediction:
    return Prediction(media_id, species, probability, ((species, probability), ("blank", 0.25)))


# --- renewed, or history


def test_the_same_species_is_renewed_in_its_row(log):
    (media,) = frames(log, 1)
    publish(log)
    predict(log, {media: ("fox", 0.75)})
    (before,) = rows(log, "SELECT id, species_id, captured_at, deployment_id FROM prediction")
    publish(log, "v0002")
    speak(log, "v0002", {media: "fox"})
    assert rows(log, HISTORY) == [(media, "v0002", "fox", 1)]
    assert rows(log, "SELECT id, species_id, captured_at, deployment_id FROM prediction") == [
        before
    ]
    (shown,) = log.sightings_of([media])
    assert (shown.probability, shown.alternatives) == (0.5, (("fox", 0.5), ("blank", 0.25)))


def test_another_species_leaves_the_old_word_as_history(log):
    one, two, three = frames(log, 3)
    publish(log)
    predict(log, {one: ("fox", 0.75), two: ("fox", 0.75)})
    publish(log, "v0002")
    speak(log, "v0002", {one: "badger", two: "fox", three: "hare"})
    assert rows(log, HISTORY) == [
        (one, "v0001", "fox", 0),
        (one, "v0002", "badger", 1),
        (two, "v0002", "fox", 1),
        (three, "v0002", "hare", 1),
    ]
    kept = rows(log, "SELECT probability, alternatives FROM prediction WHERE current = 0")
    assert [(p, json.loads(a)) for p, a in kept] == [(0.75, [["fox", 0.75], ["blank", 0.25]])]


def test_after_a_roll_back_and_forth_each_version_has_one_word_and_the_live_one_is_shown(log):
    (media,) = frames(log, 1)
    publish(log)
    predict(log, {media: ("fox", 0.75)})
    publish(log, "v0002")
    speak(log, "v0002", {media: "badger"})
    log.roll_back("Ana", NOW)
    speak(log, "v0001", {media: "fox"})
    assert rows(log, HISTORY) == [(media, "v0002", "badger", 0), (media, "v0001", "fox", 1)]
    log.go_live("v0002", "after all", "Ana", NOW)
    speak(log, "v0002", {media: "badger"})
    assert rows(log, HISTORY) == [(media, "v0001", "fox", 0), (media, "v0002", "badger", 1)]


def test_a_version_that_comes_back_and_says_what_is_shown_takes_the_place_of_its_old_word(log):
    (media,) = frames(log, 1)
    publish(log)
    predict(log, {media: ("fox", 0.75)})
    publish(log, "v0002")
    speak(log, "v0002", {media: "badger"})
    speak(log, "v0001", {media: "badger"})  # as where unknown_below was changed in between
    assert rows(log, HISTORY) == [(media, "v0001", "badger", 1)]


def test_a_labelled_media_is_left_as_it_is(log):
    one, two = frames(log, 2)
    publish(log)
    predict(log, {one: ("fox", 0.75), two: ("fox", 0.75)})
    say(log, one, "hare")
    before = rows(log, f"SELECT * FROM prediction WHERE media_id = {one}")
    publish(log, "v0002")
    speak(log, "v0002", {one: "badger", two: "badger"})
    assert rows(log, f"SELECT * FROM prediction WHERE media_id = {one}") == before
    assert log.sightings_of([one])[0].species == "hare"
    assert log.sightings_of([two])[0].species == "badger"


@pytest.mark.parametrize("species", ["fox", "badger"])
def test_a_media_that_is_labelled_while_it_is_scored_is_left_as_it_is(log, species):
    one, two = frames(log, 2)
    publish(log)
    predict(log, {one: ("fox", 0.75), two: ("fox", 0.75)})
    publish(log, "v0002")
    found = log.to_rescore("v0002", 10, 0)
    say(log, one, "hare")
    said = Said.of([word(media.media_id, species) for media in found])
    log.rescore("v0002", said, [media.says for media in found], NOW)
    assert [row[1:3] for row in rows(log, HISTORY) if row[0] == one] == [("v0001", "fox")]
    assert log.sightings_of([two])[0].model_version == "v0002"


def test_a_class_that_the_species_list_does_not_know_is_added_when_it_is_said(log):
    (media,) = frames(log, 1)
    publish(log)
    name = 'the "fox", ünd \\ 狐 %s'
    speak(log, "v0001", {media: name})
    (shown,) = log.sightings_of([media])
    assert (shown.species, shown.alternatives[0]) == (name, (name, 0.5))


def test_a_version_that_nobody_knows_is_refused_whole(log):
    (media,) = frames(log, 1)
    with pytest.raises(LogError, match="v0009"):
        log.rescore("v0009", Said.of([word(media, "fox")]), [None], NOW)
    assert rows(log, HISTORY) == []


class Model:
    """The rule, as simply as it can be said: one current word, old ones by version."""

    def __init__(self) -> None:
        self.current: dict[int, tuple[str, str]] = {}
        self.history: dict[int, dict[str, str]] = {}
        self.labelled: set[int] = set()

    def speak(self, version: str, says: dict[int, str]) -> None:
        for media, species in says.items():
            old = self.current.get(media)
            if media in self.labelled or (old is not None and old[0] == version):
                continue
            kept = self.history.setdefault(media, {})
            kept.pop(version, None)
            if old is not None and old[1] != species:
                kept[old[0]] = old[1]
            self.current[media] = (version, species)

    def rows(self) -> set[tuple[int, str, str, int]]:
        now = {(media, *word, 1) for media, word in self.current.items()}
        return now | {(m, v, s, 0) for m, kept in self.history.items() for v, s in kept.items()}


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[SpeciesLog]:
    with SpeciesLog(tmp_path_factory.mktemp("rescoring") / "log.db", create=True) as log:
        for name in ("v0001", "v0002", "v0003"):
            publish(log, name)
        yield log


WORDS = st.lists(st.sampled_from(["fox", "badger", "hare"]), min_size=4, max_size=4)
ACTS = st.one_of(
    st.tuples(st.sampled_from(["v0001", "v0002", "v0003"]), WORDS, st.integers(1, 5)),
    st.tuples(st.sampled_from(["label", "undo"]), st.integers(0, 3)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ACTS, max_size=8))
def test_whatever_happens_the_log_holds_what_the_rule_says(shared, acts):
    model = Model()
    number = rows(shared, "SELECT count(*) FROM media")[0][0]
    media = frames(shared, 4, deployment=f"camera {number}")
    for act in acts:
        if len(act) == 3:
            version, species, limit = act
            says = dict(zip(media, species, strict=True))
            speak(shared, version, says, limit)
            model.speak(version, says)
        elif act[0] == "label" and media[act[1]] not in model.labelled:
            say(shared, media[act[1]], "wolf")
            model.labelled.add(media[act[1]])
        elif act[0] == "undo" and media[act[1]] in model.labelled:
            shared.undo(media[act[1]], "Ana", "cli", NOW)
            model.labelled.remove(media[act[1]])
    found = {row for row in rows(shared, HISTORY) if row[0] in media}
    assert found == model.rows()


# --- found without looking at everything


def test_a_page_is_found_by_walking_along_the_media_never_by_sorting_them(log):
    publish(log)
    asked = []
    from sqlalchemy import event

    event.listen(log._engine, "before_cursor_execute", lambda c, x, sql, p, *_: asked.append(sql))
    log.to_rescore("v0001", 10, 5)
    query = asked[-1].replace("?", "1")
    plan = [row[3] for row in rows(log, f"EXPLAIN QUERY PLAN {query}")]
    assert any("SEARCH media USING INTEGER PRIMARY KEY (rowid<?)" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan


# --- a page


def test_answers_become_the_same_words_as_the_predictions_they_are():
    random = np.random.default_rng(1)
    p = random.dirichlet(np.ones(7), 50).astype(np.float32)
    names = ("a", 'b"', "ü", "d%s", "e\\", "f", "g")
    said = answers(p, names, 0.3)
    columns = said_of(range(50), said)
    for place, row in enumerate(p):
        best = np.argsort(-row)[:5]
        expected = [[names[i], round(float(row[i]), 5)] for i in best]
        assert json.loads(columns.alternatives[place]) == expected
        species = names[best[0]] if row.max() >= 0.3 else "unknown"
        assert columns.names[columns.species[place]] == species
        assert columns.probabilities[place] == float(row.max())
    assert set(columns.names) == {columns.names[i] for i in columns.species}


@given(st.integers(0, MOST_PAGE), st.integers(LEAST_PAGE, MOST_PAGE), st.floats(0, 100))
def test_a_page_stays_within_its_bounds_and_never_grows_where_it_was_slow(written, size, seconds):
    following = next_size(written, size, seconds)
    assert LEAST_PAGE <= following <= min(MOST_PAGE, 2 * size)
    if seconds > WRITE_SECONDS:
        assert following <= max(size, written)  # a page may be of before the size was cut
    if written < size:
        assert following <= size


def test_a_page_finds_the_size_that_takes_its_time():
    size = 500
    for _ in range(20):
        size = next_size(size, size, 0.005 + size * 3e-5)
    assert 0.8 * WRITE_SECONDS < 0.005 + size * 3e-5 < 1.2 * WRITE_SECONDS


def test_many_vectors_come_as_one_matrix_with_their_places(tmp_path):
    store = FeatureStore(tmp_path / "features.db", "test/1", 3, 10**6)
    keys = [f"{number:064x}" for number in range(1200)]
    vectors = (np.arange(3600) % 512).reshape(1200, 3).astype(np.float32)
    kept = range(0, 1200, 2)
    store.put([(keys[i], vectors[i]) for i in kept])
    places, found = store.matrix(keys)
    assert sorted(places) == list(kept)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, vectors[places])
    places, found = store.matrix(keys[1:2])
    assert (places, found.shape) == ([], (0, 3))
    store.close()


# --- in the pipeline


def fill(camp: Camp) -> None:
    for number, name in enumerate(FIVE):
        camp.put(name, jpeg(number))
    camp.settle()
    camp.classify_all()


def test_a_vector_that_was_damaged_is_read_anew_from_its_file(camp):
    fill(camp)
    broken = camp.log.sightings_of([1])[0].sha256
    spoil = "UPDATE features SET crc = crc + 1 WHERE sha256 = ?"
    camp.features._file._connection.execute(spoil, [bytes.fromhex(broken)])
    camp.publish("v0001", sure_of("red fox"))
    camp.classify_all()
    assert {species for species, _, _ in camp.sightings().values()} == {"red fox"}
    assert broken in camp.features.get([broken])


def test_a_slow_disk_under_the_cache_does_not_hold_up_a_frame_that_comes(camp, monkeypatch):
    fill(camp)
    monkeypatch.setattr(page, "WAIT_SECONDS", 0.001)
    go_on, real = threading.Event(), camp.features.matrix

    def slow(sha256s):
        assert go_on.wait(20)
        return real(sha256s)

    monkeypatch.setattr(camp.features, "matrix", slow)
    camp.publish("v0001", sure_of("red fox"))
    assert camp.step() == 1  # there is something to do, and it is not waited for
    camp.put("20260701_120000.jpg", jpeg(70))
    camp.rescan()
    camp.step()
    assert camp.sightings()["20260701_120000.jpg"][0] == "red fox"
    assert camp.sightings()[FIVE[0]] == (None, None, "none")
    go_on.set()
    camp.classify_all()
    assert {species for species, _, _ in camp.sightings().values()} == {"red fox"}


@pytest.mark.parametrize("ending", ["close", "use"])
def test_no_features_are_read_any_more_once_the_pipeline_has_ended(camp, monkeypatch, ending):
    fill(camp)
    monkeypatch.setattr(page, "WAIT_SECONDS", 0.001)
    go_on, order, real = threading.Event(), [], camp.features.matrix

    def slow(sha256s):
        assert go_on.wait(20)
        order.append("read")
        return real(sha256s)

    monkeypatch.setattr(camp.features, "matrix", slow)
    camp.publish("v0001", sure_of("red fox"))
    assert camp.step() == 1  # being read
    rescoring = camp.pipeline._rescoring
    let_go = rescoring.let_go
    monkeypatch.setattr(rescoring, "let_go", lambda: (go_on.set(), let_go()))
    if ending == "close":
        camp.pipeline.close()
    else:
        camp.pipeline.use(Tail("vgg16", 5, "0123abcd" * 8, {}))
    order.append("ended")
    camp.features.close()
    assert order == ["read", "ended"]
    assert (camp.root.parent / "features.db").exists()


def test_a_page_that_could_not_be_written_is_tried_again(camp, monkeypatch):
    fill(camp)
    camp.publish("v0001", sure_of("red fox"))
    with monkeypatch.context() as patch:
        patch.setattr(camp.log, "rescore", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
        for _ in range(2):
            with pytest.raises(OSError, match="disk full"):
                camp.classify_all()
    camp.classify_all()
    assert {species for species, _, _ in camp.sightings().values()} == {"red fox"}


def test_a_restart_goes_on_where_the_log_says(camp, monkeypatch):
    monkeypatch.setattr(page, "FIRST_PAGE", 2)
    fill(camp)
    camp.publish("v0001", sure_of("red fox"))
    camp.step()
    before = rows(camp.log, "SELECT * FROM prediction")
    assert len(before) == 2
    camp.pipeline.close()
    camp.pipeline = camp.new_pipeline()
    camp.classify_all()
    after = rows(camp.log, "SELECT * FROM prediction")
    assert len(after) == 5
    assert set(before) <= set(after)  # and what was said before is not said again


def test_past_media_are_looked_through_again_only_after_an_hour(camp, monkeypatch):
    fill(camp)
    camp.publish("v0001", sure_of("red fox"))
    camp.classify_all()
    asked, real = [], SpeciesLog.to_rescore
    monkeypatch.setattr(SpeciesLog, "to_rescore", lambda *a: asked.append(a) or real(*a))
    camp.classify_all()
    assert asked == []
    camp.clock = NOW + timedelta(hours=1)
    camp.classify_all()
    assert len(asked) == 2  # in the cache, and from files


# --- told in the status


def test_the_status_tells_how_far_it_is(camp, monkeypatch):
    monkeypatch.setattr(page, "FIRST_PAGE", 2)
    assert status(camp) is None
    fill(camp)
    camp.publish("v0001", sure_of("red fox"))
    assert status(camp) == ("v0001", 0, 5, False)
    camp.step()
    assert status(camp) == ("v0001", 2, 3, False)
    say(camp.log, 1, "hare")
    assert status(camp) == ("v0001", 2, 2, False)
    camp.classify_all()
    assert status(camp) == ("v0001", 4, 0, False)
    say(camp.log, 5, "hare")
    assert status(camp) == ("v0001", 4, 0, False)


def test_the_status_tells_of_files_that_are_read_and_of_those_that_are_gone(camp):
    fill(camp)
    camp.features._file._connection.execute("DELETE FROM features")
    (camp.root / FIVE[0]).unlink()
    camp.publish("v0001", sure_of("red fox"))
    told, real = [], camp.pipeline.features_of

    def reading(*args):
        told.append(status(camp))
        return real(*args)

    camp.pipeline._rescoring._read_files = reading
    camp.classify_all()
    assert told == [("v0001", 0, 5, True)]
    assert status(camp) == ("v0001", 4, 1, False)


def status(camp: Camp) -> tuple[str, int, int, bool] | None:
    facts = _rescoring(camp.log, camp.log.counts()["predicted_by_live"])
    return tuple(facts.values()) if facts is not None else None


def test_the_status_says_it_in_words():
    facts = {"version": "v0002", "scored": 7, "to_score": 3, "reading_files": True}
    assert _rescoring_line(facts) == "7 scored by v0002, 3 to do, from their files"
    assert _rescoring_line(facts | {"to_score": 0}) == "all scored by v0002"
