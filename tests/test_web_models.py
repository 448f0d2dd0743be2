"""Models in the browser: their cards, two side by side, promoting and rolling back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from fastapi import FastAPI
from field import sure_of
from hypothesis import given
from hypothesis import strategies as st
from logbook import NOW, rows
from playwright.sync_api import expect, sync_playwright
from typer.testing import CliRunner
from visits import pages, visit
from webstation import WebStation, browser, faults_of, named

from monitor.cli import app as program
from monitor.core.domain import ModelState
from monitor.log.species_log import SpeciesLog
from monitor.model.versions import ModelStore
from monitor.training.evaluate import Evaluation, evaluate
from monitor.web import cards
from monitor.web.accounts import Role

NAMES = ("blank", "red fox", "roe deer")
HOSTILE = "<img src=x onerror=alert(1)>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def judged(right: int, of: int = 12, seed: int = 0) -> Evaluation:
    """What a model did that named `right` of `of` held-out frames as people did."""
    truth = np.array([NAMES[i % 3] for i in range(of)])
    scores = np.full((of, 3), 0.1, np.float32)
    for i in range(of):
        scores[i, (i + (0 if i < right else 1)) % 3] = 0.8
    return evaluate(truth, scores, NAMES)


def card(name: str, right: int, champion: tuple[str, int] | None = None, note: str = "") -> dict:
    """A model card as training writes it."""
    against = None
    if champion:
        against = {"version": champion[0], "held_out": judged(champion[1]).to_json()}
    return {
        "version": name,
        "trained_at": "2026-05-01T10:00:00.000Z",
        "seconds": 4.5,
        "method": "head",
        "classes": list(NAMES),
        "labels": dict.fromkeys(NAMES, 20),
        "label_events": dict.fromkeys(NAMES, 7),
        "not_yet_learnt": [{"species": "hare", "labels": 3, "held_out": 0, "needed": 15}],
        "left_out": {},
        "split": {
            "train_media": 60,
            "held_out_media": 12,
            "held_out_events": 4,
            "train_deployments": ["north"],
            "held_out_deployments": ["south"],
            "deployments_split_by_event": [],
        },
        "held_out": judged(right).to_json(),
        "champion": against,
        "notes": [note] if note else [],
    }


def add(log: SpeciesLog, store: ModelStore, name: str, tree: dict, live: bool, age: int) -> None:
    """A version on disk and in the log."""
    head = sure_of("red fox", ("roe deer", "blank"))
    sha256 = store.publish(name, head, tree, "# card\n", {"confusion.svg": SVG})
    at = NOW - timedelta(days=age)
    held_out = {k: tree["held_out"][k] for k in ("media", "accuracy", "macro_recall")}
    log.add_version(
        name,
        ModelState.CANDIDATE,
        "small",
        head.layout,
        sha256,
        "better",
        {"held_out": held_out},
        at,
    )
    if live:
        log.go_live(name, "better", "gate", at)


@pytest.fixture
def station(config: Path, log: SpeciesLog) -> SpeciesLog:
    """v0001 retired, v0002 live, v0003 only a candidate."""
    store = ModelStore(config.parent / "data" / "models")
    add(log, store, "v0001", card("v0001", 6), True, 3)
    add(log, store, "v0002", card("v0002", 12, ("v0001", 8), HOSTILE), True, 2)
    add(log, store, "v0003", card("v0003", 9), False, 1)
    return log


@pytest.fixture
def site(config: Path, station: SpeciesLog) -> Iterator[FastAPI]:
    """The pages of that station."""
    text = config.read_text() + "models: {directory: data/models}\n"
    config.write_text(text)
    with pages(config) as app:
        yield app


def states(log: SpeciesLog) -> dict[str, str]:
    """Version -> its state."""
    return {row.name: str(row.state) for row in log.versions()}


def test_the_api_says_what_the_command_line_says(config: Path, site: FastAPI) -> None:
    client = visit(site)
    for path, words in (("/models", ["list"]), ("/models/v0002", ["show", "v0002"])):
        command = ["models", *words, "--json", "--config", str(config)]
        told = json.loads(CliRunner().invoke(program, command).output)
        assert client.get(f"/api/v1{path}").json() == told


def test_the_list_shows_every_version_newest_first(site: FastAPI) -> None:
    text = visit(site).get("/models").text
    places = [text.index(f'href="/models/v000{n}"') for n in (3, 2, 1)]
    assert places == sorted(places)
    assert "● live" in text
    assert "better" in text


def test_without_a_model_the_page_says_how_to_come_by_one(config: Path, log: SpeciesLog) -> None:
    with pages(config) as app:
        text = visit(app).get("/models").text
    assert "There is no model yet" in text


def test_a_card_is_shown_as_tables(site: FastAPI) -> None:
    text = visit(site).get("/models/v0002").text
    assert 'aria-label="recall of red fox"' in text
    assert "hare: 3 of 15 labels, 12 more needed" in text
    assert "held out whole: south" in text
    assert "/api/v1/models/v0002/plots/confusion.svg" in text
    assert "On the same held-out frames" in text
    assert HOSTILE not in text
    assert "&lt;img src=x" in text


def test_what_was_taken_for_what_leaves_out_species_nobody_named() -> None:
    seen = judged(9)
    wider = Evaluation(
        seen.media,
        seen.accuracy,
        seen.macro_recall,
        seen.nll,
        seen.ece,
        seen.species,
        (*seen.names, "wolf"),
        (*((*row, 0) for row in seen.confusion), (0, 0, 0, 0)),
    )
    names, matrix = cards.confusion_rows(wider)
    assert names == list(NAMES)
    assert sum(cell.count for _, cells in matrix for cell in cells) == 12
    assert [cells[i].right for i, (_, cells) in enumerate(matrix)] == [True] * 3


def test_a_damaged_card_is_told_in_words(config: Path, site: FastAPI) -> None:
    file = config.parent / "data" / "models" / "v0003" / "model_card.json"
    file.chmod(0o600)
    file.write_text("{")
    client = visit(site)
    said = client.get("/api/v1/models/v0003")
    assert said.status_code == 409
    assert "is damaged" in said.json()["error"]
    shown = client.get("/models/v0003")
    assert shown.status_code == 200
    assert "is damaged" in shown.text


def test_a_card_of_another_kind_is_told_in_words(config: Path, site: FastAPI) -> None:
    file = config.parent / "data" / "models" / "v0003" / "model_card.json"
    file.chmod(0o600)
    file.write_text('{"held_out": []}')
    assert "is not as trapwatch writes it" in visit(site).get("/models/v0003").text
    assert (
        "is not as trapwatch writes it" in visit(site).get("/models/compare?a=v0001&b=v0003").text
    )


def test_a_plot_is_shown_once_with_its_png_beside_it() -> None:
    files = ["confusion.png", "confusion.svg", "mistakes.png", "older.svg"]
    tree = {"pictures": [{"name": "mistakes", "title": "Its mistakes", "alt": "Frames."}]}
    shown = [(p.file, p.title, p.other) for p in cards.pictures(files, tree)]
    assert shown == [
        ("mistakes.png", "Its mistakes", None),
        ("older.svg", "older", None),
        ("confusion.svg", "confusion", "confusion.png"),
    ]


def test_the_sheet_of_mistakes_is_for_reviewers(config: Path, log: SpeciesLog) -> None:
    config.write_text(config.read_text() + "models: {directory: data/models}\n")
    store = ModelStore(config.parent / "data" / "models")
    tree = card("v0001", 9)
    plots = {"mistakes.png": b"\x89PNG", "confusion.svg": SVG}
    sha256 = store.publish("v0001", sure_of("red fox", ("blank",)), tree, "# card\n", plots)
    log.add_version("v0001", ModelState.CANDIDATE, "small", "x", sha256, "better", {}, NOW)
    path = "/api/v1/models/v0001/plots/mistakes.png"
    with pages(config) as app:
        for role, status in ((Role.VIEWER, 403), (Role.REVIEWER, 200)):
            client = visit(app, role)
            assert client.get(path).status_code == status
            assert (path in client.get("/models/v0001").text) == (status == 200)
            assert client.get(path.replace("mistakes.png", "confusion.svg")).status_code == 200


def test_fewer_false_alarms_are_better() -> None:
    def said(name: str) -> Evaluation:
        scores = np.array([[0.9, 0.1], [0.9, 0.1]], np.float32)
        return evaluate(np.array(["blank", "blank"]), scores, (name, "roe deer"))

    rows = {row.what: row for row in cards.overall(said("red fox"), said("blank"))}
    alarms = rows["false alarms on blanks"]
    assert (alarms.a, alarms.b, alarms.verdict) == ("100%", "0%", "better")
    assert alarms.words == "100 points better"


def test_a_card_of_before_events_is_shown_without_them(config: Path, site: FastAPI) -> None:
    file = config.parent / "data" / "models" / "v0003" / "model_card.json"
    tree = json.loads(file.read_text())
    for key in ("events", "event_accuracy", "event_interval", "false_alarms", "missed", "bins"):
        del tree["held_out"][key]
    file.chmod(0o600)
    file.write_text(json.dumps(tree))
    answer = visit(site).get("/models/v0003")
    assert answer.status_code == 200
    assert "right on all frames" in answer.text
    assert "right on all events" not in answer.text
    assert visit(site).get("/models/compare?a=v0003&b=v0002").status_code == 200


@pytest.mark.parametrize("path", ["/models/v0009", "/models/nothing", "/models/%2e%2e"])
def test_a_version_that_is_not_there_is_a_404(site: FastAPI, path: str) -> None:
    client = visit(site)
    assert client.get(f"/api/v1{path}").status_code == 404
    assert client.get(path).status_code == 404
    assert client.post(f"/api/v1{path}/promote").status_code in (404, 405)


def test_a_plot_may_run_nothing(site: FastAPI) -> None:
    answer = visit(site).get("/api/v1/models/v0002/plots/confusion.svg")
    assert answer.content == SVG
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "file",
    ["model_card.json", "head.safetensors", "..%2fv0001%2fconfusion.svg", "x.svg", "link.svg"],
)
def test_nothing_but_plots_is_served_from_a_version(config: Path, site: FastAPI, file: str) -> None:
    folder = config.parent / "data" / "models" / "v0002"
    folder.chmod(0o700)
    (folder / "link.svg").symlink_to(config)
    assert visit(site).get(f"/api/v1/models/v0002/plots/{file}").status_code == 404


def test_an_administrator_promotes_a_version_under_their_name(
    station: SpeciesLog, site: FastAPI
) -> None:
    client = visit(site)
    assert client.post("/api/v1/models/v0003/promote").json() == {"live": "v0003"}
    assert states(station) == {"v0003": "live", "v0002": "retired", "v0001": "retired"}
    acts = rows(station, 'SELECT kind, "by", how FROM act ORDER BY id DESC LIMIT 1')
    assert acts == [("go-live", "Ana", "web")]


def test_promoting_twice_is_done_once(station: SpeciesLog, site: FastAPI) -> None:
    client = visit(site)
    for _ in range(2):
        assert client.post("/api/v1/models/v0003/promote").json() == {"live": "v0003"}
    assert rows(station, "SELECT count(*) FROM act WHERE how = 'web'") == [(1,)]


def test_rolling_back_brings_the_one_before_and_is_recorded(
    station: SpeciesLog, site: FastAPI
) -> None:
    client = visit(site)
    said = client.post("/api/v1/models/rollback", json={"live": "v0002"})
    assert said.json() == {"live": "v0001"}
    assert states(station) == {"v0003": "candidate", "v0002": "rejected", "v0001": "live"}
    acts = rows(station, 'SELECT kind, "by", how FROM act ORDER BY id DESC LIMIT 1')
    assert acts == [("roll-back", "Ana", "web")]
    again = client.post("/api/v1/models/rollback", json={"live": "v0002"})
    assert again.status_code == 409
    assert "v0001 is live now" in again.json()["error"]


def test_with_nothing_before_it_a_roll_back_says_so(station: SpeciesLog, site: FastAPI) -> None:
    client = visit(site)
    client.post("/api/v1/models/rollback")
    said = client.post("/api/v1/models/rollback")
    assert said.status_code == 409
    assert "there is none before it" in said.json()["error"]


@pytest.mark.parametrize("act", ["/models/v0001/promote", "/models/rollback"])
def test_a_damaged_model_does_not_go_live(
    config: Path, station: SpeciesLog, site: FastAPI, act: str
) -> None:
    file = config.parent / "data" / "models" / "v0001" / "head.safetensors"
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1])
    said = visit(site).post(f"/api/v1{act}")
    assert said.status_code == 409
    assert "is damaged" in said.json()["error"]
    assert states(station)["v0002"] == "live"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.REVIEWER])
def test_only_administrators_see_and_may_do_it(
    station: SpeciesLog, site: FastAPI, role: Role
) -> None:
    client = visit(site, role)
    for path in ("/models", "/models/v0003"):
        text = client.get(path).text
        assert "v0003" in text
        assert "data-act" not in text
    for act in ("/models/v0003/promote", "/models/rollback"):
        assert client.post(f"/api/v1{act}").status_code == 403
    assert states(station)["v0002"] == "live"


def test_administrators_see_what_they_may_do(site: FastAPI) -> None:
    client = visit(site, Role.ADMIN)
    assert "Go back from v0002 to v0001" in client.get("/models").text
    assert "Make v0003 live" in client.get("/models/v0003").text


def test_two_versions_are_compared_on_the_same_frames_where_that_can_be(site: FastAPI) -> None:
    text = visit(site).get("/models/compare?a=v0001&b=v0002").text
    assert "judged on the same 12 held-out frames" in text
    assert "33 points better" in text
    turned = visit(site).get("/models/compare?a=v0002&b=v0001").text
    assert "33 points worse" in turned


def test_two_versions_judged_on_different_frames_say_so(site: FastAPI) -> None:
    assert "Not the same frames" in visit(site).get("/models/compare?a=v0001&b=v0003").text


def test_without_a_choice_the_newest_two_are_compared(site: FastAPI) -> None:
    assert "<h1>v0002 and v0003</h1>" in visit(site).get("/models/compare").text


SHARES = st.none() | st.floats(0, 1)


@given(SHARES, SHARES)
def test_what_is_better_one_way_is_worse_the_other(a: float | None, b: float | None) -> None:
    there, back = cards.by_share("x", a, b), cards.by_share("x", b, a)
    opposite = {"better": "worse", "worse": "better", "same": "same", "unknown": "unknown"}
    assert back.verdict == opposite[there.verdict]
    assert (there.a, there.b) == (back.b, back.a)
    if there.verdict == "better":
        assert a is not None and b is not None and b > a


def test_the_page_foretells_what_a_roll_back_brings(station: SpeciesLog) -> None:
    live, back = cards.rolls_back_to(station) or ("", "")
    assert (live, back) == ("v0002", station.roll_back("Ana", NOW))
    assert cards.rolls_back_to(station) is None
    assert asdict(station.version("v0001"))["state"] == "live"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebStation]:
    """A station with two versions, in a process of its own."""
    station = WebStation(tmp_path_factory.mktemp("station"))
    store = ModelStore(station.settings.models.directory)
    with station.log() as log:
        add(log, store, "v0001", card("v0001", 6), True, 3)
        add(log, store, "v0002", card("v0002", 12, ("v0001", 8)), False, 2)
    with station.served():
        yield station


def test_a_promotion_is_explained_asked_once_more_and_done(served: WebStation) -> None:
    with sync_playwright() as playwright, browser(playwright) as chromium:
        page = named(chromium.new_context(), served, "Ana")
        page.goto(f"{served.url}/models")
        page.get_by_role("button", name="Make v0002 live").click()
        dialog = page.locator("#sure")
        expect(dialog).to_contain_text("in the place of v0001, which is kept as retired")
        dialog.get_by_role("button", name="Leave all as it is").click()
        expect(dialog).to_be_hidden()
        with served.log() as log:
            assert states(log)["v0001"] == "live"
        page.get_by_role("button", name="Make v0002 live").click()
        dialog.get_by_role("button", name="Make v0002 live").click()
        expect(page.locator("li.live")).to_contain_text("promoted by Ana")
        page.get_by_role("button", name="Go back from v0002 to v0001").click()
        dialog.get_by_role("button", name="Go back to v0001").click()
        expect(page.locator("li.live")).to_contain_text("brought back by Ana")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_can_be_used_by_everybody(
    served: WebStation, scheme: Literal["light", "dark"]
) -> None:
    with sync_playwright() as playwright, browser(playwright) as chromium:
        context = chromium.new_context(bypass_csp=True, color_scheme=scheme)
        page = named(context, served, "Ana")
        for path in ("/models", "/models/v0002", "/models/compare?a=v0001&b=v0002"):
            page.goto(served.url + path)
            assert faults_of(page) == [], path
        page.set_viewport_size({"width": 390, "height": 844})
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0
