"""Which deployment a frame belongs to: the list, the pattern, the folder."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.config import ConfigError
from monitor.pipeline.deployments import (
    DeploymentRow,
    Deployments,
    compile_pattern,
    read_deployments,
)

ROOT = Path("/frames")
BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NOON = at("2026-05-01T12:00")


def name_of(pattern: str, path: str, rows=(), moment=NOON) -> str:
    return Deployments(pattern, rows).name_of(ROOT, os.fsencode(ROOT / path), moment)


@pytest.mark.parametrize(
    ("pattern", "path", "name"),
    [
        ("{deployment}/**", "north/a.jpg", "north"),
        ("{deployment}/**", "north/100RECNX/deep/a.jpg", "north"),
        ("*/{deployment}/**", "2026/north/a.jpg", "north"),
        ("**/{deployment}/*", "north/a.jpg", "north"),
        ("**/{deployment}/*", "2026/may/north/a.jpg", "north"),
        ("{deployment}/**/*", "north/a.jpg", "north"),
        ("{deployment}/**/*", "north/x/y/a.jpg", "north"),
        ("site_{deployment}-*/**", "site_n1-card2/a.jpg", "n1"),
        ("{deployment}_*.jpg", "cam7_0001.jpg", "cam7"),
        ("/{deployment}/**/", "north/a.jpg", "north"),
        ("{deployment}.x/**", "a+b.x/a.jpg", "a+b"),
    ],
)
def test_the_pattern_names_the_deployment(pattern, path, name):
    assert name_of(pattern, path) == name


@pytest.mark.parametrize(
    ("path", "name"), [("a.jpg", "frames"), ("north/a.jpg", "north"), ("north/x/a.jpg", "north")]
)
def test_without_a_match_the_first_folder_counts_then_the_watched_one(path, name):
    assert name_of("never/{deployment}/here", path) == name


def test_a_folder_name_that_is_no_text_is_shown_escaped():
    path = os.fsencode(ROOT) + b"/n\xff\n/a.jpg"
    assert Deployments("{deployment}/**").name_of(ROOT, path, NOON) == "n\\xff\\n"


@given(st.text(alphabet="ab/*.{}x", max_size=12), st.text(alphabet="ab/.x", max_size=12))
def test_any_pattern_and_path_give_some_name(pattern, path):
    whole = "{deployment}" + pattern.replace("{", "").replace("}", "")
    assert compile_pattern(whole)
    assert name_of(whole, "d/" + path.strip("/") + "x")


def test_the_list_goes_before_the_pattern_and_the_longest_prefix_wins():
    rows = [
        DeploymentRow("whole", "north"),
        DeploymentRow("part", "north/card2/"),
        DeploymentRow("other", "northern"),
    ]
    assert name_of("{deployment}/**", "north/a.jpg", rows) == "whole"
    assert name_of("{deployment}/**", "north/card2/a.jpg", rows) == "part"
    assert name_of("{deployment}/**", "northern/a.jpg", rows) == "other"
    assert name_of("{deployment}/**", "northwest/a.jpg", rows) == "northwest"


def test_a_period_holds_its_start_and_not_its_end():
    rows = [
        DeploymentRow("spring", "n", start=at("2026-03-01"), end=at("2026-05-01T12:00")),
        DeploymentRow("summer", "n", start=at("2026-05-01T12:00")),
    ]
    assert name_of("{deployment}/**", "n/a.jpg", rows, at("2026-05-01T11:59")) == "spring"
    assert name_of("{deployment}/**", "n/a.jpg", rows, NOON) == "summer"
    assert name_of("{deployment}/**", "n/a.jpg", rows, at("2026-01-01")) == "n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "deployments.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_list_is_read_with_its_places_times_and_clock_shifts(tmp_path):
    path = written(
        tmp_path,
        "\ufeffdeployment,path,latitude,longitude,start,end,clock_shift_seconds\n"
        " north ,n1,51.5,-0.12,2026-05-01,2026-05-31,-3600\n"
        "south,s,,,2026-05-01T10:00+00:00,,\n",
    )
    north, south = read_deployments(path, BERLIN)
    assert (north.name, north.path, north.latitude, north.longitude) == ("north", "n1", 51.5, -0.12)
    assert north.clock_shift_seconds == -3600.0
    assert north.values()["start_at"] == "2026-04-30T22:00:00.000Z"  # a day begins at the station
    assert north.values()["end_at"] == "2026-05-31T22:00:00.000Z"  # and its last day is within
    assert south.values()["start_at"] == "2026-05-01T10:00:00.000Z"
    assert south.values()["end_at"] is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (",p,,,,,", "no name"),
        ("a,p,91,,,,", "no coordinate"),
        ("a,p,nan,,,,", "no number"),
        ("a,p,north,,,,", "'north' is no number"),
        ("a,p,,,yesterday,,", "'yesterday' is no time"),
        ("a,p,,,2026-05-02,2026-05-01,", "ends (2026-05-01) before it starts (2026-05-02)"),
        ("a,p,,,,,inf", "no number"),
        ("a,p,,,,,1e12", "a hundred years"),
        ("a,p,,,9999-12-31,9999-12-31,", "is no time"),
        ("a,p,,,0001-01-01,,", "line 2"),
        ("north,elsewhere,1,2,,,", "line 2"),
    ],
)
def test_every_line_that_cannot_be_used_is_named(tmp_path, line, words):
    head = "deployment,path,latitude,longitude,start,end,clock_shift_seconds\n"
    text = head + line + "\nnorth,n,,,,,\nbad,,,200,,,\n"
    with pytest.raises(ConfigError) as caught:
        read_deployments(written(tmp_path, text), BERLIN)
    message = str(caught.value)
    assert words in message or "line 3" in message
    assert "line 4: 200.0 is no coordinate" in message


def test_one_deployment_may_have_two_paths_but_not_two_clocks(tmp_path):
    head = "deployment,path,clock_shift_seconds\n"
    rows = read_deployments(written(tmp_path, head + "n,a,60\nn,b,60\n"), BERLIN)
    assert [row.path for row in rows] == ["a", "b"]
    with pytest.raises(ConfigError, match="line 3: 'n' is listed above with another"):
        read_deployments(written(tmp_path, head + "n,a,60\nn,b,61\n"), BERLIN)


@pytest.mark.parametrize("text", ["path,latitude\nx,1\n", "deployment,path,height\na,b,c\n", ""])
def test_columns_that_miss_or_nobody_knows_are_named(tmp_path, text):
    with pytest.raises(ConfigError, match="known are deployment, path"):
        read_deployments(written(tmp_path, text), BERLIN)


def test_of_thousands_of_unknown_columns_some_are_named(tmp_path):
    with pytest.raises(ConfigError, match="known are deployment, path") as caught:
        read_deployments(written(tmp_path, "," * 100_000), BERLIN)
    assert len(str(caught.value)) < 1000
    long = "x" * 100_000
    lines = "".join(f"{long},a,{value}\n" for value in (f"{long},", f",{long}", "1,", "2,"))
    with pytest.raises(ConfigError) as caught:
        read_deployments(written(tmp_path, f"deployment,path,latitude,start\n{lines}"), BERLIN)
    assert len(str(caught.value)) < 1000


def test_a_list_that_is_not_there_or_no_text_is_an_error_in_words(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_deployments(tmp_path / "none.csv", BERLIN)
    (tmp_path / "x.csv").write_bytes(b"deployment,path\n\xff\xfe,a\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_deployments(tmp_path / "x.csv", BERLIN)
