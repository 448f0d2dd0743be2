"""Labels: acts of people, append-only, the newest not withdrawn counts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from logbook import NOW, frames, item, predict, publish, rows, say, take_in

from monitor.core.domain import Observation, Scope, Source
from monitor.log.engine import LogError
from monitor.log.labels import RequestTaken
from monitor.log.reference import NoSuchMedia
from monitor.log.species import UnknownSpecies
from monitor.log.species_log import SpeciesLog
from monitor.log.undoing import NotTheirs


def shown(log: SpeciesLog, media_id: int) -> tuple[Observation, ...]:
    return log.sightings_of([media_id])[0].observations


def test_a_label_goes_before_a_prediction(log):
    (media_id,) = frames(log, 1)
    publish(log)
    predict(log, {media_id: ("badger", 0.9)})
    say(log, media_id, "red fox")
    (sighting,) = log.sightings_of([media_id])
    assert (sighting.species, sighting.source, sighting.probability) == (
        "red fox",
        Source.LABEL,
        None,
    )
    assert sighting.labelled_by == "Ana"


def test_a_frame_can_hold_two_species_and_is_found_by_either(log):
    (media_id,) = frames(log, 1)
    log.label(
        [media_id], [Observation("red deer", 3), Observation("wild boar", 1)], "Ana", "cli", NOW
    )
    (sighting,) = log.sightings_of([media_id])
    assert sighting.species == "red deer"
    assert sighting.observations == (Observation("red deer", 3), Observation("wild boar", 1))
    from monitor.log.filters import BrowseFilter

    for name in ("red deer", "wild boar"):
        assert [s.media_id for s in log.sightings(BrowseFilter(species=name))] == [media_id]


def test_a_species_named_twice_in_one_label_is_refused(log):
    (media_id,) = frames(log, 1)
    with pytest.raises(LogError, match="named twice"):
        say(log, media_id, "fox", "Fox")


@pytest.mark.parametrize("count", [0, -1, 1_000_000, 10**30])
def test_a_count_that_cannot_be_is_refused(log, count):
    (media_id,) = frames(log, 1)
    with pytest.raises(LogError, match="write a whole number from 1"):
        log.label([media_id], [Observation("fox", count)], "Ana", "cli", NOW)
    assert rows(log, "SELECT * FROM act") == []


def test_a_label_without_species_is_refused(log):
    with pytest.raises(LogError, match="at least one species"):
        log.label(frames(log, 1), [], "Ana", "cli", NOW)


def test_a_label_of_media_that_is_not_there_is_refused_whole(log):
    with pytest.raises(LogError):
        say(log, 99, "fox")
    assert rows(log, "SELECT * FROM label") == rows(log, "SELECT * FROM act") == []


def test_a_correction_keeps_the_fields_it_does_not_touch(log):
    (media_id,) = frames(log, 1)
    first = Observation("fox", 2, "female", "adult", "foraging")
    log.label([media_id], [first], "Ana", "cli", NOW)
    log.label([media_id], [Observation("badger")], "Ben", "cli", NOW)
    assert shown(log, media_id) == (Observation("badger", 2, "female", "adult", "foraging"),)
    log.label([media_id], [Observation("badger", 3, sex="male")], "Ben", "cli", NOW)
    assert shown(log, media_id) == (Observation("badger", 3, "male", "adult", "foraging"),)


def test_with_two_species_each_keeps_its_own_fields(log):
    (media_id,) = frames(log, 1)
    both = [Observation("fox", 1, "male"), Observation("badger", 2, "female")]
    log.label([media_id], both, "Ana", "cli", NOW)
    say(log, media_id, "badger", "hare")
    assert shown(log, media_id) == (Observation("badger", 2, "female"), Observation("hare"))


def test_a_correction_after_a_merge_still_keeps_the_fields(log):
    (media_id,) = frames(log, 1)
    log.label([media_id], [Observation("silver fox", 2), Observation("owl")], "Ana", "cli", NOW)
    log.add_species("red fox", "Ana", "cli", NOW)
    log.merge_species("silver fox", "red fox", "Ana", "cli", NOW)
    say(log, media_id, "red fox", "owl")
    assert shown(log, media_id)[0] == Observation("red fox", 2)


def test_undo_brings_back_what_was_said_before_step_by_step(log):
    (media_id,) = frames(log, 1)
    for name in ("fox", "badger", "hare"):
        say(log, media_id, name)
    seen = []
    for _ in range(3):
        assert log.undo(media_id, "Ana", "cli", NOW) == (media_id,)
        seen.append([o.species for o in shown(log, media_id)])
    assert seen == [["badger"], ["fox"], []]
    with pytest.raises(LogError, match="no label to undo"):
        log.undo(media_id, "Ana", "cli", NOW)
    say(log, media_id, "owl")
    assert shown(log, media_id) == (Observation("owl"),)
    assert len(rows(log, "SELECT * FROM observation")) == 4


def test_an_event_label_is_one_act_on_every_frame_and_undone_as_one(log):
    visit = frames(log, 3, minutes=5)
    (other,) = frames(log, 1, deployment="south")
    outcome = say(log, visit[1], "fox", scope=Scope.EVENT)
    assert outcome.media_ids == tuple(visit)
    assert len(rows(log, "SELECT * FROM act WHERE scope = 'event'")) == 1
    assert shown(log, other) == ()
    assert log.undo(None, "Ana", "cli", NOW) == tuple(visit)
    assert all(shown(log, media_id) == () for media_id in visit)


def test_an_event_label_leaves_rejected_files_out(log):
    good, bad = take_in(log, [item("a.jpg"), item("b.jpg", rejected="truncated")])
    assert say(log, good, "fox", scope=Scope.EVENT).media_ids == (good,)
    assert shown(log, bad) == ()


@pytest.mark.parametrize("table", ["label", "observation", "act"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {t} SET {key} = {key}",
        "DELETE FROM {t}",
        "INSERT OR REPLACE INTO {t} SELECT * FROM {t}",
        "REPLACE INTO {t} SELECT * FROM {t} LIMIT 1",
    ],
)
def test_the_database_itself_refuses_to_change_what_was_said(filled, table, statement):
    key = {"label": "media_id", "observation": "species_id", "act": "at"}[table]
    before = rows(filled, f"SELECT * FROM {table}")
    with pytest.raises(LogError, match="labels are append-only"), filled._write() as connection:
        connection.exec_driver_sql(statement.format(t=table, key=key))
    assert rows(filled, f"SELECT * FROM {table}") == before


def test_a_withdrawal_cannot_be_replaced_by_another(filled):
    with pytest.raises(LogError, match="append-only"), filled._write() as connection:
        connection.exec_driver_sql(
            "REPLACE INTO label (act_id, media_id, withdraws_id) SELECT act_id, media_id,"
            " withdraws_id FROM label WHERE withdraws_id IS NOT NULL"
        )


def test_a_media_is_found_by_id_path_sha_and_end_of_path(log):
    first, second = take_in(log, [item("a/IMG_1.jpg"), item("b/IMG_1.jpg")])
    sha = log.sightings_of([second])[0].sha256
    assert log.find(str(first), b"/x") == first
    assert log.find("a.jpg", b"/frames/north/a/IMG_1.jpg") == first
    assert log.find("/frames/north/b/IMG_1.jpg", b"/else") == second
    assert log.find(sha[:12].upper(), b"/x") == second
    assert log.find("b/IMG_1.jpg", b"/x") == second
    with pytest.raises(NoSuchMedia, match="more than one"):
        log.find("IMG_1.jpg", b"/x")


@pytest.mark.parametrize(
    "reference", ["²", "9" * 5000, "%", "_", "\udce9", "", "99", "dead", "' OR 1=1 --", "\n"]
)
def test_a_reference_that_fits_nothing_is_told(filled, reference):
    with pytest.raises(NoSuchMedia, match="no media answers"):
        filled.find(reference, b"/nothing")


def test_a_path_that_is_not_utf_8_is_found_by_its_bytes_and_as_it_is_shown(log):
    path = b"/frames/north/caf\xe9.jpg"
    (media_id,) = take_in(log, [item(path)])
    assert log.find("anything", path) == media_id
    assert log.find("/frames/north/caf\udce9.jpg", b"/x") == media_id
    assert log.find(r"/frames/north/caf\xe9.jpg", b"/x") == media_id
    assert log.media_of_path(path) == media_id


def test_the_same_import_says_nothing_a_second_time(log):
    (media_id,) = frames(log, 1)
    for expected in ((media_id,), (), ()):
        outcome = log.label([media_id], [Observation("fox")], "Ana", "csv", NOW, once=True)
        assert outcome.media_ids == expected
    assert len(rows(log, "SELECT * FROM label")) == 1


def test_a_repeated_import_does_not_undo_a_later_correction(log):
    (media_id,) = frames(log, 1)
    log.label([media_id], [Observation("fox")], "Ana", "csv", NOW, once=True)
    say(log, media_id, "badger")
    log.label([media_id], [Observation("fox")], "Ana", "csv", NOW, once=True)
    assert shown(log, media_id) == (Observation("badger"),)


def test_an_import_that_says_more_than_before_goes_in(log):
    (media_id,) = frames(log, 1)
    for said in (Observation("fox"), Observation("fox", 2), Observation("fox", 2, sex="male")):
        assert log.label([media_id], [said], "Ana", "csv", NOW, once=True).media_ids
        assert shown(log, media_id) == (said,)


def test_a_merge_does_not_make_an_import_new(log):
    (media_id,) = frames(log, 1)
    log.label([media_id], [Observation("silver fox")], "Ana", "csv", NOW, once=True)
    log.add_species("red fox", "Ana", "cli", NOW)
    log.merge_species("silver fox", "red fox", "Ana", "cli", NOW)
    again = log.label([media_id], [Observation("silver fox")], "Ana", "csv", NOW, once=True)
    assert again.media_ids == ()


def test_a_new_species_is_told_and_a_slip_of_the_finger_refused(log):
    (media_id,) = frames(log, 1)
    say_plainly = lambda name, **more: log.label(  # noqa: E731
        [media_id], [Observation(name)], "Ana", "cli", NOW, **more
    )
    assert say_plainly("red deer").new_species == ("red deer",)
    assert say_plainly("Red  Deer").new_species == ()
    with pytest.raises(UnknownSpecies, match=r"'red dear' is not.*'red deer' is.*--new"):
        say_plainly("red dear")
    assert shown(log, media_id) == (Observation("red deer"),)
    assert say_plainly("red dear", insist=True).new_species == ("red dear",)


def test_a_request_is_one_act_however_often_it_arrives(log):
    one, two = frames(log, 2)
    first = say(log, one, "fox", request="r1")
    assert first.new_species == ("fox",)
    assert say(log, one, "fox", request="r1") == first
    for other in (
        lambda: say(log, two, "fox", request="r1"),
        lambda: say(log, one, "hare", request="r1"),
    ):
        with pytest.raises(RequestTaken, match="sent before by Ana"):
            other()
    with pytest.raises(RequestTaken):
        say(log, one, "fox", by="Ben", request="r1")
    assert say(log, one, "fox", request="r2").act_id != first.act_id
    assert len(rows(log, "SELECT * FROM label")) == 2


def test_what_was_refused_can_be_sent_again_under_its_name(log):
    (media_id,) = frames(log, 1)
    say(log, media_id, "red deer")
    words = ([media_id], [Observation("red dear")], "Ana", "web", NOW)
    with pytest.raises(UnknownSpecies) as told:
        log.label(*words, request="r1")
    assert told.value.nearest == "red deer"
    assert log.label(*words, request="r1", insist=True).new_species == ("red dear",)


def test_an_event_of_media_that_is_not_there_is_refused(log):
    with pytest.raises(NoSuchMedia, match="there is no media 99"):
        say(log, 99, "fox", scope=Scope.EVENT)
    assert rows(log, "SELECT * FROM species") == []


def test_a_person_takes_back_their_own_acts_only(log):
    (media_id,) = frames(log, 1)
    act = say(log, media_id, "fox", by="Ben").act_id
    say(log, media_id, "hare")
    with pytest.raises(NotTheirs, match="Ben said that"):
        log.undo(None, "Ana", "web", NOW, act=act, of="Ana")
    assert [a.species for a in log.acts_of("Ana", 9)] == [("hare",)]
    log.undo(None, "Ana", "web", NOW, of="Ana")
    assert log.acts_of("Ana", 9) == []
    with pytest.raises(LogError, match="no label to undo"):
        log.undo(None, "Ana", "web", NOW, of="Ana")
    log.undo(None, "Ana", "web", NOW, act=act)
    with pytest.raises(LogError, match="taken back before"):
        log.undo(None, "Ana", "web", NOW, act=act)


class Labelling(RuleBasedStateMachine):
    """Any order of labels and undos, against a list of acts of which the newest valid counts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.log = SpeciesLog(Path(self.folder.name) / "log.db", create=True)
        self.media = frames(self.log, 2, minutes=5) + frames(self.log, 1, deployment="south")
        self.acts: list[tuple[tuple[int, ...], str]] = []
        self.kept: set[tuple] = set()

    def teardown(self) -> None:
        self.log.close()
        self.folder.cleanup()

    @rule(which=st.integers(0, 2), species=st.sampled_from(["fox", "badger", "hare"]))
    def label(self, which: int, species: str) -> None:
        say(self.log, self.media[which], species)
        self.acts.append(((self.media[which],), species))

    @rule(species=st.sampled_from(["fox", "badger", "hare"]))
    def label_event(self, species: str) -> None:
        say(self.log, self.media[0], species, scope=Scope.EVENT)
        self.acts.append((tuple(self.media[:2]), species))

    @rule(which=st.one_of(st.none(), st.integers(0, 2)))
    def undo(self, which: int | None) -> None:
        media_id = None if which is None else self.media[which]
        valid = [act for act in self.acts if media_id is None or media_id in act[0]]
        if valid:
            assert set(self.log.undo(media_id, "Ben", "cli", NOW)) == set(valid[-1][0])
            del self.acts[max(n for n, act in enumerate(self.acts) if act is valid[-1])]
        else:
            with pytest.raises(LogError):
                self.log.undo(media_id, "Ben", "cli", NOW)

    @invariant()
    def the_newest_label_not_withdrawn_counts(self) -> None:
        for media_id in self.media:
            said = [species for targets, species in self.acts if media_id in targets]
            names = [o.species for o in shown(self.log, media_id)]
            assert names == said[-1:]
        newest = (
            "SELECT m.id, m.label_id, (SELECT max(l.id) FROM label l WHERE l.media_id = m.id AND"
            " l.withdraws_id IS NULL AND l.id NOT IN (SELECT w.withdraws_id FROM label w WHERE"
            " w.withdraws_id IS NOT NULL)) FROM media m"
        )
        assert all(points == should for _, points, should in rows(self.log, newest))

    @invariant()
    def nothing_is_ever_deleted_or_changed(self) -> None:
        now = {(t, *row) for t in ("label", "observation", "act") for row in self._rows(t)}
        assert self.kept <= now
        self.kept = now

    def _rows(self, table: str) -> Iterator[tuple]:
        yield from (tuple(map(str, row)) for row in rows(self.log, f"SELECT * FROM {table}"))


TestLabelling = Labelling.TestCase
TestLabelling.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
