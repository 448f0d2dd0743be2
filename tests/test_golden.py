"""What users and scripts see of trapwatch is what they saw before: a file for each subject in
tests/golden/, compared line by line.

Where a change is meant, write the files anew, read the difference as a user would, and commit it
together with the change:

    GOLDEN=write .venv/bin/python -m pytest tests/test_golden.py
    git diff tests/golden

Nothing here may import our modules; outside.py says why.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import surface
from outside import CONFIG, TOP, Outside, Said, Web, fill, new_station, trapwatch, try_channels

GOLDEN = Path(__file__).parent / "golden"
SUBJECTS = (
    "access",
    "commands",
    "config",
    "exit_codes",
    "files",
    "json",
    "metrics",
    "openapi",
    "pages",
    "schema",
    "service",
)
WRITE = "GOLDEN=write .venv/bin/python -m pytest tests/test_golden.py"
FAULTS = {
    "wach: {}": ("wach", "'watch'"),
    "watch: {setle_seconds: 1}": ("watch.setle_seconds", "'settle_seconds'"),
    "source: x": ("source",),
    "station: {timezone: Nowhere/Land}": ("station.timezone", "Nowhere/Land"),
    "database: {url: 'mysql://x'}": ("database.url", "sqlite:///"),
    "watch: {folders: [a, a/b]}": ("watch.folders", "overlap"),
    "watch: {folders: 7}": ("watch.folders",),
    "deployments: {path_pattern: '**'}": ("deployments.path_pattern", "{deployment}"),
    "classifier: {active_hours: [25]}": ("classifier.active_hours",),
    "classifier: {active_hours: ['8-25']}": ("classifier.active_hours",),
    "training: {schedule: nonsense}": ("training.schedule",),
    "training: {gate: {confidence: 1}}": ("training.gate.confidence",),
    "web: {port: 70000}": ("web.port",),
    "disk: {warn_mb: 1, stop_mb: 2}": ("disk", "warn_mb", "stop_mb"),
    "alerts: {urls: {mail: nonsense-with-a-secret}}": ("alerts.urls", "secret"),
    "alerts: {leave_out: [weather]}": ("alerts.leave_out",),
    "a: [": ("YAML",),
}
"""A config with a fault -> what is to be said of it (or, of an address, not to be)."""
OPEN_DOCUMENTS = (
    "/healthz",
    "/readyz",
    "/api/v1/deployments/effort",
    "/api/v1/models/v0001",
    "/api/v1/species/history",
    "/api/v1/status",
)
"""Addresses whose answers hold more than the OpenAPI document says of them."""


@dataclass
class Seen:
    """What was seen of the app that `trapwatch web` serves."""

    pages: list[str] = field(default_factory=list)
    access: list[str] = field(default_factory=list)
    openapi: dict[str, Any] = field(default_factory=dict)
    metrics: str = ""


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    """No variable of whoever runs this says anything to the station."""
    kept = {name: value for name, value in os.environ.items() if not _speaks_to_us(name)}
    with mock.patch.dict(os.environ, kept | {"COLUMNS": "200"}, clear=True):
        yield


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Outside:
    """A station after a season: frames, labels, two trainings, a service that ran."""
    return fill(new_station(tmp_path_factory.mktemp("station")))


@pytest.fixture(scope="module")
def seen(station: Outside) -> Seen:
    """The pages and the API of that station. One frame is flagged there."""
    found, flagged = Seen(), station.media("north-red-fox-4.jpg")

    def look(web: Web) -> None:
        found.pages = surface.pages(web)
        found.access = surface.access(web)
        found.openapi = web.api("GET", "/api/v1/openapi.json", "admin").json()
        found.metrics = web.api("GET", "/metrics", None).text
        for address in OPEN_DOCUMENTS:
            document = web.api("GET", address, "admin").json()
            title = f"GET {address.replace('v0001', '{version}')}"
            station.documents.setdefault(title, []).append(document)
        flag = web.api("PUT", f"/api/v1/flags/{flagged}", "admin", json={"flagged": True})
        assert flag.is_success

    station.serve(look)
    return found


@pytest.fixture(scope="module")
def asked(station: Outside, seen: Seen) -> Outside:
    """That station, after every command was asked for its JSON."""
    for command in (
        "sightings",
        "events",
        "status",
        "doctor",
        "label queue",
        "label queue --groups",
        "label queue --suspect",
        "label queue --disagreement",
        "label queue --flagged",
        "species list",
        "models list",
        "deployments list",
        "deployments outage list",
        "alerts list",
        "backup --list",
        "web people",
    ):
        station.ask(command)
    try_channels(station)
    station.ask("models show", "v0001")
    station.ask("models promote", "v0002")
    station.ask("models rollback")
    first, second, *_ = station.documents["deployments outage list"][-1]
    station.ask("deployments outage confirm", first["id"], "--reason", "battery", "--note", "low")
    station.ask("deployments outage dismiss", second["id"])
    station.ask("deployments outage add", "south", "--start", "2024-07-01", "--reason", "stolen")
    station.ask("deployments outage list")
    station.ask("deployments list")
    copy = station.root / "copy.db"
    station.ask("backup", copy)
    station.ask("restore", copy, "--yes")
    station.ask("status")
    prefix = station.root / "etc"
    installed = trapwatch("install-service", "--prefix", prefix, "--dry-run", "--json")
    station.documents["install-service"] = [json.loads(installed.out)]
    return station


def test_every_command_has_the_arguments_and_options_that_it_had() -> None:
    compare("commands", surface.commands_and_options())


def test_every_json_document_and_csv_file_has_the_keys_that_it_had(asked: Outside) -> None:
    compare("json", surface.json_documents(asked.documents) + surface.csv_columns(asked))


def test_every_command_that_prints_json_was_asked_for_it(asked: Outside) -> None:
    titles = {re.sub(r" --.*", "", title) for title in asked.documents if title[:4] != "GET "}
    assert titles == surface.commands_that_print_json()


def test_every_key_of_the_config_means_what_it_meant() -> None:
    compare("config", surface.config_keys())


def test_every_key_of_the_config_can_be_set_from_the_environment(tmp_path: Path) -> None:
    """A mapping stands in the place of all that are no text: each is named as a fault."""
    keys = surface.structured_keys()
    assert len(keys) > 50
    (tmp_path / "config.yaml").touch()
    wrong = {surface.variable(key): "{x: 1}" for key in keys}
    with mock.patch.dict(os.environ, wrong):
        said = trapwatch("config", "check", "--config", tmp_path / "config.yaml")
    named = {line.split(":")[0].strip() for line in said.err.splitlines()}
    assert [key for key in keys if key not in named] == []


def test_the_api_is_the_one_that_it_was(seen: Seen) -> None:
    compare("openapi", surface.openapi(seen.openapi))


def test_every_role_may_do_with_the_api_what_it_might(seen: Seen) -> None:
    compare("access", seen.access)


def test_every_page_answers_as_it_did(seen: Seen) -> None:
    compare("pages", seen.pages)


def test_prometheus_is_told_the_metrics_that_it_was_told(seen: Seen) -> None:
    compare("metrics", surface.metrics(seen.metrics))


def test_a_new_log_has_the_tables_that_it_had(station: Outside) -> None:
    compare("schema", surface.schema(station))


def test_a_station_keeps_the_files_that_it_kept(asked: Outside) -> None:
    compare("files", surface.files(asked))


def test_the_service_is_installed_as_it_was(tmp_path: Path) -> None:
    compare("service", surface.service_files(tmp_path / "etc"))


def test_commands_end_as_they_did(asked: Outside, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.yaml").write_text(CONFIG.format(zone="UTC"), encoding="utf-8")
    lines = [*_ends_of_commands(asked), *_ends_without_a_log(Outside(empty))]
    for text, words in FAULTS.items():
        (empty / "config.yaml").write_text(text, encoding="utf-8")
        said = trapwatch("config", "check", "--config", empty / "config.yaml")
        lines.append(f"config check of «{text}»: {surface.exit_of(said, *words)}")
    compare("exit_codes", lines)


def test_a_process_ends_as_a_call_does(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("wach: {}", encoding="utf-8")
    command = [sys.executable, "-m", "monitor", "config", "check", "--config", str(config)]
    assert subprocess.run(command, cwd=TOP, capture_output=True, check=False).returncode == 2


def test_every_golden_file_has_a_subject() -> None:
    assert sorted(file.name for file in GOLDEN.iterdir()) == [f"{name}.txt" for name in SUBJECTS]


def compare(subject: str, lines: Iterable[str]) -> None:
    """Hold what is seen against the golden file; with GOLDEN=write, make it the file."""
    assert subject in SUBJECTS
    file, seen = GOLDEN / f"{subject}.txt", list(lines)
    if os.environ.get("GOLDEN") == "write":
        file.write_text("".join(f"{line}\n" for line in seen), encoding="utf-8")
        pytest.skip(f"{file.name} was written anew: read the difference")
    known = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    if seen == known:
        return
    differing = difflib.unified_diff(known, seen, "as it was", "as it is now", "", "", 0, "")
    shown = "\n".join(line for line in differing if not line.startswith("@@"))
    pytest.fail(
        f"{subject}: people and scripts would see another trapwatch than before.\n{shown}\n\n"
        f"If that is meant: {WRITE}, then read `git diff {GOLDEN.relative_to(TOP)}`",
        pytrace=False,
    )


def _speaks_to_us(name: str) -> bool:
    return name.startswith("TRAPWATCH_") or name in ("NOTIFY_SOCKET", "JOURNAL_STREAM")


def _ends_of_commands(station: Outside) -> Iterator[str]:
    """How commands end on a station that has a log."""
    nowhere = station.root / "nowhere"
    for words, named in (
        (("--version",), ()),
        (("--help",), ()),
        (("status", "-h"), ()),
        ((), ()),
        (("models",), ()),
        (("nonsense",), ("nonsense",)),
        (("install-service", "--user", "Root User", "--dry-run"), ("--user",)),
    ):
        yield _ended(trapwatch(*words), words, named)
    for words, named in (
        (("config", "check"), ()),
        (("sightings",), ()),
        (("sightings", "--limit", "1", "--json"), ()),
        (("sightings", "--deployment", "nowhere"), ()),
        (("sightings", "--species", "zebra"), ("'zebra'",)),
        (("sightings", "--nonsense"), ("--nonsense",)),
        (("sightings", "--since", "yesterday"), ("'yesterday'",)),
        (("sightings", "--limit", "0"), ("--limit",)),
        (("sightings", "--min-probability", "2"), ("--min-probability",)),
        (("sightings", "--json", "--csv", nowhere), ("--json", "--csv")),
        (("sightings", "--csv", nowhere / "x.csv"), ()),
        (("events", "--limit", "1"), ()),
        (("status",), ()),
        (("species", "list"), ()),
        (("species", "add", "x", "--name", "Fuchs"), ("'Fuchs'",)),
        (("species", "import", nowhere), ("nowhere",)),
        (("label", "set", "1", "fox:many"), ("'fox:many'",)),
        (("label", "set", "1", "red fix"), ("'red fox'", "--new")),
        (("label", "set", "9999", "fox"), ("9999",)),
        (("label", "set-group", "g0", "fox"), ("'g0'",)),
        (("label", "queue", "--groups", "--flagged"), ("--flagged",)),
        (("train",), ("min_new_labels", "--force")),
        (("train", "--method", "magic"), ("--method",)),
        (("models", "show", "v0009"), ("'v0009'",)),
        (("deployments", "set", "north"), ("--start",)),
        (("deployments", "shift-time", "north"), ("--by",)),
        (("deployments", "outage", "confirm", "999", "--reason", "battery"), ()),
        (("alerts", "test"), ("alerts.urls",)),
        (("backup",), ("--list",)),
        (("backup", station.root / "copy.db"), ()),
        (("restore", nowhere, "--yes"), ()),
        (("report", "--out", station.root / "report"), ()),
        (("report",), ("--out",)),
        (("web", "token", "of admin"), ("'of admin'",)),
        (("web", "remove", "stranger"), ("'stranger'",)),
        (("web", "--port", "70000"), ("--port",)),
    ):
        yield _ended(station.run(*words), words, named)
    yield f"report writes {', '.join(sorted(f.name for f in (station.root / 'report').iterdir()))}"


def _ends_without_a_log(station: Outside) -> Iterator[str]:
    """How commands end before the first start."""
    for words in (("status",), ("sightings",), ("events",), ("label", "undo"), ("models", "list")):
        said = station.run(*words)
        yield f"without a log, {_ended(said, words, ('trapwatch run',))}"


def _ended(said: Said, words: tuple[object, ...], named: tuple[str, ...]) -> str:
    shown = " ".join(word.name if isinstance(word, Path) else str(word) for word in words)
    return f"trapwatch {shown}".strip() + f": {surface.exit_of(said, *named)}"
