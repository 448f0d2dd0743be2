"""The page of the station: what needs doing, what was told, and outages judged by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Literal

import pytest
from fastapi import FastAPI
from logbook import NOW, frames, item, rows, take_in
from playwright.sync_api import Browser, Page, expect
from visits import pages, visit
from webstation import WebStation, faults_of, named

from monitor.core.domain import FileStamp, iso_utc
from monitor.core.silence import Outage, OutageState
from monitor.log.species_log import SpeciesLog
from monitor.system.locks import LOCK_NAME, OwnerLock
from monitor.web.accounts import Role
from monitor.web.pages.station import ALERTS_SHOWN, SAID_SHOWN
from monitor.web.station_words import sentence

HOSTILE = "<script>alert('fox')</script>"
SIZES = ((1280, 800), (820, 1180), (390, 844))


@pytest.fixture
def site(config: Path, log: SpeciesLog) -> Iterator[FastAPI]:
    """The pages of a station whose two cameras are silent: north since 09:00, south since 08:00."""
    frames(log, 2)
    frames(log, 1, deployment="south")
    log.propose_outages(NOW)
    with pages(config) as app:
        yield app


def page_of(app: FastAPI, role: Role | None = None) -> str:
    """What the page says to somebody."""
    answer = visit(app, role).get("/station")
    assert answer.status_code == 200
    return unescape(answer.text)


def outage(start: datetime, end: datetime | None, note: str | None = None) -> Outage:
    """What Ana says of north."""
    return Outage(0, "north", start, end, OutageState.CONFIRMED, None, note, "Ana", NOW)


# --- what needs doing, what is good to know


def test_what_needs_doing_is_what_the_health_says_with_what_to_do(
    log: SpeciesLog, site: FastAPI
) -> None:
    log.put_state("alerts", {"failing": {"ranger (tgram)": "no route"}}, NOW)
    log.put_state("backup", {"problem": "the disk is gone"}, NOW)
    for text in (page_of(site), unescape(visit(site).get("/").text)):
        assert "The service is not running: nothing is taken in or classified." in text
        assert "Alerts do not get through over ranger (tgram): no route." in text
        assert "The last backup failed: the disk is gone." in text
        assert "2 cameras fell silent: north, south." in text
        assert "systemctl start trapwatch" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("the disk is full", "The disk is full."),
        ("start it: systemctl start trapwatch", "Start it: systemctl start trapwatch"),
        ("timedatectl shows and sets it", "timedatectl shows and sets it"),
        ("", ""),
    ],
)
def test_words_become_sentences_but_commands_stay_as_they_are(words: str, told: str) -> None:
    assert sentence(words) == told


def test_what_asks_for_nothing_is_told_apart(config: Path, log: SpeciesLog, site: FastAPI) -> None:
    ago = iso_utc(NOW - timedelta(days=2))
    log.put_state("rest", {"classify": "until 20:00", "train": "until 20:00"}, NOW)
    log.put_state("backup", {"at": ago, "size_bytes": 2_500_000, "path": "/b"}, NOW)
    log.put_state("integrity", {"quick_at": ago, "full_at": ago, "problem": None}, NOW)
    log.put_state("recovery", {"at": ago, "words": "restored; 3 labels from the journal"}, NOW)
    log.put_state("journal", {"waiting": 1234}, NOW)
    for _ in range(2):
        log.count_death(b"/frames/deadly.jpg", FileStamp(1, 1), NOW)
    log.count_death(b"/frames/suspect.jpg", FileStamp(1, 1), NOW)
    with OwnerLock(config.parent / "data" / LOCK_NAME, "the log", NOW):
        text = page_of(site)
    for words in (
        "<dd>running</dd>",
        "classifying, training rest: until 20:00",
        "29 Apr 2026, 14:00, 2.5 MB",
        "(every page: 29 Apr 2026, 14:00)",
        "29 Apr 2026, 14:00: restored; 3 labels from the journal",
        "1,234, for frames that are not there yet",
        "1 file set aside",
        "/frames/deadly.jpg",
    ):
        assert words in text
    assert "/frames/suspect.jpg" not in text


def test_an_old_recovery_is_not_told_any_more(log: SpeciesLog, site: FastAPI) -> None:
    log.put_state("recovery", {"at": iso_utc(NOW - timedelta(days=31)), "words": "once"}, NOW)
    assert "log restored" not in page_of(site)


def test_the_dashboard_leads_here_when_an_outage_waits(config: Path, log: SpeciesLog) -> None:
    with pages(config) as app:
        assert "wait for your word" not in visit(app).get("/").text
        frames(log, 2)
        log.propose_outages(NOW)
        text = visit(app).get("/").text
    assert '<a href="/station">The station’s page</a>: 1 outage waits for your word' in text


# --- alerts


def test_alerts_are_told_newest_first_with_their_way_on_each_channel(
    config: Path, log: SpeciesLog, site: FastAPI
) -> None:
    (media, *_) = (row[0] for row in rows(log, "SELECT id FROM media"))
    told = ("ranger", "office", "web")
    first = log.add_alert("species", "k", "lynx at north", "97 % sure", told, NOW, media)
    log.add_alert("model", "v2", "new model v2 is live", "v2 speaks", (), NOW + timedelta(hours=1))
    log.delivered(first, "ranger", NOW)
    log.delivery_failed(first, "office", "no route", NOW)
    log.give_up(first, "web", "410 gone")
    standing = {"failing_since": iso_utc(NOW), "problem": "no route", "last_sent": None}
    log.put_state("alerts", {"channels": {"office": standing}, "failing": {}}, NOW)
    config.write_text(config.read_text() + "alerts: {urls: {office: 'jsons://example.org/x'}}\n")
    with pages(config) as app:
        text = page_of(app)
        said = visit(app, Role.VIEWER).get("/api/v1/alerts?limit=1").json()
        every = visit(app, Role.VIEWER).get("/api/v1/alerts").json()
    assert text.index("new model v2 is live") < text.index("lynx at north")
    for words in (
        "ranger: sent 1 May 2026, 14:00",
        'office: <span class="warn">waiting: no route',
        "given up after 1 try: 410 gone",
        f'href="/media/{media}"',
        "does not get through</strong> since 1 May 2026, 14:00: no route",
    ):
        assert words in text
    assert [one["kind"] for one in said["alerts"]] == ["model"]
    assert said["channels"] == [{"name": "office", **standing}]
    ways = {way["channel"]: way["state"] for way in every["alerts"][1]["deliveries"]}
    assert ways == {"ranger": "sent", "office": "waiting", "web": "failed"}
    assert "example.org" not in text


def test_only_the_last_alerts_are_shown(log: SpeciesLog, site: FastAPI) -> None:
    for number in range(ALERTS_SHOWN + 3):
        log.add_alert("station", "disk", f"alert {number:03}", "full", (), NOW)
    text = page_of(site)
    assert text.count("<strong>alert ") == ALERTS_SHOWN
    assert "alert 052" in text and "alert 002" not in text


# --- outages


def test_reviewers_confirm_correct_dismiss_and_add_over_the_web(
    log: SpeciesLog, site: FastAPI
) -> None:
    reviewer = visit(site, Role.REVIEWER)
    south, north = reviewer.get("/api/v1/outages?state=proposed").json()["outages"][::-1]
    at = f"/api/v1/outages/{north['id']}"
    said = reviewer.post(f"{at}/confirm", json={"reason": "battery"}).json()
    assert (said["start"], said["end"], said["by"]) == (north["start"], None, "Reviewer")
    said = reviewer.post(
        f"{at}/confirm", json={"reason": "moved", "start": "2026-04-02T08:00", "end": "2026-04-09"}
    ).json()
    assert said["start"] == "2026-04-02T06:00:00.000Z"  # by the station's clock
    assert said["end"] == "2026-04-09T22:00:00.000Z"  # a day counts whole
    again = reviewer.post(f"{at}/confirm", json={"reason": "moved", "note": "by deer"}).json()
    assert again["end"] == said["end"], "what is left out stays"
    lasts = {"reason": "stolen", "end": None, "note": ""}
    again = reviewer.post(f"{at}/confirm", json=lasts).json()
    assert (again["end"], again["note"]) == (None, None)
    path = f"/api/v1/outages/{south['id']}/dismiss"
    assert reviewer.post(path, json={"note": "snow"}).json()["state"] == "dismissed"
    new = {"deployment": "south", "start": "2026-03-01", "end": "2026-03-02", "reason": "other"}
    assert reviewer.post("/api/v1/outages", json=new).json()["state"] == "confirmed"
    assert rows(log, "SELECT DISTINCT by, how FROM act WHERE kind = 'outage'") == [
        ("Reviewer", "web")
    ]
    assert not reviewer.get("/api/v1/outages?state=proposed").json()["outages"]
    found = reviewer.get("/api/v1/outages?deployment=south&limit=1").json()["outages"]
    assert [one["start"] for one in found] == [south["start"]], "the latest"


def test_what_makes_no_sense_is_refused_and_changes_nothing(site: FastAPI) -> None:
    reviewer = visit(site, Role.REVIEWER)
    before = reviewer.get("/api/v1/outages").json()
    new = {"deployment": "north", "start": "2026-03-05", "end": "2026-03-01", "reason": "moved"}
    assert reviewer.post("/api/v1/outages", json=new).status_code == 409
    there = reviewer.post("/api/v1/outages", json={**new, "deployment": "moon", "end": None})
    assert (there.status_code, "no deployment 'moon'" in there.text) == (409, True)
    assert reviewer.post("/api/v1/outages", json={**new, "start": "soon"}).status_code == 400
    assert reviewer.post("/api/v1/outages", json={**new, "reason": "hunger"}).status_code == 422
    gone = reviewer.post("/api/v1/outages/99/confirm", json={"reason": "moved"})
    assert (gone.status_code, "its frames came after all" in gone.text) == (404, True)
    assert reviewer.get("/api/v1/outages").json() == before


def test_viewers_read_and_may_not_say(site: FastAPI) -> None:
    viewer = visit(site, Role.VIEWER)
    text = viewer.get("/station").text
    assert "2 outages wait for your word" in text
    assert "data-act" not in text and "<dialog" not in text
    new = {"deployment": "north", "start": "2026-03-05", "reason": "moved"}
    assert viewer.post("/api/v1/outages", json=new).status_code == 403
    assert viewer.post("/api/v1/outages/1/confirm", json={"reason": "moved"}).status_code == 403
    assert viewer.post("/api/v1/outages/1/dismiss", json={}).status_code == 403


def test_what_people_said_is_shown_with_who_and_when_and_bounded(
    log: SpeciesLog, site: FastAPI
) -> None:
    for number in range(SAID_SHOWN + 1):
        day = NOW - timedelta(days=300 - number)
        log.say_outage(outage(day, day + timedelta(hours=6), f"note {number}"), "cli")
    text = page_of(site)
    assert f"{SAID_SHOWN + 1} outages that people spoke of" in text
    assert "“note 50” Ana, 1 May 2026, 14:00" in text and "(6 h)" in text
    assert "“note 0”" not in text


def test_hostile_words_are_text(config: Path, log: SpeciesLog) -> None:
    take_in(log, [item("a.jpg", deployment=HOSTILE)])
    log.propose_outages(NOW)
    log.add_alert("station", "k", HOSTILE, HOSTILE, (HOSTILE,), NOW)
    with pages(config) as app:
        text = visit(app).get("/station").text
    assert HOSTILE not in text
    assert text.count("&lt;script&gt;") > 5


@pytest.mark.parametrize("year", [1, 9999])
def test_the_ends_of_the_calendar_do_not_break_the_page(
    config: Path, log: SpeciesLog, site: FastAPI, year: int
) -> None:
    for zone in ("Pacific/Kiritimati", "Pacific/Niue"):
        config.write_text(config.read_text().replace("Europe/Berlin", zone))
        log.say_outage(outage(NOW.replace(year=year, month=1, day=1, hour=0), None), "cli")
        log.say_outage(outage(NOW.replace(year=year, month=12, day=31, hour=23), None), "cli")
        with pages(config) as app:
            assert "2 outages that people spoke of" in page_of(app)
        config.write_text(config.read_text().replace(zone, "Europe/Berlin"))


# --- in a browser


@pytest.fixture
def camp(tmp_path: Path) -> Iterator[WebStation]:
    """A station that is served: two silent cameras, one alert."""
    station = WebStation(tmp_path)
    with station.log() as log:
        media = frames(log, 2, minutes=60.5)
        frames(log, 1, deployment="south")
        log.propose_outages(NOW)
        log.add_alert("species", "k", "lynx at north", "97 % sure", ("ranger",), NOW, media[0])
    with station.served():
        yield station


def tab_to(page: Page, words: str) -> None:
    """Go on with the Tab key until the button that begins with these words has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").startswith(words):
            return
    raise AssertionError(f"no way to '{words}' with the keyboard")


