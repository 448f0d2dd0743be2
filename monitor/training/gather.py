"""What a training starts from: labels, their features, and who learns and who judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from monitor.core.config import Settings
from monitor.core.domain import TrapwatchError
from monitor.log.features import FeatureStore, as_kept
from monitor.log.learning import LabelledMedia
from monitor.log.species_log import SpeciesLog
from monitor.model.backbone import layout_of
from monitor.model.backbone.tail import Tail
from monitor.model.head import Floats
from monitor.training.dataset import NotLearnt, Plan, plan_learning
from monitor.training.similarity import deepest_size, events_by_looks
from monitor.training.split import DEPLOYMENT, EVENT, HELD_OUT, assign_sides, is_usable

LOOKED_THROUGH, MOST_UNNAMED = 10_000, 2_500
COMPUTE_AT_ONCE = 64
"""Media whose features are computed between two writes to the cache: what a kill can cost."""


class TrainingError(TrapwatchError):
    """There is not enough to learn from yet; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Features of media, by the network with a tail or (None) with none.

    Attributes:
        kept: the cache.
        compute: media ids -> {SHA-256: float32 (d,)}; media that cannot be read are left out.
    """

    kept: Callable[[Tail | None], FeatureStore]
    compute: Callable[[Sequence[int], Tail | None], Mapping[str, Floats]]

    def vectors(
        self, media: Sequence[LabelledMedia], tail: Tail | None, report: Callable[[float], None]
    ) -> dict[str, Floats]:
        """From the cache, else computed and kept there: SHA-256 -> float32 (d,).

        Args:
            report: told how much is done (0-1).
        """
        report(0.0)
        kept = self.kept(tail)
        vectors = kept.get([m.sha256 for m in media])
        missing = [m.media_id for m in media if m.sha256 not in vectors]
        for start in range(0, len(missing), COMPUTE_AT_ONCE):
            found = self.compute(missing[start : start + COMPUTE_AT_ONCE], tail)
            kept.keep(list(found.items()))
            # rounded as the cache does, so that the same labels give the same head either way
            vectors |= {sha: as_kept(vector) for sha, vector in found.items()}
            report(start / len(missing))
        return vectors


def unnamed_vectors(log: SpeciesLog, plan: Plan, kept: FeatureStore) -> Floats:
    """Features of media that nobody labelled, float32 (m, d): what a station sees beside what was
    named. None of a deployment or event that is held out, nor of one that may be."""
    whole = {row.unit_key for row in log.split() if (row.side, row.unit) == (HELD_OUT, DEPLOYMENT)}
    events = {media.event_id for media in plan.held_out}
    events |= {row.unit_key for row in log.split() if (row.side, row.unit) == (HELD_OUT, EVENT)}
    partly = {media.deployment_id for media in plan.held_out}
    usable = [
        media.sha256
        for media in log.unnamed(LOOKED_THROUGH)
        if media.deployment_id not in whole
        and media.event_id not in events
        and (media.timed or media.deployment_id not in partly)
    ]
    return kept.matrix(usable[:MOST_UNNAMED])[1]


def usable_labels(log: SpeciesLog, settings: Settings) -> list[LabelledMedia]:
    """Everything that is labelled.

    Raises:
        TrainingError: no split of these labels could teach two species.
    """
    labelled, least = log.labelled(), settings.training.min_labels_per_species
    counts = Counter(m.species for m in labelled if is_usable(m))
    learnable = [species for species, count in counts.items() if count >= least]
    if len(learnable) < 2:
        lacking = [NotLearnt(s, n, 0, least) for s, n in sorted(counts.items()) if n < least]
        raise _too_little(learnable, lacking)
    return labelled


def make_plan(
    log: SpeciesLog,
    settings: Settings,
    labelled: Sequence[LabelledMedia],
    vectors: Mapping[str, Floats],
) -> Plan:
    """Who learns and who judges, of the media that have features; sides are written down.

    Raises:
        TrainingError: fewer than two species can be learnt.
    """
    training = settings.training
    deepest = deepest_size(layout_of(settings.classifier.backbone))
    grouped = events_by_looks(labelled, vectors, deepest)
    there = [m for m in grouped if m.sha256 in vectors or not is_usable(m)]
    existing, least = log.split(), training.min_labels_per_species
    new = assign_sides(there, existing, training.holdout_fraction, training.seed, least)
    plan = plan_learning(there, [*existing, *new], least)
    if lost := len(labelled) - len(there):
        plan = replace(plan, left_out={**plan.left_out, "their file could not be read": lost})
    if len(plan.classes) < 2:
        raise _too_little(plan.classes, plan.not_learnt)
    log.add_split(new)
    return plan


def _too_little(learnable: Sequence[str], lacking: Sequence[NotLearnt]) -> TrainingError:
    named = "; ".join(str(row) for row in lacking)
    return TrainingError(
        "a classifier needs at least two species with enough labels; so far: "
        f"{', '.join(sorted(learnable)) or 'none'}. "
        + (f"Still lacking: {named}" if named else "Label frames of one more species")
    )
