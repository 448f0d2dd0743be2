"""The review desk: frames for several reviewers, each event with one of them at a time."""

from __future__ import annotations

import random
import threading
from datetime import timedelta

import pytest
from faults.systemd import wait_until
from logbook import DAWN, NOW, frames, item, predict, publish, say, take_in
from reviewers import Clock, Web
from webstation import WebStation

from monitor.images.pictures import PICTURES_FOLDER
from monitor.log.media import BatchResult
from monitor.web.accounts import Role


@pytest.fixture
def web(config):
    """A station's web, nobody there yet."""
    web = Web(config)
    yield web
    web.close()


def visits(log, events: int, each: int, deployment: str = "north") -> list[list[int]]:
    """Classified frames in events two hours apart, a minute between the frames of one."""
    items = [
        item(f"{e}-{n}.jpg", DAWN + timedelta(hours=2 * e, minutes=n), deployment)
        for e in range(events)
        for n in range(each)
    ]
    ids = take_in(log, items)
    log.record(BatchResult(classified=tuple(ids)), NOW)
    return [ids[start : start + each] for start in range(0, len(ids), each)]


def test_the_least_sure_come_first_with_all_that_reviewing_needs(web):
    sure, unsure = frames(web.log, 2)
    publish(web.log)
    predict(web.log, {sure: ("fox", 0.9), unsure: ("badger", 0.5)})
    answer = web.person("Ana").post("/review/next", count=10)
    assert [frame["media_id"] for frame in answer["frames"]] == [unsure, sure]
    assert answer["waiting"] == 2
    first = answer["frames"][0]
    assert (first["species"], first["probability"], first["source"]) == (
        "badger",
        0.5,
        "prediction",
    )
    assert first["film"][0]["media_id"] == unsure
    assert first["statements"] == [] and first["disagreement"] is False


def test_two_people_never_get_frames_of_one_event(web):
    events = visits(web.log, 2, 3)
    ana, ben = web.person("Ana"), web.person("Ben")
    hers, his = ana.next(1), ben.next(10)
    assert len(hers) == 1
    (event_of_hers,) = [event for event in events if hers[0] in event]
    assert his and not set(his) & set(event_of_hers)


def test_one_frame_of_each_event_comes_before_a_second_of_any(web):
    events = visits(web.log, 3, 2)
    ana = web.person("Ana")
    first = ana.next(3)
    assert [sum(m in event for m in first) for event in events] == [1, 1, 1]
    assert sorted([*first, *ana.next(10, first)]) == sorted([*events[0], *events[1], *events[2]])


def test_what_is_held_is_not_sent_again_and_a_lost_answer_is(web):
    ids = frames(web.log, 6)
    ana = web.person("Ana")
    first = ana.next(2)
    assert ana.next(2) == first  # the first answer was lost, or the page was loaded again
    assert not set(ana.next(4, first)) & set(first)
    assert sorted([*first, *ana.next(4, first)]) == ids


def test_labelled_and_rejected_frames_are_not_handed_out(web):
    one, two, three = frames(web.log, 3)
    (bad,) = take_in(web.log, [item("bad.jpg", rejected="truncated")])
    ana = web.person("Ana")
    assert len(ana.next(3)) == 3
    say(web.log, two, "fox", by="Ben")  # meanwhile, at the command line
    assert sorted(ana.next(10)) == [one, three]
    for queue in ("informative", "newest", "flagged", "disagreement"):
        web.log.flag(bad, True, "Ben", "web", NOW)
        assert bad not in ana.next(10, queue=queue)


def test_what_is_given_back_is_free_at_once_and_what_is_kept_only_after_ten_minutes(web):
    frames(web.log, 2)
    ana, ben = web.person("Ana"), web.person("Ben")
    first, second = ana.next(2)
    assert ben.next() == []
    ana.post("/review/release", media_ids=[first])
    assert ben.next() == [first]
    web.clock.passes(minutes=9)
    ana.next(1, [second])  # still there: renewed
    web.clock.passes(minutes=9)
    assert second not in ben.next(10, [first])
    web.clock.passes(minutes=2)
    assert second in ben.next(10, [first])


