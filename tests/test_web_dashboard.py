"""The first page and the status: what a ranger sees at a glance."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Literal

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from logbook import NOW, frames, item, predict, publish, say, take_in
from playwright.sync_api import Browser, Route, expect
from typer.testing import CliRunner
from visits import pages, visit
from webstation import WebStation, faults_of, named

from monitor.cli import app as program
from monitor.core.domain import FileStamp, ModelState, RunState
from monitor.health.verdict import HealthFacts, Told
from monitor.health.verdict import health as judged
from monitor.log.media import BatchResult
from monitor.log.species_log import SpeciesLog
from monitor.web.accounts import Role
from monitor.web.station_words import amount, duration, troubles, what_helps

HOSTILE = "<script>alert('fox')</script>"


@pytest.fixture
def site(config: Path, filled: SpeciesLog) -> Iterator[FastAPI]:
    """The pages of a station that has something of everything."""
    with pages(config) as app:
        yield app


def health(running: bool, told: dict[str, dict]) -> dict:
    """What the health says of a station whose parts told this."""
    parts = {key: Told(value, 5.0) for key, value in told.items()}
    return judged(HealthFacts(running, has_model=True, learns=True, told=parts)).facts()


def facts(**changed: object) -> dict:
    """A station at which all is well, but for what is changed."""
    well: dict = {
        "health": health(True, {}),
        "lag_seconds": None,
        "media": {"waiting_for_their_file": 0, "unreadable_files": 0},
        "silent_deployments": [],
        "training": {"last": None},
    }
    return well | changed


def test_the_page_shows_the_figures_without_javascript(site: FastAPI) -> None:
    answer = visit(site).get("/")
    assert answer.status_code == 200
    for words in ("test", "11</span>", "v0001", "frames</span> came in today"):
        assert words.split("</span>")[0] in answer.text
    assert "The service is not running" in answer.text
    assert "systemctl start trapwatch" in answer.text
    assert "Training now: fitting" in answer.text


def test_unreadable_files_are_named_with_their_reason(site: FastAPI) -> None:
    text = visit(site).get("/").text
    assert "/frames/locked.jpg" in text
    assert "Permission denied" in text


def test_times_are_those_of_the_stations_clock(site: FastAPI) -> None:
    assert '>14:00</time> <span class="zone">(Europe/Berlin)' in visit(site).get("/").text


def test_an_empty_station_says_what_to_do_first(config: Path) -> None:
    with pages(config) as app:
        text = visit(app).get("/").text
    assert "No frame has come in yet" in text
    assert "No model is live yet" in text
    assert "There was no training yet" in text


def test_the_page_says_whether_labels_teach_it(config: Path, log: SpeciesLog) -> None:
    ids = frames(log, 4)
    for media_id in ids[:3]:
        say(log, media_id, "red fox")
    say(log, ids[3], HOSTILE)
    judged = {"species": "red fox", "known": True, "recall": 0.75, "gained": -0.05}
    judged |= {"recall_interval": [0.4, 0.9]}
    log.add_version(
        "v0001", ModelState.CANDIDATE, "small", "small", "0" * 64, "", {"learning": [judged]}, NOW
    )
    log.go_live("v0001", "better", "gate", NOW)
    with pages(config) as app:
        text = visit(app).get("/").text
    assert "16 more labels until the next training" in text
    assert 'aria-label="Share of red fox that is found: 75%"' in text
    assert "(40% to 90%)" in text
    assert "-5 points" in text
    assert "2 more labels until it is learnt" in text
    assert HOSTILE not in text


def test_without_a_label_the_page_says_what_to_do(config: Path) -> None:
    with pages(config) as app:
        assert "Nothing is labelled yet" in visit(app).get("/").text


def test_what_helps_a_species_is_told_in_words() -> None:
    one = {"labels_until_learnt": 0, "known": True, "recall": 0.5}
    assert what_helps(one | {"labels_until_learnt": 1}) == "1 more label until it is learnt"
    assert what_helps(one | {"known": False}) == "learnt at the next training"
    assert "to see what is found" in what_helps(one | {"recall": None})
    assert "still help" in what_helps(one)


def test_newest_frames_are_shown_and_hidden_ones_are_covered(config: Path, log: SpeciesLog) -> None:
    publish(log)
    fox, person, unseen = frames(log, 3)
    predict(log, {fox: ("red fox", 0.9), person: ("person", 0.8)})
    with pages(config) as app:
        viewer, reviewer = (
            visit(app, Role.VIEWER).get("/").text,
            visit(app, Role.REVIEWER).get("/").text,
        )
    thumb = "/api/v1/media/{}/thumb.jpg"
    shown = {
        i: (thumb.format(i) in viewer, thumb.format(i) in reviewer) for i in (fox, person, unseen)
    }
    assert shown == {fox: (True, True), person: (False, False), unseen: (False, True)}
    assert viewer.count("Picture hidden") == 2
    assert f'href="/media/{person}"' in viewer


def test_hostile_names_are_text(config: Path, log: SpeciesLog) -> None:
    publish(log)
    (media,) = take_in(log, [item("a.jpg", deployment=HOSTILE)])
    log.record(BatchResult(classified=(media,)), NOW)
    predict(log, {media: (HOSTILE, 0.9)})
    log.note_unreadable(f"/frames/{HOSTILE}".encode(), FileStamp(1, 1), HOSTILE)
    run = log.start_run("head", "cli", 1, NOW)
    log.finish_run(run, RunState.FAILED, HOSTILE, NOW)
    with pages(config, NOW + timedelta(days=9)) as app:
        text = visit(app).get("/").text
    assert HOSTILE not in text
    assert text.count(escape(HOSTILE).replace("&#x27;", "&#39;")) >= 4


def test_a_camera_that_fell_silent_is_on_the_page_with_its_last_frame(
    config: Path, filled: SpeciesLog
) -> None:
    with pages(config, NOW + timedelta(days=5)) as app:
        text = visit(app).get("/").text
    assert "2 cameras fell silent" in text
    assert "s%C3%BCdhang" in text
    assert "35 days" in text


def test_status_is_the_document_of_the_command_line(config: Path, site: FastAPI) -> None:
    said = visit(site).get("/api/v1/status")
    told = json.loads(
        CliRunner().invoke(program, ["status", "--json", "--config", str(config)]).output
    )
    assert said.status_code == 200
    assert list(said.json()) == list(told)
    # the site's clock is not the command's, and `clock` and `health` speak of it
    moving = {"now", "clock", "health", "lag_seconds", "disk", "today", "silent_deployments"}
    assert list(said.json()["health"]["checks"]) == list(told["health"]["checks"])
    assert {k: v for k, v in said.json().items() if k not in moving} == {
        k: v for k, v in told.items() if k not in moving
    }
    assert said.json()["today"]["media"] == 11
    assert said.json()["today"]["by_status"] == {"pending": 1, "classified": 9, "rejected": 1}


def test_a_station_where_all_is_well_has_no_troubles() -> None:
    assert troubles(facts()) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"health": health(False, {})}, "not running"),
        (
            {"health": health(True, {"service": {"problems": {"classify": "no weights"}}})},
            "no weights",
        ),
        ({"health": health(True, {"watch": {"problems": ["/mnt/card: gone"]}})}, "/mnt/card: gone"),
        ({"health": health(True, {"disk": {"state": "low", "words": "disk low"}})}, "Disk low."),
        ({"health": health(True, {"backup": {"problem": "no disk"}})}, "no disk"),
        ({"health": health(True, {"integrity": {"problem": "page 7"}})}, "page 7"),
        ({"health": health(True, {"alerts": {"failing": {"mail": "no line"}}})}, "over mail"),
        ({"lag_seconds": 7200.0}, "2 h"),
        ({"media": {"waiting_for_their_file": 3, "unreadable_files": 0}}, "3 frames cannot"),
        ({"media": {"waiting_for_their_file": 0, "unreadable_files": 1}}, "1 file cannot"),
        (
            {"silent_deployments": [{"silent_days": 4, "deployment": "north"}]},
            "1 camera fell silent: north.",
        ),
        ({"training": {"last": {"state": "failed", "message": "no labels"}}}, "no labels"),
    ],
)
def test_each_trouble_is_told_with_what_to_do(changed: dict, says: str) -> None:
    (trouble,) = troubles(facts(**changed))
    assert says in trouble.what
    assert len(trouble.advice) > 20


def test_the_worst_trouble_comes_first() -> None:
    found = troubles(facts(health=health(False, {}), lag_seconds=9e9))
    assert [trouble.level for trouble in found] == ["bad", "warn"]


def test_a_camera_silent_for_months_was_taken_down_and_is_no_trouble() -> None:
    assert troubles(facts(silent_deployments=[{"silent_days": 91}])) == []


@given(st.floats(0, 1e15))
def test_an_amount_is_short_and_has_a_unit(size: float) -> None:
    number, unit = amount(size).split(" ")
    assert unit in ("B", "kB", "MB", "GB", "TB")
    assert float(number) <= 1000 or unit == "TB"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (7300, "2 h"), (86400, "1 day"), (2e5, "2 days")],
)
def test_a_time_span_is_told_in_its_largest_unit(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.fixture(scope="module")
def camp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebStation]:
    """A station with rendered frames and a model, in a process of its own."""
    station = WebStation(tmp_path_factory.mktemp("camp"))
    station.fill(24)
    with station.served():
        yield station


def test_figures_renew_themselves_without_a_reload(camp: WebStation, chromium: Browser) -> None:
    page = named(chromium.new_context(), camp, "Ana")
    page.clock.install()
    page.goto(camp.url)
    page.evaluate("window.still = true")
    expect(page.locator("#frames")).to_contain_text("24")
    with camp.log() as log:
        take_in(log, [item("late.jpg", deployment="new place")])
    page.clock.fast_forward(31_000)
    expect(page.locator("#frames div").first).to_contain_text("25")
    assert page.evaluate("window.still") is True
    page.context.set_offline(True)
    page.clock.fast_forward(31_000)
    expect(page.locator("#stale")).to_contain_text("cannot be reached")
    page.context.close()


def test_charts_are_drawn_when_they_come_into_view_and_follow_the_choice(
    camp: WebStation, chromium: Browser
) -> None:
    page = named(chromium.new_context(viewport={"width": 1280, "height": 800}), camp, "Ana")
    page.goto(camp.url)
    figure = page.locator("[data-chart=over_time]")
    figure.scroll_into_view_if_needed()
    picture = figure.locator("img")
    expect(picture).to_be_visible(timeout=30_000)
    assert picture.get_attribute("alt")
    page.get_by_label("Period").select_option("30")
    expect(figure.get_by_role("link", name="CSV")).to_have_attribute(
        "href", re.compile(r"over_time\.csv\?since=\d{4}-\d\d-\d\d$")
    )
    page.context.close()


def test_a_chart_that_cannot_be_drawn_yet_is_asked_for_again(
    camp: WebStation, chromium: Browser
) -> None:
    page = named(chromium.new_context(), camp, "Ana")
    asked: list[str] = []

    def busy_once(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "reading"})
        else:
            route.continue_()

    page.route("**/api/v1/charts/over_time.svg*", busy_once)
    page.goto(camp.url)
    figure = page.locator("[data-chart=over_time]")
    figure.scroll_into_view_if_needed()
    expect(figure).to_contain_text("The chart comes by itself")
    expect(figure.locator("img")).to_be_visible(timeout=30_000)
    page.context.close()


def test_the_figures_are_there_without_javascript(camp: WebStation, chromium: Browser) -> None:
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto(camp.url)
    expect(page.locator("#model")).to_contain_text("v0001 is live")
    expect(page.locator("#today")).to_contain_text("came in today")
    expect(page.locator(".thumbs img")).to_have_count(12)
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_used_by_everybody(
    camp: WebStation, chromium: Browser, scheme: Literal["light", "dark"]
) -> None:
    context = chromium.new_context(bypass_csp=True, color_scheme=scheme)
    page = named(context, camp, "Ana")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.goto(camp.url)
        assert faults_of(page) == []
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    context.close()
