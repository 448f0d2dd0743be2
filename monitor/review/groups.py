"""Groups of look-alikes in the log: found, remembered under a name, labelled in one act."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from monitor.core.domain import Observation, TrapwatchError
from monitor.log.labels import LabelOutcome
from monitor.log.queues import QueueCandidate
from monitor.log.species_log import SpeciesLog

if TYPE_CHECKING:
    from monitor.log.features import FeatureStore

GROUPS_KEY = "groups"
"""State: {"groups": {id: [media id, ...]}}, those listed last first."""
MOST_KEPT = 20_000
"""Frames of all remembered groups together."""
MOST_COMPARED = 2000
_keeping = threading.Lock()


class NoSuchGroup(TrapwatchError):
    """A group that was never listed, or so long ago that it is forgotten."""


class NotInGroup(TrapwatchError):
    """A frame was to be left out of a group that it does not belong to."""


@dataclass(frozen=True, slots=True)
class Group:
    """Frames that one decision can label.

    Attributes:
        id: the same as long as the frames are the same.
        media_ids: the most typical first.
        species: what the model says of most of them; None if it says nothing.
        probability: the mean of what it says that with.
    """

    id: str
    media_ids: tuple[int, ...]
    species: str | None
    probability: float | None


@dataclass(frozen=True, slots=True)
class GroupLabel:
    """What labelling a group came to.

    Attributes:
        left_alone: frames of the group that somebody labelled before.
    """

    outcome: LabelOutcome
    left_alone: tuple[int, ...]


def find_groups(
    log: SpeciesLog, found: Sequence[QueueCandidate], features: FeatureStore | None
) -> list[Group]:
    """Groups among these unlabelled media, where most is to be learnt first.

    Args:
        features: None finds none: without features nothing is known to look alike.
    """
    if features is None or not found:
        return []
    import numpy as np

    from monitor.review.coverage import weights_of
    from monitor.review.grouping import group

    vectors = features.get([candidate.sha256 for candidate in found[:MOST_COMPARED]])
    seen = [candidate for candidate in found[:MOST_COMPARED] if candidate.sha256 in vectors]
    if not seen:
        return []
    labels = log.label_counts()
    rows = group(seen, np.stack([vectors[candidate.sha256] for candidate in seen]), labels)
    weights = weights_of(seen, labels)
    rows.sort(key=lambda of: -float(weights[of].sum()))
    return [_group([seen[row] for row in of]) for of in rows]


def keep_groups(log: SpeciesLog, groups: Sequence[Group], now: datetime) -> None:
    """Remember these, so that they can be labelled by their id; the oldest are forgotten."""
    with _keeping:
        before = _kept(log)
        wanted = {one.id: list(one.media_ids) for one in groups}
        together: dict[str, list[int]] = {}
        total = 0
        for group_id, media_ids in (wanted | before).items():
            total += len(media_ids)
            if total > MOST_KEPT:
                break
            together[group_id] = media_ids
        if together != before:
            log.put_state(GROUPS_KEY, {"groups": together}, now)


def kept_group(log: SpeciesLog, group_id: str) -> tuple[int, ...]:
    """The frames of a group that was listed before.

    Raises:
        NoSuchGroup: see there.
    """
    media_ids = _kept(log).get(group_id)
    if media_ids is None:
        raise NoSuchGroup(
            f"there is no group '{group_id}' (any more): groups change as frames are labelled; "
            "list them anew with: trapwatch label queue --groups"
        )
    return tuple(media_ids)


def label_group(
    log: SpeciesLog,
    group_id: str,
    observations: Sequence[Observation],
    by: str,
    how: str,
    now: datetime,
    *,
    without: Sequence[int] = (),
    insist: bool = False,
    request: str | None = None,
) -> GroupLabel:
    """Say what is on all frames of a group that have no label yet, as one act.

    Args:
        without: frames of the group that show something else.
        insist, request: as `SpeciesLog.label` has them.

    Raises:
        NoSuchGroup, NotInGroup: nothing is written.
        UnknownSpecies, RequestTaken, LogError: as `SpeciesLog.label`.
    """
    members = kept_group(log, group_id)
    strangers = [media_id for media_id in without if media_id not in members]
    if strangers:
        raise NotInGroup(f"media {strangers[0]} is not in group {group_id}")
    wanted = tuple(media_id for media_id in members if media_id not in set(without))
    if not wanted:
        raise NotInGroup(f"group {group_id} has no other frames than those to leave out")
    outcome = log.label(
        wanted, observations, by, how, now, insist=insist, request=request, unlabelled=True
    )
    said = set(outcome.media_ids)
    return GroupLabel(outcome, tuple(media_id for media_id in wanted if media_id not in said))


def _kept(log: SpeciesLog) -> dict[str, list[int]]:
    return dict((log.state(GROUPS_KEY) or {}).get("groups", {}))


def _group(candidates: Sequence[QueueCandidate]) -> Group:
    media_ids = tuple(candidate.media_id for candidate in candidates)
    words = ",".join(map(str, sorted(media_ids)))
    group_id = "g" + hashlib.sha256(words.encode()).hexdigest()[:8]
    said = Counter(c.species for c in candidates if c.species is not None)
    if not said:
        return Group(group_id, media_ids, None, None)
    species = said.most_common(1)[0][0]
    sure = [c.probability or 0.0 for c in candidates if c.species == species]
    return Group(group_id, media_ids, species, round(sum(sure) / len(sure), 4))
