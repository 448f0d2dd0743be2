"""Retraining the head from cached features against training the whole network.

    python benchmarks/head_speed.py [--labels 5000] [--species 10]

The head is fitted by the product's own `fit_head`, cross-validation included. The other way is five
epochs through all of VGG16, forwards and backwards: a few batches are timed, and the rest is
reckoned from them, as it would take hours.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from threadpoolctl import threadpool_limits

from benchmarks.bench import options, say, short, workplace
from monitor.model.backbone import layout_of
from monitor.training.dataset import Dataset, Part
from monitor.training.head import fit_head
from monitor.training.similarity import parts_of

EPOCHS, BATCH, TIMED = 5, 16, 3


def cached(labels: int, species: int) -> Dataset:
    """Features that overlap, so that the fit has work to do; events of five, twelve cameras."""
    rng = np.random.default_rng(0)
    size = layout_of("vgg16").size
    centres = np.abs(rng.normal(size=(species, size)))
    kind = rng.integers(0, species, labels)
    features = np.abs(centres[kind] + 2.5 * rng.normal(size=(labels, size))).astype(np.float32)
    events = np.arange(labels) // 5
    names = np.array([f"species {i:02}" for i in range(species)])
    part = Part(features, names[kind], events, events % 12, np.zeros(labels, np.bool_))
    return Dataset(tuple(names.tolist()), part, part.where(np.zeros(labels, np.bool_)))


def head_seconds(labels: int, species: int) -> float:
    """Of one retraining of the head."""
    data, name = cached(labels, species), layout_of("vgg16").name
    started = time.monotonic()
    with threadpool_limits(1):
        fit_head(data, name, 0, lambda stage, done: None, parts_of(name))
    return time.monotonic() - started


def network_seconds(labels: int, species: int) -> float:
    """Of five epochs through the whole network, reckoned from a few batches."""
    import keras

    base = keras.applications.VGG16(include_top=False, weights=None, pooling="avg")
    top = keras.layers.Dense(species)(base.output)
    model = keras.Model(base.input, top)
    model.compile(
        keras.optimizers.Adam(1e-5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    rng = np.random.default_rng(0)
    images = rng.random((BATCH, 224, 224, 3), np.float32) * 255
    answers = rng.integers(0, species, BATCH)
    model.train_on_batch(images, answers)  # traced and warm
    started = time.monotonic()
    for _ in range(TIMED):
        model.train_on_batch(images, answers)
    return (time.monotonic() - started) / (TIMED * BATCH) * labels * EPOCHS


def main() -> int:
    """Measure, print."""
    parser = options(__doc__, "python benchmarks/head_speed.py --labels 5000")
    parser.add_argument("--labels", type=int, default=5000)
    parser.add_argument("--species", type=int, default=10)
    chosen = parser.parse_args()
    with workplace(chosen.work):
        head = head_seconds(chosen.labels, chosen.species)
        say(f"the head, {chosen.labels:,} labels: {head:.1f} s")
        whole = network_seconds(chosen.labels, chosen.species)
        say(f"{EPOCHS} epochs through the whole network: {whole / 60:.0f} minutes (reckoned)")
        print(f"ratio: {short(whole / head)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
