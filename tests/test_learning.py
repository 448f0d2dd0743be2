"""Does my work teach it? What `status` says of every species."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from logbook import NOW, frames, say
from typer.testing import CliRunner

from monitor.cli import app
from monitor.core.config import Training
from monitor.core.domain import ModelState
from monitor.health.learning import learning_lines, learning_of
from monitor.log.learning import SplitRow
from monitor.log.species_log import SpeciesLog

JUDGED = {
    "species": "fox",
    "known": True,
    "recall": 0.75,
    "recall_interval": [0.4, 0.9],
    "gained": 0.25,
}


@pytest.fixture
def labelled(log: SpeciesLog) -> SpeciesLog:
    """Six foxes (two held out, one new), two lynxes, a frame of both, and one that nobody knows."""
    ids = frames(log, 10)
    for media_id in ids[:6]:
        say(log, media_id, "fox")
    for media_id in ids[6:8]:
        say(log, media_id, "lynx")
    say(log, ids[8], "fox", "lynx")
    say(log, ids[9], "unknown")
    sides = ["heldout", "heldout", "train", "train", "train"]
    log.add_split([SplitRow(i, side, "event", i) for i, side in zip(ids[:5], sides, strict=True)])
    log.add_version(
        "v0001", ModelState.CANDIDATE, "small", "small", "0" * 64, "", {"learning": [JUDGED]}, NOW
    )
    log.go_live("v0001", "better", "gate", NOW)
    return log


def rows(log: SpeciesLog) -> dict[str, dict]:
    return {row["species"]: row for row in learning_of(log, Training(), log.live_version())}


def test_labels_are_told_by_side(labelled: SpeciesLog) -> None:
    fox = rows(labelled)["fox"]
    assert (fox["labels"], fox["training_labels"], fox["held_out"]) == (6, 4, 2)
    assert fox["labels_until_learnt"] == 1  # of five, four may be learnt from
    assert (fox["recall"], fox["recall_interval"], fox["gained"]) == (0.75, [0.4, 0.9], 0.25)


def test_a_species_with_too_few_labels_lacks_the_rest(labelled: SpeciesLog) -> None:
    lynx = rows(labelled)["lynx"]
    assert (lynx["labels"], lynx["labels_until_learnt"]) == (2, 3)
    assert (lynx["known"], lynx["recall"], lynx["gained"]) == (False, None, None)


def test_a_frame_that_nobody_could_name_teaches_nothing(labelled: SpeciesLog) -> None:
    assert set(rows(labelled)) == {"fox", "lynx"}


def test_figures_follow_a_species_that_is_renamed(labelled: SpeciesLog) -> None:
    labelled.rename_species("fox", "red fox", "Ana", "cli", NOW)
    assert rows(labelled)["red fox"]["recall"] == 0.75
    assert "fox" not in rows(labelled)


def test_a_model_of_before_these_figures_has_none(log: SpeciesLog) -> None:
    (media_id,) = frames(log, 1)
    say(log, media_id, "fox")
    log.add_version("v0001", ModelState.CANDIDATE, "small", "small", "0" * 64, "", {}, NOW)
    log.go_live("v0001", "first", "Ana", NOW)
    assert rows(log)["fox"]["recall"] is None


def test_status_tells_it_in_a_few_lines_and_as_json(labelled: SpeciesLog, config: Path) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["status", "--config", str(config), *words])
        assert result.exit_code == 0, result.output
        return result.output

    told = json.loads(run("--json"))
    assert {row["species"] for row in told["learning"]} == {"fox", "lynx"}
    assert told["labels_until_training"] == 10
    text = run()
    assert "1 species known to the live model" in text
    assert "fox: 75% (40% to 90%)" in text
    assert "lynx: 2 labels to learn from, 3 more needed" in text


def test_a_hundred_species_are_no_hundred_lines() -> None:
    row = {"known": False, "recall": None, "held_out": 0, "training_labels": 1}
    many = [row | {"species": f"{i}", "labels_until_learnt": 4} for i in range(100)]
    lines = learning_lines({"learning": many, "labels_until_training": 0})
    assert len(lines) == 12
    assert lines[-1] == ("not yet learnt", "and 90 more species")


def test_nothing_labelled_is_one_line() -> None:
    lines = learning_lines({"learning": [], "labels_until_training": 20})
    assert lines == [
        ("learning", "0 species known to the live model; 20 more labels until the next training")
    ]
