"""The crew of a station: a folder that hangs is looked at anew; a hung classifier ends the run."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.core.config import load_settings
from monitor.core.domain import FileStamp
from monitor.pipeline.places import Place, merged
from monitor.pipeline.scan import Found
from monitor.service import workers as attention
from monitor.service.station import Station
from monitor.service.workers import LOOKS_UNTIL_SURE, MOST_LEFT, Crew


@pytest.fixture
def station(config: Path) -> Iterator[Station]:
    (config.parent / "share").mkdir()
    text = config.read_text().replace("watch: {", "watch: {folders: [frames, share], ")
    config.write_text(text)
    station = Station(load_settings(config, {}))
    yield station
    station.close()


class Held:
    """A step that hangs for one place until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
        self.go = threading.Event()
        self.held: list[Place] = []
        real = Place.step

        def step(place: Place) -> bool:
            if place.folder.name == folder and not self.held:
                self.held.append(place)
                place.watcher.at.path = os.fsencode(place.folder)
                assert self.go.wait(30)
                return False
            return real(place)

        monkeypatch.setattr(Place, "step", step)


def until(true: object, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def end(crew: Crew) -> list[str]:
    crew.stop()
    return crew.join(5)


def test_a_folder_that_answers_a_new_thread_is_taken_up_by_one(station, monkeypatch) -> None:
    held = Held(monkeypatch, "share")
    monkeypatch.setattr(attention, "WATCH_HANGS_SECONDS", 10.0)
    crew = Crew(station, lambda: False)
    crew.start()
    until(lambda: held.held)
    now = time.monotonic()
    assert crew.look(now + 5) is None
    assert crew.problems(now + 5) == {}
    crew.look(now + 11)
    name = f"folder {station.settings.watch.folders[1]}"
    assert "no sign of life for 1" in crew.problems(now + 11)[name]
    (old,) = held.held
    until(lambda: not (crew.look(now + 11) or old in station.places))
    assert name not in crew.problems(time.monotonic())
    new = station.places[1]
    until(lambda: new.quiet)
    assert not old.quiet
    held.go.set()
    assert end(crew) == []


def test_a_place_that_was_closed_while_it_hung_ends_quietly(station, monkeypatch) -> None:
    place = station.places[0]
    frame = Found(place.folder, os.fsencode(place.folder / "late.jpg"), FileStamp(1, 1))

    def hang_and_come_back(now: float) -> list[Found]:
        place.close()
        return [frame]

    monkeypatch.setattr(place.watcher, "step", hang_and_come_back)
    assert place.step() is False


def test_only_so_many_threads_of_a_folder_are_left_to_themselves(station, monkeypatch) -> None:
    go = threading.Event()
    begun: list[Place] = []

    def step(place: Place) -> bool:
        begun.append(place)
        place.watcher.at.path = os.fsencode(place.folder)
        assert go.wait(30)
        return False

    monkeypatch.setattr(Place, "step", step)
    monkeypatch.setattr(Place, "answers", lambda place, now: place.folder.name == "share")
    monkeypatch.setattr(attention, "WATCH_HANGS_SECONDS", 10.0)
    crew = Crew(station, lambda: False)
    crew.start()
    for _ in range(2 * MOST_LEFT):
        until(lambda: station.places[1] in begun)
        crew.look(time.monotonic() + 11)
    assert sum(place.folder.name == "share" for place in begun) == MOST_LEFT + 1
    go.set()
    assert end(crew) == []


def test_a_folder_whose_log_hangs_is_not_begun_anew(station) -> None:
    place = station.places[0]
    assert place.doing() == "waiting for the log"
    assert not any(place.answers(now) for now in (1e6, 2e6, 3e6))


def test_a_classifier_is_called_hung_when_looks_in_a_row_agree(station, monkeypatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(attention, "CLASSIFY_HANGS_SECONDS", 10.0)
    monkeypatch.setattr(station.pipeline, "doing", lambda: "the forward pass of media 7")
    crew = Crew(station, lambda: go.wait(30))
    crew.start()
    now = time.monotonic()
    looks = [crew.look(now + 11) for _ in range(LOOKS_UNTIL_SURE)]
    assert looks[:-1] == [None] * (LOOKS_UNTIL_SURE - 1), "the machine may just have woken up"
    assert "the classifier hangs" in looks[-1] and "the forward pass of media 7" in looks[-1]
    assert crew.look(now) is None, "one good look starts the count anew"
    assert crew.look(now + 11) is None
    go.set()
    assert end(crew) == []


def test_an_end_waits_for_nobody_who_was_known_to_hang(station, monkeypatch) -> None:
    held = Held(monkeypatch, "share")
    monkeypatch.setattr(attention, "WATCH_HANGS_SECONDS", 10.0)
    monkeypatch.setattr(Place, "answers", lambda place, now: False)
    crew = Crew(station, lambda: False)
    crew.start()
    until(lambda: held.held)
    crew.look(time.monotonic() + 11)
    crew.stop()
    late = crew.join(0.5)
    assert late == [f"watch {station.settings.watch.folders[1]}"]
    assert crew.only_folders_hang(late)
    assert not crew.only_folders_hang([*late, "classify"])
    held.go.set()
    assert crew.join(5) == []


def test_what_is_found_in_all_folders_is_told_as_one() -> None:
    one = {"files": 3, "other_types": {".avi": 2}, "problems": ["a"], "events": True}
    two = {"files": 4, "other_types": {".avi": 1, ".txt": 1}, "problems": [], "events": False}
    assert merged({Path("/a"): one, Path("/b"): two}) == {
        "files": 7,
        "other_types": {".avi": 3, ".txt": 1},
        "problems": ["a"],
        "events": False,
    }
