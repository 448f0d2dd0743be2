"""One training run from labels to a live or rejected version: real log, cache, Keras and files."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from monitor.core.config import Gate, Settings, Training
from monitor.core.domain import (
    CaptureTime,
    FileStamp,
    Metadata,
    ModelState,
    Observation,
    OffsetSource,
    RunState,
    TimeSource,
)
from monitor.log.engine import LogError
from monitor.log.features import FeatureStore
from monitor.log.species_log import SpeciesLog
from monitor.log.taking_in import IntakeItem
from monitor.model.versions import ModelStore
from monitor.training import head
from monitor.training.run import Sources, TrainingError, TrainingOutcome, train_once

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SIZE = 16
SPECIES = ("blank", "deer", "fox", "lynx")
CENTRES = np.random.default_rng(99).normal(size=(4, SIZE)) * 2


@dataclass
class TrainingStation:
    """A log, a cache and a store in a folder, and made-up features for whatever is labelled."""

    folder: Path
    settings: Settings
    spread: float = 1.0
    unreadable: set[str] = field(default_factory=set)
    computed: list[int] = field(default_factory=list)
    stages: list[tuple[str, float]] = field(default_factory=list)
    taken: int = 0

    def __post_init__(self) -> None:
        self.log = SpeciesLog(self.folder / "trapwatch.db", create=True)
        self.features = FeatureStore(self.folder / "features.db", "made-up/1", SIZE, 10**8)
        self.store = ModelStore(self.folder / "models")
        self.truth: dict[str, int] = {}

    def label(self, deployment: str, species: str, events: int, frames: int = 2) -> list[int]:
        """Take in and label frames: events an hour apart, frames ten seconds apart."""
        ids: list[int] = []
        for _ in range(events):
            items = []
            for _ in range(frames):
                self.taken += 1
                sha = hashlib.sha256(str(self.taken).encode()).hexdigest()
                self.truth[sha] = SPECIES.index(species) if species in SPECIES else 0
                wall = datetime(2026, 1, 1) + timedelta(hours=self.taken)
                wall += timedelta(seconds=10 * len(items) - 3600 * len(items))
                captured = CaptureTime(wall, timedelta(0), TimeSource.EXIF, OffsetSource.STATION)
                path = f"/frames/{deployment}/{self.taken}.jpg".encode()
                stamp, about = FileStamp(9, self.taken), Metadata(9, 9, captured)
                items.append(IntakeItem(path, stamp, sha, deployment, about))
            ids += [i for i, _ in self.log.take_in(items, NOW, timedelta(minutes=30))]
        self.log.label(ids, [Observation(species)], "ann", "cli", NOW, insist=True)
        return ids

    def compute(self, media_ids: Sequence[int]) -> dict[str, np.ndarray]:
        self.computed += media_ids
        found = {}
        for media in self.log.find_media(media_ids):
            if media.sha256 not in self.unreadable:
                rng = np.random.default_rng(int(media.sha256[:8], 16))
                noise = rng.normal(size=SIZE) * self.spread
                vector = CENTRES[self.truth[media.sha256]] + noise
                found[media.sha256] = vector.astype(np.float32)
        return found

    def train(self, compute: Callable | None = None) -> TrainingOutcome:
        return train_once(
            self.log,
            Sources(lambda tail: self.features, lambda ids, tail: (compute or self.compute)(ids)),
            self.store,
            self.settings,
            None,
            trigger="cli",
            now=lambda: NOW,
            progress=lambda stage, done: self.stages.append((stage, done)),
        )

    def close(self) -> None:
        self.features.close()
        self.log.close()


@pytest.fixture(autouse=True)
def few_strengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two strengths to choose from are enough here."""
    monkeypatch.setattr(head, "STRENGTHS", (1e-4, 1e-5))


@pytest.fixture
def station(tmp_path: Path) -> Iterator[TrainingStation]:
    training = Training(gate=Gate(bootstrap_samples=300))
    made = TrainingStation(tmp_path, Settings(training=training))
    yield made
    made.close()


def label_four_sites(station: TrainingStation, species: Sequence[str] = SPECIES[:3]) -> None:
    for site in ("north", "south", "east", "west"):
        for name in species:
            station.label(site, name, events=3)


def test_a_first_model_goes_live_with_its_card(station: TrainingStation) -> None:
    label_four_sites(station)
    station.label("north", "lynx", events=1)
    outcome = station.train()
    assert outcome.accepted and outcome.version == "v0001"
    assert outcome.reason.startswith("better than always saying")
    live = station.log.live_version()
    assert live is not None and live.name == "v0001" and live.layout == "made-up/1"
    assert live.figures["held_out"]["accuracy"] > 0.9
    loaded = station.store.load_head("v0001", live.weights_sha256)
    assert loaded.classes == ("blank", "deer", "fox")
    card = station.store.card("v0001")
    assert card["labels"] == {"blank": 18, "deer": 18, "fox": 18}
    assert len(card["split"]["held_out_deployments"]) == 1
    assert card["not_yet_learnt"][0]["species"] == "lynx"
    page = (station.store.directory / "v0001" / "model_card.md").read_text()
    assert "**It went live**: better than" in page
    assert "- lynx: 2 of 5 labels, 3 more needed" in page
    assert "| deer | 18 (9) | 6 (3) |" in page
    run = station.log.runs(1)[0]
    assert (run.state, run.version, run.message) == (RunState.SUCCEEDED, "v0001", outcome.reason)
    json.dumps(outcome.figures, allow_nan=False)


