"""Fixtures that several rooms use."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from logbook import fill

from monitor.__main__ import main
from monitor.log.species_log import SpeciesLog

Run = Callable[..., tuple[int, str, str]]
CONFIG = """\
station: {name: test, timezone: Europe/Berlin}
classifier: {backbone: small, threads: 1}
watch: {settle_seconds: 0}
web: {enabled: false}
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, so that no worker is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow and item.path.parent.name != "faults")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The config file of a station of its own, with the `small` backbone and no log yet."""
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    (tmp_path / "frames").mkdir()
    return path


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SpeciesLog]:
    """An empty species log."""
    with SpeciesLog(tmp_path / "data" / "trapwatch.db", create=True) as log:
        yield log


@pytest.fixture
def filled(config: Path) -> Iterator[SpeciesLog]:
    """The station's log, with something in every table."""
    with fill(config.parent / "data" / "trapwatch.db") as log:
        yield log


@pytest.fixture
def run(config: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: (exit code, stdout, stderr)."""

    def command(*words: object) -> tuple[int, str, str]:
        arguments = ["trapwatch", *map(str, words), "--config", str(config)]
        monkeypatch.setattr(sys, "argv", arguments)
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        return code, *capfd.readouterr()

    return command


@pytest.fixture
def ask(run: Run) -> Callable[..., Any]:
    """Runs a command that must do, and reads its JSON."""

    def command(*words: object) -> Any:
        code, out, err = run(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    return command
