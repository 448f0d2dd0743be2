"""The grid page in a real browser, on a real station: many frames selected and labelled at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from logbook import rows, say
from playwright.sync_api import Page, expect
from webstation import WebStation, faults_of, labels_of, named, unlabelled

from monitor.core.domain import Prediction, utc_now
from monitor.log.media import BatchResult

FRAMES = 30
A_MINUTE_PASSES = "() => { const now = Date.now; Date.now = () => now() + 61_000; }"


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[WebStation]:
    """A station of thirty frames, served for all tests of this module."""
    station = WebStation(tmp_path_factory.mktemp("station"))
    station.fill(FRAMES)
    with station.served():
        yield station


@pytest.fixture
def station(served: WebStation) -> WebStation:
    """The same station, with nothing labelled."""
    return unlabelled(served)


@pytest.fixture
def grid(station: WebStation, chromium) -> Iterator[Page]:
    """The grid, all frames unlabelled, opened by Ana."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)
    page = named(context, station, "Ana")
    open_grid(page, station)
    yield page
    context.close()


def open_grid(page: Page, station: WebStation, query: str = "") -> None:
    page.goto(f"{station.url}/grid{query}")
    expect(page.locator(".cell").first).to_be_visible()


def ids(page: Page, selector: str = ".cell") -> list[int]:
    """The media of these boxes, as they are shown."""
    return [int(box.get_attribute("data-id")) for box in page.locator(selector).all()]


def said(station: WebStation) -> dict[int, str]:
    """What people said so far."""
    with station.log() as log:
        found = labels_of(log, list(station.truth))
    return {media_id: species for media_id, species in found.items() if species}


def counted(page: Page, words: str) -> None:
    expect(page.locator("#count")).to_have_text(words)


def saved(page: Page, frames: int) -> None:
    """Wait until so many labels are at the station."""
    expect(page.locator(".cell.done")).to_have_count(frames)
    expect(page.locator(".cell.waiting")).to_have_count(0)


def group_of(page: Page, place: int = 0) -> list[int]:
    page.locator(".group button").nth(place).click()
    return ids(page, ".cell[aria-selected=true]")


def test_clicks_keys_and_a_drawn_frame_select(grid):
    cells = grid.locator(".cell")
    cells.nth(0).click()
    counted(grid, "1 of 30 selected")
    cells.nth(4).click(modifiers=["Shift"])
    counted(grid, "5 of 30 selected")
    cells.nth(2).click(modifiers=["Control"])
    counted(grid, "4 of 30 selected")
    grid.keyboard.press("Escape")
    counted(grid, "0 of 30 selected")
    cells.nth(0).focus()
    grid.keyboard.press("Space")
    grid.keyboard.press("Shift+ArrowRight")
    grid.keyboard.press("Shift+ArrowRight")
    counted(grid, "3 of 30 selected")
    grid.keyboard.press("Shift+ArrowLeft")
    counted(grid, "2 of 30 selected")
    grid.keyboard.press("Control+a")
    counted(grid, "30 of 30 selected")
    first, second = cells.nth(0).bounding_box(), cells.nth(1).bounding_box()
    grid.mouse.move(first["x"] - 6, first["y"] + 8)
    grid.mouse.down()
    grid.mouse.move(second["x"] + 9, second["y"] + 30, steps=4)
    grid.mouse.up()
    assert ids(grid, ".cell[aria-selected=true]") == ids(grid)[:2]


def test_enter_says_of_each_frame_what_the_model_says_of_it(grid, station):
    with station.log() as log:
        predicted = {s.media_id: s.species for s in log.sightings()}
    grid.keyboard.press("Control+a")
    grid.keyboard.press("Enter")
    saved(grid, FRAMES)
    counted(grid, "All 30 are labelled.")
    assert said(station) == predicted


def test_the_numbers_stand_for_what_is_predicted_most_among_the_selected(grid, station):
    chosen = group_of(grid)
    with station.log() as log:
        species = log.sightings_of(chosen)[0].species
    expect(grid.locator("#numbered button").first).to_contain_text(species)
    grid.keyboard.press("1")
    saved(grid, len(chosen))
    assert said(station) == dict.fromkeys(chosen, species)


def test_undo_takes_the_whole_act_back_also_after_a_reload(grid, station):
    grid.keyboard.press("Control+a")
    grid.keyboard.press("Enter")
    saved(grid, FRAMES)
    grid.reload()
    expect(grid.locator("#notice")).to_contain_text("Every frame is labelled")
    grid.keyboard.press("z")
    expect(grid.locator("#said")).to_contain_text("Undone")
    grid.wait_for_function("() => !Object.keys(localStorage).some((k) => k.includes('.out.'))")
    assert said(station) == {}


def test_labels_that_cannot_be_sent_survive_a_reload(grid, station):
    grid.route("**/api/v1/labels", lambda route: route.abort())
    chosen = group_of(grid)
    grid.keyboard.press("b")
    expect(grid.locator("#sending")).to_contain_text(f"{len(chosen)} not at the station yet")
    grid.reload()
    expect(grid.locator(".cell.waiting")).to_have_count(len(chosen))
    assert said(station) == {}
    grid.unroute("**/api/v1/labels")
    grid.reload()
    grid.wait_for_function("() => !Object.keys(localStorage).some((k) => k.includes('.out.'))")
    assert said(station) == dict.fromkeys(chosen, "blank")


