"""What a field team does, in a real browser: an hour of keys, two people, a login, a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from webstation import WebStation, faults_of, labels_of, named

from monitor.core.domain import BLANK, Source
from monitor.web.accounts import Accounts, Role

pytestmark = pytest.mark.slow

FRAMES = 50
PAGES = ("/", "/review", "/grid", "/browse", "/species", "/models", "/models/v0001", "/station")
PHONE = {"width": 390, "height": 844}
PASSWORD = "a long walk in the forest"


@pytest.fixture
def station(tmp_path: Path) -> WebStation:
    return WebStation(tmp_path)


def frame_of(page: Page) -> int:
    """The media whose picture is large."""
    source = page.locator(".photo > img").get_attribute("src") or ""
    return int(source.split("/media/")[1].split("/")[0])


def until_another(page: Page, before: int) -> None:
    page.wait_for_function(
        "(id) => !document.querySelector('.photo > img')?.src.includes(`/media/${id}/`)",
        arg=before,
    )


def arrived(page: Page, is_there: Callable[[], bool]) -> None:
    """Labels are sent behind the scenes: wait until the log has what was said."""
    for _ in range(400):
        if is_there():
            return
        page.wait_for_timeout(50)


def ready(page: Page) -> None:
    expect(page.locator(".photo > img")).to_be_visible()
    expect(page.locator("#choices li").first).to_be_visible()


def test_fifty_frames_by_keyboard_alone(station: WebStation, chromium: Browser) -> None:
    """Nothing is touched but the keyboard, from the first page to the fiftieth label."""
    station.fill(3 * (FRAMES + 6))
    errors: list[str] = []
    with station.served():
        context = chromium.new_context()
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(station.url)
        for _ in range(12):  # by Tab to the link, as somebody without a mouse does
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "Review":
                break
        page.keyboard.press("Enter")
        page.wait_for_url("**/review")
        ready(page)
        said: dict[int, str] = {}
        for number in range(FRAMES):
            before = frame_of(page)
            truth = station.truth[before]
            said[before] = truth
            if truth == BLANK:
                page.keyboard.press("b")
            else:
                choice = page.locator("#choices li", has_text=truth).first
                expect(choice).to_be_visible()
                page.keyboard.press(choice.locator("kbd").first.inner_text())
            if number == 0:  # the first label asks for a name
                page.keyboard.type("Ana")
                page.keyboard.press("Enter")
            if number < FRAMES - 1:
                until_another(page, before)
        until_another(page, before)
        with station.log() as log:
            arrived(page, lambda: labels_of(log, list(said)) == said)
            assert labels_of(log, list(said)) == said
            assert {s.labelled_by for s in log.sightings_of(list(said))} == {"Ana"}
        context.close()
    assert len(said) == FRAMES
    assert errors == []


def test_two_reviewers_at_once_never_get_the_same_frame(
    station: WebStation, chromium: Browser
) -> None:
    station.fill(180)
    with station.served():
        contexts = [chromium.new_context() for _ in range(2)]
        pages = [named(c, station, n) for c, n in zip(contexts, ("Ana", "Ben"), strict=True)]
        for page in pages:
            page.goto(f"{station.url}/review")
            ready(page)
        seen: list[list[int]] = [[], []]
        for _ in range(20):
            for mine, page in zip(seen, pages, strict=True):
                mine.append(frame_of(page))
                page.keyboard.press("u")
                until_another(page, mine[-1])
        with station.log() as log:
            arrived(pages[0], lambda: None not in labels_of(log, [*seen[0], *seen[1]]).values())
            sightings = {s.media_id: s for s in log.sightings()}
        events = [{sightings[m].event_id for m in mine} for mine in seen]
        assert len({*seen[0], *seen[1]}) == 40
        assert not events[0] & events[1], "not even frames of one event"
        by = [{sightings[m].labelled_by for m in mine} for mine in seen]
        assert by == [{"Ana"}, {"Ben"}]
        for context in contexts:
            context.close()


def test_people_with_passwords_see_and_do_what_their_role_allows(
    station: WebStation, chromium: Browser
) -> None:
    station.fill(24)
    accounts = Accounts(station.settings.data_directory)
    for name, role in (("Vera", Role.VIEWER), ("Rob", Role.REVIEWER), ("Ada", Role.ADMIN)):
        accounts.set_password(name, PASSWORD, role)
    with station.served():
        page = chromium.new_context().new_page()
        page.goto(f"{station.url}/review")
        assert "/login" in page.url
        log_in(page, "Rob", "not the password")
        expect(page.locator("main")).to_contain_text("do not belong together")
        log_in(page, "Rob", PASSWORD)
        page.wait_for_url("**/review")
        ready(page)
        media = frame_of(page)
        page.keyboard.press("b")
        until_another(page, media)
        with station.log() as log:
            arrived(page, lambda: log.sightings_of([media])[0].source is Source.LABEL)
            (sighting,) = log.sightings_of([media])
        assert (sighting.species, sighting.labelled_by) == (BLANK, "Rob")
        page.goto(f"{station.url}/models")
        assert page.get_by_role("button", name="Roll back").count() == 0
        page.get_by_role("button", name="Log out").click()
        page.goto(station.url)
        assert "/login" in page.url

        viewer = chromium.new_context().new_page()
        viewer.goto(f"{station.url}/login")
        log_in(viewer, "Vera", PASSWORD)
        viewer.wait_for_url(f"{station.url}/")
        viewer.goto(f"{station.url}/browse")
        expect(viewer.locator("main")).to_contain_text("red fox")
        answer = viewer.evaluate(
            """async () => (await fetch('/api/v1/labels', {method: 'POST', headers: {
                'Content-Type': 'application/json',
                'X-CSRF-Token': document.querySelector('[name=csrf-token]').content},
                body: '{"media_ids": [1], "observations": [{"species": "x"}]}'})).status"""
        )
        assert answer == 403


def log_in(page: Page, name: str, password: str) -> None:
    """Fill the form and send it."""
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")


def test_every_page_fits_a_phone_and_asks_nobody_else(
    station: WebStation, chromium: Browser
) -> None:
    """390 x 844, fingers, the network cut to the station: no sideways scrolling, no request to
    anybody else, no error in a script, no serious accessibility fault."""
    station.fill(30)
    with station.served():
        context = chromium.new_context(
            viewport=PHONE, has_touch=True, is_mobile=True, bypass_csp=True
        )
        outside: list[str] = []
        errors: list[str] = []
        context.route("**/*", lambda route: _only(station, route, outside))
        page = named(context, station, "Ana")
        page.on("pageerror", lambda error: errors.append(f"{page.url}: {error}"))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        for path in PAGES:
            page.goto(station.url + path)
            page.wait_for_load_state("networkidle")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= PHONE["width"], f"{path} is {wide} pixels wide"
            assert faults_of(page) == [], path
        page.goto(f"{station.url}/review")
        ready(page)
        media = frame_of(page)
        page.locator("#choices li button").first.tap()
        until_another(page, media)
        context.close()
    assert outside == [] and errors == []


def _only(station: WebStation, route, outside: list[str]) -> None:
    if route.request.url.startswith((station.url, "data:", "blob:")):
        route.continue_()
    else:
        outside.append(route.request.url)
        route.abort()
