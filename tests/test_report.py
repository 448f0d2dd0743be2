"""The report: one file with everything, and nothing that should not be in it."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from drawn import dangers, seen
from logbook import DAWN, NOW, fill, frames, item, predict, publish, say, take_in
from PIL import Image
from playwright.sync_api import sync_playwright
from webstation import WebStation, browser

from monitor.core.config import Settings, load_settings
from monitor.core.domain import BLANK, UNKNOWN
from monitor.log.species_log import SpeciesLog, open_log
from monitor.report.document import MOST_BYTES, Period, Written, write_report
from monitor.report.tables import came_in, deployment_lines, period_words, species_lines


class Reader(HTMLParser):
    """A page as a browser takes it apart: its tags, its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def images(self, kind: str) -> list[bytes]:
        start = f"data:{kind};base64,"
        found = [a.get("src") or "" for tag, a in self.tags if tag == "img"]
        return [base64.b64decode(src.removeprefix(start)) for src in found if src.startswith(start)]


def settings_of(config: Path) -> Settings:
    return load_settings(config)


def written(config: Path, folder: Path, period: Period = Period()) -> tuple[Written, Reader]:
    """A report of the station of `config`, and what is in it."""
    settings = settings_of(config)
    with open_log(settings.database.url) as log:
        done = write_report(settings, log, folder, period, NOW)
    return done, Reader(done.path.read_text(encoding="utf-8"))