def test_a_version_brings_its_plots_and_what_was_learnt(station: TrainingStation) -> None:
    label_four_sites(station)
    station.train()
    folder = station.store.directory / "v0001"
    page = (folder / "model_card.md").read_text()
    for plot in ("confusion", "reliability", "recall", "labels", "training"):
        assert (folder / f"{plot}.svg").read_bytes().startswith(b"<svg")
        assert (folder / f"{plot}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({plot}.svg)" in page
    live = station.log.live_version()
    assert live is not None
    rows = {row["species"]: row for row in live.figures["learning"]}
    assert rows["deer"]["training_labels"] == 18 and rows["deer"]["gained"] is None
    assert station.train().figures["learning"][0]["gained"] == 0  # the same head once more
    assert live.figures["held_out"]["event_accuracy"] > 0.9


def test_features_are_computed_once_and_kept(station: TrainingStation) -> None:
    label_four_sites(station)
    first = station.train()
    assert len(station.computed) == len(set(station.computed)) == 72
    station.computed.clear()
    again = station.train()
    assert station.computed == []
    assert not again.accepted and again.reason.startswith("no better")
    states = {row.name: row.state for row in station.log.versions()}
    assert states == {"v0001": ModelState.LIVE, "v0002": ModelState.REJECTED}
    assert first.figures["held_out"] == again.figures["held_out"]  # cached or not: the same head
    assert "did not go live" in (station.store.directory / "v0002" / "model_card.md").read_text()


def test_what_is_newly_labelled_makes_a_better_model(station: TrainingStation) -> None:
    for site in ("north", "south", "east", "west"):
        station.label(site, "deer", events=5)
        station.label(site, "fox", events=5)
    assert station.train().accepted
    for site in ("north", "south", "east", "west"):
        station.label(site, "lynx", events=5)
    sides = {row.media_id: row.side for row in station.log.split()}
    outcome = station.train()
    assert outcome.accepted and outcome.version == "v0002"
    assert "v0001 does not know lynx" in outcome.reason
    after = {row.media_id: row.side for row in station.log.split()}
    assert sides.items() <= after.items() and len(after) > len(sides)
    card = station.store.card("v0002")
    assert card["champion"]["version"] == "v0001"
    states = {row.name: row.state for row in station.log.versions()}
    assert states == {"v0001": ModelState.RETIRED, "v0002": ModelState.LIVE}


def test_too_few_labels_are_told_species_by_species(station: TrainingStation) -> None:
    station.label("north", "deer", events=4)
    station.label("north", "lynx", events=1, frames=3)
    with pytest.raises(TrainingError, match=r"so far: deer\. .*lacking: lynx: 3 of 5 labels"):
        station.train()
    run = station.log.runs(1)[0]
    assert run.state is RunState.FAILED and "lynx: 3 of 5 labels" in run.message
    assert station.log.split() == []  # nothing is decided for good before there is enough
    assert station.log.versions() == [] and station.store.names() == []


def test_without_any_label_the_run_says_so(station: TrainingStation) -> None:
    with pytest.raises(TrainingError, match="so far: none"):
        station.train()


def test_a_failure_is_noted_and_raised(station: TrainingStation) -> None:
    label_four_sites(station)

    def fail(_ids: Sequence[int]) -> dict[str, np.ndarray]:
        raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError):
        station.train(fail)
    run = station.log.runs(1)[0]
    assert run.state is RunState.FAILED and run.message == "RuntimeError: the disk is on fire"
    assert station.log.live_version() is None


def test_a_frame_that_is_gone_is_left_out(station: TrainingStation) -> None:
    label_four_sites(station)
    station.unreadable = set(list(station.truth)[:4])
    outcome = station.train()
    assert outcome.accepted
    card = station.store.card("v0001")
    assert card["left_out"] == {"their file could not be read": 4}
    assert card["split"]["train_media"] + card["split"]["held_out_media"] == 68


def test_frames_with_several_species_are_left_out(station: TrainingStation) -> None:
    label_four_sites(station)
    both = station.label("north", "fox", events=1)
    station.log.label(both, [Observation("fox"), Observation("deer")], "ann", "cli", NOW)
    station.train()
    assert station.store.card("v0001")["left_out"] == {"several species in one frame": 2}


def test_a_damaged_champion_is_said_and_replaced(station: TrainingStation) -> None:
    label_four_sites(station)
    station.train()
    file = station.store.directory / "v0001" / "head.safetensors"
    file.chmod(0o644)
    file.write_bytes(b"rotten")
    outcome = station.train()
    assert outcome.accepted and outcome.version == "v0002"
    notes = station.store.card("v0002")["notes"]
    assert "v0001 could not be compared with" in notes[0] and "SHA-256" in notes[0]


