"""The live model, and what any model answers on the held-out media."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.log.species import UnknownSpecies
from monitor.log.species_log import SpeciesLog
from monitor.model.backbone.tail import Tail, without_tail
from monitor.model.head import Head
from monitor.model.versions import ModelDamaged, ModelStore
from monitor.training.comparison import Answers
from monitor.training.dataset import Part
from monitor.training.evaluate import Evaluation, evaluate, named


@dataclass(frozen=True, slots=True)
class Champion:
    """The live version, if there is one; without a head it cannot be compared with, and `note`
    says why."""

    name: str | None
    head: Head | None
    note: str | None = None
    tail: Tail | None = None


def find_champion(log: SpeciesLog, store: ModelStore, layout: str) -> Champion:
    """The live version with its verified head and tail.

    Args:
        layout: of the network without a tail; a version on another one cannot be compared with.
    """
    row = log.live_version()
    if row is None:
        return Champion(None, None)
    lead = f"The live model {row.name} could not be compared with"
    try:
        head, tail = store.load(row.name, row.weights_sha256)
    except ModelDamaged as error:
        return Champion(row.name, None, f"{lead}: {error}.")
    if without_tail(head.layout) != layout:
        why = f"it was trained on {head.layout} features, and these are {layout}"
        return Champion(row.name, None, f"{lead}: {why}.")
    return Champion(row.name, head, None, tail)


def answers_of(name: str, head: Head, held: Part, log: SpeciesLog) -> tuple[Answers, Evaluation]:
    """A model's answers on the held-out media, under today's species names."""
    names = [todays_name(species, log) for species in head.classes]
    classes = tuple(dict.fromkeys(names))
    probabilities = np.zeros((len(held), len(classes)), np.float32)
    if len(held):
        for column, species in zip(head.probabilities(held.features).T, names, strict=True):
            probabilities[:, classes.index(species)] += column
    confidence = probabilities.max(axis=1, initial=0.0)
    answers = Answers(name, named(probabilities, classes), classes, confidence)
    return answers, evaluate(held.species, probabilities, classes, held.groups)


def todays_name(species: str, log: SpeciesLog) -> str:
    """What the list calls a species that a model or the config may know by an older name."""
    try:
        return log.species_named(species)
    except UnknownSpecies:
        return species