def test_nobody_can_give_back_what_another_holds(web):
    frames(web.log, 1)
    ana, ben = web.person("Ana"), web.person("Ben")
    (media_id,) = ana.next()
    ben.post("/review/release", media_ids=[media_id, 99_999])
    assert ben.next() == []


def test_a_leased_event_can_still_be_labelled_by_others(web):
    frames(web.log, 1)
    ana, ben = web.person("Ana"), web.person("Ben")
    (media_id,) = ana.next()
    assert ben.say(media_id, "fox")["media_ids"] == [media_id]
    assert ana.next() == []


def test_the_newest_come_first_where_that_is_asked_for(web):
    ids = frames(web.log, 5)
    take_in(web.log, [item("later.jpg", DAWN + timedelta(days=9))])  # not classified yet
    ana = web.person("Ana")
    assert ana.next(3, queue="newest") == ids[:1:-1]
    assert ana.next(5, ids[2:], queue="newest") == [ids[1], ids[0]]


@pytest.mark.parametrize("queue", ["informative", "newest"])
def test_a_queue_can_be_kept_to_a_species_and_a_deployment(web, queue):
    north, south = frames(web.log, 3), frames(web.log, 3, deployment="south")
    publish(web.log)
    foxes = dict.fromkeys((north[0], south[0], south[1]), ("fox", 0.5))
    predict(web.log, foxes | {north[1]: ("badger", 0.7), south[2]: ("silver fox", 0.4)})
    web.log.merge_species("silver fox", "fox", "Ana", "cli", NOW)
    ana = web.person("Ana")
    some = lambda **more: sorted(ana.next(10, queue=queue, **more))  # noqa: E731
    assert some(species="Fox") == sorted([north[0], *south])
    assert some(deployment="north") == north
    assert some(species="fox", deployment="south") == south
    assert some(deployment="nowhere") == []
    assert ana.refused("POST", "/review/next", queue=queue, species="zebra")[0] == 409


def test_flagged_frames_are_a_queue_of_their_own_labelled_or_not(web):
    one, two, three = frames(web.log, 3)
    ana, ben = web.person("Ana"), web.person("Ben")
    ana.say(one, "fox")
    for media_id in (one, two):
        ana.put(f"/flags/{media_id}", flagged=True)
    answer = ben.post("/review/next", queue="flagged")
    assert [f["media_id"] for f in answer["frames"]] == [two, one]
    assert all(f["flagged"] for f in answer["frames"])
    ben.say(two, "hare")  # still flagged, but Ben is not asked again at once
    assert ben.next(queue="flagged") == [one]
    ben.put(f"/flags/{one}", flagged=False)
    assert ben.next(queue="flagged") == []
    web.clock.passes(minutes=11)
    assert ben.next(queue="flagged", deployment="north") == [two]
    assert ben.next(queue="flagged", species="fox") == []
    assert three not in web.log.flagged()


def test_flags_are_acts_and_saying_it_twice_changes_nothing(web):
    (media_id,) = frames(web.log, 1)
    ana = web.person("Ana")
    for flagged in (True, True, False, False):
        assert ana.put(f"/flags/{media_id}", flagged=flagged) == {}
    with web.log._read() as connection:
        acts = connection.exec_driver_sql('SELECT kind, "by", how FROM act ORDER BY id').fetchall()
    assert [tuple(act) for act in acts] == [("flag", "Ana", "web"), ("unflag", "Ana", "web")]
    assert ana.refused("PUT", "/flags/99", flagged=True) == (404, "there is no media 99")


