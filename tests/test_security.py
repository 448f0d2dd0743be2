"""What SECURITY.md promises of the program itself: no shell, nothing that can run code, secrets
only where they belong."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from monitor import __version__
from monitor.core.config import ConfigError, load_settings

TOP = Path(__file__).parents[1]
PAGES = sorted((TOP / "monitor").rglob("*.py"))
SHELLS = {
    "os.popen",
    "os.system",
    "pty.spawn",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
}
LOADERS = {"compile", "__import__", "torch.load", "joblib.load", "pickle.loads", "yaml.unsafe_load"}


def calls(page: Path) -> list[ast.Call]:
    return [n for n in ast.walk(ast.parse(page.read_text())) if isinstance(n, ast.Call)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(TOP)))
def test_no_shell_is_ever_asked(page: Path) -> None:
    for call in calls(page):
        assert ast.unparse(call.func) not in SHELLS, ast.unparse(call)
        for keyword in call.keywords:
            assert keyword.arg != "shell", ast.unparse(call)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(TOP)))
def test_nothing_that_is_read_can_run_code(page: Path) -> None:
    for call in calls(page):
        assert ast.unparse(call.func) not in LOADERS, ast.unparse(call)
        for keyword in call.keywords:
            allowed = keyword.arg in ("allow_pickle", "trust_remote_code") and (
                ast.unparse(keyword.value) == "False"
            )
            assert keyword.arg not in ("allow_pickle", "trust_remote_code") or allowed


def test_the_tests_above_would_find_one(tmp_path: Path) -> None:
    page = tmp_path / "page.py"
    page.write_text("import subprocess\nsubprocess.run('ls', shell=True)\n")
    with pytest.raises(AssertionError):
        test_no_shell_is_ever_asked(page)
    page.write_text("import numpy as np\nnp.fromfile('x', allow_pickle=True)\n")
    with pytest.raises(AssertionError):
        test_nothing_that_is_read_can_run_code(page)


def test_a_credential_of_systemd_is_a_setting(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "TRAPWATCH_STATION__NAME").write_text("north ridge\n")
    (folder / "TRAPWATCH_WEB__PRIVATE_SPECIES").write_text("[person, wolf]\n")
    (folder / "key.pem").write_bytes(b"\xff\xfe")  # which a path names: not read as a setting
    environ = {"CREDENTIALS_DIRECTORY": str(folder), "TRAPWATCH_STATION__NAME": "south"}
    settings = load_settings(config, environ)
    assert settings.station.name == "north ridge"
    assert settings.web.private_species == ("person", "wolf")
    assert load_settings(config, {}).station.name == "test"


def test_a_credential_that_is_none_is_named_but_not_shown(config: Path, tmp_path: Path) -> None:
    (tmp_path / "TRAPWATCH_STATION__NAME").write_bytes(b"s3cret\xff")
    with pytest.raises(ConfigError, match="TRAPWATCH_STATION__NAME") as caught:
        load_settings(config, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert "s3cret" not in str(caught.value)


def test_a_folder_of_credentials_that_is_gone_is_no_fault(config: Path, tmp_path: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "gone")}
    assert load_settings(config, environ).station.name == "test"


def test_the_page_for_whoever_finds_a_hole_names_this_release() -> None:
    text = (TOP / "SECURITY.md").read_text()
    release = ".".join(__version__.split(".")[:2])
    assert re.search(rf"\|\s*{re.escape(release)}\.x\s*\|\s*yes", text)


def test_the_unit_lets_the_service_read_photographs_and_write_its_own_folder_only() -> None:
    unit = (TOP / "systemd" / "trapwatch.service").read_text()
    for line in (
        "UMask=0077",
        "StateDirectoryMode=0750",
        "ReadOnlyPaths=-/media -/mnt -/srv",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "AmbientCapabilities=\n",
    ):
        assert line in unit
    assert "ReadWritePaths" not in unit
