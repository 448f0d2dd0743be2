"""A station as people and scripts see it: commands, files, addresses, and nothing of the inside.

What is asked here must go on answering when modules move. So this file and test_golden.py import
ours in one place only, right below, and reach everything else through it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, BinaryIO
from unittest import mock

import typer
import uvicorn
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from receivers import free_port, webhook
from starlette.testclient import TestClient

from monitor.__main__ import main
from monitor.cli import app as COMMANDS  # the typer.Typer that every command hangs on
from monitor.core.config import Settings  # the pydantic model of the config file

TOP = Path(__file__).parents[1]
CONFIG = """\
station: {{name: test, timezone: "{zone}"}}
classifier: {{backbone: small, threads: 1, unknown_below: 0.0}}
watch: {{settle_seconds: 0}}
training: {{nice: 0, method: head, min_labels_per_species: 2, gate: {{bootstrap_samples: 100}}}}
web: {{enabled: false}}
disk: {{warn_mb: 2, stop_mb: 1}}
"""
COLOURS = {"red fox": (200, 60, 30), "roe deer": (40, 170, 60), "blank": (60, 70, 200)}
CAMERAS = ("north", "south", "west")
EACH = 5
"""Frames of each species at each camera, of which people sorted all but the last."""
FIRST_FRAME = datetime(2024, 5, 1, 6)
"""Before the program was written: no clock of a machine can be behind it."""
LOCAL = "http://127.0.0.1"
PASSWORD = "a long walk in the forest"
ROLES = ("viewer", "reviewer", "admin")
START_SECONDS = 60.0


_command_tree = functools.cache(typer.main.get_command)
"""Typer builds all commands anew at each call, which takes longer than most of them."""


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str


def trapwatch(*words: object, stdin: str = "") -> Said:
    """Run a command in this process, which stays as it was: arguments, streams, logging, umask."""
    out, err = io.StringIO(), io.StringIO()
    journal = logging.getLogger()
    handlers, level, umask = journal.handlers[:], journal.level, os.umask(0o022)
    code = 0
    try:
        with (
            mock.patch.object(typer.main, "get_command", _command_tree),
            mock.patch.object(sys, "argv", ["trapwatch", *map(str, words)]),
            mock.patch.object(sys, "stdin", io.StringIO(stdin)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        journal.handlers[:] = handlers
        journal.setLevel(level)
        os.umask(umask)
    return Said(code, out.getvalue(), err.getvalue())


def commands() -> dict[str, Any]:
    """Every command and group of commands: its words -> typer's object."""

    def below(command: Any, words: str) -> Iterator[tuple[str, Any]]:
        yield words, command
        for name, inner in getattr(command, "commands", {}).items():
            yield from below(inner, f"{words} {name}")

    return dict(below(_command_tree(COMMANDS), "trapwatch"))


def config_schema() -> dict[str, Any]:
    """The JSON schema of the config file."""
    return Settings.model_json_schema()


@dataclass
class Web:
    """The app that `trapwatch web` serves, asked without a socket.

    Attributes:
        app: what uvicorn was to serve.
        tokens: role -> token of the API.
    """

    app: Any
    client: TestClient
    tokens: dict[str, str]

    def api(self, method: str, path: str, role: str | None, **options: Any) -> Any:
        """What the API answers to a program with the token of a role, or with none."""
        self.client.cookies.clear()
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        return self.client.request(method, path, headers=headers, **options)

    def log_in(self, role: str, password: str = PASSWORD) -> Any:
        """Come in as a person of this role, whoever was there before."""
        self.client.cookies.clear()
        fields = self.form("/login") | {"name": role, "password": password}
        return self.client.post("/login", data=fields)

    def form(self, page: str) -> dict[str, str]:
        """What a page hides in its forms against requests from elsewhere."""
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.client.get(page).text)
        assert found, f"there is no form on {page}"
        return {"csrf_token": found[1]}


