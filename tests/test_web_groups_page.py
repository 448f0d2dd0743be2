"""Groups of look-alikes in the grid, in a real browser: select, label all, without the odd one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cached import cache, scene
from faults.systemd import wait_until
from logbook import rows, say
from playwright.sync_api import Page, expect
from webstation import WebStation, faults_of, labels_of, named, unlabelled

from monitor.core.domain import utc_now

FRAMES = 12
GROUP = 5
"""The first five frames are made look-alikes, and the next three."""


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[WebStation]:
    """A station with two groups of look-alikes and frames that are like no other."""
    station = WebStation(tmp_path_factory.mktemp("station"))
    station.fill(FRAMES)
    with station.log() as log:
        scenes = [1] * GROUP + [2] * 3 + list(range(3, FRAMES))
        pictures = zip(sorted(station.truth), scenes, strict=False)
        cache(log, {m: scene(number, 0.005, m) for m, number in pictures}).close()
        make_them_agree(log, station)
    with station.served():
        yield station


def make_them_agree(log, station: WebStation) -> None:
    """The model says the same of the frames of a group."""
    from monitor.core.domain import Prediction
    from monitor.log.media import BatchResult

    ids = sorted(station.truth)
    names = ["red fox"] * GROUP + ["badger"] * 3
    said = tuple(
        Prediction(m, name, 0.6, ((name, 0.6), ("blank", 0.4)))
        for m, name in zip(ids, names, strict=False)
    )
    log.record(BatchResult(predictions=said, version="v0001"), utc_now())


@pytest.fixture
def station(served: WebStation) -> WebStation:
    """The same station, with nothing labelled and nothing held."""
    return unlabelled(served)


@pytest.fixture
def grid(station: WebStation, chromium) -> Iterator[Page]:
    """The look-alikes, opened by Ana; what was kept for her is free again afterwards."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)
    page = named(context, station, "Ana")
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    open_groups(page, station)
    yield page
    leave(page, station)
    context.close()
    assert problems == []


def open_groups(page: Page, station: WebStation) -> None:
    page.goto(f"{station.url}/grid?order=alike")
    expect(page.locator(".group")).to_have_count(2)


def leave(page: Page, station: WebStation) -> None:
    """Go away: what was kept for this browser is for others again at once."""
    page.wait_for_load_state("networkidle")
    page.goto("about:blank")
    with station.log() as log:
        wait_until(lambda: not rows(log, "SELECT 1 FROM lease"))


def ids(page: Page, selector: str) -> list[int]:
    return [int(box.get_attribute("data-id")) for box in page.locator(selector).all()]


def said(station: WebStation) -> dict[int, str]:
    with station.log() as log:
        found = labels_of(log, list(station.truth))
    return {media_id: species for media_id, species in found.items() if species}


def test_each_group_says_how_many_where_and_what_the_model_thinks(grid, station):
    headings = grid.locator(".group h2").all_text_contents()
    assert sorted(heading.split(" ")[0] for heading in headings) == ["3", "5"]
    assert any("the model says red fox 60 %" in heading for heading in headings)
    assert sorted(ids(grid, ".cell")) == sorted(station.truth)[: GROUP + 3]


def test_one_key_labels_the_whole_group_and_undo_takes_all_back(grid, station):
    first = ids(grid, ".group:first-child .cell")
    grid.get_by_role("button", name=f"Select these {len(first)}").click()
    expect(grid.locator("#count")).to_have_text(f"{len(first)} of {GROUP + 3} selected")
    grid.keyboard.press("b")
    expect(grid.locator(".cell.done")).to_have_count(len(first))
    assert said(station) == dict.fromkeys(first, "blank")
    grid.keyboard.press("z")
    expect(grid.locator(".cell.done")).to_have_count(0)
    grid.wait_for_function("() => !Object.keys(localStorage).some((k) => k.includes('.out.'))")
    assert said(station) == {}


def test_the_odd_one_is_left_out_by_a_click_and_by_the_keyboard_alone(grid, station):
    first = ids(grid, ".group:first-child .cell")
    grid.locator(".cell").first.focus()
    grid.keyboard.press("g")
    expect(grid.locator("#count")).to_have_text(f"{len(first)} of {GROUP + 3} selected")
    grid.locator(".cell").nth(1).click(modifiers=["Control"])
    grid.keyboard.press("ArrowRight")
    grid.keyboard.press("Space")
    left = [first[0], *first[3:]]
    grid.keyboard.press("Enter")
    expect(grid.locator(".cell.done")).to_have_count(len(left))
    assert sorted(said(station)) == sorted(left)


def test_somebody_else_gets_the_groups_only_when_they_are_given_back(grid, station, chromium):
    context = chromium.new_context(bypass_csp=True)
    ben = named(context, station, "Ben")
    ben.goto(f"{station.url}/grid?order=alike")
    expect(ben.locator("#notice")).to_contain_text("No unlabelled frames look alike enough")
    leave(grid, station)
    ben.reload()
    expect(ben.locator(".group")).to_have_count(2)
    leave(ben, station)
    context.close()
    open_groups(grid, station)


def test_the_next_groups_are_others_and_the_filters_rest_meanwhile(grid, station):
    expect(grid.get_by_role("combobox", name="Deployment")).to_be_disabled()
    grid.keyboard.press("n")
    expect(grid.locator("#notice")).to_contain_text("No other unlabelled frames look alike")
    grid.get_by_role("button", name="Back to the first").click()
    expect(grid.locator(".group")).to_have_count(2)
    grid.locator("select[name=order]").select_option("newest")
    expect(grid.locator(".cell")).to_have_count(FRAMES)
    expect(grid.get_by_role("combobox", name="Deployment")).to_be_enabled()
    grid.locator("select[name=order]").select_option("alike")
    expect(grid.locator(".group")).to_have_count(2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_groups(chromium, station, scheme):
    context = chromium.new_context(color_scheme=scheme, bypass_csp=True)
    page = named(context, station, "Ana")
    open_groups(page, station)
    page.keyboard.press("g")
    assert faults_of(page) == []
    leave(page, station)
    context.close()


def test_the_groups_break_no_content_security_policy(chromium, station):
    context = chromium.new_context()
    page = named(context, station, "Ana")
    problems: list[str] = []
    page.on("console", lambda one: problems.append(one.text) if one.type == "error" else None)
    open_groups(page, station)
    expect(page.locator(".group .cell img").first).to_be_visible()
    assert problems == []
    leave(page, station)
    context.close()


def test_a_label_that_looks_wrong_says_what_the_training_suggests(station, chromium):
    media_id = sorted(station.truth)[-1]
    with station.log() as log:
        say(log, media_id, "red fox", by="Ana")
        media = [[media_id, "red fox", "badger", 0.93]]
        log.put_state("suspects", {"version": "v0001", "media": media}, utc_now())
    context = chromium.new_context(bypass_csp=True)
    page = named(context, station, "Ben")
    page.goto(f"{station.url}/review")
    page.wait_for_load_state("networkidle")  # what is just asked for cannot be given back yet
    page.locator("#queue").select_option("suspect")
    expect(page.locator("#facts")).to_contain_text("would say badger 93 %, not red fox")
    expect(page.locator("#choices li").nth(0)).to_contain_text("badger")
    expect(page.locator("#choices li").nth(1)).to_contain_text("red fox")
    assert faults_of(page) == []
    page.keyboard.press("1")
    with station.log() as log:
        wait_until(lambda: labels_of(log, [media_id])[media_id] == "badger")
    expect(page.locator("#stage")).to_contain_text("All done here")
    leave(page, station)
    context.close()