def test_a_disagreement_is_handed_out_until_two_agree(web):
    (media_id,) = frames(web.log, 1)
    ana, ben, cleo = (web.person(name) for name in ("Ana", "Ben", "Cleo"))
    ana.say(media_id, "fox")
    assert cleo.next(queue="disagreement") == []
    ben.say(media_id, "badger")
    web.clock.passes(seconds=11)
    (frame,) = cleo.post("/review/next", queue="disagreement")["frames"]
    assert [(s["by"], s["species"]) for s in frame["statements"]] == [
        ("Ben", ["badger"]),
        ("Ana", ["fox"]),
    ]
    assert frame["disagreement"]
    act = cleo.say(media_id, "badger")["act_id"]
    dora = web.person("Dora")
    web.clock.passes(minutes=11)
    assert dora.next(queue="disagreement") == []
    cleo.post("/labels/undo", act_id=act)
    web.clock.passes(seconds=11)
    assert dora.next(queue="disagreement") == [media_id]


def test_a_night_of_waving_grass_does_not_keep_the_second_reviewer_waiting(web, monkeypatch):
    monkeypatch.setattr("monitor.web.orders.FEW", 10)
    grass = visits(web.log, 1, 30)[0]
    (fox,) = frames(web.log, 1, deployment="south")
    publish(web.log)
    predict(web.log, dict.fromkeys(grass, ("blank", 0.3)) | {fox: ("fox", 0.9)})
    ana, ben = web.person("Ana"), web.person("Ben")
    assert ana.next(1)[0] in grass
    assert ben.next(1) == [fox]


def test_the_order_is_renewed_behind_the_answers(web):
    frames(web.log, 3)
    ana = web.person("Ana")
    assert ana.post("/review/next", count=1)["waiting"] == 3
    (late,) = frames(web.log, 1, deployment="south")
    publish(web.log)
    predict(web.log, {late: ("lynx", 0.1)})
    assert ana.next(1) != [late]
    web.clock.passes(minutes=2)
    ana.next(1)  # still from the old order; the new one is made after the answer
    answer = ana.post("/review/next", count=1)
    assert [f["media_id"] for f in answer["frames"]] == [late]
    assert answer["waiting"] == 4


def test_a_clock_set_back_does_not_keep_an_old_order_alive(web):
    frames(web.log, 3)
    ana = web.person("Ana")
    ana.next(1)
    (late,) = frames(web.log, 1, deployment="south")
    publish(web.log)
    predict(web.log, {late: ("lynx", 0.1)})
    web.clock.passes(days=-300)
    assert ana.next(1) == [late]


def test_viewers_are_handed_nothing_and_wishes_are_bounded(web):
    frames(web.log, 1)
    vera, ana = web.person("Vera", Role.VIEWER), web.person("Ana")
    assert vera.refused("POST", "/review/next", count=1)[0] == 403
    assert vera.refused("PUT", "/flags/1", flagged=True)[0] == 403
    for wish in (
        {"count": 0},
        {"count": 51},
        {"queue": "oldest"},
        {"holding": [0]},
        {"holding": list(range(1, 502))},
        {"species": "x" * 201},
        {"more": 1},
    ):
        assert ana.refused("POST", "/review/next", **wish)[0] == 422, wish


