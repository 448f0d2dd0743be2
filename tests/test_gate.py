"""The gate: only a challenger that is better beyond chance goes live."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.config import Gate
from monitor.training.bootstrap import metric_of, paired_interval, student_t_quantile
from monitor.training.evaluate import Evaluation, evaluate
from monitor.training.gate import Answers, Verdict, decide, majority_baseline

NAMES = np.array(["blank", "deer", "fox", "lynx"])
GATE = Gate(bootstrap_samples=500)


def answers(predicted: np.ndarray, name: str = "v0001", classes: tuple = ()) -> Answers:
    return Answers(name, predicted, classes or tuple(NAMES.tolist()))


def judge(
    truth: np.ndarray,
    challenger: np.ndarray,
    champion: np.ndarray | None,
    groups: np.ndarray | None = None,
    gate: Gate = GATE,
    classes: tuple = (),
    champion_classes: tuple = (),
) -> Verdict:
    return decide(
        truth,
        answers(challenger, "v0002", classes),
        None if champion is None else answers(champion, "v0001", champion_classes),
        majority_baseline(truth, len(truth)),
        np.arange(len(truth)) if groups is None else groups,
        gate,
    )


def a_model(
    rng: np.random.Generator, truth: np.ndarray, groups: np.ndarray, skill: float
) -> np.ndarray:
    """Right in a share `skill` of events, mostly all frames of an event alike."""
    events = rng.random(groups.max() + 1) < skill
    right = np.where(rng.random(len(truth)) < 0.8, events[groups], rng.random(len(truth)) < skill)
    wrong = NAMES[(np.searchsorted(NAMES, truth) + rng.integers(1, 4, len(truth))) % 4]
    return np.where(right, truth, wrong)


def a_held_out_side(rng: np.random.Generator, events: int) -> tuple[np.ndarray, np.ndarray]:
    groups = np.repeat(np.arange(events), rng.integers(1, 8, events))
    return NAMES[rng.choice(4, events, p=[0.5, 0.25, 0.15, 0.1])][groups], groups


@pytest.mark.parametrize("metric", ["accuracy", "macro_recall"])
@pytest.mark.parametrize("events", [12, 80])
def test_an_equal_challenger_rarely_goes_live(metric: str, events: int) -> None:
    gate, accepted = Gate(metric=metric, bootstrap_samples=300), 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        truth, groups = a_held_out_side(rng, events)
        models = [a_model(rng, truth, groups, 0.7) for _ in range(2)]
        accepted += judge(truth, *models, groups, gate).accepted
    assert accepted <= 24  # 10 %, and the chance of 200 runs


@pytest.mark.parametrize("metric", ["accuracy", "macro_recall"])
def test_a_clearly_better_challenger_goes_live(metric: str) -> None:
    gate, accepted = Gate(metric=metric, bootstrap_samples=300), 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        truth, groups = a_held_out_side(rng, 100)
        challenger, champion = (a_model(rng, truth, groups, skill) for skill in (0.9, 0.6))
        accepted += judge(truth, challenger, champion, groups, gate).accepted
    assert accepted >= 90


def test_the_same_answers_are_no_better() -> None:
    truth = NAMES[np.arange(40) % 4]
    predicted = np.where(np.arange(40) < 20, truth, "fox")
    verdict = judge(truth, predicted, predicted.copy())
    assert not verdict.accepted and verdict.reason.startswith("no better")


def test_the_reason_holds_the_figures() -> None:
    truth = NAMES[np.arange(80) % 4]
    champion = np.where(np.arange(80) < 40, truth, "fox")
    verdict = judge(truth, truth.copy(), champion)
    assert verdict.accepted
    assert verdict.reason.startswith("better than v0001: mean recall per species 1.000 against")
    assert "80 held-out media" in verdict.reason
    assert verdict.difference == pytest.approx(verdict.figures["difference"])
    assert verdict.interval is not None and 0 < verdict.interval[0] < verdict.difference


def test_a_first_model_must_beat_the_majority() -> None:
    truth = np.array(["blank"] * 30 + ["fox"] * 10 + ["deer"] * 10)
    assert judge(truth, truth.copy(), None).accepted
    verdict = judge(truth, np.full(50, "blank"), None)
    assert not verdict.accepted and "always saying 'blank'" in verdict.reason
    confused = np.random.default_rng(0).choice(NAMES, 50)
    assert not judge(truth, confused, None).accepted


def test_a_first_model_with_two_events_is_taken_with_caution() -> None:
    truth = np.array(["fox"] * 10 + ["deer"] * 10)
    groups = (np.arange(20) >= 10).astype(int)
    verdict = judge(truth, truth.copy(), None, groups)
    assert verdict.accepted and "only 2 event(s)" in verdict.reason


def test_two_events_cannot_replace_a_live_model() -> None:
    truth = np.array(["fox"] * 10 + ["deer"] * 10)
    verdict = judge(truth, truth.copy(), np.full(20, "fox"), (np.arange(20) >= 10).astype(int))
    assert not verdict.accepted and "label more events" in verdict.reason


@pytest.mark.parametrize(
    ("truth", "words"),
    [([], "no labelled media is held out"), (["fox"] * 9, "all show 'fox'")],
)
def test_what_is_missing_to_compare_is_said(truth: list[str], words: str) -> None:
    names = np.array(truth, np.str_)
    verdict = decide(
        names,
        answers(names),
        None,
        majority_baseline(NAMES, len(truth)),
        np.arange(len(truth)),
        GATE,
    )
    assert not verdict.accepted and words in verdict.reason


def test_a_protected_species_may_not_lose() -> None:
    truth = np.array(["fox"] * 60 + ["deer"] * 60 + ["lynx"] * 10)
    champion = np.where(np.arange(130) % 2 == 0, truth, "blank")
    champion[120:] = "lynx"
    challenger = truth.copy()
    challenger[120:123] = "fox"
    assert judge(truth, challenger, champion).accepted
    protecting = Gate(bootstrap_samples=500, protected_species=("lynx",))
    verdict = judge(truth, challenger, champion, gate=protecting)
    assert not verdict.accepted
    assert "protected lynx would fall from 1.00 to 0.70 (10 held-out media" in verdict.reason


def test_a_protected_species_that_nobody_held_out_is_named() -> None:
    truth = np.array(["fox"] * 40 + ["deer"] * 40)
    gate = Gate(bootstrap_samples=500, protected_species=("wolf",))
    verdict = judge(truth, truth.copy(), np.where(np.arange(80) % 3 > 0, truth, "blank"), gate=gate)
    assert verdict.accepted and "protected wolf: not checked" in verdict.reason


def test_a_new_species_counts_for_the_challenger() -> None:
    truth = np.array(["fox"] * 40 + ["deer"] * 40 + ["lynx"] * 20)
    champion = np.where(truth == "lynx", "fox", truth)
    verdict = judge(truth, truth.copy(), champion, champion_classes=("deer", "fox"))
    assert verdict.accepted
    assert "v0001 does not know lynx" in verdict.reason


def test_a_new_species_is_not_paid_for_with_the_old_ones() -> None:
    truth = np.array(["fox"] * 40 + ["deer"] * 40 + ["lynx"] * 20)
    champion = np.where(truth == "lynx", "fox", truth)
    challenger = truth.copy()
    challenger[:8] = "lynx"  # a fifth of the foxes
    verdict = judge(truth, challenger, champion, champion_classes=("deer", "fox"))
    assert not verdict.accepted
    assert "on the species that both know it is worse, 0.900 against 1.000" in verdict.reason


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.sampled_from(["accuracy", "macro_recall"]))
def test_a_challenger_that_is_not_better_in_figures_never_goes_live(
    seed: int, n: int, metric: str
) -> None:
    rng = np.random.default_rng(seed)
    truth, groups = rng.choice(NAMES, n), rng.integers(0, n, n)
    challenger, champion = (rng.choice(NAMES, n) for _ in range(2))
    verdict = judge(truth, challenger, champion, groups, Gate(metric=metric, bootstrap_samples=100))
    gain = metric_of(truth, challenger == truth, metric) - metric_of(
        truth, champion == truth, metric
    )
    assert verdict.reason
    assert not (verdict.accepted and gain <= 0)


def test_frames_of_one_event_are_one_piece_of_evidence() -> None:
    truth = np.repeat(NAMES[np.arange(8) % 2], 50)
    champion = np.where(np.arange(400) < 350, truth, "lynx")  # wrong in one of eight events
    frames = judge(truth, truth.copy(), champion)
    events = judge(truth, truth.copy(), champion, np.repeat(np.arange(8), 50))
    assert frames.accepted and not events.accepted


@pytest.mark.parametrize(
    ("p", "freedom", "expected"),  # tables of Student's t
    [(0.9, 1, 3.078), (0.9, 2, 1.886), (0.9, 3, 1.638), (0.95, 5, 2.015), (0.95, 30, 1.697)],
)
def test_t_quantiles_are_those_of_the_tables(p: float, freedom: int, expected: float) -> None:
    assert student_t_quantile(p, freedom) == pytest.approx(expected, abs=0.01)


def test_an_interval_holds_the_difference_and_repeats() -> None:
    rng = np.random.default_rng(0)
    truth, groups = a_held_out_side(rng, 40)
    right, other = (a_model(rng, truth, groups, skill) == truth for skill in (0.8, 0.7))
    low, high = paired_interval(truth, right, other, groups, "accuracy", 0.9, 1000, 0)
    assert low < right.mean() - other.mean() < high
    assert (low, high) == paired_interval(truth, right, other, groups, "accuracy", 0.9, 1000, 0)


def test_an_evaluation_counts_by_hand() -> None:
    truth = np.array(["fox", "fox", "deer", "lynx"])
    probabilities = np.array([[0.1, 0.9], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]], np.float32)
    result = evaluate(truth, probabilities, ("deer", "fox"))
    assert result.accuracy == 0.5
    assert result.macro_recall == pytest.approx((0.5 + 1 + 0) / 3)
    assert result.names == ("deer", "fox", "lynx")
    assert result.confusion == ((1, 0, 0), (1, 1, 0), (0, 1, 0))
    assert result.recall_of("lynx") == 0 and result.recall_of("wolf") is None
    assert [row.precision for row in result.species] == [0.5, 0.5, None]
    assert result.nll == pytest.approx(-np.mean(np.log([0.9, 0.2, 0.7])), abs=1e-6)
    assert result.ece == pytest.approx((0.1 + 0.8 + 0.3 + 0.6) / 4, abs=1e-6)
    assert Evaluation.from_json(result.to_json()) == result


def test_an_evaluation_of_nothing_says_nothing() -> None:
    result = evaluate(np.array([], np.str_), np.empty((0, 2), np.float32), ("deer", "fox"))
    assert result.media == 0 and result.accuracy is None and result.nll is None
