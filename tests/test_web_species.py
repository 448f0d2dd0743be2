"""The species list over the web: searched by any name, changed by admins, every change told."""

from __future__ import annotations

import pytest
from logbook import NOW, frames, rows, say
from reviewers import Web

from monitor.web.accounts import Role


@pytest.fixture
def web(config):
    """A station's web, nobody there yet."""
    web = Web(config)
    yield web
    web.close()


@pytest.fixture
def ada(web):
    """An admin."""
    return web.person("Ada", Role.ADMIN)


def names(person, search: str) -> list[str]:
    answer = person.client.get("/api/v1/species", params={"search": search})
    assert answer.status_code == 200, answer.text
    return [row["name"] for row in answer.json()["species"]]


def send_csv(person, content: bytes):
    headers = {"Content-Type": "text/csv"}
    return person.client.post("/api/v1/species/import", content=content, headers=headers)


FOX = {
    "name": "red fox",
    "scientific_name": "Vulpes vulpes",
    "taxon_key": "5219243",
    "names": {"de": "Rotfuchs", "es": "zorro común"},
    "aliases": ["fox"],
    "group": "carnivores",
    "hotkey": "x",
}


def test_a_species_is_added_with_all_that_is_known_of_it_and_then_completed(web, ada):
    assert ada.post("/species", **FOX) == {"added": True, "name": "red fox"}
    assert ada.post("/species", name="Fox", taxon_key="1", names={"fr": "renard"}) == {
        "added": False,
        "name": "red fox",
    }
    (media_id,) = frames(web.log, 1)
    say(web.log, media_id, "fox")
    (row,) = ada.get("/species")["species"]
    assert row == {
        "name": "red fox",
        "scientific_name": "Vulpes vulpes",
        "taxon_key": "1",
        "names": {"de": "Rotfuchs", "es": "zorro común", "fr": "renard"},
        "aliases": ["fox", "renard", "rotfuchs", "vulpes vulpes", "zorro común"],
        "labels": 1,
        "group": "carnivores",
        "hotkey": "x",
    }
    ada.post("/species", name="red fox", hotkey="", group="")
    (row,) = ada.get("/species")["species"]
    assert (row["group"], row["hotkey"]) == (None, None)


def test_a_search_finds_the_start_of_any_word_of_any_name_then_any_part_then_slips(web, ada):
    ada.post("/species", **FOX)
    for name in ("badger", "Eurasian lynx", "foxhound", "wild boar", "javalí"):
        ada.post("/species", name=name)
    assert names(ada, "FOX") == ["red fox", "foxhound"]  # the whole name of one first
    assert names(ada, "ly") == ["Eurasian lynx"]
    assert names(ada, "rotf") == ["red fox"]
    assert names(ada, "comun") == ["red fox"]
    assert names(ada, "javali") == ["javalí"]
    assert names(ada, "ound") == ["foxhound"]
    assert names(ada, "bagder") == ["badger"]
    assert names(ada, "lnyx") == ["Eurasian lynx"]
    assert names(ada, "vulpes_vulpes") == ["red fox"]
    assert names(ada, "zebra") == names(ada, "'; --") == []
    assert len(names(ada, " ")) == 6


def test_of_two_that_fit_as_well_the_more_often_seen_comes_first(web, ada):
    (media_id,) = frames(web.log, 1)
    for name in ("red deer", "roe deer"):
        ada.post("/species", name=name)
    say(web.log, media_id, "roe deer")
    assert names(ada, "r") == ["roe deer", "red deer"]


def test_a_search_answers_at_most_fifty_and_no_merged_ones(web, ada):
    for number in range(60):
        web.log.add_species(f"bird {number}", "Ada", "cli", NOW)
    assert len(names(ada, "bird")) == 50
    ada.post("/species/merge", source="bird 7", into="bird 8")
    found = names(ada, "bird 7")
    assert found[0] == "bird 8" and "bird 7" not in found


def test_a_renamed_species_keeps_its_labels_and_its_old_name(web, ada):
    (media_id,) = frames(web.log, 1)
    web.person("Ana").say(media_id, "fox")
    assert ada.post("/species/rename", old="fox", new="red fox") == {"name": "red fox"}
    assert web.log.sightings_of([media_id])[0].species == "red fox"
    assert names(ada, "fox") == ["red fox"]
    ada.post("/species", name="badger")
    status, words = ada.refused("POST", "/species/rename", old="badger", new="fox")
    assert status == 400 and "another species already" in words
    assert ada.refused("POST", "/species/rename", old="zebra", new="x")[0] == 409


