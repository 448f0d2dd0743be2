"""What a training promises reaches the head's file, the log, the card and every sighting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from logbook import NOW, frames, say
from test_training_run import TrainingStation

from monitor.core.config import Classifier, Gate, Settings, Training
from monitor.core.domain import ModelState, Observation, Prediction, Scope
from monitor.log.media import BatchResult
from monitor.log.species_log import SpeciesLog
from monitor.model.head import Head, in_set, predict
from monitor.model.head_file import head_bytes, head_from_bytes
from monitor.training import head as heads
from monitor.training.prediction_sets import BLANK_LOOKING

SPECIES = ("blank", "deer", "fox")
LATER = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def few_strengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two strengths to choose from are enough here."""
    monkeypatch.setattr(heads, "STRENGTHS", (1e-4, 1e-5))


@pytest.fixture
def station(tmp_path: Path) -> Iterator[TrainingStation]:
    settings = Settings(
        training=Training(coverage=0.8, gate=Gate(bootstrap_samples=300)),
        classifier=Classifier(unknown_share=0.1),
    )
    made = TrainingStation(tmp_path, settings, spread=1.5)
    for site in ("north", "south", "east", "west"):
        for species in SPECIES:
            made.label(site, species, events=7)
    yield made
    made.close()


def test_a_training_promises_and_tells_the_log_the_card_and_the_head(station) -> None:
    name = station.train().version
    version = station.log.version(name)
    head = station.store.load_head(name, version.weights_sha256)
    assert head.coverage == 0.8 and head.thresholds.shape == (3,)
    assert head.strange_above is not None
    kept = version.figures["conformal"]
    assert kept["coverage"] == 0.8 and set(kept["thresholds"]) == set(SPECIES)
    for species, least in kept["thresholds"].items():
        assert 0 <= head.thresholds[head.classes.index(species)] - least < 2e-5
    card = station.store.card(name)
    assert card["conformal"]["coverage"] == 0.8 and 0.6 <= card["conformal"]["measured"] <= 1
    assert set(card["unknown"]["by_species"]) == set(SPECIES)
    assert card["unknown"]["threshold"] == head.strange_above
    assert card["blank_looking"] == 0
    page = (station.store.directory / name / "model_card.md").read_text()
    assert "80%" in page


def test_unnamed_media_of_places_that_are_not_held_out_help_to_notice_strangers(station) -> None:
    station.train()
    sides = {row.unit_key: row.side for row in station.log.split()}
    sites = {m.deployment: sides[m.deployment_id] for m in station.log.labelled()}
    for site, side in sites.items():
        ids = station.label(site, "deer", events=100 if side != "heldout" else 150, frames=1)
        station.log.undo(ids[0], "ann", "cli", LATER)  # one act named them all
        classified(station, ids)
    head_of = station.train().version
    card = station.store.card(head_of)
    allowed = sum(100 for side in sites.values() if side != "heldout")
    assert card["unknown"]["unnamed_media"] == allowed >= 200
    sha256 = station.log.version(head_of).weights_sha256
    assert station.store.load_head(head_of, sha256).strange_weights.shape == (16,)


def classified(station, ids: list[int]) -> None:
    """As after a pass through the network, before there was a model."""
    features = station.compute(ids)
    station.features.put(list(features.items()))
    station.log.record(BatchResult(classified=tuple(ids)), NOW)


def test_a_wrong_label_is_among_the_suspects_with_what_it_should_be(station) -> None:
    wrong = station.label("north", "fox", events=1, frames=1)
    sha = station.log.find_media(wrong)[0].sha256
    station.truth[sha] = SPECIES.index("deer")
    for site in ("south", "east"):
        station.label(site, "deer", events=3)
    name = station.train().version
    kept = station.log.state("suspects")
    assert kept["version"] == name
    doubted = {row[0]: row[1:3] for row in kept["media"]}
    if wrong[0] in {m.media_id for m in station.log.suspects(200)}:
        assert doubted[wrong[0]] == ["fox", "deer"]
    else:
        sides = {row.media_id: row.side for row in station.log.split()}
        assert sides[wrong[0]] == "heldout", "who is not learnt from is not doubted"


def test_too_few_labels_promise_nothing_and_the_card_says_so(tmp_path: Path) -> None:
    few = TrainingStation(tmp_path, Settings())
    try:
        for site in ("north", "south"):
            for species in SPECIES[:2]:
                few.label(site, species, events=2, frames=3)
        name = few.train().version
        version = few.log.version(name)
        head = few.store.load_head(name, version.weights_sha256)
        assert (head.thresholds, head.coverage, head.strange_above) == (None, None, None)
        assert version.figures["conformal"] is None
        card = few.store.card(name)
        assert card["conformal"] is None and "three species" in card["unknown"]["skipped"]
    finally:
        few.close()