def test_a_label_whose_answer_was_lost_is_not_said_twice(grid, station):
    lost = []

    def lose(route):
        if not lost:
            lost.append(route.fetch().status)
            route.abort()
        else:
            route.continue_()

    with station.log() as log:
        before = rows(log, "SELECT count(*) FROM label")[0][0]
    grid.route("**/api/v1/labels", lose)
    chosen = group_of(grid)
    grid.keyboard.press("b")
    saved(grid, len(chosen))
    assert lost == [200]
    with station.log() as log:
        assert rows(log, "SELECT count(*) FROM label")[0][0] == before + len(chosen)


def test_what_somebody_else_labelled_meanwhile_is_shown_and_left_alone(grid, station):
    chosen = group_of(grid)
    with station.log() as log:
        say(log, chosen[1], "otter", by="Ben")
    grid.evaluate(A_MINUTE_PASSES)
    grid.keyboard.press("b")
    saved(grid, len(chosen))
    expect(grid.locator(f"#frame-{chosen[1]} .said-of")).to_have_text("otter, by Ben")
    expect(grid.locator("#said")).to_contain_text("labelled meanwhile by Ben")
    assert Counter(said(station).values()) == {"blank": len(chosen) - 1, "otter": 1}


def test_coming_back_to_the_page_shows_what_was_labelled_meanwhile(grid, station):
    media_id = ids(grid)[3]
    with station.log() as log:
        say(log, media_id, "otter", by="Ben")
    grid.evaluate(A_MINUTE_PASSES)
    grid.evaluate("() => dispatchEvent(new Event('focus'))")
    expect(grid.locator(f"#frame-{media_id} .said-of")).to_have_text("otter, by Ben")
    expect(grid.locator(f"#frame-{media_id}")).to_have_attribute("aria-disabled", "true")


def test_a_misspelt_species_is_asked_about(grid, station):
    with station.log() as log:
        say(log, ids(grid)[-1], "fallow deer", by="Ben")
    grid.reload()
    grid.locator(".cell").first.click()
    media_id = ids(grid)[0]
    grid.keyboard.press("/")
    grid.keyboard.type("fallow dear")
    expect(grid.locator(".offers li")).to_have_count(1)
    grid.keyboard.press("Enter")
    grid.get_by_role("button", name="I mean fallow deer").click()
    saved(grid, 1)
    assert said(station)[media_id] == "fallow deer"


def test_a_hidden_frame_is_covered_and_can_be_labelled(grid, station):
    media_id = ids(grid)[0]
    with station.log() as log:
        before = log.sightings_of([media_id])[0]
        seen = Prediction(media_id, "person", 0.99, (("person", 0.99),))
        log.record(BatchResult(predictions=(seen,), version="v0001"), utc_now())
    try:
        open_grid(grid, station)
        box = grid.locator(f"#frame-{media_id}")
        expect(box.locator("img")).to_have_count(0)
        expect(box.locator(".cover")).to_be_visible()
        box.click()
        grid.keyboard.press("Enter")
        saved(grid, 1)
        assert said(station) == {media_id: "person"}
    finally:
        with station.log() as log:
            back = Prediction(media_id, before.species, before.probability, before.alternatives)
            log.record(BatchResult(predictions=(back,), version="v0001"), utc_now())


def test_fingers_tap_to_look_and_once_one_is_selected_to_select(chromium, station):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = named(context, station, "Ana")
    open_grid(page, station)
    page.locator(".cell").nth(0).tap()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    place = page.locator(".cell").nth(1).bounding_box()
    finger = {"pointerType": "touch", "clientX": place["x"] + 9, "clientY": place["y"] + 9}
    page.locator(".cell").nth(1).dispatch_event("pointerdown", finger)
    counted(page, "1 of 30 selected")
    page.locator(".cell").nth(1).dispatch_event("pointerup", finger)
    page.locator(".cell").nth(0).tap()
    counted(page, "2 of 30 selected")
    context.close()


def test_where_keys_lead_and_what_is_sent_again_is_decided_without_a_page(grid):
    decided = grid.evaluate(
        """async () => {
            const source = document.querySelector('script[src$="grid.js"]').src;
            const choice = await import(source.replace('grid.js', 'grid-choice.js'));
            const by = new Map([[2, 'Ben'], [3, 'Ana']]);
            return {
                down: choice.placeAfter('ArrowDown', 1, [5, 2], 3),
                short: choice.placeAfter('ArrowDown', 2, [5, 2], 3),
                next: choice.placeAfter('ArrowDown', 3, [5, 2], 3),
                end: choice.placeAfter('ArrowDown', 6, [5, 2], 3),
                first: choice.stillToSend([1, 2, 3], by, 'Ana', false),
                again: choice.stillToSend([1, 2, 3], by, 'Ana', true),
                parts: choice.chunks([1, 2, 3], 2),
            };
        }"""
    )
    assert decided == {
        "down": 4,
        "short": 4,
        "next": 5,
        "end": 6,
        "first": [1],
        "again": [1, 3],
        "parts": [[1, 2], [3]],
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_grid(chromium, station, scheme):
    context = chromium.new_context(color_scheme=scheme, bypass_csp=True)
    page = named(context, station, "Ana")
    open_grid(page, station)
    group_of(page)
    assert faults_of(page) == []
    context.close()
