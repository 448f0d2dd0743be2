"""The review page in a real browser, against a real `trapwatch web` with rendered frames."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from logbook import NOW, rows
from playwright.sync_api import Browser, BrowserContext, Page, expect
from webstation import WebStation, faults_of, labels_of, named

from monitor.core.domain import Observation

pytestmark = pytest.mark.slow

SIZES = {"desktop": (1280, 800), "tablet": (820, 1180), "phone": (390, 844)}
AHEAD = """() => performance.getEntriesByType('resource')
    .filter((entry) => entry.name.endsWith('/screen.jpg')).length >= 6"""
"""The pictures of the first frame and of five more have been fetched."""


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebStation]:
    """A station with frames that a model has spoken of, served."""
    station = WebStation(tmp_path_factory.mktemp("station"))
    station.fill(48)
    with station.log() as log:
        log.add_species("red deer", "Ana", "cli", NOW, names={"de": "Rothirsch"})
    with station.served():
        yield station


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser that nobody used before; it takes the warning on leaving a page as read."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)
    context.on("dialog", lambda dialog: dialog.accept())
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, station: WebStation) -> Iterator[Page]:
    """Ana at the review page, the first frame before her."""
    page = named(context, station, "Ana")
    yield opened(page, f"{station.url}/review")
    leave(page, station)


def leave(page: Page, station: WebStation) -> None:
    """Go away, as people do: what was kept for this browser is for others again at once. What the
    page is just asking for would be kept for ten minutes: so not in the middle of a question."""
    page.wait_for_load_state("networkidle")
    page.goto("about:blank")
    deadline = time.monotonic() + 5
    with station.log() as log:
        while rows(log, "SELECT 1 FROM lease"):
            assert time.monotonic() < deadline, "frames are kept for a page that is gone"
            time.sleep(0.02)


def opened(page: Page, address: str) -> Page:
    """The page, its frame drawn and its species known."""
    page.goto(address)
    expect(page.locator(".photo > img, .cover:not([hidden])").first).to_be_visible()
    expect(page.locator("#choices li").nth(5)).to_be_visible()
    return page


def shown(page: Page) -> int:
    """The media whose picture is large."""
    source = page.locator(".photo > img").get_attribute("src") or ""
    return int(source.split("/media/")[1].split("/")[0])


def press(page: Page, key: str) -> int:
    """Press a key that leads on; returns the media that was shown before."""
    before = shown(page)
    page.keyboard.press(key)
    page.wait_for_function(
        "(id) => !document.querySelector('.photo > img').src.includes(`/media/${id}/`)", arg=before
    )
    return before


def all_sent(page: Page) -> None:
    """Wait until nothing said here is still on its way."""
    page.wait_for_function(
        "() => !Object.keys(localStorage).some((key) => key.startsWith('trapwatch.out.'))"
    )


def said_of(station: WebStation, *media_ids: int) -> list[str | None]:
    """What the log has of these as people's word."""
    with station.log() as log:
        return list(labels_of(log, media_ids).values())


def test_a_number_labels_the_frame_and_the_next_picture_is_there_already(page, context, station):
    page.wait_for_function(AHEAD)
    context.route("**/screen.jpg", lambda route: route.abort())  # none is fetched from now on
    expected, media_ids = [], []
    for _ in range(5):
        expected.append(page.locator("#choices .name").first.inner_text())
        media_ids.append(press(page, "1"))
        assert page.evaluate("document.querySelector('.photo > img').naturalWidth") > 0
    all_sent(page)
    assert said_of(station, *media_ids) == expected
    assert len(set(media_ids)) == 5
    page.wait_for_function("(n) => performance.getEntriesByName('review:next').length === n", arg=5)


def test_what_is_said_while_the_station_is_away_arrives_after_a_reload(page, context, station):
    context.route("**/api/v1/labels", lambda route: route.abort())
    media_ids = [press(page, "b"), press(page, "b")]
    expect(page.locator("#unsent")).to_contain_text("2 labels not sent yet")
    assert said_of(station, *media_ids) == [None, None]
    context.unroute("**/api/v1/labels")
    page.reload()
    all_sent(page)
    assert said_of(station, *media_ids) == ["blank", "blank"]


def test_a_label_whose_answer_was_lost_is_in_the_log_once(page, context, station):
    def swallow(route):
        route.fetch()
        route.abort()
        context.unroute("**/api/v1/labels", swallow)

    context.route("**/api/v1/labels", swallow)
    media_id = press(page, "u")
    all_sent(page)
    assert said_of(station, media_id) == ["unknown"]
    with station.log() as log:
        assert log.undo(media_id, "Ana", "web", NOW) == (media_id,)
    assert said_of(station, media_id) == [None]


def test_undo_goes_back_frame_by_frame_even_after_a_reload(page, station):
    first, second = press(page, "b"), press(page, "b")
    all_sent(page)
    page.reload()
    expect(page.locator(".photo > img")).to_be_visible()
    for media_id in (second, first):
        page.keyboard.press("z")
        page.wait_for_function(
            "(id) => document.querySelector('.photo > img')?.src.includes(`/media/${id}/`)",
            arg=media_id,
        )
    all_sent(page)
    assert said_of(station, first, second) == [None, None]


def test_undo_of_a_label_that_never_left_leaves_no_trace(page, context, station):
    context.route("**/api/v1/labels", lambda route: route.abort())
    media_id = press(page, "b")
    expect(page.locator("#unsent")).to_contain_text("1 label not sent yet")
    press(page, "z")
    assert shown(page) == media_id
    expect(page.locator("#unsent")).not_to_contain_text("not sent")
    context.unroute("**/api/v1/labels")
    page.reload()
    all_sent(page)
    assert said_of(station, media_id) == [None]