def test_blank_frames_of_a_held_out_event_are_counted_and_not_judged_by(station) -> None:
    before = station.store.card(station.train().version)
    assert BLANK_LOOKING not in before["left_out"]
    row = next(row for row in station.log.split() if row.side == "heldout")
    assert row.unit == "deployment"
    site = next(m.deployment for m in station.log.labelled() if m.deployment_id == row.unit_key)
    ids = station.label(site, "fox", events=1, frames=4)
    for media in station.log.find_media(ids[1:]):
        station.truth[media.sha256] = SPECIES.index("blank")
    said = [Observation("fox")]
    station.log.label([ids[0]], said, "ann", "cli", NOW, scope=Scope.EVENT)
    after = station.store.card(station.train().version)
    assert after["left_out"][BLANK_LOOKING] in (1, 2, 3)
    assert after["held_out"]["media"] == after["split"]["held_out_media"]


def a_head() -> Head:
    random = np.random.default_rng(0)
    numbers = (np.zeros(4), np.ones(4), random.normal(size=(4, 3)), np.zeros(3))
    return Head(SPECIES, *(n.astype(np.float32) for n in numbers), 1.0, "small/1")


def test_limits_are_kept_in_the_file_and_a_head_without_them_is_as_before() -> None:
    bare = a_head()
    thresholds = np.array([0.1, 0.2, 0.3], np.float32)
    whole = replace(bare, thresholds=thresholds, coverage=0.9, strange_above=-0.25)
    back = head_from_bytes(head_bytes(whole))
    assert np.array_equal(back.thresholds, thresholds)
    assert (back.coverage, back.strange_above) == (0.9, -0.25)
    again = head_from_bytes(head_bytes(bare))
    assert (again.thresholds, again.coverage, again.strange_above) == (None, None, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"thresholds": np.zeros(2, np.float32)},
        {"coverage": float("nan")},
        {"strange_above": float("inf")},
        {"strange_above": "much"},
    ],
)
def test_limits_that_are_none_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        head_bytes(replace(a_head(), **wrong))


def promising(log: SpeciesLog, name: str = "v0001") -> None:
    promise = {"coverage": 0.9, "thresholds": {"fox": 0.3, "deer": 0.2, "blank": 0.6}}
    figures = {"conformal": promise}
    log.add_version(name, ModelState.CANDIDATE, "small", "small", "0" * 64, "made", figures, NOW)
    log.go_live(name, "first", "Ana", NOW)


def record(log: SpeciesLog, media_id: int, species: str, *alternatives: tuple[str, float]) -> None:
    said = Prediction(media_id, species, alternatives[0][1], alternatives)
    log.record(BatchResult(predictions=(said,), version="v0001"), NOW)


def test_a_sighting_carries_its_set_even_where_it_is_unknown(log: SpeciesLog) -> None:
    sure, unsure, strange = frames(log, 3)
    promising(log)
    record(log, sure, "fox", ("fox", 0.9), ("deer", 0.1))
    record(log, unsure, "unknown", ("fox", 0.39), ("blank", 0.31), ("deer", 0.3))
    record(log, strange, "unknown", ("blank", 0.5), ("deer", 0.15), ("fox", 0.15))
    shown = {s.media_id: s.species_set for s in log.sightings()}
    assert shown == {sure: ("fox",), unsure: ("fox", "deer"), strange: ("blank",)}


def test_there_is_no_set_where_a_person_spoke_nobody_did_or_nothing_is_promised(log) -> None:
    said, silent, plain = frames(log, 3)
    promising(log)
    record(log, said, "fox", ("fox", 0.9), ("deer", 0.1))
    say(log, said, "deer")
    log.add_version("v0002", ModelState.CANDIDATE, "small", "small", "0" * 64, "made", {}, NOW)
    log.go_live("v0002", "second", "Ana", LATER)
    word = Prediction(plain, "fox", 0.9, (("fox", 0.9), ("deer", 0.1)))
    log.record(BatchResult(predictions=(word,), version="v0002"), LATER)
    assert {s.media_id: s.species_set for s in log.sightings()} == {
        said: None,
        silent: None,
        plain: None,
    }


def test_a_set_reaches_as_deep_as_it_must_and_no_alternative_is_lost() -> None:
    k = 12
    random = np.random.default_rng(2)
    numbers = (np.zeros(4), np.ones(4), random.normal(size=(4, k)), np.zeros(k))
    head = Head(
        tuple(f"s{i}" for i in range(k)),
        *(n.astype(np.float32) for n in numbers),
        4.0,
        "small/1",
        thresholds=np.full(k, 0.07, np.float32),
        coverage=0.9,
    )
    features = random.normal(size=(40, 4)).astype(np.float32)
    sizes = in_set(head.probabilities(features), head.thresholds).sum(axis=1)
    said = predict(head, range(40), features, 0.4)
    assert sizes.max() > 5 > sizes.min()
    assert [len(one.alternatives) for one in said] == np.maximum(sizes, 5).tolist()
