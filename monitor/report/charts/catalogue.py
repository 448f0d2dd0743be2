"""The charts there are, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from monitor.log.detected import Detections
from monitor.log.versions import VersionRow
from monitor.report.charts.accumulation import accumulation
from monitor.report.charts.activity import activity
from monitor.report.charts.learning import learning_curve
from monitor.report.charts.over_time import over_time
from monitor.report.charts.paper import Chart
from monitor.report.charts.places import places_map

ChartName = Literal["over_time", "activity", "accumulation", "map", "training"]
NAMES: tuple[ChartName, ...] = get_args(ChartName)


@dataclass(frozen=True, slots=True)
class Choice:
    """What charts speak of.

    Attributes:
        since, until: of events' starts; `until` is exclusive.
        species: names as the detections have them; empty: all.
        deployment: one alone.
    """

    since: datetime | None = None
    until: datetime | None = None
    species: tuple[str, ...] = ()
    deployment: str | None = None


def chart(
    name: ChartName,
    detections: Detections,
    versions: Sequence[VersionRow],
    choice: Choice = Choice(),
) -> Chart:
    """The numbers of one chart, ready to be drawn (`monitor.report.charts.paper`).

    Args:
        detections: private species left out already.
        versions: all model versions, for `training`.
    """
    if name == "training":
        return learning_curve(versions)
    chosen = detections.within(choice.since, choice.until, choice.deployment)
    if name == "map":
        return places_map(chosen, choice.species, choice.deployment)
    if name == "over_time":
        return over_time(chosen, choice.species)
    if name == "activity":
        return activity(chosen, choice.species)
    return accumulation(chosen, choice.species)
