"""What the doctor asks of all that labels: weights of the network, engines, the live model."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from monitor.core.config import Settings, sqlite_path
from monitor.health.check import FAIL, OK, WARN, Check
from monitor.health.verdict import REPAIR, damage_words
from monitor.log.engine import LogError
from monitor.log.species_log import open_log
from monitor.model.backbone.architectures import ARCHITECTURES
from monitor.model.backbone.trial import FILE, remembered
from monitor.model.options import backbone_options
from monitor.model.versions import ModelError, ModelStore


def look_at_weights(settings: Settings) -> Iterator[Check]:
    """The ImageNet weights of the network: where they come from."""
    classifier = settings.classifier
    network = ARCHITECTURES.get(classifier.backbone)
    if network is None:
        return
    from monitor.model.backbone.weights import describe_sources

    cache = settings.data_directory / "weights"
    sources = describe_sources(network, classifier.weights, cache)
    for source in sources:
        if source.available:
            yield Check(OK, "weights", f"{source.name}: {source.path}", source.note)
            return
    advice = "; or ".join(source.note.removeprefix("not there: ") for source in sources[1:])
    finding = f"no ImageNet weights of {network.title} on this machine"
    yield Check(
        FAIL, "weights", finding, advice or f"correct classifier.weights: {sources[0].note}"
    )


def look_at_backbone(settings: Settings) -> Iterator[Check]:
    """What runs the network, and which engine was found to be the fastest."""
    classifier = settings.classifier
    if classifier.backbone not in ARCHITECTURES:
        yield Check(WARN, "backbone", "small: for tests and drills, it learns little")
        return
    names = ("ncnn", "tensorflow", "keras", "numpy", "pillow")
    yield Check(OK, "backbone", ", ".join(f"{n} {_version(n)}" for n in names))
    if importlib.util.find_spec("tensorflow") is None:
        yield Check(FAIL, "training", "TensorFlow is not installed", "pip install tensorflow")
    if classifier.engine != "auto":
        yield Check(OK, "engine", f"{classifier.engine}, as the config says")
        return
    choice = remembered(backbone_options(settings))
    if choice is None:
        yield Check(WARN, "engine", "not tried on this machine yet", "trapwatch run does it")
        return
    yield Check(OK, "engine", str(choice))
    for attempt in choice.attempts:
        if attempt.problem is not None:
            advice = f"once mended, delete {settings.data_directory / 'weights' / FILE}"
            yield Check(WARN, f"engine {attempt.engine}", attempt.problem, advice)


def look_at_model(settings: Settings) -> Iterator[Check]:
    """The version that is live, and the one in whose place it is. Raises ModelDamaged."""
    if not sqlite_path(settings.database.url).exists():
        return
    try:
        with open_log(settings.database.url) as log:
            row, damaged = log.live_version(), log.damaged_version()
            known = {v.name for v in log.versions()}
    except LogError:  # which the look at the log tells
        return
    if damaged is not None:
        words = damage_words(damaged.name, has_model=row is not None)
        state = FAIL if row is None else WARN
        yield Check(
            state, "damaged model", f"{words}: {damaged.reason}", REPAIR.format(damaged.name)
        )
    if row is None:
        yield Check(WARN, "model", "none yet", "label frames (trapwatch label queue), then train")
        return
    store = ModelStore(settings.models.directory)
    store.load(row.name, row.weights_sha256)
    try:
        store.card(row.name)
        yield Check(OK, "model", f"{row.name} is live and whole")
    except ModelError as error:
        words = f"{row.name} is live and labels, but its card cannot be read"
        yield Check(WARN, "model", words, str(error))
    folder = settings.models.directory
    lost = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name not in known)
    if lost:
        finding = f"unknown to the log: {', '.join(lost)}"
        yield Check(WARN, "model folder", finding, f"look into {folder}; nothing uses them")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
