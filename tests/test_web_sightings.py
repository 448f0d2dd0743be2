"""Sightings and events over the API: what is asked, what is hidden, what a CSV file holds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from logbook import DAWN, NOW, fill, frames, item, predict, publish, say, take_in
from starlette.testclient import TestClient

from monitor.cli.app import app as commands
from monitor.core.config import load_settings
from monitor.core.csv_rows import safe
from monitor.core.domain import Observation, utc_now
from monitor.log.filters import BrowseFilter
from monitor.log.media import BatchResult
from monitor.review import event_walk
from monitor.review.event_walk import event_page, events
from monitor.web.accounts import Role
from monitor.web.context import WebContext, open_parts
from monitor.web.serving.app import create_app

API = "/api/v1"


class Station:
    """The pages of one station, asked as somebody of a given role."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.parts: WebContext = open_parts(load_settings(config, {}))
        app = create_app(self.parts)
        self._client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        self._tokens = {
            role: self.parts.accounts.add_token(role.name, role, utc_now(), None) for role in Role
        }

    def ask(self, route: str, role: Role = Role.ADMIN, **asked: object):
        """The answer to a GET."""
        key = {"Authorization": f"Bearer {self._tokens[role]}"}
        return self._client.get(f"{API}{route}", params=asked, headers=key)

    def json(self, route: str, role: Role = Role.ADMIN, **asked: object):
        """The JSON of a GET that works."""
        answer = self.ask(route, role, **asked)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ids(self, role: Role = Role.ADMIN, **asked: object) -> list[int]:
        """Media ids of a search that ends on its first page."""
        return [frame["media_id"] for frame in self.json("/sightings", role, **asked)["sightings"]]

    def command(self, capsys: pytest.CaptureFixture[str], *words: str) -> str:
        """What the command line prints."""
        capsys.readouterr()
        commands([*words, "--config", str(self.config)], standalone_mode=False)
        return capsys.readouterr().out


@pytest.fixture
def station(config: Path) -> Iterator[Station]:
    """The log that has something in every table, with its pages."""
    fill(config.parent / "data" / "trapwatch.db").close()
    made = Station(config)
    yield made
    made.parts.close()


@pytest.fixture
def people(config: Path) -> Iterator[Station]:
    """Frames 1 fox, 2 person (predicted), 3 fox and person (labelled), 4 not looked at, 5 person
    as the model says, but labelled fox."""
    made = Station(config)
    log = made.parts.log
    one, two, three, _, five = frames(log, 5)
    publish(log)
    predict(log, {one: ("fox", 0.9), two: ("person", 0.9), five: ("person", 0.7)})
    say(log, three, "fox", "Person")
    say(log, five, "fox")
    yield made
    made.parts.close()


def test_sightings_are_those_of_the_command_line_with_three_marks(station, capsys):
    shown = json.loads(station.command(capsys, "sightings", "--json"))
    page = station.json("/sightings")
    assert (page["next"], page["reached"]) == (None, None)
    marks = ("flagged", "hidden", "revealed")
    assert [{k: v for k, v in f.items() if k not in marks} for f in page["sightings"]] == shown
    assert [f["media_id"] for f in page["sightings"] if f["flagged"]] == [4]


def test_pages_follow_each_other_to_the_end(station):
    whole, found, cursor = station.ids(), [], None
    while True:
        page = station.json("/sightings", limit=2, **({"cursor": cursor} if cursor else {}))
        found += [frame["media_id"] for frame in page["sightings"]]
        cursor = page["next"]
        if cursor is None:
            break
        assert cursor.startswith(page["reached"])
    assert found == whole
    assert len(whole) == 11


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"species": "Rotfuchs"}, [2, 1]),
        ({"species": "silver fox"}, [2, 1]),
        ({"species": "badger"}, [1]),
        ({"since": "2026-04-01T09:10", "until": "2026-04-01T09:30"}, [2]),
        ({"until": "2026-03-31"}, []),
        ({"deployment": "südhang"}, [9, 8, 7]),
        ({"min_probability": 0.5}, [2, 1]),
        ({"max_probability": 0.5}, []),
        ({"source": "label"}, [2, 1]),
        ({"status": "rejected"}, [10]),
        ({"model_version": "v0001"}, [2, 1]),
        ({"labelled_by": "Ana"}, [2, 1]),
        ({"path": "SÜDHANG/0001"}, [8]),
        ({"sha256": "E6911651BE"}, [1]),
        ({"event_id": 9}, [9]),
        ({"media_id": 9}, [9]),
        ({"unreviewed": True, "deployment": "südhang"}, [9, 8, 7]),
        ({"flagged": True}, [4]),
        ({"flagged": "on", "species": "", "path": ""}, [4]),
    ],
    ids=str,
)
def test_every_filter_is_passed_on(station, asked, found):
    assert station.ids(**asked) == found


