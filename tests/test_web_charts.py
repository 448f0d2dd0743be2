"""Charts over the API."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from drawn import dangers, texts
from logbook import NOW, fill, frames, say
from starlette.testclient import TestClient

from monitor.core.config import load_settings
from monitor.report.charts.catalogue import NAMES
from monitor.report.charts.kept import KeptDetections
from monitor.web.context import WebContext, open_parts
from monitor.web.serving.app import create_app


@pytest.fixture
def parts(config: Path) -> Iterator[WebContext]:
    """The parts of a station whose log has something in every table, and a frame of a visitor."""
    with fill(config.parent / "data" / "trapwatch.db") as log:
        say(log, frames(log, 1, deployment="gate")[0], "person")
        say(log, frames(log, 1, deployment="südhang")[0], "hare")
    opened = open_parts(load_settings(config), clock=lambda: NOW)
    yield opened
    opened.close()


@pytest.fixture
def client(parts: WebContext) -> TestClient:
    """Somebody at this machine; the charts' first scan is over."""
    assert parts.detections.wait(30) is not None
    return TestClient(create_app(parts), base_url="http://127.0.0.1")


def rows_of(client: TestClient, address: str) -> list[dict[str, str]]:
    answer = client.get(f"/api/v1/charts/{address}")
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_while_the_log_is_read_for_the_first_time_charts_say_when_to_ask_again(
    parts: WebContext,
) -> None:
    go = threading.Event()

    def slow(go_on: object) -> object:
        go.wait(30)
        return parts.log.detections()

    late = KeptDetections(slow, parts.private.names)  # type: ignore[arg-type]
    object.__setattr__(parts, "detections", late)
    client = TestClient(create_app(parts), base_url="http://127.0.0.1")
    for address in ("charts", "charts/map.svg", "charts/over_time.csv"):
        answer = client.get(f"/api/v1/{address}")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "ask again" in answer.json()["error"]
    go.set()
    assert late.wait(30) is not None
    assert client.get("/api/v1/charts/map.svg").status_code == 200


@pytest.mark.parametrize("name", NAMES)
def test_every_chart_is_drawn_as_svg_and_png_and_listed_as_csv(
    client: TestClient, name: str
) -> None:
    svg = client.get(f"/api/v1/charts/{name}.svg")
    assert svg.headers["content-type"] == "image/svg+xml"
    policy = svg.headers["content-security-policy"]
    assert "sandbox" in policy and "default-src 'none'" in policy and "script" not in policy
    assert svg.headers["x-content-type-options"] == "nosniff"
    assert dangers(svg.content) == []
    png = client.get(f"/api/v1/charts/{name}.png")
    assert png.headers["content-type"] == "image/png"
    assert png.content.startswith(b"\x89PNG")
    assert rows_of(client, f"{name}.csv")
    saved = client.get(f"/api/v1/charts/{name}.png?download=1")
    assert saved.headers["content-disposition"] == f'attachment; filename="{name}.png"'
    assert saved.content == png.content
    assert "content-disposition" not in png.headers


def test_each_chart_has_a_sentence_for_those_who_do_not_see_it(client: TestClient) -> None:
    answer = client.get("/api/v1/charts").json()
    assert [one["name"] for one in answer["charts"]] == list(NAMES)
    words = {one["name"]: one["alt"] for one in answer["charts"]}
    assert words["over_time"].startswith("3 detections by day")
    drawn = client.get("/api/v1/charts/over_time.svg")
    assert words["over_time"] in texts(drawn.content)
    narrow = client.get("/api/v1/charts?species=hare").json()
    assert narrow["charts"][0]["alt"].startswith("1 detection by day")


def test_charts_understand_the_words_of_the_command_line(client: TestClient) -> None:
    def total(question: str) -> int:
        return sum(int(row["detections"]) for row in rows_of(client, f"over_time.csv{question}"))

    assert total("") == 3
    assert total("?species=Rotfuchs") == 1  # any name, after merges
    assert total("?species=silver fox&species=badger") == 2
    assert total("?deployment=north") == 2
    assert total("?since=2026-04-02") == 0
    assert total("?since=29d") == 0
    assert total("?since=31d") == 3
    assert total("?until=2026-04-01") == 3
    assert total("?until=2026-03-31") == 0


def test_private_species_are_in_no_chart(client: TestClient) -> None:
    for name in NAMES:
        for kind in ("svg", "csv"):
            for question in ("", "?species=person"):
                answer = client.get(f"/api/v1/charts/{name}.{kind}{question}")
                assert answer.status_code == 200
                assert "person" not in answer.text.casefold()
    assert "person" not in client.get("/api/v1/charts").text.casefold()
    counts = {row["deployment"]: row["detections"] for row in rows_of(client, "map.csv")}
    assert counts == {"gate": "0", "north": "2", "südhang": "1"}


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("sunrise.svg", 422, "over_time"),
        ("map.gif", 422, "svg"),
        ("map.svg?since=yesterday", 400, "'yesterday' is no time"),
        ("map.svg?species=nobody", 409, "no species answers to 'nobody'"),
        ("map.svg?species=" + "x" * 201, 422, "200"),
        ("map.svg?" + "&".join(["species=hare"] * 21), 422, "20"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_words(
    client: TestClient, address: str, status: int, words: str
) -> None:
    answer = client.get(f"/api/v1/charts/{address}")
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_a_chart_is_drawn_once_until_the_log_is_read_anew(
    parts: WebContext, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monitor.web.api import charts

    drawings: list[object] = []
    kind, draw = charts.WAYS["svg"]
    counting = (kind, lambda one: (drawings.append(one), draw(one))[1])
    monkeypatch.setitem(charts.WAYS, "svg", counting)
    first = client.get("/api/v1/charts/map.svg")
    again = client.get("/api/v1/charts/map.svg")
    assert first.content == again.content
    assert len(drawings) == 1
    client.get("/api/v1/charts/map.svg?species=hare")
    assert len(drawings) == 2


def test_a_model_that_went_live_is_in_the_curve_at_once(
    parts: WebContext, client: TestClient
) -> None:
    from logbook import publish

    assert len(rows_of(client, "training.csv")) == 1
    publish(parts.log, "v0002")
    assert [row["version"] for row in rows_of(client, "training.csv")] == ["v0001", "v0002"]
