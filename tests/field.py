"""A small station for tests: real files, a real log, the `small` backbone, a clock by hand."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from logbook import new_log
from PIL import Image

from monitor.core.config import Watch
from monitor.core.domain import ModelState
from monitor.images.decode import DecodeRules
from monitor.log.features import FeatureStore
from monitor.model.backbone import Backbone, BackboneOptions, layout_of, open_backbone
from monitor.model.backbone.tail import Tail
from monitor.model.head import Head
from monitor.model.versions import ModelStore
from monitor.pipeline.classify import Pipeline
from monitor.pipeline.deployments import Deployments
from monitor.pipeline.intake import Intake
from monitor.pipeline.live import LiveModel
from monitor.pipeline.scan import Found, stamp_of
from monitor.pipeline.watch import Watcher

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
RULES = DecodeRules(size=64)
LAYOUT = layout_of("small")


@lru_cache(maxsize=512)
def jpeg(seed: int, size: tuple[int, int] = (48, 36)) -> bytes:
    """A small picture that differs from that of every other seed."""
    random = np.random.default_rng(seed)
    stream = io.BytesIO()
    Image.fromarray(random.integers(0, 255, (*size, 3), dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


class Field:
    """A watched folder, its log and intake; `now` moves only when a test says so.

    Args:
        polling: True leaves real events out, so that nothing happens between two looks.
    """

    def __init__(self, base: Path, *, polling: bool = True, **watch: object) -> None:
        self.root = base / "frames"
        self.root.mkdir(exist_ok=True)
        folders = watch.pop("folders", (self.root,))
        settings = Watch(folders=folders, polling=polling, **watch)
        self.log = new_log(base / "log.db")
        self.reports: list[dict[str, object]] = []
        self.watcher = Watcher(
            settings, self.log.known_files, self.log.mark_found, self.reports.append
        )
        self.intake = Intake(
            self.log,
            Deployments("{deployment}/**"),
            RULES,
            ZoneInfo("UTC"),
            timedelta(minutes=30),
            lambda: NOW,
            on_changing=self._put_off,
        )
        self.now = 1000.0
        self.taken: list[bytes] = []

    def close(self) -> None:
        self.watcher.close()
        self.intake.close()
        self.log.close()

    def put(self, name: str | bytes, data: bytes) -> Path:
        """Write a file below the watched folder."""
        path = os.path.join(os.fsencode(self.root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        return Path(os.fsdecode(path))

    def look(self, seconds: float = 0.0) -> list[int]:
        """One step of the watcher, `seconds` later; what settled is taken in."""
        self.now += seconds
        settled = self.watcher.step(self.now)
        self.taken += [found.path for found in settled]
        return self.intake.take(settled)

    def settle(self, seconds: float = 30.0) -> None:
        """Look every half second until all is taken in."""
        end = self.now + seconds
        while not (self.look(0.5) == [] and self.watcher.idle()):
            assert self.now < end, "it does not come to rest"

    def rescan(self) -> None:
        """A reconcile, and what follows from it."""
        self.watcher.request_reconcile()
        self.settle()

    def hear_until(self, condition: Callable[[], object], seconds: float = 8.0) -> None:
        """Look again and again, the clock by hand standing still, until real events came."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "no event came"
            self.look()
            time.sleep(0.01)

    def media(self) -> list[tuple[str, str]]:
        """(path shown, status) of every media, oldest first."""
        rows = self._rows("SELECT path, status FROM media ORDER BY id")
        return [(os.path.relpath(path, self.root), status) for path, status in rows]

    def names(self) -> list[str]:
        """Paths of all media below the watched folder, in order of name."""
        return sorted(path for path, _ in self.media())

    def known_paths(self) -> dict[bytes, int | None]:
        """Every remembered path, relative, and its media."""
        rows = self._rows("SELECT path_bytes, media_id FROM file")
        return {os.path.relpath(bytes(path), os.fsencode(self.root)): m for path, m in rows}

    def problems(self) -> list[str]:
        """What is said of unreadable files."""
        return [problem for _, problem in self.log.unreadable(100)]

    def _rows(self, query: str) -> list[tuple]:
        with self.log._read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def _put_off(self, found: Found) -> None:
        stamp = stamp_of(found.path)
        if stamp is not None:
            self.watcher.put_off(Found(found.folder, found.path, stamp), self.now)


class Camp(Field):
    """A field with a classifier of two threads: `step` is one of the pipeline's.

    Args:
        lanes: 2 as on a CPU, where each thread goes on with the forward pass; 1 as on a GPU.
    """

    def __init__(self, base: Path, *, lanes: int = 2, **watch: object) -> None:
        super().__init__(base, **watch)
        self.lanes = lanes
        self.clock = NOW
        self.features = FeatureStore(base / "features.db", LAYOUT.name, LAYOUT.size, 10**7)
        self.store = ModelStore(base / "models")
        self.live = LiveModel(self.store, self.log, lambda: self.clock)
        self.pipeline = self.new_pipeline()

    def new_pipeline(self, unknown_below: float = 0.0) -> Pipeline:
        def opened(tail: Tail | None) -> Backbone:
            return open_backbone(BackboneOptions("small", batch_size=4, threads=self.lanes))

        parts = (self.log, self.features, opened, self.live, RULES, unknown_below)
        return Pipeline(*parts, lambda: self.clock, threads=2)

    def close(self) -> None:
        self.pipeline.close()
        self.features.close()
        super().close()

    def step(self) -> int:
        return self.pipeline.step()

    def classify_all(self) -> None:
        """Steps until there is nothing to do."""
        for _ in range(1000):
            if self.step() == 0:
                return
        raise AssertionError("the pipeline does not come to rest")

    def everything(self) -> None:
        """As `run --once`: take in and classify all there is."""
        self.rescan()
        self.classify_all()

    def publish(
        self, name: str, head: Head, *, live: bool = True, tail: Tail | None = None
    ) -> None:
        """A version on disk and in the log."""
        sha256 = self.store.publish(name, head, {}, "", tail=tail)
        state, figures = ModelState.CANDIDATE, {}
        self.log.add_version(name, state, "small", head.layout, sha256, "", figures, NOW)
        if live:
            self.log.go_live(name, "test", "test", NOW)

    def sightings(self) -> dict[str, tuple[str | None, str | None, str]]:
        """File name -> (species, version, source)."""
        return {
            Path(s.path).name: (s.species, s.model_version, s.source) for s in self.log.sightings()
        }


def sure_of(species: str, others: Sequence[str] = ("other",), *, sureness: float = 5.0) -> Head:
    """A head that says `species` of every frame."""
    d, classes = LAYOUT.size, (species, *others)
    bias = np.zeros(len(classes), np.float32)
    bias[0] = sureness
    zeros = np.zeros((d, len(classes)), np.float32)
    ones = np.ones(d, np.float32)
    return Head(classes, np.zeros(d, np.float32), ones, zeros, bias, 1.0, LAYOUT.name)


def snapshot(root: Path) -> dict[bytes, tuple]:
    """Everything a program could change below `root`: names, bytes, inodes, times, modes."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            facts = os.lstat(path)
            data = open(path, "rb").read() if os.path.isfile(path) else b""  # noqa: SIM115
            found[path] = (facts.st_ino, facts.st_mtime_ns, facts.st_mode, facts.st_size, data)
    return found
