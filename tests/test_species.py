"""The species list: names people use, renames and merges as recorded acts."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logbook import NOW, frames, predict, publish, rows, say

from monitor.log.engine import LogError
from monitor.log.filters import BrowseFilter
from monitor.log.species import UnknownSpecies, fold
from monitor.log.species_list import SpeciesEntry


def add(log, name, **more):
    return log.add_species(name, "Ana", "cli", NOW, **more)


def test_a_species_answers_to_all_its_names(log):
    add(
        log,
        "red fox",
        scientific_name="Vulpes vulpes",
        names={"de": "Rotfuchs", "es": "zorro"},
        aliases=("fox",),
    )
    for name in ("Red_Fox", " red   fox ", "VULPES VULPES", "rotfuchs", "Zorro", "fox"):
        assert log.species_named(name) == "red fox"
    (row,) = log.species()
    assert row.names == {"de": "Rotfuchs", "es": "zorro"}
    assert row.aliases == ("fox", "rotfuchs", "vulpes vulpes", "zorro")


def test_adding_a_known_species_completes_it(log):
    assert add(log, "red fox", names={"de": "Fuchs"})
    assert not add(log, "Red Fox", taxon_key="5219243", names={"es": "zorro"})
    (row,) = log.species()
    assert (row.taxon_key, row.names) == ("5219243", {"de": "Fuchs", "es": "zorro"})


def test_a_name_of_one_species_cannot_become_that_of_another(log):
    add(log, "red fox", aliases=("fox",))
    with pytest.raises(LogError, match="belongs to another species"):
        add(log, "arctic fox", aliases=("Fox",))
    assert [row.name for row in log.species()] == ["red fox"]


@pytest.mark.parametrize("name", ["", "   ", "_", "\n", "\udcff", "fox\0", "\x1b[1m", "x" * 300])
def test_what_can_be_no_name_is_refused(log, name):
    add(log, "fox")
    with pytest.raises(UnknownSpecies):
        add(log, name)
    with pytest.raises(UnknownSpecies):
        log.rename_species("fox", name, "Ana", "cli", NOW)
    with pytest.raises(UnknownSpecies):
        list(log.sightings(BrowseFilter(species=name)))
    assert [row.name for row in log.species()] == ["fox"]


def test_a_renamed_species_answers_to_its_old_name(log):
    (media_id,) = frames(log, 1)
    say(log, media_id, "fox")
    log.rename_species("fox", "red fox", "Ana", "cli", NOW)
    assert log.species_named("fox") == "red fox"
    assert log.sightings_of([media_id])[0].species == "red fox"
    assert rows(log, "SELECT details FROM act WHERE kind = 'species-rename'") == [
        ('{"old": "fox", "new": "red fox"}',)
    ]


def test_a_rename_to_another_species_is_a_merge_and_said_so(log):
    add(log, "fox"), add(log, "red fox")
    with pytest.raises(LogError, match="join them with: species merge"):
        log.rename_species("fox", "red fox", "Ana", "cli", NOW)


def test_merged_species_are_found_and_counted_as_one(log):
    one, two, three = frames(log, 3)
    publish(log)
    predict(log, {three: ("silver fox", 0.9)})
    say(log, one, "silver fox")
    say(log, two, "red fox")
    log.merge_species("silver fox", "red fox", "Ana", "cli", NOW)
    for name in ("silver fox", "red fox"):
        found = [s.media_id for s in log.sightings(BrowseFilter(species=name))]
        assert sorted(found) == [one, two, three]
    assert {s.species for s in log.sightings()} == {"red fox"}
    assert [(row.name, row.labels) for row in log.species()] == [("red fox", 2)]
    said = rows(log, "SELECT s.name FROM observation o JOIN species s ON s.id = o.species_id")
    assert ("silver fox",) in said


def test_merges_of_merges_end_at_the_last(log):
    (media_id,) = frames(log, 1)
    say(log, media_id, "a")
    for name in "bc":
        add(log, name * 9)
    log.merge_species("a", "b" * 9, "Ana", "cli", NOW)
    log.merge_species("b" * 9, "c" * 9, "Ana", "cli", NOW)
    assert log.species_named("a") == "c" * 9
    assert log.sightings_of([media_id])[0].species == "c" * 9
    with pytest.raises(LogError, match="one species already"):
        log.merge_species("a", "c" * 9, "Ana", "cli", NOW)


def test_a_species_may_take_the_name_of_one_that_was_merged_into_it(log):
    add(log, "silver fox"), add(log, "red fox")
    log.merge_species("silver fox", "red fox", "Ana", "cli", NOW)
    log.rename_species("red fox", "Silver Fox", "Ana", "cli", NOW)
    assert [row.name for row in log.species()] == ["Silver Fox"]


def test_an_unknown_name_is_told_with_the_nearest(log):
    add(log, "badger")
    with pytest.raises(UnknownSpecies, match="nearest known one is 'badger'"):
        log.species_named("bagder")
    with pytest.raises(UnknownSpecies, match="trapwatch species list"):
        log.species_named("zebra")


def test_an_unknown_name_carries_the_one_that_may_be_meant(log):
    add(log, "badger")
    for name, nearest in (("bagder", "badger"), ("zebra", None), ("", None)):
        with pytest.raises(UnknownSpecies) as told:
            log.species_named(name)
        assert told.value.nearest == nearest


def test_a_species_has_a_group_and_a_key_that_stay_until_taken_away(log):
    add(log, "red fox", group=" canids ", hotkey="X")
    add(log, "red fox", taxon_key="1")
    (row,) = log.species()
    assert (row.group, row.hotkey, row.taxon_key) == ("canids", "x", "1")
    add(log, "red fox", group="", hotkey="")
    (row,) = log.species()
    assert (row.group, row.hotkey) == (None, None)


@pytest.mark.parametrize("key", ["b", "B", "u", "0", "9", "xy", "²", "-", "\n\t!", "ß\u0301"])
def test_a_key_that_cannot_be_one_is_refused_and_nothing_is_written(log, key):
    with pytest.raises(LogError, match="take one of a, c, d, i, j, k, m, n, p, q, t, x, y"):
        add(log, "red fox", hotkey=key)
    assert log.species() == rows(log, "SELECT * FROM act") == []


def test_no_two_species_share_a_key_until_they_are_merged(log):
    add(log, "fox", hotkey="x"), add(log, "hare")
    with pytest.raises(LogError, match="the key 'x' is that of 'fox' already"):
        add(log, "hare", hotkey="x")
    add(log, "fox", hotkey="X")  # its own
    add(log, "red fox")
    log.merge_species("fox", "red fox", "Ana", "cli", NOW)
    add(log, "hare", hotkey="x")
    assert {row.name: row.hotkey for row in log.species()} == {"hare": "x", "red fox": None}


def test_of_many_at_once_those_that_cannot_go_in_leave_no_trace(log):
    entries = [
        SpeciesEntry("fox", hotkey="x"),
        SpeciesEntry("hare", "Lepus", hotkey="x"),
        SpeciesEntry(""),
        SpeciesEntry("Fox", "Vulpes"),
    ]
    outcomes = log.add_all_species(entries, "Ana", "csv", NOW)
    assert outcomes[0] is True and outcomes[3] is False
    assert [str(outcome) for outcome in outcomes[1:3]] == [
        "the key 'x' is that of 'fox' already; give that another one first",
        "a species needs a name",
    ]
    assert [row.name for row in log.species()] == ["fox"]
    with pytest.raises(UnknownSpecies):
        log.species_named("Lepus")
    assert len(rows(log, "SELECT * FROM act")) == 2


def test_the_changes_of_the_list_are_kept_newest_first(log):
    add(log, "fox", hotkey="x")
    log.rename_species("fox", "red fox", "Ben", "web", NOW)
    acts = log.species_history(10)
    assert [(a.kind, a.by, a.details) for a in acts] == [
        ("species-rename", "Ben", {"old": "fox", "new": "red fox"}),
        ("species-add", "Ana", {"species": "fox", "hotkey": "x"}),
    ]
    assert log.species_history(1) == acts[:1]


def test_two_encodings_of_one_accent_are_one_name():
    assert fold("Südhang") == fold(unicodedata.normalize("NFD", "südhang"))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.text(min_size=1, max_size=60))
def test_whatever_name_is_accepted_is_found_again(log, name):
    try:
        add(log, name)
    except UnknownSpecies:
        return
    kept = log.species_named(name)
    assert log.species_named(kept) == kept
    assert log.species_named(kept.upper()) == kept or kept.upper().casefold() != kept.casefold()