def test_an_outage_is_confirmed_and_one_dismissed_by_keyboard_alone(
    camp: WebStation, chromium: Browser
) -> None:
    page = named(chromium.new_context(), camp, "Ana")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{camp.url}/station")
    tab_to(page, "It did not watch … north")
    page.keyboard.press("Enter")
    dialog = page.locator("#confirm")
    expect(dialog.get_by_role("heading")).to_have_text("north did not watch")
    expect(dialog.get_by_label("From")).to_have_value("2026-04-01T09:00")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    page.keyboard.type("card")
    while page.evaluate("document.activeElement.name") != "note":
        page.keyboard.press("Tab")
    page.keyboard.type("two cards were full")
    tab_to(page, "Save")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.locator("#said")).to_have_text("north did not watch: card full.")
    expect(page.locator("#outages-title")).to_be_focused()
    expect(page.locator("#outages")).to_contain_text("1 outage waits for your word")
    tab_to(page, "It watched … south")
    page.keyboard.press("Enter")
    tab_to(page, "It watched")
    page.keyboard.press("Enter")
    expect(page.locator("#outages")).to_contain_text("No outage waits for your word")
    with camp.log() as log:
        north, south = log.outages()
        acts = rows(log, "SELECT by, how FROM act WHERE kind = 'outage'")
    assert (north.state, north.reason, north.note, north.end) == (
        OutageState.CONFIRMED, "card full", "two cards were full", None,
    )  # fmt: skip
    assert iso_utc(north.start) == "2026-04-01T07:00:30.000Z", "as exact as it was proposed"
    assert (south.state, south.by) == (OutageState.DISMISSED, "Ana")
    assert acts == [("Ana", "web")] * 2
    assert errors == []
    page.context.close()


