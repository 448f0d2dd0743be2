"""The gate: only a challenger that is better beyond chance, and worse in nothing that counts,
goes live."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import gate_world

from monitor.core.config import Gate
from monitor.training.bootstrap import metric_of, paired_interval, student_t_quantile
from monitor.training.evaluate import Evaluation, evaluate
from monitor.training.gate import Answers, Verdict, decide, majority_baseline
from monitor.training.permutation_test import events_needed, fewest, luck

NAMES = np.array(["blank", "deer", "fox", "lynx"])
GATE = Gate(bootstrap_samples=500)


def answers(
    predicted: np.ndarray,
    name: str = "v0001",
    classes: tuple = (),
    confidence: np.ndarray | None = None,
) -> Answers:
    return Answers(name, predicted, classes or tuple(NAMES.tolist()), confidence)


def judge(
    truth: np.ndarray,
    challenger: np.ndarray,
    champion: np.ndarray | None,
    groups: np.ndarray | None = None,
    gate: Gate = GATE,
    classes: tuple = (),
    champion_classes: tuple = (),
    confidence: np.ndarray | None = None,
    champion_confidence: np.ndarray | None = None,
) -> Verdict:
    live = None
    if champion is not None:
        live = answers(champion, "v0001", champion_classes, champion_confidence)
    return decide(
        truth,
        answers(challenger, "v0002", classes, confidence),
        live,
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


def gone_live(points: float, events: int, metric: str, trials: int) -> int:
    """How many made-up challengers that are truly so much better the gate lets go live."""
    gate, accepted = Gate(metric=metric, bootstrap_samples=100), 0
    for seed in range(trials):
        rng = np.random.default_rng((events, seed))
        side = gate_world.held_out(rng, events)
        models = [gate_world.a_model(rng, side, shift) for shift in (points / 100, 0)]
        new, live = (gate_world.answers(rng, side, model, "v") for model in models)
        baseline = majority_baseline(side.truth, len(side.truth))
        verdict = decide(side.truth, new, live, baseline, side.groups, gate, seed)
        accepted += verdict.accepted
    return accepted


@pytest.mark.parametrize("metric", ["accuracy", "macro_recall"])
def test_an_equal_challenger_rarely_goes_live(metric: str) -> None:
    accepted = gone_live(0, 20, metric, 150) + gone_live(0, 80, metric, 150)
    assert accepted <= 24  # 5 % of 300, and the chance of 300 trials (1 in 100)


def test_a_worse_challenger_hardly_ever_goes_live() -> None:
    assert gone_live(-3, 50, "macro_recall", 200) <= 4


def test_a_truly_better_challenger_goes_live_where_the_data_allow() -> None:
    assert gone_live(10, 200, "accuracy", 40) >= 36


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
    assert verdict.accepted and "too few of the 2 held-out event(s)" in verdict.reason


def test_two_events_cannot_replace_a_live_model() -> None:
    truth = np.array(["fox"] * 10 + ["deer"] * 10)
    verdict = judge(truth, truth.copy(), np.full(20, "fox"), (np.arange(20) >= 10).astype(int))
    assert verdict.kind == "too little data" and "label more events" in verdict.reason
    assert "about 3 more held-out events (30 labels)" in verdict.reason
    assert (verdict.missing_events, verdict.missing_labels) == (3, 30)


def test_a_gain_that_may_be_luck_says_how_many_labels_would_tell() -> None:
    truth = np.tile(NAMES, 10)
    champion = truth.copy()
    champion[:4] = "wolf"  # the challenger gains three events, and loses one
    challenger = truth.copy()
    challenger[3:5] = "wolf"
    verdict = judge(truth, challenger, champion)
    assert verdict.kind == "too little data" and not verdict.accepted
    assert verdict.reason.startswith("too little held-out data to tell whether it is better than")
    assert verdict.missing_events is not None and 200 < verdict.missing_events < 215
    assert verdict.missing_labels == verdict.missing_events  # one frame an event here
    assert verdict.figures["verdict"] == "too little data"
    assert verdict.figures["missing_labels"] == verdict.missing_labels
    json.dumps(verdict.figures, allow_nan=False)


def test_a_loss_is_not_called_too_little_data() -> None:
    truth = np.tile(NAMES, 10)
    challenger = truth.copy()
    challenger[0] = "wolf"
    verdict = judge(truth, challenger, truth.copy())
    assert verdict.kind == "not better" and verdict.missing_labels is None
    assert verdict.reason.startswith("no better than v0001")


def half_right(truth: np.ndarray) -> np.ndarray:
    """A champion that every good challenger is better than."""
    return np.where(np.arange(len(truth)) % 2 == 0, truth, "wolf")


def test_more_false_alarms_stop_a_better_model() -> None:
    truth = np.array(["fox"] * 60 + ["deer"] * 60 + ["blank"] * 20)
    champion = half_right(truth)
    champion[120:] = "blank"
    challenger = truth.copy()
    challenger[120:124] = "fox"
    verdict = judge(truth, challenger, champion)
    assert verdict.kind == "not better"
    assert verdict.reason.startswith(
        "no better than v0001: false alarms on held-out blanks would rise from 0.00 to 0.20 "
        "(20 held-out media of 20 event(s), margin 0.02)"
    )
    check = verdict.figures["checks"]["false alarms"]
    assert check["before"] == 0 and check["after"] == pytest.approx(0.2) and check["media"] == 20
    assert judge(truth, challenger, champion, gate=Gate(false_alarm_margin=0.2)).accepted


def test_one_more_false_alarm_among_few_blanks_is_told_and_put_down_to_luck() -> None:
    truth = np.array(["fox"] * 60 + ["deer"] * 60 + ["blank"] * 5)
    champion = half_right(truth)
    champion[120:] = "blank"
    challenger = truth.copy()
    challenger[120] = "fox"
    verdict = judge(truth, challenger, champion)
    assert verdict.accepted
    assert "would rise from 0.00 to 0.20 (5 held-out media" in verdict.reason
    assert "may well be luck" in verdict.reason


def test_a_burst_of_false_alarms_is_one_piece_of_evidence() -> None:
    truth = np.array(["fox"] * 60 + ["deer"] * 60 + ["blank"] * 20)
    champion = half_right(truth)
    champion[120:] = "blank"
    challenger = truth.copy()
    challenger[120:124] = "fox"
    groups = np.arange(140)
    groups[120:124] = 120
    assert judge(truth, challenger, champion, groups).accepted


def test_without_held_out_blanks_false_alarms_are_said_to_be_unchecked() -> None:
    truth = np.array(["fox"] * 40 + ["deer"] * 40)
    verdict = judge(truth, truth.copy(), half_right(truth))
    assert verdict.accepted and "no held-out media is blank" in verdict.reason


def test_a_model_that_became_too_sure_of_itself_is_stopped() -> None:
    rng = np.random.default_rng(0)
    truth = np.tile(NAMES, 50)
    champion = np.where(rng.random(200) < 0.6, truth, "wolf")
    challenger = np.where(rng.random(200) < 0.8, truth, "wolf")
    sides = truth, challenger, champion
    honest, boastful = (np.full(200, p, np.float32) for p in (0.8, 0.99))
    before = np.full(200, 0.6, np.float32)
    assert judge(*sides, confidence=honest, champion_confidence=before).accepted
    verdict = judge(*sides, confidence=boastful, champion_confidence=before)
    assert verdict.kind == "not better"
    assert "its probabilities would mean less: calibration error" in verdict.reason
    wide = Gate(bootstrap_samples=100, calibration_margin=0.5)
    assert judge(*sides, gate=wide, confidence=boastful, champion_confidence=before).accepted


def test_calibration_is_compared_on_species_that_both_know() -> None:
    truth = np.array(["fox"] * 60 + ["deer"] * 60 + ["lynx"] * 60)
    champion = np.where(truth == "lynx", "fox", half_right(truth))
    sure = np.full(180, 0.75, np.float32)
    verdict = judge(
        truth,
        np.where(np.arange(180) % 4 > 0, truth, "wolf"),
        champion,
        champion_classes=("deer", "fox"),
        confidence=sure,
        champion_confidence=np.where(truth == "lynx", 0.99, 0.5).astype(np.float32),
    )
    assert verdict.figures["checks"]["calibration"]["media"] == 120
    assert verdict.figures["checks"]["calibration"]["before"] == pytest.approx(0, abs=0.01)


def test_a_forgotten_species_is_paid_for_in_the_metric() -> None:
    truth = np.array(["fox"] * 40 + ["deer"] * 40 + ["lynx"] * 40)
    champion = np.where(np.arange(120) % 5 > 0, truth, "wolf")
    challenger = np.where(truth == "lynx", "fox", truth)
    verdict = judge(truth, challenger, champion, classes=("deer", "fox"))
    assert not verdict.accepted
    assert (
        "no longer knows lynx, which v0001 does: wrong on its 40 held-out media" in verdict.reason
    )


def test_a_protected_species_may_not_be_forgotten_even_unseen() -> None:
    truth = np.array(["fox"] * 40 + ["deer"] * 40)
    gate = Gate(bootstrap_samples=500, protected_species=("lynx",))
    sides = truth, truth.copy(), half_right(truth)
    assert judge(*sides, gate=gate).accepted
    verdict = judge(*sides, gate=gate, classes=("deer", "fox"))
    assert not verdict.accepted and "no longer knows the protected lynx" in verdict.reason


def test_all_of_a_protected_species_is_never_lost_by_luck() -> None:
    truth = np.array(["fox"] * 60 + ["deer"] * 60 + ["lynx"])
    champion = half_right(truth)
    champion[120] = "lynx"
    challenger = np.where(truth == "lynx", "fox", truth)
    assert judge(truth, challenger, champion, gate=Gate(metric="accuracy")).accepted
    gate = Gate(metric="accuracy", protected_species=("lynx",))
    assert "protected lynx would fall from 1.00 to 0.00" in (
        judge(truth, challenger, champion, gate=gate).reason
    )


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
    assert verdict.kind == "too little data" and words in verdict.reason
    assert verdict.figures["verdict"] == "too little data"


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


def test_a_new_species_needs_few_events_where_nothing_else_changed() -> None:
    truth = np.array(["fox"] * 5 + ["deer"] * 5 + ["lynx"] * 3)
    champion = np.where(truth == "lynx", "fox", truth)
    new = judge(truth, truth.copy(), champion, champion_classes=("deer", "fox"))
    assert new.accepted and new.figures["luck"] == 0
    assert new.figures["gain_on_species_of_one"] == pytest.approx(1 / 3)
    known = judge(truth, truth.copy(), champion)  # that lynxes were missed may have been luck
    assert known.kind == "too little data"


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


some_sides = st.tuples(st.integers(0, 2**31), st.integers(2, 40))


def drawn_side(seed: int, n: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng, rng.choice(NAMES, n), rng.integers(0, n, n)


@settings(max_examples=50, deadline=None)
@given(some_sides)
def test_the_same_model_never_goes_live_over_itself(side: tuple[int, int]) -> None:
    rng, truth, groups = drawn_side(*side)
    predicted, sure = rng.choice(NAMES, len(truth)), rng.random(len(truth)).astype(np.float32)
    verdict = judge(
        truth, predicted, predicted, groups, confidence=sure, champion_confidence=sure.copy()
    )
    assert not verdict.accepted and verdict.reason


@settings(max_examples=50, deadline=None)
@given(some_sides)
def test_the_order_of_the_media_does_not_matter(side: tuple[int, int]) -> None:
    rng, truth, groups = drawn_side(*side)
    challenger = np.where(rng.random(len(truth)) < 0.8, truth, rng.choice(NAMES, len(truth)))
    champion = np.where(rng.random(len(truth)) < 0.3, truth, rng.choice(NAMES, len(truth)))
    sure, other = rng.random((2, len(truth))).astype(np.float32)
    moved = rng.permutation(len(truth))
    one, two = (
        judge(
            *(side[order] for side in (truth, challenger, champion, groups)),
            confidence=sure[order],
            champion_confidence=other[order],
        )
        for order in (np.arange(len(truth)), moved)
    )
    assert (one.kind, one.missing_labels) == (two.kind, two.missing_labels)
    assert one.figures.get("luck") == two.figures.get("luck")


@settings(max_examples=50, deadline=None)
@given(some_sides, st.integers(5, 30))
def test_a_challenger_that_only_gains_goes_live_once_five_events_tell(
    side: tuple[int, int], gained: int
) -> None:
    rng, truth, _ = drawn_side(*side)
    champion = rng.choice(NAMES, len(truth))
    challenger = champion.copy()
    truth = np.concatenate([truth, rng.choice(NAMES, gained), NAMES])
    champion = np.concatenate([champion, np.full(gained, "wolf"), NAMES])
    challenger = np.concatenate([challenger, truth[-gained - 4 : -4], NAMES])
    assert judge(truth, challenger, champion).accepted


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_a_new_species_that_is_got_right_never_turns_a_verdict_down(seed: int, new: int) -> None:
    rng, truth, _ = drawn_side(seed, 8)
    challenger = np.where(rng.random(8) < 0.8, truth, "wolf")
    champion = np.where(rng.random(8) < 0.2, truth, "wolf")
    before = judge(truth, challenger, champion)
    more = np.full(new, "otter")
    after = judge(
        np.concatenate([truth, more]),
        np.concatenate([challenger, more]),
        np.concatenate([champion, np.full(new, "fox")]),
        classes=(*NAMES.tolist(), "otter"),
    )
    assert after.accepted or not before.accepted


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 11), st.integers(0, 11))
def test_luck_is_that_of_coins(won: int, lost: int) -> None:
    gains = np.array([1.0] * won + [-1.0] * lost + [0.0] * 5) / 7
    expected = stats.binom.sf(won - 1, won + lost, 0.5) if won + lost else 1.0
    assert luck(gains, 0) == pytest.approx(expected, abs=0 if won + lost <= 11 else 0.045)


@pytest.mark.parametrize(("confidence", "events"), [(0.95, 5), (0.9, 4), (0.75, 2), (0.99, 7)])
def test_so_many_events_must_differ_before_luck_is_ruled_out(
    confidence: float, events: int
) -> None:
    assert fewest(confidence) == events
    assert luck(np.ones(events), 0) <= 1 - confidence < luck(np.ones(events - 1), 0)


def test_the_events_it_asks_for_tell_a_gain_of_that_size() -> None:
    rng = np.random.default_rng(0)

    def gains(n: int) -> np.ndarray:
        return rng.choice([1.0, 0.0, -1.0], n, p=[0.2, 0.7, 0.1]) / n

    needed = events_needed(np.repeat([1.0, 0.0, -1.0], [20, 70, 10]) / 100, 0.95)
    shown = np.mean([luck(gains(needed), seed) <= 0.05 for seed in range(300)])
    assert 0.7 < shown < 0.9


def test_frames_of_one_event_are_one_piece_of_evidence() -> None:
    truth = np.repeat(NAMES[np.arange(8) % 2], 50)
    champion = np.where(np.arange(400) < 350, truth, "lynx")  # wrong in one of eight events
    frames = judge(truth, truth.copy(), champion)
    events = judge(truth, truth.copy(), champion, np.repeat(np.arange(8), 50))
    assert frames.accepted and events.kind == "too little data"


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
