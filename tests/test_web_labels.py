"""Labels over the web: one act a request, taken back as often as wished, refused in words."""

from __future__ import annotations

import threading

import pytest
from logbook import NOW, frames, item, rows, say, take_in
from reviewers import Web

from monitor.core.domain import Observation
from monitor.web.accounts import Role


@pytest.fixture
def web(config):
    """A station's web, nobody there yet."""
    web = Web(config)
    yield web
    web.close()


def shown(web, media_id):
    return web.log.sightings_of([media_id])[0].observations


FOX = {
    "species": "red fox",
    "count": 2,
    "sex": "female",
    "life_stage": "adult",
    "behaviour": "foraging",
}


def test_a_label_says_all_that_camtrap_dp_knows(web):
    (media_id,) = frames(web.log, 1)
    answer = web.person("Ana").post("/labels", media_ids=[media_id], observations=[FOX])
    assert answer["media_ids"] == [media_id] and answer["new_species"] == ["red fox"]
    assert shown(web, media_id) == (Observation("red fox", 2, "female", "adult", "foraging"),)
    acts = rows(web.log, 'SELECT id, "by", how, kind FROM act')
    assert acts == [(answer["act_id"], "Ana", "web", "label")]


def test_what_is_left_out_is_kept_unless_the_label_is_exact(web):
    (media_id,) = frames(web.log, 1)
    ana = web.person("Ana")
    ana.post("/labels", media_ids=[media_id], observations=[FOX])
    ana.say(media_id, "badger")
    assert shown(web, media_id) == (Observation("badger", 2, "female", "adult", "foraging"),)
    ana.say(media_id, "badger", exact=True)
    assert shown(web, media_id) == (Observation("badger"),)


def test_an_event_is_labelled_by_one_of_its_frames(web):
    visit = frames(web.log, 3, minutes=5)
    ana = web.person("Ana")
    answer = ana.say(visit[1], "fox", scope="event")
    assert answer["media_ids"] == visit
    assert ana.post("/labels/undo", act_id=answer["act_id"])["media_ids"] == visit


def test_a_slip_of_the_finger_is_told_with_what_may_be_meant(web):
    (media_id,) = frames(web.log, 1)
    ana = web.person("Ana")
    ana.say(media_id, "red deer")
    body = {"media_ids": [media_id], "observations": [{"species": "red dear"}]}
    answer = ana.ask("POST", "/labels", body)
    assert answer.status_code == 409
    assert answer.json() == {
        "error": "no species is called that, but there is 'red deer': is it meant?",
        "nearest": "red deer",
    }
    assert shown(web, media_id) == (Observation("red deer"),)
    assert ana.post("/labels", **body, insist=True)["new_species"] == ["red dear"]


def test_labels_of_media_that_cannot_have_one_are_refused_whole(web):
    (good,) = frames(web.log, 1)
    (bad,) = take_in(web.log, [item("bad.jpg", rejected="truncated")])
    ana = web.person("Ana")
    fox = [{"species": "fox"}]
    for scope in ("frame", "event"):
        said = {"observations": fox, "scope": scope}
        assert ana.refused("POST", "/labels", media_ids=[good, 99, 98], **said) == (
            404,
            "there is no media 99, 98",
        )
        status, words = ana.refused("POST", "/labels", media_ids=[good, bad], **said)
        assert status == 409 and f"media {bad} cannot be labelled" in words
    assert rows(web.log, "SELECT * FROM label") == rows(web.log, "SELECT * FROM act") == []
    assert web.log.species() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"media_ids": []},
        {"media_ids": list(range(1, 502))},
        {"media_ids": [0]},
        {"media_ids": [2**60]},
        {"observations": []},
        {"observations": [{"species": "fox"}] * 21},
        {"observations": [{"species": ""}]},
        {"observations": [{"species": "x" * 201}]},
        {"observations": [{"species": "fo\x00x"}]},
        {"observations": [{"species": "fox", "count": 0}]},
        {"observations": [{"species": "fox", "count": 1_000_000}]},
        {"observations": [{"species": "fox", "sex": "unknown"}]},
        {"observations": [{"species": "fox", "life_stage": "old"}]},
        {"observations": [{"species": "fox", "behaviour": "x" * 201}]},
        {"observations": [{"species": "fox", "colour": "red"}]},
        {"scope": "camera"},
        {"request": "x" * 65},
        {"request": "a b"},
        {"request": ""},
        {"by": "Ben"},
    ],
)
def test_what_a_label_cannot_be_is_refused_in_words(web, wrong):
    (media_id,) = frames(web.log, 1)
    body = {"media_ids": [media_id], "observations": [{"species": "fox"}]} | wrong
    status, words = web.person("Ana").refused("POST", "/labels", **body)
    assert status == 422 and words
    assert rows(web.log, "SELECT * FROM act") == []


def test_one_species_twice_in_a_label_is_refused(web):
    (media_id,) = frames(web.log, 1)
    body = {"media_ids": [media_id], "observations": [{"species": "fox"}, {"species": "Fox"}]}
    status, words = web.person("Ana").refused("POST", "/labels", **body)
    assert status == 400 and "named twice" in words


def test_a_request_sent_again_gets_the_same_answer_and_says_nothing_twice(web):
    one, two = frames(web.log, 2)
    ana = web.person("Ana")
    body = {"media_ids": [two, one], "observations": [FOX], "request": "a-1"}
    first = ana.post("/labels", **body)
    assert first["media_ids"] == [two, one] and first["new_species"] == ["red fox"]
    assert ana.post("/labels", **body) == first
    ana.post("/labels/undo", act_id=first["act_id"])
    assert ana.post("/labels", **body) == first  # arrived late: it stays undone
    assert shown(web, one) == ()
    assert len(rows(web.log, "SELECT * FROM act WHERE kind = 'label'")) == 1


