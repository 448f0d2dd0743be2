"""Which wheels a 64-bit ARM Linux would install: python benchmarks/wheels.py [--check].

Asks pip, without installing anything, for every package that pyproject.toml names and for all
that those bring along, and writes the tables into docs/aarch64.md below its mark line. Nothing is
built or run: a wheel that exists may still fail on a board.

pip judges environment markers by the machine it runs on, not by --platform. So pip is asked with
--no-deps, and each wheel's dependencies are followed here with the markers of an aarch64 Linux.
Thus pysqlite3 (x86_64 only) stays out, and a dependency for aarch64 alone would come in.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "aarch64.md"
MARK = "<!-- below: written by benchmarks/wheels.py -->"
PYTHONS = ("3.11", "3.12", "3.13")
NEWEST_GLIBC = 35  # 2.35, JetPack 6; Debian 12 and Raspberry Pi OS 12 have 2.36, Debian 13 has 2.41
PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in range(NEWEST_GLIBC, 16, -1)]
PLATFORMS += ["manylinux2014_aarch64", "linux_aarch64"]
TRAINING = ("tensorflow", "keras")
NO_WHEEL = "**no wheel**"
# pip's words for it; the second where constraints.txt pins the package
NOT_FOUND = ("No matching distribution found", "ResolutionImpossible")


@dataclass(frozen=True)
class Wheel:
    """What pip would install of one package; `tags` is None where there is no wheel."""

    name: str
    version: str
    tags: tuple[str, ...] | None
    megabytes: float | None
    requires: tuple[str, ...] = ()

    def platform(self) -> str:
        return ", ".join(self.tags) if self.tags is not None else NO_WHEEL

    def size(self) -> str:
        if self.megabytes is None:
            return ""
        return f"{self.megabytes:.1f}" if self.megabytes >= 0.05 else "< 0.1"


def markers(python: str, machine: str = "aarch64") -> dict[str, str]:
    """The environment that a 64-bit Linux with this Python presents to markers."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
        "extra": "",
    }


def applies(
    requirement: Requirement, environment: Mapping[str, str], extras: Iterable[str]
) -> bool:
    if requirement.marker is None:
        return True
    asked = ("", *extras)
    return any(requirement.marker.evaluate({**environment, "extra": extra}) for extra in asked)


