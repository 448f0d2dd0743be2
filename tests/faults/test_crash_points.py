"""Killed just before and just after every kind of write, trapwatch loses and doubles nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from .crash_points import SCENARIOS, Bases, Scenario, places_in_code
from .drill import Drill, Zygote, snapshot
from .losses import imported_losses, losses

ONE_TRANSACTION = {place for place in SCENARIOS if place.startswith("log.") and "Queries." in place}
"""All of these are one `_write()`: some stand for them here, the others in `make faults`."""
STAND_FOR_THEM = {
    "log.labels.LabelQueries.label",
    "log.media.MediaQueries.record",
    "log.media.MediaQueries.take_in",
    "log.predictions.PredictionQueries.rescore",
    "log.replaying.ReplayQueries.replay_acts",
    "log.versions.VersionQueries.go_live",
}
CASES = [
    pytest.param(
        place,
        when,
        n,
        id=f"{place}-{when}-{n}",
        marks=[pytest.mark.long] if place in ONE_TRANSACTION - STAND_FOR_THEM else [],
    )
    for place, scenario in SCENARIOS.items()
    for when in ("before", "after")
    for n in scenario.times
]
# a row that tells whether the write had its effect: 0 rows before, some after
EFFECTS = {
    "log.media.MediaQueries.take_in": "SELECT count(*) FROM media",
    "log.media.MediaQueries.record": "SELECT count(*) FROM media WHERE status = 'classified'",
    "log.media.MediaQueries.note_unreadable": "SELECT count(*) FROM file WHERE media_id IS NULL",
    "log.labels.LabelQueries.label": "SELECT count(*) FROM label",
    "log.undoing.UndoQueries.undo": "SELECT count(*) FROM act WHERE kind = 'undo'",
    "log.learning.LearningQueries.add_split": "SELECT count(*) FROM split",
    "log.species_list.SpeciesQueries.rename_species": (
        "SELECT count(*) FROM species WHERE name = 'fox'"
    ),
    "log.species_list.SpeciesQueries.merge_species": "SELECT count(merged_into) FROM species",
    "log.reviewing.ReviewQueries.flag": "SELECT count(*) FROM flag",
    "log.reviewing.ReviewQueries.lease": "SELECT count(*) FROM lease",
    "log.reviewing.ReviewQueries.reveal": "SELECT count(*) FROM act WHERE kind = 'reveal'",
    "log.runs.RunQueries.start_run": "SELECT count(*) FROM training_run",
    "log.versions.VersionQueries.add_version": "SELECT count(*) FROM model_version",
    "log.versions.VersionQueries.go_live": "SELECT count(*) FROM act WHERE kind = 'go-live'",
    "log.versions.VersionQueries.fall_back": "SELECT count(*) FROM act WHERE by = 'station'",
    "log.versions.VersionQueries.roll_back": "SELECT count(*) FROM act WHERE kind = 'roll-back'",
    "log.predictions.PredictionQueries.rescore": "SELECT count(*) FROM prediction",
}


@pytest.fixture(scope="module")
def bases(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return Bases(tmp_path_factory.mktemp("crashes"), zygote)


def test_every_place_that_commits_or_renames_is_listed() -> None:
    assert places_in_code() == set(SCENARIOS)


@pytest.mark.parametrize(("place", "when", "n"), CASES)
def test_a_kill_at_this_write_loses_and_doubles_nothing(
    place: str, when: str, n: int, bases: Bases, zygote: Zygote
) -> None:
    scenario = SCENARIOS[place]
    drill = bases.station(scenario.base)
    scenario.prepare(drill, zygote)
    untouched = snapshot(drill.frames)
    arguments = tuple(a.format(root=drill.root) for a in scenario.arguments)

    assert zygote.run(drill, *arguments, kill=(place, when, n)) == -9, "the place was not reached"

    found = losses(drill, settled=False)
    if scenario.breaks_model and when == "before":
        found = [loss for loss in found if not loss.startswith("broken model")]
    assert found == []
    if n == 1 and place in EFFECTS:
        assert bool(drill.number(EFFECTS[place])) == (when == "after"), "committed or not, no less"
    _go_on(drill, zygote, scenario, arguments, when)
    assert losses(drill) == []
    if "import-folder" in arguments or scenario.base != "seen":
        assert scenario.base == "fresh" or imported_losses(drill) == []
    assert snapshot(drill.frames).items() >= untouched.items()
    _a_second_run_changes_nothing(drill, zygote)


def _go_on(
    drill: Drill, zygote: Zygote, scenario: Scenario, arguments: tuple[str, ...], when: str
) -> None:
    if when == "before" or scenario.repeat_after:
        code = zygote.run(drill, *arguments)
        assert code == 0, drill.output.read_text()[-3000:]
    assert zygote.run(drill, "run", "--once") == 0, drill.output.read_text()[-3000:]
    left = [path.name for path in (drill.data / "models").glob(".v*")]
    assert left == [], "unfinished versions are removed"
    for image in drill.frames.glob("demo*/*.JPG"):
        Image.open(image).load()


def _a_second_run_changes_nothing(drill: Drill, zygote: Zygote) -> None:
    before = _contents(drill)
    assert zygote.run(drill, "run", "--once") == 0
    assert _contents(drill) == before


def _contents(drill: Drill) -> dict[str, list[tuple[object, ...]]]:
    tables = ("media", "label", "observation", "act", "prediction", "model_version")
    files = "SELECT path_bytes, media_id, problem FROM file ORDER BY 1"
    rows = {table: drill.query(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables}
    return rows | {"file": drill.query(files)}


def test_a_bomb_that_is_not_armed_rightly_would_be_noticed(bases: Bases, zygote: Zygote) -> None:
    drill = bases.station("fresh")
    assert zygote.run(drill, "run", "--once", kill=("log.no.such.place", "before", 1)) == 0


def test_without_transactions_a_kill_leaves_a_trace(bases: Bases, zygote: Zygote) -> None:
    place = "log.labels.LabelQueries.label"
    scenario = SCENARIOS[place]
    drill = bases.station(scenario.base)
    scenario.prepare(drill, zygote)
    arguments = tuple(a.format(root=drill.root) for a in scenario.arguments)
    kill = (place, "before", 1)
    assert zygote.run(drill, *arguments, kill=kill, broken="transactions") == -9
    assert drill.number(EFFECTS[place]), "written before its commit: the test above would fail"


def test_a_loss_would_be_noticed(bases: Bases, zygote: Zygote, tmp_path: Path) -> None:
    drill = bases.station("labelled")
    assert losses(drill) == imported_losses(drill) == []
    (drill.frames / "north" / "IMG_9999.JPG").write_bytes(b"never taken in")
    assert any("lost" in loss for loss in losses(drill))
