"""The example pictures of docs/model-card.md: python benchmarks/card_pictures.py.

Two made-up models of a station, the second one taught with more labels, judged and drawn by the
product's own code. Nothing is measured here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from monitor.report.charts.paper import Chart, svg
from monitor.training.evaluate import Evaluation, evaluate
from monitor.training.plots import ConfusionMatrix, RecallBySpecies, Reliability

FOLDER = Path(__file__).parents[1] / "docs" / "model-card"
HELD_OUT = {
    "blank": 60,
    "badger": 12,
    "pine marten": 5,
    "red fox": 30,
    "roe deer": 48,
    "wild boar": 24,
}
"""Events of each species that are held out."""
ALIKE = {"badger": "wild boar", "pine marten": "red fox"}


def judged(skill: float, sharpened: float, seed: int) -> Evaluation:
    """A model that stands out from noise by so much, and is surer than it may be by so much."""
    rng = np.random.default_rng(seed)
    names = tuple(HELD_OUT)
    truth, rows, groups = [], [], []
    for name, events in HELD_OUT.items():
        for _ in range(events):
            shared = rng.normal(size=len(names)) * 0.9
            frames = int(rng.integers(1, 5))
            logits = shared + rng.normal(size=(frames, len(names))) * 0.5
            logits[:, names.index(name)] += skill
            if name in ALIKE:
                logits[:, names.index(ALIKE[name])] += 0.5 * skill
            rows.append(logits * sharpened)
            truth += [name] * frames
            groups += [len(rows)] * frames
    logits = np.concatenate(rows)
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = (grown / grown.sum(axis=1, keepdims=True)).astype(np.float32)
    return evaluate(np.array(truth), scores, names, np.array(groups))


def main() -> None:
    before, after = judged(2.2, 1.6, 1), judged(3.0, 2.8, 2)
    pictures: dict[str, Chart] = {
        "confusion": ConfusionMatrix(after),
        "recall": RecallBySpecies("v0004", after, ("v0003", before)),
        "reliability": Reliability(after),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, chart in pictures.items():
        (FOLDER / f"{name}.svg").write_bytes(svg(chart))
        print(f"docs/model-card/{name}.svg: {chart.alt}")
    print(after.accuracy, after.event_accuracy, after.false_alarms, after.missed)


if __name__ == "__main__":
    main()