def test_a_request_of_that_name_with_something_else_in_it_is_refused(web):
    one, two = frames(web.log, 2)
    ana, ben = web.person("Ana"), web.person("Ben")
    body = {"media_ids": [one], "observations": [{"species": "fox"}], "request": "a-1"}
    ana.post("/labels", **body)
    for who, other in (
        (ben, body),
        (ana, body | {"media_ids": [two]}),
        (ana, body | {"observations": [{"species": "fox", "count": 2}]}),
        (ana, body | {"scope": "event"}),
        (ana, body | {"exact": True}),
    ):
        status, words = who.refused("POST", "/labels", **other)
        assert status == 409 and "sent before by Ana" in words
    assert len(rows(web.log, "SELECT * FROM label")) == 1


def test_eight_threads_sending_one_request_make_one_act(web):
    ids = frames(web.log, 3)
    ana = web.person("Ana")
    body = {"media_ids": ids, "observations": [FOX], "request": "once"}
    answers = []
    begin = threading.Barrier(8)

    def send() -> None:
        begin.wait()
        answers.append(ana.post("/labels", **body))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8 and all(answer == answers[0] for answer in answers)
    assert len(rows(web.log, "SELECT * FROM act")) == 1
    assert len(rows(web.log, "SELECT * FROM label")) == 3


def test_the_last_acts_of_a_person_are_undone_one_by_one(web):
    one, two = frames(web.log, 2)
    ana, ben = web.person("Ana"), web.person("Ben", Role.ADMIN)
    for name in ("fox", "badger"):
        ana.say(one, name)
    ana.say(two, "hare")
    ben.say(two, "owl")
    undone = [ana.post("/labels/undo")["media_ids"] for _ in range(3)]
    assert undone == [[two], [one], [one]]
    assert ana.refused("POST", "/labels/undo") == (400, "there is no label to undo")
    assert shown(web, one) == () and shown(web, two) == (Observation("owl"),)
    assert ben.post("/labels/undo")["media_ids"] == [
        two
    ]  # an admin's own, too, where none is named


def test_an_act_is_undone_once_and_by_whom_it_is_or_an_admin(web):
    (media_id,) = frames(web.log, 1)
    ana, ben, ada = web.person("Ana"), web.person("Ben"), web.person("Ada", Role.ADMIN)
    act = ana.say(media_id, "fox")["act_id"]
    assert ben.refused("POST", "/labels/undo", act_id=act) == (
        403,
        "Ana said that; only Ana or an admin can take it back",
    )
    assert ben.refused("POST", "/labels/undo", media_id=media_id)[0] == 400
    assert ada.post("/labels/undo", act_id=act)["media_ids"] == [media_id]
    for who in (ana, ada):
        status, words = who.refused("POST", "/labels/undo", act_id=act)
        assert status == 400 and "taken back before" in words
    assert ana.refused("POST", "/labels/undo", act_id=999) == (400, "there is no label act 999")
    ana.say(media_id, "hare")
    assert ada.post("/labels/undo", media_id=media_id)["media_ids"] == [media_id]


def test_an_undo_of_something_else_than_a_label_is_refused(web):
    (media_id,) = frames(web.log, 1)
    ana = web.person("Ana")
    ana.put(f"/flags/{media_id}", flagged=True)
    ((act,),) = rows(web.log, "SELECT id FROM act")
    assert ana.refused("POST", "/labels/undo", act_id=act)[0] == 400


def test_after_a_reload_the_acts_that_can_be_undone_are_there_again(web):
    one, two, three = frames(web.log, 3)
    ana, ben = web.person("Ana"), web.person("Ben")
    first = ana.say(one, "fox", "badger")["act_id"]
    ana.say(two, "silver fox", insist=True)
    last = ana.post("/labels", media_ids=[two, three], observations=[{"species": "hare"}])["act_id"]
    ben.say(three, "owl")
    ana.post("/labels/undo", media_id=one)
    again = ana.say(one, "fox")["act_id"]
    web.log.merge_species("silver fox", "fox", "Ada", "cli", NOW)
    acts = ana.get("/labels/mine")["acts"]
    assert [(a["act_id"], a["species"], a["media_ids"], a["count"]) for a in acts] == [
        (again, ["fox"], [one], 1),
        (last, ["hare"], [two, three], 2),
        (last - 1, ["fox"], [two], 1),
    ]
    assert first not in [a["act_id"] for a in acts]
    assert ana.post("/labels/undo")["media_ids"] == [one]


def test_only_the_last_fifty_acts_are_told(web):
    ids = frames(web.log, 55)
    for media_id in ids:
        say(web.log, media_id, "fox")
    acts = web.person("Ana").get("/labels/mine")["acts"]
    assert [a["media_ids"][0] for a in acts] == ids[:4:-1]


def test_viewers_say_nothing(web):
    (media_id,) = frames(web.log, 1)
    vera = web.person("Vera", Role.VIEWER)
    body = {"media_ids": [media_id], "observations": [{"species": "fox"}]}
    assert vera.refused("POST", "/labels", **body)[0] == 403
    assert vera.refused("POST", "/labels/undo", act_id=1)[0] == 403
    assert vera.refused("GET", "/labels/mine")[0] == 403
    assert rows(web.log, "SELECT * FROM act") == []