def trapwatch(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monitor", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> WebStation:
    """Rendered frames at three cameras; two of them show visitors, one by the model's word."""
    station = WebStation(tmp_path_factory.mktemp("report") / "station")
    station.fill(60)
    with station.log() as log:
        animals = [m for m, species in station.truth.items() if species != BLANK]
        for media_id in animals[:12]:
            say(log, media_id, station.truth[media_id])
        shown = log.sightings_of(animals[12:])
        say(log, shown[0].media_id, "Vehicle", "red fox")
        predict(log, {shown[5].media_id: ("person", 0.99)})
    return station


@pytest.fixture(scope="module")
def report(station: WebStation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The station's report, made by the command."""
    folder = tmp_path_factory.mktemp("out") / "may" / "first"
    done = trapwatch("report", "--config", str(station.config), "--out", str(folder))
    assert done.returncode == 0, done.stderr
    assert re.search(r"report\.html: \d+\.\d MB, \d+ pictures", done.stdout)
    yield folder / "report.html"


def test_a_report_is_one_file_small_enough_to_be_mailed(report: Path) -> None:
    assert [path.name for path in report.parent.iterdir()] == ["report.html"]
    assert 100_000 < report.stat().st_size < MOST_BYTES


def test_a_report_needs_no_network_and_runs_nothing(report: Path) -> None:
    failed: list[str] = []
    with sync_playwright() as playwright, browser(playwright) as chromium:
        context = chromium.new_context(offline=True)
        page = context.new_page()
        page.on("requestfailed", lambda request: failed.append(request.url))
        page.on("console", lambda message: failed.append(message.text))
        page.on("pageerror", lambda error: failed.append(str(error)))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url.partition(",")[0]))
        page.goto(report.as_uri(), wait_until="load")
        sizes = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth])")
        assert len(sizes) >= 8
        assert all(complete and width > 0 for complete, width in sizes)
        for width in (390, 1200):
            page.set_viewport_size({"width": width, "height": 800})
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width
        context.close()
    assert failed == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_everything_in_a_report_is_inside_it(report: Path) -> None:
    page = Reader(report.read_text(encoding="utf-8"))
    policy = [a for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0]["content"] == ("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert not {"script", "link", "iframe", "form", "object"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("src") or "data:").startswith("data:")
        assert "href" not in attributes
    charts = page.images("image/svg+xml")
    assert len(charts) == 4  # no map: no camera has coordinates
    assert [danger for chart in charts for danger in dangers(chart)] == []
    assert all(a.get("alt") for tag, a in page.tags if tag == "img")


def test_a_report_tells_species_deployments_and_how_to_read_them(
    report: Path, station: WebStation
) -> None:
    page = Reader(report.read_text(encoding="utf-8"))
    for words in ("forest", "red fox", "wild boar", "30 minutes apart", "v0001", "camera-days"):
        assert words in page.text
    with station.log() as log:
        deployments = {sighting.deployment for sighting in log.sightings()}
    assert all(name in page.text for name in deployments)


def test_best_frames_are_small_upright_pictures_without_metadata(report: Path) -> None:
    pictures = Reader(report.read_text(encoding="utf-8")).images("image/jpeg")
    assert 4 <= len(pictures) <= 36
    for content in pictures:
        with Image.open(io.BytesIO(content)) as image:
            assert max(image.size) <= 900
            assert not image.getexif()


def test_private_species_are_nowhere_in_a_report_but_in_a_number(
    report: Path, station: WebStation
) -> None:
    page = report.read_text(encoding="utf-8")
    reader = Reader(page)
    everything = page + b"".join(reader.images("image/svg+xml")).decode()
    assert "person" not in everything.casefold()
    assert "vehicle" not in everything.casefold()
    assert "2 frames show what this station keeps private" in reader.text
    with station.log() as log:
        hidden = [s for s in log.sightings() if s.species in ("Vehicle", "person")]
        assert len(hidden) == 2
        of_event = log.event_frames([s.event_id or 0 for s in hidden])
    moments = {
        f"{s.deployment}, {s.captured_local[:16].replace('T', ' ')}"
        for s in of_event[hidden[0].event_id or 0]
    }
    captions = [str(a.get("alt")) for tag, a in reader.tags if tag == "img"]
    assert not [alt for alt in captions for moment in moments if moment in alt]


def test_frames_whose_files_are_gone_are_replaced_by_the_next_best(
    tmp_path: Path, station: WebStation
) -> None:
    with station.log() as log:
        best = log.sightings_of(log.most_certain("red fox", None, None, 60))
    shown = [Path(s.path) for s in best]
    moved = [path for path in shown[: len(shown) // 2] if path.exists()]
    assert moved
    kept = station.settings.data_directory / "pictures"
    kept.rename(tmp_path / "pictures")
    for path in moved:
        path.rename(path.with_suffix(".away"))
    try:
        done, page = written(station.config, tmp_path / "out")
    finally:
        for path in moved:
            path.with_suffix(".away").rename(path)
    assert done.pictures > 0
    assert any("red fox at" in str(a.get("alt")) for tag, a in page.tags if tag == "img")


def test_a_report_of_a_period_tells_of_that_period_alone(config: Path, tmp_path: Path) -> None:
    with fill(config.parent / "data" / "trapwatch.db") as log:
        for media_id in frames(log, 5, minutes=24 * 60, deployment="later"):
            say(log, media_id, "hare")
    since = datetime.fromisoformat("2026-04-03T00:00:00+00:00")
    _, page = written(config, tmp_path / "out", Period(since, since + timedelta(days=2)))
    assert "2026-04-03 to 2026-04-05" in page.text  # until midnight UTC is 2 o'clock there
    assert "hare 2 2 1" in page.text
    assert "red fox" not in page.text


def test_names_are_shown_and_never_become_part_of_the_page(config: Path, tmp_path: Path) -> None:
    name = "<script>alert(1)</script><b>"
    with SpeciesLog(config.parent / "data" / "trapwatch.db", create=True) as log:
        media_id = take_in(log, [item("<img src=x onerror=alert(1)>.jpg", DAWN, f"{name}]]>")])[0]
        say(log, media_id, name)
    config.write_text(config.read_text().replace("name: test", f"name: '{name}'"))
    _, page = written(config, tmp_path / "out")
    assert {tag for tag, _ in page.tags} & {"script", "b"} == {"b"}
    assert [a for tag, a in page.tags if tag == "b"] == [{}, {}]  # those of the explanations
    assert page.text.count(name) >= 3
    assert [d for chart in page.images("image/svg+xml") for d in dangers(chart)] == []


def test_a_log_without_anything_gives_a_report_that_says_so(config: Path, tmp_path: Path) -> None:
    open_log(settings_of(config).database.url, create=True).close()
    done, page = written(config, tmp_path / "out")
    assert done.pictures == 0
    for words in ("No animal was seen", "No camera has sent anything", "No model is live yet"):
        assert words in page.text
    assert "no frames yet" in page.text


def test_a_report_appears_whole_over_an_older_one(config: Path, tmp_path: Path) -> None:
    fill(config.parent / "data" / "trapwatch.db").close()
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "report.html").write_text("older")
    before = (folder / "report.html").stat().st_ino
    written(config, folder)
    assert (folder / "report.html").stat().st_ino != before  # replaced, never written into
    assert [path.name for path in folder.iterdir()] == ["report.html"]


def test_a_folder_that_cannot_be_written_is_told_before_the_long_work(
    config: Path, tmp_path: Path
) -> None:
    fill(config.parent / "data" / "trapwatch.db").close()
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    done = trapwatch("report", "--config", str(config), "--out", str(in_the_way))
    assert done.returncode == 1
    assert f"{in_the_way} cannot be written" in done.stderr and "--out" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_usage_and_missing_logs_have_their_exit_codes(config: Path, tmp_path: Path) -> None:
    out = ["--config", str(config), "--out", str(tmp_path / "out")]
    none_yet = trapwatch("report", *out)
    assert none_yet.returncode == 1
    assert "there is no species log" in none_yet.stderr
    assert not (tmp_path / "out").exists()
    fill(config.parent / "data" / "trapwatch.db").close()
    assert trapwatch("report", *out, "--since", "yesterday").returncode == 2
    swapped = trapwatch("report", *out, "--since", "2026-05-02", "--until", "2026-05-01")
    assert swapped.returncode == 2
    assert "swap them" in swapped.stderr
    assert trapwatch("report", "--config", str(config)).returncode == 2


# -- tables -----------------------------------------------------------------------------------


def test_the_tables_sum_what_the_detections_say() -> None:
    shown = seen(
        [
            ("red fox", "oak", "2026-01-01T23:00"),
            ("red fox", "creek", "2026-01-03T01:00"),
            ("badger", "oak", "2026-01-04T02:00"),
            (BLANK, "oak", "2026-01-05T12:00"),
            (UNKNOWN, "oak", "2026-01-06T12:00"),
            (None, "creek", "2026-01-07T12:00"),
        ]
    )
    counts = came_in(shown)
    assert (counts.frames, counts.events, counts.with_animals) == (6, 6, 3)
    assert (counts.blank, counts.unknown, counts.not_looked_at) == (1, 1, 1)
    assert counts.camera_days == 6 + 5
    fox, badger = species_lines(shown, {"red fox": "Vulpes vulpes"})
    assert (fox.name, fox.events, fox.deployments) == ("red fox", 2, 2)
    assert (fox.first, fox.last) == (date(2026, 1, 1), date(2026, 1, 3))
    assert (fox.scientific_name, badger.scientific_name) == ("Vulpes vulpes", None)
    assert (badger.largest, badger.labelled_share) == (None, 0)
    creek, oak = deployment_lines(shown, {"oak"})
    assert (creek.name, creek.frames, creek.events, creek.camera_days) == ("creek", 2, 1, 5)
    assert (oak.last_frame, oak.silent) == ("2026-01-06 12:00", True)
    assert (creek.species, oak.species) == (1, 2)


def test_an_event_with_two_species_counts_its_frames_once(log: SpeciesLog) -> None:
    media_ids = frames(log, 4, minutes=1)
    say(log, media_ids[0], "red fox", "badger")
    shown = log.detections()
    assert len(shown) == 2
    counts = came_in(shown)
    assert (counts.frames, counts.events, counts.with_animals) == (4, 1, 1)
    line = deployment_lines(shown, ())[0]
    assert (line.frames, line.events, line.species) == (4, 1, 2)
    assert [(s.frames, s.labelled_share) for s in species_lines(shown, {})] == [(4, 1), (4, 1)]


def test_events_of_private_species_count_nowhere_but_as_work_of_the_camera(
    log: SpeciesLog,
) -> None:
    publish(log)
    media_ids = frames(log, 2, minutes=48 * 60)
    predict(log, {media_ids[0]: ("person", 0.9), media_ids[1]: ("hare", 0.9)})
    shown = log.detections().without({"person"})
    counts = came_in(shown)
    assert (counts.frames, counts.events, counts.not_looked_at) == (1, 1, 0)
    assert counts.camera_days == 3
    assert deployment_lines(shown, ())[0].frames == 1


def test_a_period_is_told_as_it_was_asked_for_or_as_it_was(config: Path) -> None:
    zone = settings_of(config).station.zone
    shown = seen([("hare", "a", "2026-01-02T12:00"), ("hare", "a", "2026-02-03T12:00")])
    since = datetime(2026, 1, 1, tzinfo=zone)
    assert period_words(shown, None, None, zone) == "2026-01-02 to 2026-02-03"
    assert period_words(shown, since, None, zone) == "2026-01-01 to 2026-02-03"
    until = datetime(2026, 2, 1, tzinfo=zone)
    assert period_words(shown, since, until, zone) == "2026-01-01 to 2026-01-31"
    assert period_words(seen([]), since, None, zone) == "from 2026-01-01"
    assert period_words(seen([]), None, until, zone) == "until 2026-01-31"