def test_times_are_corrected_and_what_is_wrong_is_told_in_the_form(
    camp: WebStation, chromium: Browser
) -> None:
    page = named(chromium.new_context(timezone_id="America/New_York"), camp, "Ana")
    page.goto(f"{camp.url}/station")
    page.get_by_role("button", name="It did not watch … north").click()
    dialog = page.locator("#confirm")
    dialog.locator("[name=end]").fill("2026-03-01T10:00")
    dialog.get_by_label("Reason").select_option("stolen")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_have_text("It would end before it starts.")
    dialog.locator("[name=end]").fill("2026-04-05T10:00")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Add an outage").click()
    dialog = page.locator("#add")
    dialog.get_by_label("Camera").select_option("south")
    dialog.get_by_label("From").fill("2026-03-01T10:00")
    dialog.get_by_label("Reason").select_option("moved")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()
    with camp.log() as log:
        found = {(one.deployment, iso_utc(one.start), one.reason): one.end for one in log.outages()}
    stolen = found["north", "2026-04-01T07:00:30.000Z", "stolen"]
    assert stolen is not None and iso_utc(stolen) == "2026-04-05T08:00:00.000Z", "Berlin's clock"
    assert found["south", "2026-03-01T09:00:00.000Z", "moved"] is None
    page.context.close()