def test_whole_event_labels_every_frame_of_it(page, station):
    page.keyboard.press("g")
    expect(page.locator("#whole")).to_contain_text("all 3 frames")
    expect(page.locator("[data-act=event]")).to_have_attribute("aria-pressed", "true")
    media_id = press(page, "b")
    expect(page.locator("[data-act=event]")).to_have_attribute("aria-pressed", "false")
    all_sent(page)
    with station.log() as log:
        (event,) = {s.event_id for s in log.sightings_of([media_id])}
        film = log.event_frames([event])[event]
    assert [s.species for s in film] == ["blank"] * 3


def test_a_species_is_found_by_any_of_its_names(page, station):
    page.keyboard.press("/")
    page.keyboard.type("rothi")
    expect(page.locator(".offers").get_by_role("option").first).to_contain_text("red deer")
    media_id = press(page, "Enter")
    all_sent(page)
    assert said_of(station, media_id) == ["red deer"]


def test_a_name_that_is_nearly_a_known_one_is_asked_about_and_nothing_is_lost(page, station):
    page.keyboard.press("/")
    page.keyboard.type("red dear")
    expect(page.locator(".offers").get_by_role("option").first).to_contain_text("as a new species")
    media_id = press(page, "Enter")
    expect(page.locator("#refused")).to_contain_text("Did you mean red deer?")
    assert said_of(station, media_id) == [None]
    page.get_by_role("button", name="It is red deer").click()
    expect(page.locator("#refused")).to_be_hidden()
    all_sent(page)
    assert said_of(station, media_id) == ["red deer"]


def test_details_say_how_many_and_which(page, station):
    media_id = shown(page)
    page.keyboard.press("e")
    page.get_by_role("combobox", name="Species", exact=True).fill("red fox")
    page.get_by_label("How many").fill("2")
    page.get_by_label("Sex").select_option("female")
    page.get_by_role("button", name="another species").click()
    page.get_by_role("group", name="Species 2").get_by_role("combobox", name="Species").fill(
        "badger"
    )
    page.get_by_role("button", name="Save and next").click()
    all_sent(page)
    with station.log() as log:
        (sighting,) = log.sightings_of([media_id])
    assert sighting.observations == (Observation("red fox", 2, "female"), Observation("badger"))


def test_keys_do_nothing_while_somebody_types(page, station):
    media_id = shown(page)
    page.keyboard.press("/")
    page.keyboard.type("bz1")
    page.keyboard.press("Escape")
    assert shown(page) == media_id
    assert said_of(station, media_id) == [None]


def test_a_hidden_frame_is_not_fetched_before_it_is_revealed_on_record(page, station):
    media_id = shown(page)
    with station.log() as log:
        log.label([media_id], [Observation("person")], "Ben", "cli", NOW)
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    opened(page, f"{station.url}/media/{media_id}")
    expect(page.locator(".cover")).to_contain_text("hidden")
    assert not [url for url in fetched if f"/media/{media_id}/screen" in url]
    page.keyboard.press("v")
    page.get_by_role("button", name="Show it").last.click()
    expect(page.locator(".photo > img")).to_be_visible()
    opened(page, f"{station.url}/review")
    with station.log() as log:
        assert rows(log, "SELECT \"by\" FROM act WHERE kind = 'reveal'") == [("Ana",)]


def test_who_gets_no_frame_because_others_have_them_is_told_so(chromium, tmp_path):
    station = WebStation(tmp_path)
    station.fill(6)
    with station.served():
        first, second = (chromium.new_context() for _ in range(2))
        ana, page = named(first, station, "Ana"), named(second, station, "Ben")
        ana.goto(f"{station.url}/review")
        expect(ana.locator(".photo > img")).to_be_visible()
        page.goto(f"{station.url}/review")
        expect(page.locator("#stage")).to_contain_text("Others have the last 6 frames")
        first.close()
        second.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it_and_the_frame_fits_the_window(chromium, station, size, scheme):
    width, height = SIZES[size]
    viewport = {"width": width, "height": height}
    context = chromium.new_context(viewport=viewport, color_scheme=scheme, bypass_csp=True)
    page = opened(named(context, station, "Ana"), f"{station.url}/review")
    assert faults_of(page) == []
    sideways, down = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    )
    assert sideways <= width
    assert down <= height or size == "phone"
    picture = page.locator("#stage").bounding_box()
    assert picture["y"] + picture["height"] <= height
    leave(page, station)
    context.close()


def test_numbers_stand_for_opinions_then_the_model_then_what_is_used(page):
    choices = page.evaluate(
        """async () => {
            const script = document.querySelector('script[src$="review.js"]').src;
            const line = await import(script.replace('review.js', 'line.js'));
            const frame = {
                alternatives: [['red fox', 0.6], ['badger', 0.3], ['unknown', 0.1]],
                disagreement: true,
                statements: [{by: 'Ana', species: ['lynx']}, {by: 'Ben', species: ['badger']}],
            };
            const list = [{name: 'hare', labels: 1}, {name: 'wolf', labels: 9}];
            return line.numbered(frame, ['roe deer', 'lynx'], list);
        }"""
    )
    assert [(choice["species"], choice["source"]) for choice in choices] == [
        ("lynx", "opinion"),
        ("badger", "opinion"),
        ("red fox", "model"),
        ("roe deer", "recent"),
        ("wolf", "list"),
        ("hare", "list"),
    ]
