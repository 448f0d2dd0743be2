"""Fixtures that several rooms use."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from faults.drill import Drill, Zygote
from faults.systemd import Ears
from field import Field
from logbook import NOW, fill, new_log

from monitor.__main__ import main
from monitor.core.config import Settings, load_settings
from monitor.log.species_log import SpeciesLog
from monitor.recovery.label_journal import keep_journal

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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
def settings(config: Path) -> Settings:
    """What the config file of the station says."""
    return load_settings(config)


@pytest.fixture
def kept(settings: Settings) -> Iterator[SpeciesLog]:
    """The station's log, empty, which keeps its journal."""
    log = new_log(settings.data_directory / "trapwatch.db")
    yield keep_journal(log, settings, lambda: NOW)
    log.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SpeciesLog]:
    """An empty species log."""
    with new_log(tmp_path / "data" / "trapwatch.db") as log:
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


@pytest.fixture
def drill(tmp_path: Path) -> Drill:
    """A small whole station for real processes; nothing is in it yet."""
    return Drill(tmp_path / "station")


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Runs commands in forks of one process."""
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture
def ears(tmp_path: Path) -> Iterator[Ears]:
    """Hears what a service tells systemd."""
    ears = Ears(tmp_path)
    yield ears
    ears.close()


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    """Folders that are scanned, their log, and a clock that tests move."""
    one = Field(tmp_path)
    yield one
    one.close()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Field]:
    """A field with real events. Its clock stands still, so that nothing settles by waiting."""
    one = Field(tmp_path, polling=False)
    one.settle()
    yield one
    one.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of a module; each has a context, and so a session, of its own."""
    from playwright.sync_api import sync_playwright
    from webstation import browser

    with sync_playwright() as playwright, browser(playwright) as opened:
        yield opened
