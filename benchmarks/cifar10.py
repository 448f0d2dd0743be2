"""The tutorial, done right: CIFAR-10 as tutorials do it, and through trapwatch's own commands.

    python benchmarks/cifar10.py [--data FOLDER] [--methods head finetune] [--blocks 1 2]

`as tutorials` is what many pages copy from each other: pixels / 255, RMSprop at 1e-4, a new dense
top, then "fine-tuning from layer 100" of a network that has 19. The other rows are the product:
`run --once`, `label import-folder`, `train --method head`, `train --method finetune`.

FOLDER holds train/<class>/ and test/<class>/, or cifar10-subset.tgz of the same; without it Keras
downloads the whole set, and --per-class of it is used.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bench import options, save, say, workplace

SHARED = Path(__file__).parents[2] / "shared" / "data" / "cifar10"
CONFIG = """
watch: {{folders: [frames], settle_seconds: 0}}
training:
  method: head
  max_minutes: 600
  tuned_blocks: {blocks}
  finetune_epochs: {epochs}
  map_cache_mb: 16384
  holdout_fraction: {held_out}
  gate: {{metric: accuracy}}
web: {{enabled: false}}
"""
Row = dict[str, Any]


def unpack(data: Path, frames: Path, per_class: int) -> None:
    """Put the images below `frames`/{train,test}/<class>/."""
    archive = data / "cifar10-subset.tgz"
    if archive.is_file():
        with tarfile.open(archive) as packed:
            packed.extractall(frames, filter="data")
    elif (data / "train").is_dir():
        for side in ("train", "test"):
            (frames / side).symlink_to((data / side).resolve())
    else:
        _download(frames, per_class)


def _download(frames: Path, per_class: int) -> None:
    from keras.datasets import cifar10
    from PIL import Image

    names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    for side, (images, labels) in zip(("train", "test"), cifar10.load_data(), strict=True):
        most = per_class if side == "train" else 1000
        for number, name in enumerate(names):
            folder = frames / side / name
            folder.mkdir(parents=True)
            for i, image in enumerate(images[labels[:, 0] == number][:most]):
                Image.fromarray(image).save(folder / f"{i:05}.png")


def trapwatch(folder: Path, *arguments: str) -> str:
    """One command of the product, in the station's folder."""
    command = [sys.executable, "-m", "monitor", *arguments]
    environment = {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"trapwatch {' '.join(arguments)}: {done.stderr[-2000:]}")
    return done.stdout


def product(folder: Path, methods: Sequence[str], blocks: Sequence[int], epochs: int) -> list[Row]:
    """Rows of the product's own commands, one for each method (and number of tuned blocks)."""
    counts = {side: len(list(folder.glob(f"frames/{side}/*/*"))) for side in ("train", "test")}
    held_out = counts["test"] / sum(counts.values())

    def configure(tuned: int) -> None:
        text = CONFIG.format(blocks=tuned, epochs=epochs, held_out=held_out)
        (folder / "config.yaml").write_text(text)

    configure(1)
    say(f"run --once: {sum(counts.values())} images")
    trapwatch(folder, "run", "--once")
    for side in ("train", "test"):
        say(f"label import-folder {side}")
        trapwatch(folder, "label", "import-folder", f"frames/{side}", "--by", "CIFAR-10", "--new")
    rows = []
    for method in methods:
        for tuned in blocks if method == "finetune" else (0,):
            configure(tuned or 1)
            say(f"train --method {method}" + (f", {tuned} block(s)" if tuned else ""))
            before = _processor_of_children()
            said = json.loads(trapwatch(folder, "train", "--method", method, "--force", "--json"))
            seconds = _processor_of_children() - before
            card = json.loads(trapwatch(folder, "models", "show", str(said["version"]), "--json"))[
                "card"
            ]
            name = f"{method}, {tuned} block(s)" if tuned else method
            rows.append(_row(name, card["held_out"], seconds, said["reason"]))
            rows[-1]["train_media"] = card["split"]["train_media"]
            say(_line(rows[-1]))
    return rows


def _row(name: str, held_out: dict[str, Any], seconds: float, note: str = "") -> Row:
    figures = {key: held_out[key] for key in ("media", "accuracy", "nll", "ece")}
    return {"way": name, **figures, "processor_seconds": seconds, "note": note}


def _processor_of_children() -> float:
    """Processor seconds of all commands so far: other work on the machine changes them little."""
    used = os.times()
    return used.children_user + used.children_system


