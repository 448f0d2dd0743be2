"""Groups of look-alikes over the API: each with one person at a time, labelled in one act."""

from __future__ import annotations

import pytest
from cached import cache, scene
from logbook import NOW, frames, rows, say
from reviewers import Web

from monitor.web.accounts import Role

FOX = [{"species": "fox"}]


@pytest.fixture
def web(config):
    """A station's web, nobody there yet."""
    web = Web(config)
    yield web
    web.close()


@pytest.fixture
def herd(web):
    """Seven frames in events of their own, the first four of one scene, the others of another."""
    ids = frames(web.log, 7)
    cache(web.log, {m: scene(n // 4, 0.01, m) for n, m in enumerate(ids)}).close()
    return ids


def taken(person, **wish):
    """Group id -> its frames, sorted."""
    groups = person.post("/review/groups/take", **wish)["groups"]
    return {group["id"]: sorted(f["media_id"] for f in group["frames"]) for group in groups}


def test_groups_are_told_with_all_that_is_known_of_their_frames(web, herd):
    ana = web.person("Ana")
    groups = ana.get("/review/groups")["groups"]
    assert sorted(sorted(f["media_id"] for f in g["frames"]) for g in groups) == [
        herd[:4],
        herd[4:],
    ]
    assert groups[0]["frames"][0]["deployment"] == "north"


def test_no_two_people_get_the_same_group(web, herd):
    ana, ben = web.person("Ana"), web.person("Ben")
    (hers,) = taken(ana, frames=1).values()
    (his,) = taken(ben, frames=99).values()
    assert sorted([*hers, *his]) == herd
    assert taken(ben, frames=99).popitem()[1] == his  # what is held already is handed out again
    assert ana.get("/review/groups?frames=99")["groups"] != []
    ana.post("/review/release", media_ids=hers)
    assert len(taken(ben, frames=99)) == 2


def test_a_group_shares_its_leases_with_the_review_page(web, herd):
    ana, ben = web.person("Ana"), web.person("Ben")
    (asked,) = ana.next(1)
    assert all(asked not in ids for ids in taken(ben, frames=99).values())
    assert ana.next(7) == ana.next(7)


def test_what_is_still_looked_at_is_kept(web, herd):
    ana, ben = web.person("Ana"), web.person("Ben")
    ids = [media_id for group in taken(ana, frames=99).values() for media_id in group]
    web.clock.passes(minutes=9)
    ana.post("/review/groups/hold", media_ids=ids)
    web.clock.passes(minutes=9)
    assert taken(ben) == {}
    web.clock.passes(minutes=2)
    assert len(taken(ben)) == 2


def test_groups_passed_over_do_not_come_again(web, herd):
    ana = web.person("Ana")
    first = taken(ana, frames=1)
    second = taken(ana, frames=1, passed=list(first))
    assert not first.keys() & second.keys()
    assert taken(ana, passed=[*first, *second]) == {}


def test_a_group_is_labelled_as_one_act_and_sent_twice_it_counts_once(web, herd):
    ana = web.person("Ana")
    group_id, ids = taken(ana, frames=1).popitem()
    odd = ids[0]
    path = f"/review/groups/{group_id}/label"
    said = ana.post(path, observations=FOX, without=[odd], request="r1")
    assert sorted(said["media_ids"]) == ids[1:] and said["left_alone"] == []
    assert ana.post(path, observations=FOX, without=[odd], request="r1") == said
    assert rows(web.log, "SELECT count(*) FROM act WHERE kind = 'label'") == [(1,)]
    assert sorted(ana.post("/labels/undo")["media_ids"]) == ids[1:]


def test_what_somebody_labelled_meanwhile_is_left_alone_and_told(web, herd):
    ana = web.person("Ana")
    group_id, ids = taken(ana, frames=1).popitem()
    say(web.log, ids[0], "hare", by="Ben")
    said = ana.post(f"/review/groups/{group_id}/label", observations=FOX)
    assert said["left_alone"] == [ids[0]]
    assert group_id not in taken(ana)


def test_groups_and_frames_that_are_not_there_are_told_in_words(web, herd):
    ana = web.person("Ana")
    group_id, _ = taken(ana, frames=1).popitem()
    path = "/review/groups/{}/label"
    refused = ana.refused("POST", path.format("g00000000"), observations=FOX)
    assert refused[0] == 404 and "label queue --groups" in refused[1]
    assert ana.refused("POST", path.format(group_id), observations=FOX, without=[99])[0] == 409
    say(web.log, herd[-1], "fallow deer")
    near = [{"species": "fallow dear"}]
    assert ana.refused("POST", path.format(group_id), observations=near)[0] == 409


def test_viewers_get_no_groups(web, herd):
    vera = web.person("Vera", Role.VIEWER)
    assert vera.refused("GET", "/review/groups")[0] == 403
    assert vera.refused("POST", "/review/groups/take")[0] in (403, 422)


def test_of_look_alikes_in_an_event_one_is_asked_about_and_the_others_are_counted(web):
    from test_web_review import visits

    (event,) = visits(web.log, 1, 4)
    cache(web.log, {m: scene(1, 0.005, m) for m in event}).close()
    answer = web.person("Ana").post("/review/next", count=10)
    assert len(answer["frames"]) == 1
    assert (answer["waiting"], answer["alike"]) == (4, 3)


def test_suspect_labels_are_a_queue_until_somebody_says_it_again(web):
    one, two = frames(web.log, 2)
    ana, ben = web.person("Ana"), web.person("Ben")
    for media_id in (one, two):
        ana.say(media_id, "fox")
    media = [[two, "fox", "badger", 0.95], [one, "fox", "badger", 0.9]]
    web.log.put_state("suspects", {"version": "v0001", "media": media}, NOW)
    web.clock.passes(minutes=20)
    answer = ben.post("/review/next", queue="suspect")
    assert [frame["media_id"] for frame in answer["frames"]] == [two, one]
    assert answer["frames"][0]["doubt"] == {
        "label": "fox",
        "suggested": "badger",
        "probability": 0.95,
        "version": "v0001",
    }
    ben.say(two, "fox")
    ben.say(one, "badger")
    assert ben.next(queue="suspect") == []
