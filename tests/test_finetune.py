"""Fine-tuning: both layers learn at their own speed, and a course that was killed goes on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor.model.backbone.architectures import Architecture
from monitor.model.head import Head
from monitor.training.checkpoint import Checkpoint
from monitor.training.finetune import (
    FEWEST_EPOCHS,
    Course,
    Lesson,
    NotTuned,
    Standing,
    Tuned,
    fine_tune,
)
from monitor.training.tuning import set_aside

NARROW = Architecture("narrow", "Narrow", ((1, 4), (1, 4), (1, 4), (1, 6), (1, 6)), "none.h5")
CHANNELS, BEFORE, FILTERS = 512, 8, 6
COURSE = Course(first_block=5, epochs=5, seed=1, decay=1e-4, device="cpu")


class Patches:
    """Maps of two kinds: a bright channel here or there, with noise; the mirror image is a view."""

    views = 2

    def __init__(self, rows: int) -> None:
        rng = np.random.default_rng(5)
        self.y = np.arange(rows) % 2
        self.maps = rng.random((rows, 14, 14, CHANNELS)).astype(np.float16)
        self.maps[np.arange(rows), 4:9, 4:9, self.y] += 6
        self.before = rng.normal(size=(rows, BEFORE)).astype(np.float32)
        self.asked: list[int] = []

    def get(self, rows: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.asked += rows.tolist()
        maps = self.maps[rows].copy()
        maps[views == 1] = maps[views == 1][:, :, ::-1]
        return self.before[rows], maps


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    kernel = rng.normal(size=(3, 3, CHANNELS, FILTERS)).astype(np.float32) * 0.02
    return {"block5_conv1/kernel": kernel, "block5_conv1/bias": np.zeros(FILTERS, np.float32)}


def warm() -> Head:
    size = BEFORE + FILTERS
    weights = np.random.default_rng(8).normal(size=(size, 2)).astype(np.float32) * 0.01
    bias, ones = np.zeros(2, np.float32), np.ones(size, np.float32)
    return Head(("deer", "fox"), ones * 0, ones, weights, bias, 1.0, "narrow/1")


def lesson(rows: int = 72) -> Lesson:
    source = Patches(rows)
    aside = np.arange(rows) >= rows - 8
    return Lesson(source, source.y, np.ones(rows, np.float32), aside)


def tune(
    of: Lesson, course: Course = COURSE, standing: Standing | None = None, keep=lambda s: None
) -> Tuned:
    start = standing or Standing()
    return fine_tune(NARROW, weights(), warm(), of, course, keep, start, lambda stage, done: None)


@pytest.fixture(scope="module")
def whole() -> Tuned:
    return tune(lesson())


def test_both_the_block_and_the_head_learn(whole: Tuned) -> None:
    losses = [row["loss"] for row in whole.history]
    assert len(losses) == COURSE.epochs and losses[-1] < losses[0]
    assert set(whole.history[0]) == {"loss", "aside_nll", "aside_accuracy"}
    assert not np.array_equal(whole.arrays["block5_conv1/kernel"], weights()["block5_conv1/kernel"])
    assert not np.array_equal(whole.weights, warm().weights)
    assert whole.logits.shape == (8, 2) and whole.engine.startswith("Keras 3")


def test_the_block_takes_steps_a_tenth_as_long_as_the_head() -> None:
    one = tune(lesson(40), replace(COURSE, epochs=1))  # one step, as long as Adam's rate
    block = np.abs(one.arrays["block5_conv1/kernel"] - weights()["block5_conv1/kernel"]).max()
    head = np.abs(one.weights - warm().weights).max()
    assert 0 < block == pytest.approx(head / 10, rel=0.05)


def test_rows_aside_are_never_learnt_from() -> None:
    of = lesson(40)
    of.source.asked.clear()
    with pytest.raises(RuntimeError, match="enough"):
        tune(of, keep=lambda standing: stop())
    learnt = of.source.asked[: -int(of.aside.sum())]  # the last ones were asked to be judged
    assert learnt and not of.aside[learnt].any()


def stop() -> None:
    raise RuntimeError("enough")


def test_a_course_that_was_killed_ends_as_if_it_had_not(whole: Tuned, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "finetune.safetensors", "these labels")

    def killed(standing: Standing) -> None:
        checkpoint.keep(standing)
        if standing.epoch == 4:
            stop()

    with pytest.raises(RuntimeError, match="enough"):
        tune(lesson(), standing=checkpoint.load(), keep=killed)
    standing = checkpoint.load()
    assert (standing.epoch, standing.averaged, len(standing.history)) == (4, 1, 4)
    of = lesson()
    again = tune(of, standing=standing)
    assert len(of.source.asked) < 3 * len(of.y), "only what was left to do was done"
    assert [row["loss"] for row in again.history] == pytest.approx(
        [row["loss"] for row in whole.history], rel=1e-3
    )
    assert again.weights == pytest.approx(whole.weights, abs=1e-4)
    assert again.logits == pytest.approx(whole.logits, abs=1e-2)


def test_a_course_without_time_is_refused_and_one_with_little_is_shorter() -> None:
    with pytest.raises(NotTuned, match="kept for the next time"):
        tune(lesson(40), replace(COURSE, ends_at=time.monotonic() - 1))
    many = replace(COURSE, epochs=1000, ends_at=time.monotonic() + 20)
    standing = Standing()
    with pytest.raises(RuntimeError, match="enough"):
        tune(lesson(40), many, standing, keep=lambda standing: stop())
    assert FEWEST_EPOCHS <= standing.epochs < 1000


def test_timing_a_few_steps_leaves_no_trace(whole: Tuned) -> None:
    decided = tune(lesson(), standing=Standing(epochs=COURSE.epochs))
    assert np.array_equal(decided.weights, whole.weights)
    assert decided.history == whole.history


@pytest.mark.parametrize("damage", ["other labels", "cut short", "nothing there"])
def test_a_checkpoint_that_does_not_fit_is_as_good_as_none(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "finetune.safetensors"
    standing = Standing(2, [np.ones(3, np.float32)], [], 0, [{"loss": 1.0}, {"loss": 0.5}])
    Checkpoint(path, "these labels").keep(standing)
    assert Checkpoint(path, "these labels").load().epoch == 2
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:-5])
    elif damage == "nothing there":
        Checkpoint(path, "these labels").drop()
    asked = Checkpoint(path, "others" if damage == "other labels" else "these labels")
    assert asked.load() == Standing()


def test_a_species_of_one_event_is_learnt_and_not_set_aside() -> None:
    y = np.array([0, 0, 1, 1, 2, 2])
    tenth = np.array([True, False, True, True, False, False])
    assert set_aside(tenth, y).tolist() == [True, False, False, False, False, False]
    with pytest.raises(NotTuned, match="nothing can be set aside"):
        set_aside(y < 2, y)