def roots() -> dict[str, list[Requirement]]:
    """The project's own requirements by what they are for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = [Requirement(line) for line in project["dependencies"]]
    extras = {
        name: [Requirement(line) for line in lines]
        for name, lines in project["optional-dependencies"].items()
    }
    named = [*own, *(r for lines in extras.values() for r in lines)]
    run = [r for r in own if r.name not in TRAINING]
    return {
        "run": run,
        "training": [r for r in named if r.name in TRAINING],
        "offline weights": extras["offline"],
        "heif": extras["heif"],
    }


def ask_pip(requirements: Iterable[Requirement], python: str) -> list[Wheel] | None:
    """One wheel for each requirement, or None if one of them has none."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--no-deps", "--only-binary=:all:", "--progress-bar=off", "--no-color"]
        command += ["--disable-pip-version-check", "--no-input", f"--report={report}"]
        command += [f"--platform={tag}" for tag in PLATFORMS]
        command += [f"--python-version={python}", "--implementation=cp"]
        command += [f"--abi=cp{python.replace('.', '')}", f"--target={scratch}/never"]
        command += ["-c", str(ROOT / "constraints.txt")]
        command += [f"{r.name}{r.specifier}" for r in requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            installs = json.loads(report.read_text())["install"]
            return [_wheel(install, _sizes(done.stdout)) for install in installs]
    if any(words in done.stderr for words in NOT_FOUND):
        return None
    raise SystemExit(f"pip failed:\n{done.stderr}")


def _sizes(printed: str) -> dict[str, float]:
    """Megabytes by file name, from pip's lines 'Downloading x.whl (4.9 MB)'.

    Where an index offers a wheel's metadata apart, pip names only the size of that: no entry then.
    """
    found = re.findall(r"(?:^|[\s/])([^\s/]+\.whl) \(([\d.]+) (MB|kB|bytes)\)", printed)
    unit = {"MB": 1.0, "kB": 1e-3, "bytes": 1e-6}
    return {name: float(size) * unit[kind] for name, size, kind in found}


def _wheel(install: dict[str, Any], sizes: Mapping[str, float]) -> Wheel:
    address = urlsplit(install["download_info"]["url"])
    path = Path(unquote(address.path))
    size = path.stat().st_size / 1e6 if address.scheme == "file" else sizes.get(path.name)
    tags = {tag.platform for tag in parse_wheel_filename(path.name)[3]}
    return Wheel(
        name=canonicalize_name(install["metadata"]["name"]),
        version=install["metadata"]["version"],
        tags=tuple(sorted(tags, key=lambda tag: (glibc(tag), tag))),
        megabytes=size,
        requires=tuple(install["metadata"].get("requires_dist", ())),
    )


def find_wheels(requirements: list[Requirement], python: str) -> list[Wheel]:
    together = ask_pip(requirements, python)
    if together is not None:
        return together
    found = []
    for requirement in requirements:
        alone = ask_pip([requirement], python)
        missing = Wheel(canonicalize_name(requirement.name), str(requirement.specifier), None, None)
        found.append(alone[0] if alone else missing)
    return found


def follow(wanted: list[Requirement], python: str, known: dict[str, Wheel]) -> dict[str, Wheel]:
    """All packages that these requirements bring along on an aarch64 Linux.

    Args:
        known: wheels already asked for, by name; grows with each that is found.
    """
    environment = markers(python)
    wave: list[tuple[Requirement, tuple[str, ...]]] = [(r, ()) for r in wanted]
    seen: dict[str, Wheel] = {}
    done: set[tuple[str, tuple[str, ...]]] = set()
    while wave:
        needed = [r for r, extras in wave if applies(r, environment, extras)]
        unknown = {
            canonicalize_name(r.name): r for r in needed if canonicalize_name(r.name) not in known
        }
        if unknown:
            known.update(
                (wheel.name, wheel) for wheel in find_wheels(list(unknown.values()), python)
            )
        wave = []
        for requirement in needed:
            wheel = known[canonicalize_name(requirement.name)]
            _insist(requirement, wheel, python)
            seen[wheel.name] = wheel
            step = (wheel.name, tuple(sorted(requirement.extras)))
            if step not in done:
                done.add(step)
                wave += [(Requirement(line), step[1]) for line in wheel.requires]
    return seen


def _insist(requirement: Requirement, wheel: Wheel, python: str) -> None:
    """pip was asked package by package, so nobody else has looked whether all versions agree."""
    if wheel.tags is not None and not requirement.specifier.contains(
        wheel.version, prereleases=True
    ):
        raise SystemExit(
            f"Python {python}: {requirement} but {wheel.name} {wheel.version} was chosen"
        )


def glibc(tag: str) -> Version:
    """The C library that a platform tag asks for; 0 for 'any'."""
    if tag == "manylinux2014_aarch64":
        return Version("2.17")
    parts = re.match(r"manylinux_(\d+)_(\d+)_", tag)
    return Version(f"{parts[1]}.{parts[2]}") if parts else Version("0")


def least_glibc(wheel: Wheel) -> Version:
    return min((glibc(tag) for tag in wheel.tags or ()), default=Version("0"))


def table(uses: Mapping[tuple[str, Wheel], list[str]]) -> list[str]:
    """One row for each package; two where Pythons differ in version or tag."""
    rows: dict[tuple[str, str, str, str], list[tuple[str, Wheel]]] = {}
    for (python, wheel), purposes in uses.items():
        key = (purposes[0], wheel.name, wheel.version, wheel.platform())
        rows.setdefault(key, []).append((python, wheel))
    order = list(roots())
    lines = ["| package | version | wheel's platform | MB | needed for | Python |"]
    lines += ["| --- | --- | --- | --: | --- | --- |"]
    for key in sorted(rows, key=lambda key: (order.index(key[0]), *key[1:])):
        _, name, version, tags = key
        first = rows[key][0]
        needed_for = ", ".join(uses[first])
        pythons = "all" if len(rows[key]) == len(PYTHONS) else ", ".join(p for p, _ in rows[key])
        lines.append(
            f"| {name} | {version} | {tags} | {first[1].size()} | {needed_for} | {pythons} |"
        )
    return lines


def summary(uses: Mapping[tuple[str, Wheel], list[str]]) -> list[str]:
    """What the table comes to, for each purpose; several rows where Pythons differ."""
    rows: dict[str, list[str]] = {}
    for purpose in roots():
        for python in PYTHONS:
            chosen = [w for (p, w), why in uses.items() if p == python and why[0] == purpose]
            rows.setdefault(_sum(purpose, chosen), []).append(python)
    lines = ["| for | packages | without a wheel | MB to fetch | newest glibc asked for | Python |"]
    lines += ["| --- | --: | --- | --: | --- | --- |"]
    return lines + [f"{row} {', '.join(pythons)} |" for row, pythons in rows.items()]


def _sum(purpose: str, wheels: list[Wheel]) -> str:
    missing = ", ".join(wheel.name for wheel in wheels if wheel.tags is None) or "none"
    newest = max(wheels, key=least_glibc)
    sizes = [wheel.megabytes for wheel in wheels if wheel.megabytes is not None]
    size = f"{sum(sizes):.0f}" if len(sizes) == len(wheels) else ""
    label = purpose if purpose == "run" else f"{purpose}, beyond run"
    return (
        f"| {label} | {len(wheels)} | {missing} | {size} | {least_glibc(newest)} ({newest.name}) |"
    )


def look() -> dict[tuple[str, Wheel], list[str]]:
    """Every wheel for every Python, with what it is needed for."""
    uses: dict[tuple[str, Wheel], list[str]] = {}
    for python in PYTHONS:
        known: dict[str, Wheel] = {}
        for purpose, wanted in roots().items():
            for wheel in follow(wanted, python, known).values():
                uses.setdefault((python, wheel), []).append(purpose)
        if all(wheel.tags is None for wheel in known.values()):
            raise SystemExit("pip found no wheel at all. Can it reach its package index?")
        print(f"Python {python}: {len(known)} packages", file=sys.stderr)
    return uses


def by_machine(uses: Mapping[tuple[str, Wheel], list[str]]) -> str:
    """What x86_64 and aarch64 would install differently, by the markers of all that was met."""
    lines = {(python, line) for python, wheel in uses for line in wheel.requires}
    lines |= {(python, str(r)) for python in PYTHONS for wanted in roots().values() for r in wanted}
    only: dict[str, set[str]] = {"aarch64": set(), "x86_64": set()}
    for python, line in lines:
        requirement = Requirement(line)
        arm = applies(requirement, markers(python), ())
        if arm != applies(requirement, markers(python, "x86_64"), ()):
            only["aarch64" if arm else "x86_64"].add(requirement.name)
    named = [
        f"{machine} {', '.join(sorted(names)) or 'nothing'}" for machine, names in only.items()
    ]
    return f"Asked for by marker on one machine alone: {'; '.join(named)}."


def write(lines: list[str]) -> None:
    """Replaces what stands below the mark line, in one step."""
    intro = PAGE.read_text().split(MARK)[0]
    new = PAGE.with_suffix(".md.new")
    new.write_text(intro + "\n".join([MARK, "", *lines]) + "\n")
    os.replace(new, PAGE)


def pip_version() -> str:
    command = [sys.executable, "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--check", action="store_true", help="print, and leave docs/aarch64.md alone"
    )
    args = parser.parse_args()
    uses = look()
    made = f"Asked on {datetime.now(UTC):%Y-%m-%d} with pip {pip_version()}"
    made += f" under Python {platform.python_version()}, versions as in constraints.txt."
    lines = [f"{made} {by_machine(uses)}", "", *summary(uses), "", *table(uses)]
    if args.check:
        print("\n".join(lines))
    else:
        write(lines)
    return int(any(wheel.tags is None for _, wheel in uses))


if __name__ == "__main__":
    raise SystemExit(main())
