"""The species list in the browser: found by any name, changed by administrators."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Literal

import pytest
from fastapi import FastAPI
from logbook import NOW, frames, say
from playwright.sync_api import Browser, Page, expect
from visits import pages, visit
from webstation import WebStation, faults_of, named

from monitor.log.species_log import SpeciesLog
from monitor.web.accounts import Role

HOSTILE = "<script>alert('fox')</script>"


@pytest.fixture
def site(config: Path, filled: SpeciesLog) -> Iterator[FastAPI]:
    """The pages of a station that has something of everything."""
    with pages(config) as app:
        yield app


def test_the_list_shows_every_name_and_how_many_frames_are_labelled(
    filled: SpeciesLog, site: FastAPI
) -> None:
    filled.add_species(
        "red fox", "Ana", "cli", NOW, scientific_name="Vulpes vulpes", group="canids", hotkey="x"
    )
    text = visit(site).get("/species").text
    for words in ("<i>Vulpes vulpes</i>", 'lang="de">Rotfuchs', "canids", "<kbd>x</kbd>"):
        assert words in text
    assert "silver fox" in text
    told = text.split('data-species="')[1:]
    rows = {row["name"]: row for row in (json.loads(unescape(t.split('"')[0])) for t in told)}
    assert rows["red fox"]["labels"] == 2


@pytest.mark.parametrize("role", [Role.VIEWER, Role.REVIEWER])
def test_only_administrators_see_and_may_change_it(site: FastAPI, role: Role) -> None:
    client = visit(site, role)
    text = client.get("/species").text
    assert "red fox" in text
    assert "data-act" not in text
    assert "<dialog" not in text
    body = {"source": "badger", "into": "red fox"}
    assert client.post("/api/v1/species/merge", json=body).status_code == 403


def test_hostile_names_are_text(config: Path, log: SpeciesLog) -> None:
    log.add_species(HOSTILE, "Ana", "cli", NOW, names={"x": HOSTILE}, aliases=(HOSTILE + "!",))
    with pages(config) as app:
        text = visit(app).get("/species").text
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text


def test_an_empty_list_says_how_it_fills(config: Path, log: SpeciesLog) -> None:
    with pages(config) as app:
        assert "The list is empty" in visit(app).get("/species").text


@pytest.fixture(scope="module")
def camp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebStation]:
    """A station that is served, with three labelled species."""
    station = WebStation(tmp_path_factory.mktemp("camp"))
    with station.log() as log:
        media = frames(log, 6)
        for media_id, species in zip(
            media, ["fox", "fox", "badger", "hare", HOSTILE], strict=False
        ):
            say(log, media_id, species)
    with station.served():
        yield station


@pytest.fixture(scope="module")
def sheet(camp: WebStation, chromium: Browser) -> Page:
    """The page in a browser, as Ana, who may do all."""
    page = named(chromium.new_context(), camp, "Ana")
    page.on("dialog", lambda dialog: pytest.fail("a script ran"))
    return page


def open_list(sheet: Page, camp: WebStation) -> None:
    """Go to the page, and wait until it works."""
    sheet.goto(f"{camp.url}/species")
    expect(sheet.locator("#shown")).to_contain_text("species")


def test_the_list_is_narrowed_by_any_name(sheet: Page, camp: WebStation) -> None:
    open_list(sheet, camp)
    sheet.fill("#filter", "BADG")
    expect(sheet.locator("#list tbody tr:visible")).to_have_count(1)
    expect(sheet.locator("#shown")).to_contain_text("1 of")


def test_a_species_is_completed_and_then_found_by_its_local_name(
    sheet: Page, camp: WebStation
) -> None:
    open_list(sheet, camp)
    sheet.get_by_role("button", name="Complete badger").click()
    dialog = sheet.locator("#edit")
    dialog.get_by_label("Local names").fill("de=Dachs\nes=tejón")
    dialog.get_by_label("Group").fill("mustelids")
    dialog.get_by_label("Key while reviewing").fill("d")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()
    sheet.fill("#filter", "tejon")
    row = sheet.locator("#list tbody tr:visible")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("Dachs")
    expect(row).to_contain_text("mustelids")


def test_a_fault_is_told_in_the_dialog_and_nothing_typed_is_lost(
    sheet: Page, camp: WebStation
) -> None:
    open_list(sheet, camp)
    sheet.get_by_role("button", name="Rename badger").click()
    dialog = sheet.locator("#rename")
    dialog.get_by_label("New name").fill("hare")
    dialog.get_by_role("button", name="Rename").click()
    expect(dialog.get_by_role("alert")).to_contain_text("another species already")
    expect(dialog.get_by_label("New name")).to_have_value("hare")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()


def test_merging_says_how_many_labels_it_touches_and_loses_none(
    sheet: Page, camp: WebStation
) -> None:
    open_list(sheet, camp)
    sheet.get_by_role("button", name="Add a species").click()
    sheet.locator("#edit").get_by_label("Name, as").fill("red fox")
    sheet.locator("#edit").get_by_role("button", name="Save").click()
    expect(sheet.get_by_role("button", name="Merge red fox into another")).to_be_visible()
    sheet.get_by_role("button", name="Merge fox into another").click()
    dialog = sheet.locator("#merge")
    dialog.get_by_label("Which species").select_option("red fox")
    expect(dialog).to_contain_text("2 labelled frames count as red fox from now on")
    expect(dialog).to_contain_text("Nothing is lost")
    dialog.get_by_role("button", name="Merge").click()
    expect(dialog).to_be_hidden()
    with camp.log() as log:
        kept = {row.name: (row.labels, row.aliases) for row in log.species()}
    assert kept["red fox"] == (2, ("fox",))
    sheet.locator("#history summary").click()
    expect(sheet.locator("#acts li").first).to_contain_text("Ana merged 'fox' into 'red fox'")


def test_a_list_is_imported_and_its_faults_are_told_by_line(
    sheet: Page, camp: WebStation, tmp_path: Path
) -> None:
    file = tmp_path / "list.csv"
    file.write_text("species,scientific_name,de\nwolf,Canis lupus,Wolf\n,,nobody\nlynx,,Luchs\n")
    open_list(sheet, camp)
    sheet.get_by_role("button", name="Import a list").click()
    dialog = sheet.locator("#import")
    dialog.get_by_label("File").set_input_files(file)
    dialog.get_by_role("button", name="Import").click()
    expect(dialog).to_contain_text("2 new species, 0 completed")
    expect(dialog.locator(".faults li")).to_have_text(["line 3: the species has no name"])
    dialog.get_by_role("button", name="Close").click()
    expect(sheet.locator("#list")).to_contain_text("Luchs")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_used_by_everybody(
    chromium: Browser, camp: WebStation, scheme: Literal["light", "dark"]
) -> None:
    page = named(chromium.new_context(bypass_csp=True, color_scheme=scheme), camp, "Ben")
    open_list(page, camp)
    assert faults_of(page) == []
    page.get_by_role("button", name="Complete badger").click()
    assert faults_of(page) == []
    page.context.close()
