"""The dashboard and the page about it speak of the metrics that there are, and of no others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from logbook import NOW

from monitor.core.domain import ModelState
from monitor.health.metrics import exposition
from monitor.health.metrics_measured import Measured, ProcessFigures
from monitor.health.verdict import Health, HealthFacts, Told, health
from monitor.log.figures import Figures
from monitor.log.versions import VersionRow

DOCS = Path(__file__).parents[1] / "docs"
NAME = re.compile(r"\btrapwatch_[a-z_]+\b")
NO_METRICS = {"trapwatch_sightings_total"}
"""The page says why there is none."""


def everything() -> Measured:
    """A station of which all is known."""
    told = {
        "service": Told({"pid": 1, "problems": {}}, 1.0),
        "backup": Told({"at": "2026-05-01T00:00:00.000Z", "problem": None}, 1.0),
        "integrity": Told({"quick_at": "2026-05-01T00:00:00.000Z", "problem": None}, 1.0),
    }
    found: Health = health(HealthFacts(True, True, True, told))
    live = VersionRow(
        1, "v1", ModelState.LIVE, "", "2026-05-01T00:00:00.000Z", "vgg16", "", "", "", {}
    )
    return Measured(
        station="ridge",
        now=NOW,
        health=found,
        counts=dict.fromkeys(
            ("pending", "labelled", "waiting_for_their_file", "unreadable_files"), 1
        ),
        figures=Figures(1, {"failed": 1}, {"lynx": 1}, {"lynx": 1}, {"sent": 1}, 0),
        lag_seconds=1.0,
        last_captures={"ridge": 1.0},
        live=live,
        is_training=False,
        told=told,
        disk_free_bytes=1,
        disk_total_bytes=2,
        sizes={"log": 1},
        processes={"web": ProcessFigures(1, 1, 1.0)},
    )


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """The name of every sample, as Prometheus keeps it."""
    lines = exposition(everything()).decode().splitlines()
    return {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


def expressions(value: Any) -> list[str]:
    """Everything in the dashboard that is asked of Prometheus."""
    if isinstance(value, list):
        return [text for one in value for text in expressions(one)]
    if isinstance(value, dict):
        own = [value[key] for key in ("expr", "query") if isinstance(value.get(key), str)]
        return own + [text for one in value.values() for text in expressions(one)]
    return []


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / "grafana.json").read_text())
    return found


def test_the_dashboard_asks_for_exactly_the_metrics_there_are(
    dashboard: dict[str, Any], exported: set[str]
) -> None:
    asked = {name for text in expressions(dashboard) for name in NAME.findall(text)}
    assert asked == exported


def test_the_page_names_exactly_the_metrics_there_are(exported: set[str]) -> None:
    text = (DOCS / "monitoring.md").read_text()
    assert set(NAME.findall(text)) - NO_METRICS == exported


def test_every_panel_has_a_place_and_a_title_of_its_own(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_nothing_in_it_is_of_one_installation(dashboard: dict[str, Any]) -> None:
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert '$instance"' in target["expr"], panel["title"]


def test_names_keep_the_conventions_of_prometheus(exported: set[str]) -> None:
    lines = exposition(everything()).decode().splitlines()
    kinds = {words[2]: words[3] for words in map(str.split, lines) if words[:2] == ["#", "TYPE"]}
    helped = {line.split()[2] for line in lines if line.startswith("# HELP")}
    for name in exported:
        assert (kinds[name] == "counter") == name.endswith("_total"), name
        assert not re.search(r"_(ms|kb|mb|percent|minutes|hours)(_|$)", name), name
    assert helped == set(kinds)
