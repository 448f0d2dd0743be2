"""The browse page in a real browser, on a real station: filter, address, endless rows, way back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from field import jpeg
from logbook import frames, item, predict, publish, say, take_in
from playwright.sync_api import Page, expect
from webstation import WebStation, faults_of, named

MANY = 1500
PLACE = "() => document.elementFromPoint(400, 500).closest('tr').querySelector('a').textContent"


@pytest.fixture(scope="module")
def station(tmp_path_factory) -> Iterator[WebStation]:
    """1,500 frames of one camera, an hour apart, and a few of another; the files are gone."""
    station = WebStation(tmp_path_factory.mktemp("station"))
    (station.root / "frames" / "one.jpg").write_bytes(jpeg(1))
    with station.log() as log:
        publish(log)
        media_ids = frames(log, MANY)
        few = frames(log, 5, deployment="südhang")
        predict(log, dict.fromkeys(media_ids, ("red fox", 0.9)))
        predict(log, dict.fromkeys(few[:4], ("badger", 0.6)))
        predict(log, {few[4]: ("person", 0.8)})
        say(log, few[0], "badger", "red fox", by="Ben")
        take_in(log, [item("bad.jpg", deployment="north", rejected="truncated")])
    with station.served():
        yield station


@pytest.fixture
def page(station: WebStation, chromium) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)
    opened = named(context, station, "Ana")
    yield opened
    context.close()


def browse(page: Page, station: WebStation, query: str = "") -> None:
    page.goto(f"{station.url}/browse{query}")
    expect(page.locator("#state")).not_to_have_text("Looking …")


def counted(page: Page, words: str) -> None:
    expect(page.locator("#count")).to_have_text(words)


def scroll_down(page: Page, rows: int) -> None:
    """Scroll until so many rows are listed."""
    page.wait_for_function(
        """(rows) => {
            scrollBy({ top: 3000, behavior: 'instant' });
            return parseInt(document.getElementById('count').textContent.replace(',', '')) >= rows;
        }""",
        arg=rows,
        polling=60,
    )
    page.wait_for_timeout(100)


def test_the_filter_is_in_the_address_and_the_back_button_undoes_it(page, station):
    browse(page, station)
    counted(page, "100 frames so far")
    page.locator("[name=deployment]").fill("südhang")
    page.keyboard.press("Enter")
    counted(page, "5 frames")
    page.locator("#species input").fill("badg")
    expect(page.locator(".offers li").first).to_contain_text("badger")
    page.keyboard.press("Enter")
    counted(page, "4 frames")
    assert "species=badger" in page.url
    page.go_back()
    counted(page, "5 frames")
    expect(page.locator("#species input")).to_have_value("")
    page.go_back()
    counted(page, "100 frames so far")
    browse(page, station, "?species=badger&source=label")
    counted(page, "1 frame")
    expect(page.locator("[name=source]")).to_have_value("label")
    expect(page.locator("#rows .species")).to_have_text("badger, red fox")
    expect(page.locator("#rows .by")).to_have_text("label by Ben")


def test_probabilities_are_percent_and_rejected_frames_say_why(page, station):
    browse(page, station, "?max_probability=0.65")
    counted(page, "3 frames")
    expect(page.locator("[name=max_probability]")).to_have_value("65")
    page.locator("[name=max_probability]").fill("85")
    page.keyboard.press("Enter")
    counted(page, "4 frames")
    assert "max_probability=0.85" in page.url
    browse(page, station, "?status=rejected")
    expect(page.locator("#rows .status")).to_have_text("rejected: truncated")
    expect(page.locator("#rows img")).to_have_count(0)


def test_hidden_frames_are_covered(page, station):
    browse(page, station, "?species=person")
    counted(page, "1 frame")
    expect(page.locator("#rows .cover")).to_have_text("hidden")
    expect(page.locator("#rows img")).to_have_count(0)


def test_rows_far_from_view_are_not_in_the_document(page, station):
    browse(page, station)
    scroll_down(page, 1000)
    assert page.locator("#rows tr").count() < 60
    expect(page.locator("#rows tr.coming")).to_have_count(0)
    page.evaluate("() => scrollTo({ top: 0, behavior: 'instant' })")
    expect(page.locator("#rows tr").first).to_have_attribute("aria-rowindex", "2")
    scroll_down(page, MANY + 6)
    expect(page.locator("#state")).to_have_text("That is all.")
    counted(page, "1,506 frames")


def test_coming_back_from_a_frame_finds_the_place_again(page, station):
    browse(page, station, "?deployment=north")
    scroll_down(page, 400)
    before = page.evaluate(PLACE)
    page.mouse.click(400, 500)
    page.wait_for_url(f"**/media/{before.removeprefix('#')}")
    page.go_back()
    expect(page.locator("#rows tr").first).to_be_visible()
    page.wait_for_function(f"(before) => ({PLACE})() === before", arg=before)
    page.reload()
    page.wait_for_function(f"(before) => ({PLACE})() === before", arg=before)
    expect(page.locator("#rows tr.coming")).to_have_count(0)
    scroll_down(page, 600)


def test_arrows_walk_from_row_to_row_beyond_those_in_the_document(page, station):
    browse(page, station)
    page.locator("#rows a").first.focus()
    for _ in range(50):
        page.keyboard.press("ArrowDown")
    place = page.evaluate("() => document.activeElement.closest('tr').dataset.place")
    assert place == "50"
    box = page.locator("#rows tr:focus-within").bounding_box()
    assert 0 < box["y"] < 800 - box["height"] + 1
    page.keyboard.press("/")
    expect(page.locator("#species input")).to_be_focused()


def test_a_date_is_jumped_to_and_the_csv_has_the_same_filter(page, station):
    browse(page, station, "?deployment=north")
    page.locator("#jump").fill("2026-04-10")
    expect(page.locator("#rows .time").first).to_contain_text("2026-04-10")
    expect(page.locator("[name=until]")).to_have_value("2026-04-10")
    with page.expect_download() as download:
        page.locator("#csv").click()
    text = download.value.path().read_text(encoding="utf-8")
    shown = page.locator("#rows a").first.text_content().removeprefix("#")
    lines = text.splitlines()
    assert lines[1].startswith(f"{shown},")
    assert "südhang" not in text


def test_nothing_found_and_errors_are_told_in_words(page, station):
    browse(page, station, "?path=nowhere")
    expect(page.locator("#state")).to_contain_text("No frame is like that")
    browse(page, station, "?species=unicorn")
    expect(page.locator("#problem")).to_contain_text("unicorn")
    page.route("**/api/v1/sightings?*", lambda route: route.abort())
    browse(page, station)
    expect(page.locator("#problem")).to_have_text("The station cannot be reached.")
    page.unroute("**/api/v1/sightings?*")
    page.get_by_role("button", name="Try again").click()
    counted(page, "100 frames so far")


def test_which_rows_are_drawn_and_kept_is_decided_without_a_page(page, station):
    browse(page, station)
    decided = page.evaluate(
        """async () => {
            const source = document.querySelector('script[src$="browse.js"]').src;
            const { Rows, windowOf } = await import(source.replace('browse.js', 'browse-rows.js'));
            const rows = new Rows();
            for (let page = 0; page < 100; page += 1) {
                const ids = Array.from({ length: 100 }, (_, n) => page * 100 + n);
                rows.add(String(page), ids.map((id) => ({ media_id: id })));
            }
            rows.add('again', [{ media_id: 5 }]);
            rows.forget(9000, 9020);
            const [first] = rows.missing(150, 160);
            const before = first.cursor;
            rows.fill(first, first.ids.slice(1).map((id) => ({ media_id: id })));
            return {
                count: rows.count, kept: rows.byId.size <= 3200, before,
                missing: rows.missing(150, 160).length, gone: rows.rowAt(100).isGone === true,
                there: rows.rowAt(101).media_id, near: rows.rowAt(9010).media_id,
                top: windowOf({ offset: 0, viewHeight: 800, rowHeight: 80, count: 10000 }),
                deep: windowOf({ offset: 80000, viewHeight: 800, rowHeight: 80, count: 10000 }),
                none: windowOf({ offset: 0, viewHeight: 800, rowHeight: 80, count: 0 }),
            };
        }"""
    )
    assert decided == {
        "count": 10_000,
        "kept": True,
        "before": "1",
        "missing": 0,
        "gone": True,
        "there": 101,
        "near": 9010,
        "top": {"from": 0, "to": 22},
        "deep": {"from": 988, "to": 1022},
        "none": {"from": 0, "to": 0},
    }


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_axe_finds_nothing_serious_and_the_table_stays_one(chromium, station, size):
    width, height = size
    context = chromium.new_context(viewport={"width": width, "height": height}, bypass_csp=True)
    page = named(context, station, "Ana")
    browse(page, station, "?deployment=s%C3%BCdhang")
    counted(page, "5 frames")
    page.locator("#which").evaluate("(part) => { part.open = true; }")
    page.locator("#more").evaluate("(part) => { part.open = true; }")
    assert faults_of(page) == []
    expect(
        page.get_by_role("table", name="Frames that fit the filter, newest first")
    ).to_be_visible()
    expect(page.get_by_role("rowheader")).to_have_count(5)
    context.close()
