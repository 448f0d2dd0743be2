"""How often the gate lets a worse, an equal and a better model go live: python benchmarks/gate.py.

The product's own `decide` judges made-up challengers whose true quality is known (gate_world.py):
once each, on held-out sides of several sizes; with a gain that something is paid for; and 200 in a
row on one held-out side that never grows. Two processes, one to three minutes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one process on each core is faster

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import bench
import numpy as np
from gate_world import RECALL, SPECIES, HeldOut, a_model, answers, held_out

from monitor.core.config import Gate
from monitor.training.bootstrap import Metric, paired_interval
from monitor.training.comparison import Answers, Pair, Values
from monitor.training.gate import Verdict, decide, majority_baseline
from monitor.training.permutation_test import luck

EVENTS = (20, 50, 100, 300)
POINTS = (-5, -3, -1, 0, 3, 5, 10)
CALIBRATED = 1.0
FAR_TOO_SURE = 3.0
FEW_SAMPLES = 100  # of the bootstrap, whose interval does not decide
NO_GUARDS = Gate(
    bootstrap_samples=FEW_SAMPLES,
    protected_margin=1,
    false_alarm_margin=1,
    calibration_margin=1,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One kind of challenger. `shift`: of its true recall, for each species, against RECALL."""

    events: int
    shift: tuple[float, ...]
    gate: Gate
    sharpened: float = CALIBRATED
    champion_sharpened: float = CALIBRATED
    new_species: str | None = None  # that the champion does not know


def all_species(points: float) -> tuple[float, ...]:
    """Every species' recall changes by so many points."""
    return (points / 100,) * len(SPECIES)


def one_species(name: str, points: float, others: float) -> tuple[float, ...]:
    """One species' recall changes by so many points, all others' by `others`."""
    return tuple((points if species == name else others) / 100 for species in SPECIES)


def judged(truth_side: HeldOut, new: Answers, live: Answers, gate: Gate, seed: int) -> Verdict:
    """The gate's verdict."""
    truth = truth_side.truth
    baseline = majority_baseline(truth, len(truth))
    return decide(truth, new, live, baseline, truth_side.groups, gate, seed)


def a_pair(setting: Setting, seed: int) -> tuple[HeldOut, Answers, Answers]:
    """A held-out side, a challenger and a champion."""
    rng = np.random.default_rng((setting.events, seed))
    side = held_out(rng, setting.events)
    live, new = a_model(rng, side), a_model(rng, side, np.array(setting.shift))
    champion = answers(rng, side, live, "the live model", setting.champion_sharpened)
    if setting.new_species is not None:
        champion = unaware_of(setting.new_species, champion, rng)
    return side, answers(rng, side, new, "the new model", setting.sharpened), champion


def unaware_of(species: str, model: Answers, rng: np.random.Generator) -> Answers:
    """The model without one species: it says something else instead."""
    others = SPECIES[species != SPECIES]
    instead = rng.choice(others, len(model.predicted))
    predicted = np.where(model.predicted == species, instead, model.predicted)
    return replace(model, predicted=predicted, classes=tuple(others.tolist()))


def verdicts(setting: Setting, trials: int) -> Counter[str]:
    """Kind of verdict -> how many of the trials."""
    kinds = Counter[str]()
    for seed in range(trials):
        kinds[judged(*a_pair(setting, seed), setting.gate, seed).kind] += 1
    return kinds


@dataclass(frozen=True, slots=True)
class Career:
    """What became of the live model after many trainings: change of its true mean recall."""

    change: float
    swaps: int


@dataclass(frozen=True, slots=True)
class Trend:
    """Successive challengers: each is better than the live one by `drop` + a random part."""

    drop: float
    spread: float
    inherits: float
    confidence: float


def career(trend: Trend, events: int, trainings: int, seed: int) -> Career:
    """So many trainings on one held-out side; whatever goes live is what the next must beat."""
    rng = np.random.default_rng(seed)
    side = held_out(rng, events)
    live = a_model(rng, side)
    champion = answers(rng, side, live, "the live model")
    gate = Gate(bootstrap_samples=FEW_SAMPLES, confidence=trend.confidence)
    swaps = 0
    for training in range(trainings):
        shift = live.shift + trend.drop + trend.spread * rng.normal()
        model = a_model(rng, side, shift, live, trend.inherits)
        challenger = answers(rng, side, model, "the new model")
        if judged(side, challenger, champion, gate, training).accepted:
            live, champion, swaps = model, challenger, swaps + 1
    true = np.clip(RECALL + live.shift, 0, 1)
    return Career(float((true - RECALL).mean()), swaps)


