"""A station with pages for tests: rendered frames, a log that knows them, a real `trapwatch web`,
and a real Chromium that looks at it."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
from field import sure_of
from playwright.sync_api import Browser, BrowserContext, Page, Playwright

from monitor.cli.demo.species import SPECIES
from monitor.cli.demo.world import Frame, plan, render
from monitor.core.config import Settings, load_settings
from monitor.core.domain import BLANK, ModelState, Prediction, utc_now
from monitor.log.media import BatchResult
from monitor.log.species_log import SpeciesLog, open_log
from monitor.model.versions import ModelStore
from monitor.service.station import Station

CONFIG = """\
station: {{name: forest, timezone: Europe/Berlin}}
database: {{url: "sqlite:///data/trapwatch.db"}}
watch: {{folders: [frames], settle_seconds: 0}}
classifier: {{backbone: small, threads: 1}}
training: {{enabled: false}}
models: {{directory: data/models}}
web: {{host: {host}, port: {port}}}
"""
CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
AXE = Path(sys.prefix) / "node_modules" / "axe-core" / "axe.min.js"
SEED, SIZE = 7, (320, 240)
START_SECONDS = 30.0


class WebStation:
    """A station in a folder: its config, its log, its address once it is served.

    Attributes:
        truth: media id -> what the frame shows.
    """

    def __init__(self, root: Path, host: str = "127.0.0.1") -> None:
        self.root, self.config = root, root / "config.yaml"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (root / "frames").mkdir(parents=True, exist_ok=True)
        self.config.write_text(CONFIG.format(host=host, port=self.port), encoding="utf-8")
        self.truth: dict[int, str] = {}

    @property
    def settings(self) -> Settings:
        """As the program reads them."""
        return load_settings(self.config)

    def log(self) -> SpeciesLog:
        """The log, for a `with`."""
        return open_log(self.settings.database.url, create=True)

    def fill(self, frames: int, *, model: bool = True, seed: int = SEED) -> None:
        """Let rendered frames arrive, be classified, and (`model`) be spoken of by a version that
        is right four times in five."""
        some = plan(seed, frames).frames
        for frame in some:
            path = self.root / "frames" / frame.path
            path.parent.mkdir(parents=True, exist_ok=True)
            exif = _exif(frame)
            render(frame, seed, SIZE).save(path, "JPEG", quality=85, exif=exif)
        station = Station(self.settings)
        try:
            while not station.quiet:
                station.watch_step()
            while station.classify_step():
                pass
        finally:
            station.close()
        with self.log() as log:
            by_path = {s.path: s.media_id for s in log.sightings()}
            frames_folder = self.root / "frames"
            self.truth = {by_path[str(frames_folder / f.path)]: f.species for f in some}
            if model:
                publish(log, self.settings, "v0001")
                log.record(BatchResult(predictions=guesses(self.truth), version="v0001"), utc_now())

    @contextmanager
    def served(self, *words: str, stdin: object = None) -> Iterator[WebStation]:
        """`trapwatch web` in a process of its own; its output in web.txt."""
        command = [sys.executable, "-m", "monitor", "web", "--config", str(self.config), *words]
        output = self.root / "web.txt"
        with open(output, "ab") as journal:
            server = subprocess.Popen(command, stdout=journal, stderr=journal)
        try:
            self._until_served(server, output)
            yield self
        finally:
            server.terminate()
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def _until_served(self, server: subprocess.Popen[bytes], output: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{self.url}/login", timeout=5)
                return
            except httpx.TransportError:
                assert server.poll() is None, output.read_text()
                time.sleep(0.05)
        raise AssertionError(f"no pages within {START_SECONDS:.0f} s: {output.read_text()}")


def publish(log: SpeciesLog, settings: Settings, name: str) -> None:
    """A version on disk and in the log, live."""
    head = sure_of("red fox", ("roe deer", "wild boar", "badger", BLANK))
    sha256 = ModelStore(settings.models.directory).publish(name, head, {"notes": []}, "# A card\n")
    figures = {"accuracy": 0.8}
    log.add_version(
        name, ModelState.CANDIDATE, "small", head.layout, sha256, "made", figures, utc_now()
    )
    log.go_live(name, "first", "test", utc_now())


def guesses(truth: dict[int, str], seed: int = 1) -> tuple[Prediction, ...]:
    """What a model that is right four times in five says, the less sure the wronger."""
    chance = random.Random(seed)
    names = [*SPECIES, BLANK]
    found = []
    for media_id, species in truth.items():
        right = chance.random() < 0.8
        said = species if right else chance.choice([n for n in names if n != species])
        best = chance.uniform(0.7, 0.98) if right else chance.uniform(0.4, 0.7)
        others = [n for n in names if n != said]
        rest = [(name, (1 - best) / len(others)) for name in others]
        found.append(Prediction(media_id, said, best, ((said, best), *rest)))
    return tuple(found)


@contextmanager
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
    try:
        yield opened
    finally:
        opened.close()


def faults_of(page: Page) -> list[str]:
    """What axe-core calls serious or critical on this page (the context needs bypass_csp)."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
    )
    return [
        f"{one['id']}: {one['help']}: {node['html'][:160]} {node.get('failureSummary', '')}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def named(context: BrowserContext, station: WebStation, name: str) -> Page:
    """A page of a browser whose labels are recorded under `name`."""
    page = context.new_page()
    page.goto(f"{station.url}/login")
    said = page.evaluate(
        """async (name) => {
            const me = await (await fetch('/api/v1/me')).json();
            const headers = {'Content-Type': 'application/json', 'X-CSRF-Token': me.csrf};
            const body = JSON.stringify({name});
            return (await fetch('/api/v1/me', {method: 'PUT', headers, body})).status;
        }""",
        name,
    )
    assert said == 200
    return page


def labels_of(log: SpeciesLog, media_ids: Sequence[int]) -> dict[int, str | None]:
    """What people said of these frames."""
    return {
        s.media_id: s.species if s.source == "label" else None for s in log.sightings_of(media_ids)
    }


def unlabelled(station: WebStation) -> WebStation:
    """The same station, all labels withdrawn."""
    with station.log() as log:
        while any(labels_of(log, list(station.truth)).values()):
            log.undo(None, "test", "cli", utc_now())
    return station


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _exif(frame: Frame) -> bytes:
    from PIL import Image

    exif = Image.Exif()
    moment = frame.captured_local.strftime("%Y:%m:%d %H:%M:%S")
    exif[0x0132] = exif.get_ifd(0x8769)[0x9003] = moment
    return exif.tobytes()