def as_tutorials(folder: Path, epochs: int) -> list[Row]:
    """Feature extraction and "fine-tuning from layer 100", as copied from page to page."""
    from monitor.model.backbone.architectures import architecture_of
    from monitor.model.backbone.quiet import import_keras
    from monitor.model.backbone.weights import load_weights
    from monitor.training.evaluate import evaluate

    keras = import_keras()
    keras.utils.set_random_seed(0)
    base = keras.applications.VGG16(include_top=False, weights=None, input_shape=(224, 224, 3))
    arrays = load_weights(architecture_of("vgg16"), "imagenet", folder / "data" / "weights")
    for layer in base.layers:
        if f"{layer.name}/kernel" in arrays:
            layer.set_weights([arrays[f"{layer.name}/kernel"], arrays[f"{layer.name}/bias"]])
    sides = {side: _images(folder / "frames" / side) for side in ("train", "test")}
    say("as tutorials: features of pixels / 255")
    made = {
        side: np.concatenate(
            [base.predict_on_batch(part.astype("float32") / 255) for part in _parts(images)]
        )
        for side, (images, _) in sides.items()
    }
    names = sorted(set(sides["train"][1]))
    y = np.array([names.index(name) for name in sides["train"][1]])
    top = keras.Sequential(
        [
            keras.Input(made["train"].shape[1:]),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(len(names), activation="softmax"),
        ]
    )
    rows = []
    for way, rate in (
        ("as tutorials: feature extraction", 1e-4),
        ('as tutorials: "fine-tuning from layer 100"', 1e-5),
    ):
        # layer 100 of 19: nothing is unfrozen, so the top goes on alone
        assert all(layer is not None for layer in base.layers[:100]) and not base.layers[100:]
        top.compile(keras.optimizers.RMSprop(rate), "sparse_categorical_crossentropy")
        started = time.process_time()
        top.fit(made["train"], y, epochs=epochs, batch_size=32, verbose=0)
        spoken = top.predict(made["test"], verbose=0)
        figures = evaluate(np.array(sides["test"][1]), spoken, tuple(names)).to_json()
        rows.append(_row(way, figures, time.process_time() - started))
        say(_line(rows[-1]))
    return rows


def _images(folder: Path) -> tuple[np.ndarray, list[str]]:
    from PIL import Image

    files = sorted(folder.glob("*/*"))
    pixels = [np.asarray(Image.open(file).convert("RGB").resize((224, 224))) for file in files]
    return np.stack(pixels), [file.parent.name for file in files]


def _parts(images: np.ndarray) -> list[np.ndarray]:
    return [images[start : start + 32] for start in range(0, len(images), 32)]


def _line(row: Row) -> str:
    return (
        f"{row['way']:45} accuracy {row['accuracy']:.3f}  nll {row['nll']:.3f}  "
        f"calibration error {row['ece']:.3f}  {row['processor_seconds']:.0f} processor seconds  "
        f"{row['note']}"
    )


def draw(axes: Any, rows: Sequence[Row]) -> None:
    """Accuracy as bars, with two standard errors."""
    values = [row["accuracy"] for row in rows]
    errors = [2 * (v * (1 - v) / row["media"]) ** 0.5 for v, row in zip(values, rows, strict=True)]
    axes.barh([row["way"] for row in rows], values, xerr=errors, color="#4c7a5a", height=0.6)
    axes.invert_yaxis()
    axes.set_xlabel("accuracy on the test images")
    axes.set_xlim(0.4, 0.9)


def main() -> int:
    """Measure, print, save."""
    parser = options(__doc__, "python benchmarks/cifar10.py --methods head finetune --blocks 1 2")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--per-class", type=int, default=5000, help="of a downloaded set")
    parser.add_argument("--methods", nargs="*", default=["head", "finetune"])
    parser.add_argument("--blocks", nargs="*", type=int, default=[1])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--tutorial-epochs", type=int, default=30)
    chosen = parser.parse_args()
    with workplace(chosen.work) as folder:
        (folder / "frames").mkdir()
        unpack(chosen.data, folder / "frames", chosen.per_class)
        rows = as_tutorials(folder, chosen.tutorial_epochs) if chosen.tutorial_epochs else []
        rows += product(folder, chosen.methods, chosen.blocks, chosen.epochs)
        print("\n".join(_line(row) for row in rows))
        save("cifar10", {"rows": rows}, "CIFAR-10", lambda axes: draw(axes, rows), chosen.save_in)
    return 0


if __name__ == "__main__":
    sys.exit(main())