@pytest.mark.parametrize(
    ("route", "asked", "status", "words"),
    [
        ("/sightings", {"cursor": "x"}, 400, "'x' is no cursor; send back `next`"),
        ("/events", {"cursor": "2024-05-01_1"}, 400, "is no cursor"),
        ("/sightings", {"since": "soon"}, 400, "'soon' is no time; write 2024-05-01"),
        ("/events", {"until": "7 d"}, 400, "is no time"),
        ("/sightings", {"species": "red fix"}, 409, "the nearest known one is 'red fox'"),
        ("/sightings.csv", {"species": "wombat"}, 409, "no species answers to 'wombat'"),
        ("/events", {"species": "wombat"}, 409, "no species answers to 'wombat'"),
        ("/sightings", {"limit": 501}, 422, "query.limit: "),
        ("/sightings", {"min_probability": "nan"}, 422, "query.min_probability: "),
        ("/sightings", {"media_id": 2**63}, 422, "query.media_id: "),
        ("/sightings", {"sha256": "xyz"}, 422, "query.sha256: "),
        ("/sightings", {"speceis": "fox"}, 422, "query.speceis: "),
        ("/sightings.csv", {"limit": 5}, 422, "query.limit: "),
        ("/sightings/9999", {}, 404, "there is no media 9999"),
        (f"/sightings/{2**63}", {}, 422, "path.media_id: "),
    ],
    ids=str,
)
def test_what_cannot_be_answered_is_told_in_words(station, route, asked, status, words):
    answer = station.ask(route, **asked)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_a_frame_is_told_with_its_event_and_what_people_said(station):
    log = station.parts.log
    say(log, 2, "badger", by="Ben")
    frame = station.json("/sightings/2")
    assert [f["media_id"] for f in frame["film"]] == [1, 11, 2, 3, 4, 5, 6]
    assert set(frame["film"][0]) == {
        "media_id",
        "captured_local",
        "species",
        "source",
        "probability",
        "hidden",
        "flagged",
    }
    assert [f["flagged"] for f in frame["film"]] == [
        media_id == 4 for media_id in (1, 11, 2, 3, 4, 5, 6)
    ]
    assert [(s["by"], s["species"]) for s in frame["statements"]] == [
        ("Ben", ["badger"]),
        ("Ana", ["red fox"]),
    ]
    assert frame["disagreement"] is True
    assert frame["dimensions"] == [64, 48]
    assert station.json("/sightings/3")["statements"] == []


def test_persons_are_hidden_and_so_is_from_viewers_what_nobody_looked_at(people):
    def hidden(role: Role) -> dict[int, bool]:
        found = people.json("/sightings", role)["sightings"]
        assert all((frame["path"] == "") == frame["hidden"] for frame in found)
        return {frame["media_id"]: frame["hidden"] for frame in found}

    assert hidden(Role.REVIEWER) == {1: False, 2: True, 3: True, 4: False, 5: False}
    assert hidden(Role.VIEWER) == {1: False, 2: True, 3: True, 4: True, 5: False}


def test_a_revealed_frame_is_shown_to_the_reviewer_who_asked(people):
    def marks(media_id: int, role: Role) -> tuple[bool, bool, bool]:
        frame = people.json(f"/sightings/{media_id}", role)
        return frame["path"] != "", frame["hidden"], frame["revealed"]

    assert marks(2, Role.REVIEWER) == (False, True, False)
    for token in people.parts.accounts.book().tokens:
        if token.role < Role.ADMIN:
            people.parts.reveals.add(f"token {token.sha256[:24]}", 2)
    assert marks(2, Role.REVIEWER) == (True, True, True)
    assert marks(3, Role.REVIEWER) == (False, True, False)
    assert marks(2, Role.VIEWER) == (False, True, False)
    assert marks(2, Role.ADMIN) == (False, True, False)
    (strip,) = people.json("/sightings/2", Role.REVIEWER)["film"]
    assert strip["hidden"] is False