def test_merged_species_keep_what_was_said_and_count_as_one(web, ada):
    one, two = frames(web.log, 2)
    ana = web.person("Ana")
    ana.say(one, "silver fox")
    ana.say(two, "red fox", insist=True)
    before = rows(web.log, "SELECT label_id, species_id FROM observation")
    assert ada.post("/species/merge", source="silver fox", into="red fox") == {"name": "red fox"}
    assert rows(web.log, "SELECT label_id, species_id FROM observation") == before
    (row,) = ada.get("/species")["species"]
    assert (row["name"], row["labels"], row["aliases"]) == ("red fox", 2, ["silver fox"])
    assert {s.species for s in web.log.sightings()} == {"red fox"}
    status, words = ada.refused("POST", "/species/merge", source="silver fox", into="red fox")
    assert status == 400 and "one species already" in words


def test_a_list_is_imported_from_csv_with_or_without_a_byte_order_mark(web, ada):
    content = (
        "species,scientific_name,key,aliases,group,hotkey,de\r\n"
        "otter,Lutra lutra,2433753,river otter;sea dog,mustelids,t,Otter\r\n"
        "Dachs,,,,,,\r\n"
        ',,,,,,\r\n"wild\ncat",,,,,b,\r\n'
    ).encode("utf-8-sig")
    answer = send_csv(ada, content + b"w\xf6lf,,,,,,\r\n").json()
    assert (answer["added"], answer["completed"]) == (2, 0)
    assert [fault.partition(":")[0] for fault in answer["faults"]] == ["line 4", "line 6", "line 7"]
    assert "the key 'b' is the review page's own" in answer["faults"][1]
    assert send_csv(ada, b"species,group\nOtter,martens\n").json() == {
        "added": 0,
        "completed": 1,
        "faults": [],
    }
    otter = next(r for r in ada.get("/species")["species"] if r["name"] == "otter")
    assert (otter["group"], otter["hotkey"]) == ("martens", "t")
    assert {row[0] for row in rows(web.log, "SELECT how FROM act")} == {"web"}


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"name\nfox\n", 400, "no column 'species'"),
        (b"species;group\nfox;x\n", 400, "parted by commas"),
        (b"", 422, ""),
        (b"\n", 400, "no column 'species'"),
        ("species\nfox\n".encode("utf-16"), 400, "UTF-16"),
        (b"species\n" + b"x\n" * 5001, 400, "5001 rows; at most 5000"),
        (b"species\n" + b"x" * 1024 * 1024, 413, "too large"),
    ],
)
def test_a_file_that_cannot_be_a_list_is_refused_whole(web, ada, content, status, words):
    answer = send_csv(ada, content)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]
    assert ada.get("/species")["species"] == []


def test_a_file_of_nothing_but_faults_gets_a_short_answer(web, ada):
    answer = send_csv(ada, b"species,de\n" + b",x\n" * 300).json()
    assert len(answer["faults"]) == 101 and answer["faults"][-1] == "and 200 more lines"


def test_every_change_is_told_with_who_and_when(web, ada):
    ada.post("/species", **FOX)
    web.clock.passes(minutes=1)
    web.log.rename_species("red fox", "fox", "Ben", "cli", web.clock())
    ada.post("/species", name="silver fox")
    ada.post("/species/merge", source="silver fox", into="fox")
    acts = ada.get("/species/history")["acts"]
    assert [(a["by"], a["how"], a["what"]) for a in acts] == [
        ("Ada", "web", "merged 'silver fox' into 'fox'"),
        ("Ada", "web", "added or completed 'silver fox'"),
        ("Ben", "cli", "renamed 'red fox' to 'fox'"),
        (
            "Ada",
            "web",
            "added or completed 'red fox' (scientific name: Vulpes vulpes; taxon key: 5219243; "
            "names: de Rotfuchs, es zorro común; hotkey: x; group: carnivores; aliases: fox)",
        ),
    ]
    assert acts[-1]["at"] == "2026-05-01T12:00:00.000Z"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.REVIEWER])
def test_only_admins_change_the_list(web, ada, role):
    ada.post("/species", name="fox")
    other = web.person("Ben", role)
    for path, body in (
        ("", {"name": "x"}),
        ("/rename", {"old": "fox", "new": "y"}),
        ("/merge", {"source": "fox", "into": "y"}),
    ):
        assert other.refused("POST", f"/species{path}", **body)[0] == 403
    assert send_csv(other, b"species\nx\n").status_code == 403
    assert names(other, "fo") == ["fox"]
    assert len(other.get("/species/history")["acts"]) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 201},
        {"name": "fo\x07x"},
        {"aliases": ["x"] * 51},
        {"names": {"": "x"}},
        {"names": {"de": ""}},
        {"hotkey": "x" * 9},
        {"colour": "red"},
    ],
)
def test_what_a_species_cannot_be_is_refused(web, ada, wrong):
    assert ada.refused("POST", "/species", **({"name": "fox"} | wrong))[0] == 422
    assert rows(web.log, "SELECT * FROM act") == []
