"""What a user would script in ten minutes, to compare with: python benchmarks/naive.py DIR OUT.db

Keras loads every frame in full and scales it, VGG16 predicts batches of 32, rows go into SQLite.
Random weights: they cost the same. Start-up and the first batch shape are not counted.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras.applications.vgg16 import VGG16, preprocess_input

BATCH, SIDE, CLASSES = 32, 224, 10


def build() -> keras.Model:
    """VGG16, averaged over space, with a softmax of ten classes."""
    base = VGG16(weights=None, include_top=False, pooling="avg", input_shape=(SIDE, SIDE, 3))
    return keras.Sequential([base, keras.layers.Dense(CLASSES, activation="softmax")])


def load(path: Path) -> np.ndarray:
    """float32 (224, 224, 3), RGB."""
    image = keras.utils.load_img(path, target_size=(SIDE, SIDE))
    return keras.utils.img_to_array(image)


def main() -> None:
    frames = sorted(p for p in Path(sys.argv[1]).rglob("*") if p.suffix.lower() == ".jpg")
    model = build()
    model.predict(np.zeros((BATCH, SIDE, SIDE, 3), np.float32), verbose=0)
    log = sqlite3.connect(sys.argv[2])
    log.execute("CREATE TABLE sighting (path TEXT, class INTEGER, probability REAL)")
    start = time.perf_counter()
    for first in range(0, len(frames), BATCH):
        part = frames[first : first + BATCH]
        images = preprocess_input(np.stack([load(path) for path in part]))
        said = model.predict(images, batch_size=BATCH, verbose=0)
        rows = [(str(f), int(p.argmax()), float(p.max())) for f, p in zip(part, said, strict=True)]
        log.executemany("INSERT INTO sighting VALUES (?, ?, ?)", rows)
        log.commit()
    seconds = time.perf_counter() - start
    print(f"{len(frames) / seconds:.2f} images/s, {len(frames)} frames, {seconds:.1f} s")


if __name__ == "__main__":
    main()