@pytest.mark.parametrize("seed", [1, 2])
def test_no_frame_is_ever_with_two_people_and_none_is_lost(config, seed):
    """300 random steps of two people: next, label, give back, time, a service that starts anew."""
    chance, clock = random.Random(seed), Clock()
    web = Web(config, clock)
    for n in range(4):
        visits(web.log, 5, chance.randint(1, 4), f"camera-{n}")
    event_of = {s.media_id: s.event_id for s in web.log.sightings()}
    people = [web.person("Ana"), web.person("Ben")]
    until: list[dict[int, object]] = [{}, {}]  # what each holds, and how long it is theirs
    labelled: set[int] = set()

    def step(who: int) -> None:
        held = until[who]
        for media_id in [m for m, end in held.items() if end <= clock()]:
            del held[media_id]
        move = chance.random()
        if move < 0.5:
            queue = chance.choice(["informative", "informative", "newest"])
            got = people[who].next(chance.randint(1, 6), list(held), queue=queue)
            assert not set(got) & (labelled | set(held))
            others = {event_of[m] for m, end in until[1 - who].items() if end > clock()}
            assert not {event_of[m] for m in got} & others
            held.update(dict.fromkeys([*held, *got], clock() + timedelta(minutes=10)))
        elif move < 0.7 and held:
            media_id = chance.choice(sorted(held))
            people[who].say(media_id, "fox")
            labelled.add(media_id)
            held.pop(media_id)
        elif move < 0.8 and held:
            event = event_of[chance.choice(sorted(held))]
            gone = [m for m in held if event_of[m] == event]
            people[who].post("/review/release", media_ids=gone)
            for media_id in gone:
                held.pop(media_id)
        else:
            clock.passes(seconds=chance.choice([1, 5, 60, 300]))

    for number in range(300):
        if number % 75 == 74:
            web.close()
            web = Web(config, clock)
            people = [web.again(person.token) for person in people]
        if len(labelled) == len(event_of):
            break
        step(chance.randint(0, 1))
    clock.passes(minutes=11)
    for _ in range(len(event_of) + 1):
        for media_id in people[0].next(50):
            people[0].say(media_id, "hare")
            labelled.add(media_id)
    assert labelled == set(event_of)
    assert web.log.waiting() == 0
    web.close()


def test_many_at_once_share_the_events_without_a_clash(web):
    visits(web.log, 40, 2)
    people = [web.person(f"P{n}") for n in range(8)]
    got: dict[int, list[int]] = {}

    def take(number: int) -> None:
        got[number] = people[number].next(5, queue="newest")

    threads = [threading.Thread(target=take, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    event_of = {s.media_id: s.event_id for s in web.log.sightings()}
    events = [{event_of[m] for m in ids} for ids in got.values()]
    assert all(len(ids) == 5 for ids in got.values())
    assert sum(map(len, events)) == len(set().union(*events))


def test_whoever_is_overtaken_by_many_still_gets_all_that_was_asked_for(web, monkeypatch):
    frames(web.log, 20)
    lease, faster = web.log.lease, iter(range(12))

    def late(events, by, *more):
        if next(faster, None) is not None:
            lease([events[-1]], "somebody", *more)
        return lease(events, by, *more)

    monkeypatch.setattr(web.log, "lease", late)
    assert len(web.person("Ana").next(5)) == 5
    assert next(faster, None) is None, "twelve were faster"


def test_what_others_take_or_label_between_the_look_and_the_lease_is_replaced(web, monkeypatch):
    ids = frames(web.log, 4)
    lease = web.log.lease
    moments = iter(["taken", "labelled"])

    def late(events, by, *more):
        moment = next(moments, None)
        if moment == "taken":
            lease([ids[0]], "somebody", *more)
        if moment == "labelled":
            say(web.log, ids[1], "fox")
        return lease(events, by, *more)

    monkeypatch.setattr(web.log, "lease", late)
    ana = web.person("Ana")
    assert sorted(ana.next(4)) == [ids[2], ids[3]]
    assert next(moments, None) is None
    web.log.undo(ids[1], "Ana", "cli", NOW)
    assert web.person("Ben").next(4) == [ids[1]]  # its event was not kept for nothing


def test_pictures_of_frames_that_were_handed_out_are_made_before_they_are_asked_for(tmp_path):
    station = WebStation(tmp_path)
    station.fill(9)
    web = Web(station.config)
    try:
        handed = web.person("Ana").post("/review/next", count=3)["frames"]
        made = station.settings.data_directory / PICTURES_FOLDER
        wanted = {f"{frame['sha256']}-screen.jpg" for frame in handed}
        wait_until(lambda: wanted <= {path.name for path in made.rglob("*.jpg")})
    finally:
        web.close()