def test_a_champion_of_other_features_is_said_and_replaced(station: TrainingStation) -> None:
    label_four_sites(station)
    station.train()
    station.features.close()
    path = station.folder / "features.db"
    station.features = FeatureStore(path, "made-up/2", SIZE, 10**8)
    outcome = station.train()
    assert outcome.accepted
    assert "made-up/1 features, and these are made-up/2" in station.store.card("v0002")["notes"][0]


def test_a_renamed_species_is_the_same_to_the_champion(station: TrainingStation) -> None:
    label_four_sites(station)
    station.train()
    station.log.rename_species("fox", "red fox", "ann", "cli", NOW)
    outcome = station.train()
    assert not outcome.accepted and outcome.reason.startswith("no better")
    assert outcome.figures["champion"]["accuracy"] == outcome.figures["held_out"]["accuracy"]


def test_a_killed_training_leaves_nothing_that_hinders_the_next(station: TrainingStation) -> None:
    label_four_sites(station)
    (station.store.directory / ".v0001.partial").mkdir(parents=True)
    (station.store.directory / "v0002").mkdir()  # published, and killed before the log knew
    outcome = station.train()
    assert outcome.version == "v0003" and outcome.accepted
    assert not (station.store.directory / ".v0001.partial").exists()


def test_progress_rises_from_start_to_end(station: TrainingStation) -> None:
    label_four_sites(station)
    station.train()
    shares = [done for _, done in station.stages]
    assert shares == sorted(shares) and shares[0] == 0 and station.stages[-1] == ("done", 1.0)


def test_nothing_held_out_is_in_the_training_part(station: TrainingStation) -> None:
    label_four_sites(station)
    station.train()
    rows = {row.media_id: row for row in station.log.split()}
    sites = {m.media_id: m.deployment for m in station.log.labelled()}
    out = {sites[i] for i, row in rows.items() if row.side == "heldout"}
    trained = {sites[i] for i, row in rows.items() if row.side == "train"}
    card = station.store.card("v0001")["split"]
    assert out and not out & trained
    assert set(card["held_out_deployments"]) == out
    assert set(card["train_deployments"]) == trained


def test_a_challenger_that_was_taught_wrongly_is_rejected(station: TrainingStation) -> None:
    label_four_sites(station)
    station.train()
    held_out = {row.media_id for row in station.log.split() if row.side == "heldout"}
    others = [m.media_id for m in station.log.labelled() if m.media_id not in held_out]
    station.log.label(others[::2], [Observation("fox")], "a mistaken guest", "cli", NOW)
    outcome = station.train()
    assert not outcome.accepted
    live = station.log.live_version()
    assert live is not None and live.name == "v0001"


def test_a_person_who_promotes_during_a_training_is_not_overridden(
    station: TrainingStation,
) -> None:
    label_four_sites(station)
    first = station.train()
    for site in ("north", "south", "east", "west"):
        station.label(site, SPECIES[3], 3)

    def promote_meanwhile(media_ids: Sequence[int]) -> dict[str, np.ndarray]:
        card = {"version": "v0009"}
        head_of_first = station.store.load_head(first.version, None)
        sha256 = station.store.publish("v0009", head_of_first, card, "by hand")
        station.log.add_version(
            "v0009", ModelState.CANDIDATE, "small", "test/1", sha256, "by hand", {}, NOW
        )
        station.log.go_live("v0009", "by hand", "Ana", NOW)
        return station.compute(media_ids)

    original = station.log.live_version
    asked = iter([first.version])

    def champion_before() -> object:
        return station.log.version(name) if (name := next(asked, None)) else original()

    station.log.live_version = champion_before  # type: ignore[method-assign]
    outcome = station.train(promote_meanwhile)
    station.log.live_version = original  # type: ignore[method-assign]
    assert not outcome.accepted
    assert "v0009 went live while" in outcome.reason
    assert station.log.live_version().name == "v0009"
    assert station.log.version(outcome.version).state is ModelState.REJECTED


def test_a_version_that_the_log_cannot_take_is_removed_again(station: TrainingStation) -> None:
    label_four_sites(station)
    full = "CREATE TRIGGER full BEFORE INSERT ON model_version BEGIN " + (
        "SELECT RAISE(ABORT, 'database or disk is full'); END"
    )
    with station.log._write() as connection:
        connection.exec_driver_sql(full)
    with pytest.raises(LogError, match="free some space"):
        station.train()
    assert list((station.folder / "models").iterdir()) == []
    assert station.log.runs(1)[0].state is RunState.FAILED
    with station.log._write() as connection:
        connection.exec_driver_sql("DROP TRIGGER full")
    assert station.train().accepted


def test_a_feature_cache_that_takes_nothing_more_hinders_no_training(
    station: TrainingStation,
) -> None:
    station.features._file._connection.execute(
        "CREATE TRIGGER full BEFORE INSERT ON features BEGIN "
        "SELECT RAISE(ABORT, 'database or disk is full'); END"
    )
    label_four_sites(station)
    assert station.train().accepted
    assert station.features.count() == 0