def rules(setting: Setting, trials: int) -> dict[str, float]:
    """Rule -> share that it lets through, by the mean recall alone, without guards."""
    passed = Counter[str]()
    for seed in range(trials):
        side, new, live = a_pair(setting, seed)
        pair = Pair(side.truth, side.groups, new, live)
        for confidence in (0.90, 0.95):
            low = _bootstrap(pair, "macro_recall", confidence, seed)
            passed[f"bootstrap, {confidence:.2f}"] += low > 1e-9
        gains, likelihood = pair.gains("macro_recall"), _likelihood(pair)
        passed["sign flips, 0.95"] += luck(gains, seed) <= 0.05
        both = _unit(gains) + _unit(likelihood)
        passed["sign flips of recall and log-likelihood, 0.95"] += luck(both, seed) <= 0.05
    return {name: count / trials for name, count in passed.items()}


def _unit(values: Values) -> Values:
    return values / max(float(np.linalg.norm(values)), 1e-9)


def _bootstrap(pair: Pair, metric: Metric, confidence: float, seed: int) -> float:
    sides = (pair.truth, pair.right, pair.other, pair.groups)
    return paired_interval(*sides, metric, confidence, 500, seed)[0]


def _likelihood(pair: Pair) -> Values:
    """By event: log-likelihood of the challenger minus the other's (weighed as in the recall)."""
    logs = []
    for model, right in ((pair.challenger, pair.right), (pair.against, pair.other)):
        assert model.confidence is not None
        wrong = (1 - model.confidence) / (len(SPECIES) - 1)
        logs.append(np.log(np.where(right, model.confidence, wrong)))
    return pair.by_event(pair.weights("macro_recall") * (logs[0] - logs[1]))


def measure(pool: ProcessPoolExecutor, trials: int, chains: int) -> dict[str, Any]:
    """Everything, printed as it comes."""
    results: dict[str, Any] = {"trials": trials, "once": {}, "paid": {}, "in a row": {}}
    for metric in ("macro_recall", "accuracy"):
        gate = Gate(metric=metric, bootstrap_samples=FEW_SAMPLES)
        grid = [Setting(n, all_species(p), gate) for n in EVENTS for p in POINTS]
        found = list(pool.map(verdicts, grid, [trials] * len(grid)))
        rows = [found[i : i + len(POINTS)] for i in range(0, len(found), len(POINTS))]
        results["once"][metric] = _print_once(metric, rows, trials)
    results["paid"] = _print_paid(pool, trials)
    results["rules"] = _print_rules(pool, trials)
    results["in a row"] = _print_in_a_row(pool, chains)
    return results


def _print_once(metric: str, rows: Sequence[Sequence[Counter[str]]], trials: int) -> Any:
    print(f"\nGoes live, of {trials} challengers each ({metric}); in brackets: too little data")
    print("held-out events  " + "".join(f"{f'{p:+d} points':>14}" for p in POINTS))
    table = {}
    for events, row in zip(EVENTS, rows, strict=True):
        live = [kinds["better"] / trials for kinds in row]
        little = [kinds["too little data"] / trials for kinds in row]
        cells = (f"{a:.1%} ({b:.0%})" for a, b in zip(live, little, strict=True))
        print(f"{events:15}  " + "".join(f"{cell:>14}" for cell in cells), flush=True)
        table[events] = {"live": live, "too little data": little}
    return table


def paid_settings(events: int, gate: Gate) -> dict[str, Setting]:
    """Challengers whose gain (10 points of every other species) is paid for with something."""
    lynx = one_species("lynx", -30, 10)
    return {
        "nothing (+10 points of every species)": Setting(events, all_species(10), gate),
        "false alarms +10 points": Setting(events, one_species("blank", -10, 10), gate),
        "false alarms +20 points": Setting(events, one_species("blank", -20, 10), gate),
        "protected lynx -30 points": Setting(events, lynx, gate),
        "far too sure of itself": Setting(events, all_species(10), gate, FAR_TOO_SURE),
        "lynx is new, the others the same": Setting(
            events, all_species(0), gate, new_species="lynx"
        ),
        "lynx is new, the others -10 points": Setting(
            events, one_species("lynx", 0, -10), gate, new_species="lynx"
        ),
    }


def _print_paid(pool: ProcessPoolExecutor, trials: int) -> Any:
    print("\nA gain that is paid for: goes live with the guards (without them)")
    print(f"{'paid with':38}" + "".join(f"{n:>10} events" for n in EVENTS))
    guarded = Gate(bootstrap_samples=FEW_SAMPLES, protected_species=("lynx",))
    shares: dict[str, list[tuple[float, float]]] = {}
    for events in EVENTS:
        settings = [paid_settings(events, gate) for gate in (guarded, NO_GUARDS)]
        flat = [setting for some in settings for setting in some.values()]
        live = [k["better"] / trials for k in pool.map(verdicts, flat, [trials] * len(flat))]
        half = len(flat) // 2
        for name, with_, without in zip(settings[0], live[:half], live[half:], strict=True):
            shares.setdefault(name, []).append((with_, without))
    for name, cells in shares.items():
        shown = "".join(f"{f'{a:.0%} ({b:.0%})':>17}" for a, b in cells)
        print(f"{name:38}{shown}", flush=True)
    return {name: dict(zip(EVENTS, cells, strict=True)) for name, cells in shares.items()}