def test_the_page_renews_itself_but_not_under_a_hand(camp: WebStation, chromium: Browser) -> None:
    page = named(chromium.new_context(), camp, "Ana")
    page.clock.install()
    page.goto(f"{camp.url}/station")
    page.get_by_role("button", name="It watched … south").focus()
    with camp.log() as log:
        log.add_alert("station", "disk", "disk: trouble", "full", ("ranger",), NOW)
        log.judge_outage(1, OutageState.DISMISSED, "Ben", "web", NOW, reason=None)
    page.clock.fast_forward(31_000)
    expect(page.locator("#alerts")).to_contain_text("disk: trouble")
    expect(page.get_by_role("button", name="It watched … south")).to_be_focused()
    page.locator("#outages-title").focus()
    page.clock.fast_forward(31_000)
    expect(page.locator("#outages")).to_contain_text("1 outage waits")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_used_by_everybody_at_every_size(
    camp: WebStation, chromium: Browser, scheme: Literal["light", "dark"]
) -> None:
    with camp.log() as log:
        log.judge_outage(1, OutageState.DISMISSED, "Ben", "web", NOW, reason=None)
        log.delivery_failed(1, "ranger", "no route", NOW)
    page = named(chromium.new_context(bypass_csp=True, color_scheme=scheme), camp, "Ana")
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.goto(f"{camp.url}/station")
        page.locator("#said-before summary").click()
        assert faults_of(page) == [], width
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        for button in ("It did not watch …", "It watched …", "Add an outage …"):
            page.get_by_role("button", name=button).first.click()
            assert faults_of(page) == [], (width, button)
            page.keyboard.press("Escape")
    page.context.close()