def test_viewers_do_not_find_hidden_frames_by_their_path(people):
    assert people.ids(Role.VIEWER, path="000") == [5, 1]
    assert people.ids(Role.REVIEWER, path="000") == [5, 4, 3, 2, 1]
    assert people.ids(Role.VIEWER, species="person") == [3, 2]
    one_by_one = [people.json("/sightings", Role.VIEWER, path="0001", limit=1)]  # frame 2
    assert one_by_one == [{"sightings": [], "next": None, "reached": None}]


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_csv_file_is_that_of_the_command_line(station, capsys):
    answer = station.ask("/sightings.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="sightings.csv"'
    assert answer.text == station.command(capsys, "sightings", "--csv", "-")
    assert [row["media_id"] for row in read(station.ask("/sightings.csv", flagged=True).text)] == [
        "4"
    ]


def test_a_csv_file_is_sent_in_pieces(config, monkeypatch):
    from monitor.web.api import sightings as page

    monkeypatch.setattr(page, "CSV_PAGE", 4)
    made = Station(config)
    media = frames(made.parts.log, 11)
    rows = read(made.ask("/sightings.csv").text)
    assert [int(row["media_id"]) for row in rows] == media[::-1]
    made.parts.close()


def test_private_species_are_in_nobodys_csv_file(people):
    def exported(role: Role) -> list[str]:
        return [row["media_id"] for row in read(people.ask("/sightings.csv", role).text)]

    assert exported(Role.ADMIN) == ["5", "4", "1"]
    assert exported(Role.VIEWER) == ["5", "1"]


def test_a_cell_that_a_spreadsheet_would_run_is_only_text(config):
    made = Station(config)
    log = made.parts.log
    path = b"=cmd|'/c calc'!A1.jpg"
    (media_id,) = take_in(log, [item(path, deployment="+49", content="x")])
    log.record(BatchResult(classified=(media_id,)), NOW)
    log.label([media_id], [Observation("@fox")], "-Ana", "cli", NOW)
    (row,) = read(made.ask("/sightings.csv").text)
    assert row["path"] == "'=cmd|'/c calc'!A1.jpg"
    assert (row["species"], row["deployment"], row["labelled_by"]) == ("'@fox", "'+49", "'-Ana")
    (frame,) = made.json("/sightings")["sightings"]
    assert frame["path"] == path.decode()
    made.parts.close()


@pytest.mark.parametrize("begin", "=+-@\t\r")
def test_only_columns_of_others_words_are_changed(begin):
    value = f"{begin}1"
    assert safe({"species": value, "probability": -1.0, "rejected_reason": value}) == {
        "species": f"'{value}",
        "probability": -1.0,
        "rejected_reason": value,
    }
    assert safe({"path": f"a{begin}", "species": None}) == {"path": f"a{begin}", "species": None}


def all_events(station: Station, **asked: object) -> list[dict]:
    """Those of every page; a busy machine may need several, for a search ends after a set time."""
    found, cursor = [], {}
    while True:
        page = station.json("/events", **asked, **cursor)
        found += page["events"]
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}


def test_events_are_those_of_the_command_line(station, capsys):
    for words, asked in (
        ((), {}),
        (("--species", "badger"), {"species": "badger"}),
        (("--deployment", "südhang"), {"deployment": "südhang"}),
        (("--since", "2026-04-01T09:30"), {"since": "2026-04-01T09:30"}),
    ):
        shown = json.loads(station.command(capsys, "events", "--json", *words))
        assert all_events(station, **asked) == shown
        assert shown


def test_each_event_is_on_one_page_only(config):
    made = Station(config)
    log = made.parts.log
    for start in range(4):  # visits of two cameras whose frames mix in time
        at = DAWN.replace(day=start + 1)
        names = ("a", "b")
        files = [item(f"{start}{n}.jpg", at.replace(minute=n), names[n % 2]) for n in range(12)]
        log.record(BatchResult(classified=tuple(take_in(log, files))), NOW)
    whole = all_events(made, limit=500)
    assert [event["frames"] for event in whole] == [6] * 8
    for limit in (1, 3):
        assert all_events(made, limit=limit) == whole
    made.parts.close()


@pytest.mark.parametrize("wanted", [BrowseFilter(), BrowseFilter(species="fox")], ids=str)
@pytest.mark.parametrize("size", [1, 2, 50])
def test_a_walk_over_events_that_runs_out_of_time_goes_on_where_it_was(
    log, monkeypatch, wanted, size
):
    monkeypatch.setattr(event_walk, "EVENTS_AT_ONCE", 2)
    monkeypatch.setattr(event_walk, "FRAMES_AT_ONCE", 3)
    media = frames(log, 20, minutes=20, deployment="a") + frames(log, 12, 50, deployment="b")
    for number, media_id in enumerate(media):
        say(log, media_id, "fox" if number % 4 == 1 else "badger" if number % 3 else "blank")
    whole = [event for event in events(log, wanted) if event.frames]
    found, after, pages = [], None, 0
    while True:
        page = event_page(log, wanted, size, after, budget_seconds=0)
        found += page.events
        pages += 1
        if page.next is None:
            break
        after = page.next
    newest = {
        s.event_id: s
        for s in reversed(list(log.sightings()))
        if wanted.species in (None, s.species)
    }
    of_time = sorted(newest.values(), key=lambda s: (s.captured_at, s.media_id), reverse=True)
    shown = [s.event_id for s in of_time]
    told = [event.event_id for event in found]
    assert told == [event.event_id for event in whole]
    assert told == [number for number in shown if number in told]
    assert (
        set(told) == set(shown) if wanted.species is None else "fox" in {e.species for e in found}
    )
    assert pages > 2


def test_viewers_are_not_told_of_events_of_persons(people):
    def species(role: Role, **asked: object) -> list[str | None]:
        return [event["species"] for event in people.json("/events", role, **asked)["events"]]

    assert species(Role.REVIEWER) == ["fox", None, "fox", "person", "fox"]
    assert species(Role.VIEWER) == ["fox", None, "fox", "fox"]
    assert species(Role.REVIEWER, species="person") == ["person", "person"]
    assert species(Role.VIEWER, species="person") == []


def test_every_filter_is_described(station):
    paths = station.json("/openapi.json")["paths"]
    for path in ("/sightings", "/sightings.csv", "/events"):
        for parameter in paths[f"{API}{path}"]["get"]["parameters"]:
            assert len(parameter["description"]) > 5, parameter["name"]