@dataclass
class Outside:
    """A station in a folder.

    Attributes:
        documents: what was printed with --json, by the words of the command.
    """

    root: Path
    documents: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """Its config file."""
        return self.root / "config.yaml"

    @property
    def data(self) -> Path:
        """The folder of its log."""
        return self.root / "data"

    def run(self, *words: object, stdin: str = "") -> Said:
        """Run a command on this station."""
        return trapwatch(*words, "--config", self.config, stdin=stdin)

    def do(self, *words: object, stdin: str = "") -> str:
        """Run a command that must not fail; returns what it printed."""
        said = self.run(*words, stdin=stdin)
        assert said.code == 0, f"{words}: {said.err}"
        return said.out

    def ask(self, command: str, *words: object, code: int = 0) -> Any:
        """Run a command with --json, and remember the document under the command's name."""
        said = self.run(*command.split(), *words, "--json")
        is_of_machine = command == "doctor"  # whose exit status says how this machine is
        assert said.code == code or is_of_machine, f"{command} {words}: {said.err}"
        document = json.loads(said.out)
        self.documents.setdefault(command, []).append(document)
        return document

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the log from outside, while nothing of ours works on it."""
        with contextlib.closing(sqlite3.connect(self.data / "trapwatch.db")) as connection:
            found = connection.execute(statement, values).fetchall()
            connection.commit()
        return found

    def media(self, name: str) -> int:
        """The media of a file."""
        shown = json.loads(self.do("sightings", "--json"))
        (found,) = (s["media_id"] for s in shown if s["path"].endswith(f"/{name}"))
        return int(found)

    @contextlib.contextmanager
    def service(self) -> Iterator[None]:
        """`trapwatch run` in a process of its own, until it has done all that it does at once."""
        command = [sys.executable, "-m", "monitor", "run", "--config", str(self.config)]
        with open(self.root / "service.txt", "wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=TOP)
        try:
            self._wait_for(process)
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0, output_of(self.root / "service.txt")
        finally:
            process.kill()
            process.wait()

    def serve(self, look: Callable[[Web], None]) -> None:
        """`trapwatch web`, up to where it would begin to serve: there `look` asks its app."""
        tokens = self._accounts()

        def run(server: uvicorn.Server, sockets: object = None) -> None:
            app = server.config.app
            options: dict[str, Any] = {"client": ("127.0.0.1", 5000), "follow_redirects": False}
            with TestClient(app, LOCAL, raise_server_exceptions=False, **options) as client:
                look(Web(app, client, tokens))

        with mock.patch.object(uvicorn.Server, "run", run):
            self.do("web", "--port", "0")

    def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert process.poll() is None, output_of(self.root / "service.txt")
            facts = json.loads(self.do("status", "--json"))
            looked = (facts["log"]["integrity"] or {}).get("full_at")
            if facts["service"]["running"] and facts["backup"].get("at") and looked:
                outages = json.loads(self.do("deployments", "outage", "list", "--json"))
                if len(outages) == len(CAMERAS) and facts["rescoring"]["to_score"] == 0:
                    return
            time.sleep(0.5)
        raise AssertionError(f"it never came to rest: {output_of(self.root / 'service.txt')}")

    def _accounts(self) -> dict[str, str]:
        """One person and one token of each role; the tokens."""
        tokens = {}
        for role in ROLES:
            self.do("web", "password", role, "--role", role, "--stdin", stdin=f"{PASSWORD}\n")
            tokens[role] = self.do("web", "token", f"of {role}", "--role", role).strip()
        return tokens


def output_of(file: Path) -> str:
    """What a process wrote."""
    return file.read_text(encoding="utf-8", errors="replace")


def new_station(root: Path) -> Outside:
    """A station with frames of three cameras, and no log yet.

    By its own clock it is about noon, whenever this runs: no day ends in the middle of a test.
    """
    behind = datetime.now(UTC).hour - 12  # hours behind UTC, as these names count them
    (root / "config.yaml").write_text(CONFIG.format(zone=f"Etc/GMT{behind:+d}"), encoding="utf-8")
    at = FIRST_FRAME
    for number, camera in enumerate(CAMERAS):
        for species in COLOURS:
            for n in range(EACH):
                at, seed = at + timedelta(minutes=45), 100 * number + len(species) * 10 + n
                name = f"{camera}-{species}-{n}.jpg".replace(" ", "-")
                draw(root / "frames" / camera / name, species, at, seed)
                if n < EACH - 1:
                    copy = root / "sorted" / species.replace(" ", "_") / name
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(root / "frames" / camera / name, copy)
    for n in range(5):
        later = at + timedelta(days=1, hours=n)
        draw(root / "frames" / "west" / f"alike-{n}.jpg", "red fox", later, 7)
    (root / "frames" / "north" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photograph")
    (root / "frames" / "north" / "notes.txt").write_text("the battery was changed")
    return Outside(root)


def fill(station: Outside) -> Outside:
    """Do what a station does in a season, so that every command has something to tell."""
    with mock.patch.object(Figure, "savefig", _quick_picture):
        station.do("run", "--once")
        _list_species(station)
        _label(station)
        station.ask("status")
        station.ask("train", "--force")
        _correct_a_clock(station)
        with station.service():
            station.ask("status")
            station.ask("doctor")
        _tell(station)
        station.do("label", "set", station.media("alike-1.jpg"), "red fox")
        station.ask("train", "--force")
    return station


def draw(path: Path, species: str, at: datetime, seed: int) -> None:
    """A small JPEG in the colour of its species, with blots of any colour and an EXIF time."""
    chance = Random(seed)
    image = Image.new("RGB", (96, 72), COLOURS[species])
    brush = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = chance.randrange(96), chance.randrange(72)
        colour = (chance.randrange(256), chance.randrange(256), chance.randrange(256))
        brush.ellipse((x, y, x + 9, y + 6), fill=colour)
    exif = Image.Exif()
    exif[0x0132] = at.strftime("%Y:%m:%d %H:%M:%S")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", exif=exif)


def _quick_picture(figure: Figure, file: BinaryIO, **options: object) -> None:
    """In the place of matplotlib's drawing, which takes half of a training's time."""
    file.write(b'<svg viewBox="0 0 1 1"></svg>')


def _list_species(station: Outside) -> None:
    names = ("--name", "de=Rotfuchs", "--alias", "fox", "--group", "canids", "--hotkey", "x")
    known = ("--scientific", "Vulpes vulpes", "--key", "5219243")
    station.do("species", "add", "red fox", *known, *names)
    station.do("species", "add", "lynx")


def _label(station: Outside) -> None:
    """Labels from folders and a CSV file with a mistake in it, by hand, of two minds, and wrong."""
    (station.root / "labels.csv").write_text(
        "path,species,count,by\nmissing.jpg,red fox,,\nframes/west/alike-0.jpg,red fox,2,Ben\n"
    )
    station.ask("label import", station.root / "labels.csv", code=1)
    station.ask("label import-folder", station.root / "sorted")
    first, second = station.media("north-blank-4.jpg"), station.media("north-red-fox-4.jpg")
    details = ("--sex", "female", "--life-stage", "adult", "--behaviour", "foraging")
    station.do("label", "set", first, "roe deer:2", "red fox", *details, "--by", "Ana")
    station.do("label", "set", second, "roe deer", "--by", "Ana")
    station.do("label", "set", second, "red fox", "--by", "Ben")
    for camera in CAMERAS:  # whichever of them is held out: there is a mistake to be found
        wrong = station.root / "frames" / camera / f"{camera}-roe-deer-4.jpg"
        station.do("label", "set", wrong, "blank", "--by", "Ben")


def _correct_a_clock(station: Outside) -> None:
    station.do("deployments", "set", "north", "--start", "2024-05-01", "--end", "2024-06-30")
    station.ask("deployments shift-time", "south", "--by", "+1h", "--dry-run")
    station.ask("deployments shift-time", "south", "--by", "+1h", "--person", "Ana")
    station.ask("deployments shift-time", "south", "--undo", "--person", "Ana")
    station.do("deployments", "shift-time", "west", "--by", "+1h", "--since", "2024-05-02")


def _tell(station: Outside) -> None:
    """What needs a mishap and half a minute of the service: two alerts of which one got through,
    and a file that cannot be read."""
    at, alert = "2024-06-01T06:00:00.000Z", "INSERT INTO alert (id, at, kind, key, subject, body"
    station.sql(f"{alert}, media_id) VALUES (1, ?, 'species', 'lynx', 'a lynx', 'at north', 1)", at)
    station.sql(f"{alert}) VALUES (2, ?, 'station', 'disk', 'the disk is full', 'make room')", at)
    way = "INSERT INTO delivery (alert_id, channel, state, attempts, next_try_at, sent_at, problem)"
    station.sql(f"{way} VALUES (1, 'mail', 'sent', 1, ?, ?, NULL)", at, at)
    station.sql(f"{way} VALUES (2, 'mail', 'waiting', 3, ?, NULL, 'Connection refused')", at)
    file = "INSERT INTO file (path_bytes, path, size, mtime_ns, problem)"
    station.sql(f"{file} VALUES (?, '/locked.jpg', 1, 1, 'Permission denied')", b"/locked.jpg")


def try_channels(station: Outside) -> None:
    """`alerts test` over a channel that gets through, and over one where nobody listens."""
    with webhook() as hook:
        urls = {"there": hook.url(), "nobody": f"json://127.0.0.1:{free_port()}/"}
        with mock.patch.dict(os.environ, {"TRAPWATCH_ALERTS__URLS": json.dumps(urls)}):
            station.ask("alerts test", code=1)
