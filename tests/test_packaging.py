"""What a station installs: the wheel alone, the unit, the default config."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from monitor.core.config import Settings, load_settings

TOP = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=TOP, check=True, capture_output=True)
    return next(folder.glob("trapwatch-*.whl"))


def test_the_wheel_carries_migrations_config_and_units(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "monitor/migrations/env.py",
        "monitor/migrations/versions/0001_the_log.py",
        "monitor/migrations/versions/0002_review.py",
        "monitor/migrations/versions/0003_percents.py",
        "monitor/web/static/app.css",
        "monitor/web/templates/base.html",
        "monitor/report/report.html",
        "monitor/config.yaml",
        "monitor/systemd/trapwatch.service",
        "monitor/py.typed",
    } <= names
    assert not [name for name in names if name.startswith("tests/")]


def test_the_wheel_installed_elsewhere_works_alone(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    frames = tmp_path / "frames" / "ridge"
    frames.mkdir(parents=True)
    Image.new("RGB", (320, 240), "olive").save(frames / "a.jpg")
    (tmp_path / "config.yaml").write_text(
        "classifier: {backbone: small}\nwatch: {settle_seconds: 0}"
    )
    env = {**os.environ, "PYTHONPATH": str(target)}

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        )
        return done.stdout + done.stderr

    where = run("-c", "import monitor; print(monitor.__file__)")
    assert where.startswith(str(target))
    assert "1 classified" in run("-m", "monitor", "run", "--once")
    assert "ridge" in run("-m", "monitor", "sightings")


def test_the_config_at_the_top_is_the_documented_default() -> None:
    settings = load_settings(TOP / "config.yaml", environ={})
    defaults = Settings().model_dump(exclude={"database", "watch", "models"})
    assert settings.model_dump(exclude={"database", "watch", "models"}) == defaults
    assert settings.watch.folders == (TOP / "frames",)
    assert settings.watch.extensions == Settings().watch.extensions


def test_the_config_at_the_top_explains_every_key() -> None:
    text = (TOP / "config.yaml").read_text()
    for section, value in Settings().model_dump(exclude={"source"}).items():
        assert f"\n{section}:" in text
        for key in value:
            assert f"  {key}:" in text, f"{section}.{key} is not in config.yaml"


def test_the_unit_is_hardened() -> None:
    text = (TOP / "systemd" / "trapwatch.service").read_text()
    for line in ("ProtectSystem=strict", "NoNewPrivileges=yes", "CapabilityBoundingSet=\n"):
        assert line in text
    assert "WatchdogSec=" in text
    assert "Type=notify" in text