def _print_rules(pool: ProcessPoolExecutor, trials: int) -> Any:
    """Other ways to tell luck from gain, on 50 held-out events."""
    equal, better = all_species(0), all_species(5)
    settings = {
        "equal": Setting(50, equal, NO_GUARDS),
        "equal, but better calibrated": Setting(
            50, equal, NO_GUARDS, champion_sharpened=FAR_TOO_SURE
        ),
        "+5 points": Setting(50, better, NO_GUARDS),
        "+10 points": Setting(50, all_species(10), NO_GUARDS),
    }
    found = list(pool.map(rules, settings.values(), [trials] * len(settings)))
    print("\nLet through by the recall alone, 50 held-out events, by rule")
    print(f"{'':48}" + "".join(f"{name:>30}" for name in settings))
    for rule in found[0]:
        print(f"{rule:48}" + "".join(f"{shares[rule]:>30.1%}" for shares in found), flush=True)
    return dict(zip(settings, found, strict=True))


TRENDS = {
    "all equal to the live one": Trend(0, 0, 0.5, 0.95),
    "each 1 point worse": Trend(-0.01, 0, 0.5, 0.95),
    "each 1 point worse, much like the live one": Trend(-0.01, 0, 0.9, 0.95),
    "each 1 point worse, confidence 0.90": Trend(-0.01, 0, 0.5, 0.90),
    "each 3 points worse": Trend(-0.03, 0, 0.5, 0.95),
    "1 point worse, give or take 2": Trend(-0.01, 0.02, 0.5, 0.95),
}


def _print_in_a_row(pool: ProcessPoolExecutor, chains: int, events: int = 100) -> Any:
    trainings = 200
    print(
        f"\n{trainings} trainings in a row on the same {events} held-out events, {chains} stations"
    )
    print(f"{'challengers':44} {'went live':>10} {'true mean recall of the live model':>36}")
    table = {}
    for name, trend in TRENDS.items():
        seeds = range(chains)
        same = ([trend] * chains, [events] * chains, [trainings] * chains)
        ends = list(pool.map(career, *same, seeds))
        changes, swaps = [e.change for e in ends], [e.swaps for e in ends]
        shown = f"{np.mean(changes):+.3f} (worst {min(changes):+.3f}, best {max(changes):+.3f})"
        print(f"{name:44} {np.mean(swaps):10.2f} {shown:>36}", flush=True)
        table[name] = {
            "swaps": float(np.mean(swaps)),
            "change": float(np.mean(changes)),
            "worst": min(changes),
            "best": max(changes),
        }
    return table


def plot(axes: Any, results: dict[str, Any]) -> None:
    """Share that goes live against the true gain, a line for each size of the held-out side."""
    colours = ("#8c8c8c", "#c8a13a", "#3b6ea5", "#2a6f4e")
    for (events, row), colour in zip(results["once"]["macro_recall"].items(), colours, strict=True):
        axes.plot(POINTS, row["live"], "o-", color=colour, label=f"{events} held-out events")
        accuracy = results["once"]["accuracy"][events]["live"]
        axes.plot(POINTS, accuracy, ":", color=colour)
    axes.axhline(0.05, color="#a5483b", linewidth=0.8)
    axes.annotate("5 %", (POINTS[-1], 0.05), (0, 3), textcoords="offset points", color="#a5483b")
    axes.set_xticks(POINTS, [f"{p:+d}" for p in POINTS])
    axes.set_xlabel("true gain of the new model, points (dotted: judged by accuracy)")
    axes.set_ylabel("goes live")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid()
    axes.legend(frameon=False)


def let_through(results: dict[str, Any], points: Callable[[int], bool]) -> tuple[float, float]:
    """(mean, largest) share that went live, of the settings with such a true gain in points."""
    columns = [i for i, p in enumerate(POINTS) if points(p)]
    rows = [row for table in results["once"].values() for row in table.values()]
    shares = [row["live"][i] for row in rows for i in columns]
    return float(np.mean(shares)), max(shares)


def main() -> None:
    parser = bench.options(__doc__, "python benchmarks/gate.py --trials 200")
    parser.add_argument("--trials", type=int, default=400, help="challengers of each kind")
    parser.add_argument("--stations", type=int, default=20, help="that train 200 times in a row")
    args = parser.parse_args()
    draw: Callable[[Any], None] = lambda axes: plot(axes, results)  # noqa: E731
    with bench.workplace(args.work), ProcessPoolExecutor(bench.cores()) as pool:
        results = measure(pool, args.trials, args.stations)
    for name, points in (("equal", lambda p: p == 0), ("worse", lambda p: p < 0)):
        mean, largest = let_through(results, points)
        results[name] = {"mean": mean, "largest of all settings": largest}
        print(f"{name} and let through: {mean:.1%}, largest of all settings {largest:.1%}")
    title = "How often a new model goes live, by how much better it truly is"
    bench.save("gate", results, title, draw, args.save_in, 3.4)


if __name__ == "__main__":
    main()
