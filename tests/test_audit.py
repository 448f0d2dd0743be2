"""What the audit of dependencies says, and when it fails a build."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOP = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", TOP / ".ci" / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def found(**vulns: list[str]) -> dict[str, Any]:
    faults = [{"id": name, "fix_versions": fixes} for name, fixes in vulns.items()]
    return {"dependencies": [{"name": "jinja2", "version": "2.10", "vulns": faults}]}


SKIPPED = {"name": "numpy", "skip_reason": "Dependency not found on PyPI"}


def test_a_fault_that_another_version_mends_fails_the_build(audit: ModuleType) -> None:
    status, lines = audit.verdict(found(CVE_1=["2.11.3"]))
    assert status == 1
    assert "jinja2 2.10: CVE_1; mended in 2.11.3" in lines


def test_a_fault_that_nothing_mends_is_told_only(audit: ModuleType) -> None:
    status, lines = audit.verdict(found(CVE_1=[]))
    assert (status, "no version mends it yet" in lines[1]) == (0, True)


def test_where_nothing_could_be_looked_up_it_does_not_say_that_all_is_well(
    audit: ModuleType,
) -> None:
    for document in ({"dependencies": [SKIPPED]}, {"dependencies": []}, {}):
        status, (line,) = audit.verdict(document)
        assert status == 0 and "left out" in line


def test_what_was_skipped_is_counted(audit: ModuleType) -> None:
    document = found()
    document["dependencies"].append(SKIPPED)
    assert audit.verdict(document)[1] == [
        "audit: 1 packages, 0 known faults; 1 could not be looked up"
    ]


def test_without_the_tool_it_is_left_out(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_tool(*arguments: Any, **options: Any) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(audit, "HOME", Path("/nowhere"))
    monkeypatch.setattr(audit.subprocess, "run", no_tool)
    assert audit.main() == 0
    assert "left out" in capsys.readouterr().out


def test_the_build_runs_it() -> None:
    assert "python .ci/audit.py" in (TOP / ".ci" / "run").read_text()
    assert sys.version_info >= (3, 11)
