"""The model card: its figures by hand, its page, its pictures."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from drawn import dangers, texts
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from logbook import DAWN, GAP, NOW
from PIL import Image

from monitor.core.config import Settings, Watch, Web
from monitor.core.domain import (
    CaptureTime,
    FileStamp,
    Metadata,
    Observation,
    OffsetSource,
    TimeSource,
)
from monitor.core.events import Said, speak_together
from monitor.log.learning import LabelledMedia
from monitor.log.species_log import SpeciesLog
from monitor.log.taking_in import IntakeItem
from monitor.model.versions import PLOT_NAME
from monitor.training.card import figures_of, learning_rows
from monitor.training.card_page import card_page
from monitor.training.card_plots import charts_of, illustrate
from monitor.training.comparison import Answers
from monitor.training.dataset import NotLearnt, Plan
from monitor.training.evaluate import Evaluation, Share, evaluate, wilson
from monitor.training.mistakes import CELL, mistakes_sheet, surest_mistakes

NAMES = ("blank", "fox <&>", "roe deer", "wild boar")
PLOTS = ("confusion", "reliability", "recall", "labels", "training")


def answers(*said: tuple[str, str, float]) -> tuple[np.ndarray, np.ndarray]:
    """(what people said, what the model said, how surely) of each frame, as arrays."""
    truth = np.array([row[0] for row in said])
    scores = np.zeros((len(said), len(NAMES)), np.float32)
    for i, (_, name, probability) in enumerate(said):
        scores[i] = (1 - probability) / (len(NAMES) - 1)
        scores[i, NAMES.index(name)] = probability
    return truth, scores


def judged(right: float, frames: int = 80, seed: int = 0) -> Evaluation:
    """A model that is right so often, four frames an event."""
    rng = np.random.default_rng(seed)
    said = []
    for i in range(frames):
        name = NAMES[(i // 4) % len(NAMES)]
        answer = name if rng.random() < right else NAMES[int(rng.integers(len(NAMES)))]
        said.append((name, answer, float(rng.uniform(0.4, 0.99))))
    return evaluate(*answers(*said), NAMES, np.arange(frames) // 4)


def card(**changed: Any) -> dict[str, Any]:
    """A model card as training writes it."""
    mine, theirs = judged(0.9), judged(0.6, seed=1)
    plan = Plan(NAMES, (), (), (NotLearnt("lynx", 2, 1, 5),), {})
    whole = {
        "version": "v0002",
        "trained_at": "2026-05-01T10:00:00.000Z",
        "seconds": 4.5,
        "trigger": "cli",
        "method": "head",
        "history": [],
        "backbone": "small",
        "layout": "small-avg/1",
        "classes": list(NAMES),
        "labels": dict.fromkeys(NAMES, 20),
        "label_events": dict.fromkeys(NAMES, 7),
        "not_yet_learnt": [{"species": "lynx", "labels": 2, "held_out": 1, "needed": 5}],
        "left_out": {},
        "split": {
            "train_media": 240,
            "held_out_media": 80,
            "held_out_events": 20,
            "train_deployments": ["north"],
            "held_out_deployments": ["south"],
            "deployments_split_by_event": [],
        },
        "fit": {
            "strength": 2e-5,
            "tried": [[2e-4, 0.9], [2e-5, 0.7], [2e-6, 0.8]],
            "steps": 9,
            "folds": 5,
            "judged_media": 240,
            "aside_nll": 0.7,
            "temperature": 1.2,
            "seed": 0,
        },
        "learning": learning_rows(plan, mine, theirs),
        "held_out": mine.to_json(),
        "champion": {"version": "v0001", "held_out": theirs.to_json()},
        "accepted": True,
        "reason": "better than v0001",
        "gate": {},
        "notes": [],
        "versions": {"trapwatch": "1", "engine": "scikit-learn"},
    }
    return json.loads(json.dumps(whole | changed))


# -- figures ----------------------------------------------------------------------------------


def test_a_fox_in_two_frames_of_five_is_a_right_event_and_three_missed_frames() -> None:
    said = [("roe deer", "roe deer", 0.9)] * 2 + [("roe deer", "blank", 0.9)] * 3
    seen = evaluate(*answers(*said), NAMES, np.zeros(5, np.int64))
    assert (seen.accuracy, seen.events, seen.event_accuracy) == (0.4, 1, 1.0)
    assert seen.missed == Share(3, 5)


def test_an_event_is_what_people_said_of_most_of_it_animals_first() -> None:
    said = [("blank", "blank", 0.9), ("blank", "blank", 0.9), ("roe deer", "roe deer", 0.9)]
    seen = evaluate(*answers(*said), NAMES, np.zeros(3, np.int64))
    assert (seen.accuracy, seen.event_accuracy) == (1.0, 1.0)


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0.01, 1), min_size=4, max_size=4), min_size=1, max_size=6))
def test_the_card_judges_events_as_they_are_listed(rows: list[list[float]]) -> None:
    scores = np.array(rows, np.float32)
    scores /= scores.sum(axis=1, keepdims=True)
    best = np.sort(scores, axis=1)[:, ::-1]
    assume((best[:, 0] - best[:, 1] > 1e-4).all())  # no ties
    alternatives = [
        sorted(zip(NAMES, row, strict=True), key=lambda p: -p[1]) for row in scores.tolist()
    ]
    species, _ = speak_together([Said(row[0][0], row) for row in alternatives])
    truth = np.full(len(rows), species)
    assert evaluate(truth, scores, NAMES, np.zeros(len(rows), np.int64)).event_accuracy == 1


def test_false_alarms_are_blanks_that_are_called_something() -> None:
    said = [("blank", "blank", 0.9)] * 3 + [("blank", "wild boar", 0.8), ("roe deer", "blank", 0.7)]
    seen = evaluate(*answers(*said), NAMES)
    assert seen.false_alarms == Share(1, 4)
    assert seen.missed == Share(1, 1)
    assert seen.false_alarms.share == 0.25


def test_copies_of_one_event_do_not_narrow_the_interval() -> None:
    one = evaluate(*answers(("roe deer", "roe deer", 0.9)), NAMES, np.zeros(1, np.int64))
    said = answers(*[("roe deer", "roe deer", 0.9)] * 50)
    many = evaluate(*said, NAMES, np.zeros(50, np.int64))
    apart = evaluate(*said, NAMES)
    of = [next(r for r in e.species if r.species == "roe deer") for e in (one, many, apart)]
    assert of[0].recall_interval == of[1].recall_interval
    assert of[2].recall_interval[0] > of[1].recall_interval[0]
    assert [row.events for row in of] == [1, 1, 50]


def test_wilson_is_as_in_its_paper() -> None:
    low, high = wilson(0.5, 10)  # Newcombe 1998, table I, method 3, is of the same formula
    assert (low, high) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))
    assert wilson(0.0, 20)[0] == 0
    assert wilson(1.0, 20)[1] == 1


@given(st.floats(0, 1), st.integers(1, 500))
def test_an_interval_holds_its_share(share: float, units: int) -> None:
    low, high = wilson(share, units)
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1


def test_the_bins_add_up_to_the_calibration_error() -> None:
    seen = judged(0.7)
    gaps = [one.media * abs(one.accuracy - one.confidence) for one in seen.bins]
    assert sum(one.media for one in seen.bins) == seen.media
    assert sum(gaps) / seen.media == pytest.approx(seen.ece, abs=1e-6)


def test_a_card_of_before_is_read_and_one_of_later_too() -> None:
    tree = json.loads(json.dumps(judged(0.9).to_json()))
    assert Evaluation.from_json(tree) == judged(0.9)
    for key in ("events", "event_accuracy", "event_interval", "false_alarms", "missed", "bins"):
        del tree[key]
    for row in tree["species"]:
        del row["events"], row["recall_interval"]
    old = Evaluation.from_json(tree | {"something_new": 1})
    assert (old.media, old.event_accuracy, old.false_alarms, old.bins) == (80, None, None, ())


def test_what_the_labels_taught_is_told_for_each_species() -> None:
    rows = {row["species"]: row for row in card()["learning"]}
    assert list(rows) == sorted([*NAMES, "lynx"])
    lynx = rows["lynx"]
    assert (lynx["known"], lynx["labels_until_learnt"], lynx["recall"]) == (False, 3, None)
    before, after = judged(0.6, seed=1), judged(0.9)
    deer = rows["roe deer"]
    expected = after.recall_of("roe deer") - before.recall_of("roe deer")
    assert deer["gained"] == pytest.approx(expected)
    assert deer["recall_interval"][0] < deer["recall"] < deer["recall_interval"][1]


def test_without_a_champion_nothing_is_gained() -> None:
    plan = Plan(NAMES, (), (), (), {})
    assert {row["gained"] for row in learning_rows(plan, judged(0.9), None)} == {None}


def test_the_log_keeps_what_status_needs() -> None:
    figures = figures_of(card())
    assert figures["held_out"]["events"] == 20
    assert figures["learning"] == card()["learning"]
    assert len(json.dumps(figures)) < 10_000


# -- the page ---------------------------------------------------------------------------------


def test_the_page_tells_events_intervals_and_what_was_gained() -> None:
    page = card_page(card())
    assert "accuracy, event by event" in page
    assert "| false alarms: blanks called something |" in page
    assert "points" in page
    assert "- lynx: 2 of 5 labels, 3 more needed" in page


def test_the_page_tells_what_is_missing_to_tell() -> None:
    page = card_page(card(gate={"missing_events": 40, "missing_labels": 160}))
    assert "about 40 more held-out events (160 labels)" in page


def test_the_page_tells_promises_and_strangers_where_they_were_measured() -> None:
    assert "Species sets" not in card_page(card())
    sets = {"coverage": 0.9, "measured": 0.914, "mean_size": 1.4, "by_species": {}}
    page = card_page(card(conformal=sets, unknown={"auroc": 0.87}))
    assert "in 90% of frames, measured 91.4%, with 1.4 species each" in page
    assert "AUROC of 0.87" in page


# -- pictures ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn() -> tuple[dict[str, Any], dict[str, bytes]]:
    """A card with its pictures."""
    earlier = [("v0001", {"train_media": 120, "held_out": {"accuracy": 0.6, "macro_recall": 0.5}})]
    return illustrate(card(), earlier, lambda: None)


def test_every_plot_is_there_as_svg_and_png_and_linked(
    drawn: tuple[dict[str, Any], dict[str, bytes]],
) -> None:
    shown, files = drawn
    assert sorted(files) == sorted(f"{name}.{kind}" for name in PLOTS for kind in ("svg", "png"))
    assert all(PLOT_NAME.fullmatch(name) for name in files)
    page = card_page(shown)
    for name in PLOTS:
        ElementTree.fromstring(files[f"{name}.svg"])
        assert dangers(files[f"{name}.svg"]) == []
        with Image.open(io.BytesIO(files[f"{name}.png"])) as picture:
            picture.load()
            assert picture.width > 600
        assert f"({name}.svg)" in page and f"({name}.png)" in page
    assert shown["notes"] == []


def test_the_plots_name_every_species(drawn: tuple[dict[str, Any], dict[str, bytes]]) -> None:
    for plot in ("confusion", "recall"):
        words = " ".join(texts(drawn[1][f"{plot}.svg"]))
        assert all(name in words for name in NAMES), plot
    words = " ".join(texts(drawn[1]["recall.svg"]))
    assert "v0002 (this)" in words and "v0001 (live then)" in words


def test_a_fine_tuned_model_shows_its_epochs() -> None:
    history = [{"loss": 1.0, "aside_nll": 1.1}, {"loss": 0.6, "aside_nll": 0.9}]
    chart = charts_of(card(history=history), [])["training"]
    assert "2 epochs" in chart.alt
    assert len(list(chart.rows())) == 4


def test_a_model_that_nothing_judged_has_plots_that_say_so() -> None:
    nothing = evaluate(np.array([], np.str_), np.empty((0, 4), np.float32), NAMES)
    bare = card(held_out=nothing.to_json(), champion=None, fit={"strength": 1.0})
    shown, files = illustrate(bare, [], lambda: None)
    assert shown["notes"] == []
    assert "Nothing was held out." in " ".join(texts(files["confusion.svg"]))


def test_a_picture_that_fails_is_told_and_the_others_are_there() -> None:
    def fail() -> bytes:
        raise OSError("no space left")

    shown, files = illustrate(card(), [], fail)
    assert len(files) == 10
    assert "no space left" in shown["notes"][0]
    assert "no space left" in card_page(shown)


# -- the contact sheet ------------------------------------------------------------------------


def media(number: int, species: str, event: int) -> LabelledMedia:
    return LabelledMedia(number, str(number), species, False, "frame", 1, "north", event)


def said(*rows: tuple[str, float]) -> Answers:
    names, sure = zip(*rows, strict=True)
    return Answers("v0002", np.array(names), NAMES, np.array(sure, np.float32))


def test_the_surest_mistakes_come_first_one_of_each_event() -> None:
    held = [media(1, "fox", 1), media(2, "fox", 1), media(3, "hare", 2), media(4, "hare", 3)]
    told = said(("hare", 0.7), ("hare", 0.9), ("hare", 0.99), ("fox", 0.8))
    found = list(surest_mistakes(held, told, frozenset()))
    assert [(m.media.media_id, m.answered) for m in found] == [(2, "hare"), (4, "fox")]


def test_frames_of_private_species_are_not_on_the_sheet() -> None:
    held = [media(1, "Person", 1), media(2, "fox", 2), media(3, "fox", 3)]
    told = said(("fox", 0.9), ("Person", 0.9), ("hare", 0.5))
    found = list(surest_mistakes(held, told, frozenset({"person"})))
    assert [m.media.media_id for m in found] == [3]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[tuple[SpeciesLog, Path]]:
    """A log with three labelled pictures: one is a person, one is gone by now."""
    with SpeciesLog(tmp_path / "log.db", create=True) as log:
        items = []
        for number, colour in enumerate(("red", "green", "blue")):
            path = tmp_path / "north" / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (640, 480), colour).save(path)
            wall = DAWN + number * timedelta(hours=2)
            captured = CaptureTime(wall, timedelta(0), TimeSource.EXIF, OffsetSource.STATION)
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            about = Metadata(640, 480, captured)
            items.append(IntakeItem(bytes(path), FileStamp(9, 9), sha256, "north", about))
        ids = [media_id for media_id, _ in log.take_in(items, NOW, GAP)]
        for media_id, name in zip(ids, ("fox", "person", "fox"), strict=True):
            log.label([media_id], [Observation(name)], "ann", "cli", NOW, insist=True)
        (tmp_path / "north" / "2.jpg").unlink()
        yield log, tmp_path


def test_the_sheet_shows_what_can_be_read_and_may_be_seen(
    shelf: tuple[SpeciesLog, Path],
) -> None:
    log, folder = shelf
    station = Settings(watch=Watch(folders=(folder,)), web=Web(private_species=("person",)))
    held = sorted(log.labelled(), key=lambda m: m.media_id)
    made = mistakes_sheet(held, said(("hare", 0.9), ("hare", 0.8), ("hare", 0.7)), log, station)
    assert made is not None
    with Image.open(io.BytesIO(made)) as page:
        assert page.format == "PNG"
        assert page.size == CELL
        assert not page.info
        colours = page.convert("RGB")
        assert colours.getpixel((CELL[0] // 2, 70))[0] > 200  # the red one alone


def test_a_model_without_mistakes_has_no_sheet(shelf: tuple[SpeciesLog, Path]) -> None:
    log, _ = shelf
    held = sorted(log.labelled(), key=lambda m: m.media_id)
    right = said(("fox", 0.9), ("person", 0.8), ("fox", 0.7))
    assert mistakes_sheet(held, right, log, Settings()) is None
