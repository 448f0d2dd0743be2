"""The long form of every fault by one command; what each said is kept, with date and machine.

    python -m tests.faults.long_forms                  all of them: half a day on a small machine
    python -m tests.faults.long_forms cards flip       some
    python -m tests.faults.long_forms --list

After each its negative control runs: the same drill with a protection taken out, which must report
losses. What both said goes to docs/faults/NAME.txt. Exit status 1: a drill found something, or a
control found nothing.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

TOP = Path(__file__).parents[2]
SAVED = TOP / "docs" / "faults"
LAST_LINES, CONTROL_LINES = 60, 15
"""So much of what a drill said is kept: the end; of a control the beginning."""
FOLDERS = re.compile("|".join(map(re.escape, (str(TOP), tempfile.gettempdir(), sys.base_prefix))))
"""They say nothing to anybody else."""
REMARK = re.compile(
    r"WARNING: All log messages before absl|[IW]\d{4} \d|To enable the following instr"
)
"""TensorFlow's, in every process that trains."""
REPORT = re.compile(r"(faults|losses|findings|lost or|lost,|lost:|grew by).*[1-9]|AssertionError")


@dataclass(frozen=True, slots=True)
class Form:
    """One row of docs/reliability.md.

    Attributes:
        long: what to run, after `python -m`; it must end with 0.
        controls: drills without a protection, which must end with 1.
    """

    long: str
    controls: tuple[str, ...] = ()


def _pytest(tests: str) -> str:
    return f"pytest -o addopts= -q -p no:cacheprovider --no-header {tests}"


FORMS = {
    "crash-points": Form(_pytest("tests/faults/test_crash_points.py")),
    "random-kill": Form(
        "tests.faults.random_kill --kills 300",
        ("tests.faults.random_kill --kills 8 --break intake",),
    ),
    "foreign-reads": Form(
        "tests.faults.random_kill --kills 200 --reads",
        ("tests.faults.random_kill --kills 8 --reads --break closing",),
    ),
    "story-kills": Form(
        "tests.faults.story_kills --kills 700",
        ("tests.faults.story_kills --kills 30 --stories labels --break transactions",),
    ),
    "mutate": Form(
        "tests.faults.mutate --mutants 60000",
        ("tests.faults.mutate --mutants 50 --break refusing",),
    ),
    "hostile": Form(
        "tests.faults.hostile --tries 40000",
        tuple(
            f"tests.faults.hostile --tries 200 --break {name}"
            for name in ("exif", "yaml", "once", "sums")
        ),
    ),
    "enospc": Form(
        "tests.faults.enospc",
        ("tests.faults.enospc --stories labels --every 3 --break transactions",),
    ),
    "full-disk": Form(_pytest("tests/faults/test_full_disk.py tests/test_disk.py")),
    "power-cut": Form(
        "tests.faults.power_cut --cuts 200", ("tests.faults.power_cut --cuts 16 --break sync",)
    ),
    "clocks": Form(
        "tests.faults.clocks --jumps 100",
        tuple(f"tests.faults.clocks --break {name}" for name in ("settle", "due", "ticks")),
    ),
    "cards": Form(
        "tests.faults.cards --tries 100", ("tests.faults.cards --tries 4 --break reading",)
    ),
    "flip": Form(
        "tests.faults.flip --flips 200", ("tests.faults.flip --flips 14 --break journal",)
    ),
    "hangs": Form(
        _pytest(
            "tests/test_poison.py tests/test_fallback.py tests/test_other_users.py "
            "tests/test_service_training.py tests/faults/test_hangs.py"
        )
    ),
    "machine": Form(
        "tests.faults.machine --examples 100", ("tests.faults.machine --break labels",)
    ),
    "soak": Form(
        "tests.faults.soak --media 1000000 --trainings 50 --save",
        ("tests.faults.soak --media 60000 --trainings 0 --break leak",),
    ),
}


def run_form(name: str, form: Form) -> bool:
    """Run a form and its controls, keep what they said; whether all ended as they must."""
    parts, well = [], True
    for command in (form.long, *form.controls):
        print(f"{name}: python -m {command}", flush=True)
        code, seconds, said = _run(command)
        is_control = command != form.long
        lines = said[:CONTROL_LINES] if is_control else said[-LAST_LINES:]
        as_it_must = code == 1 and has_reported(said) if is_control else code == 0
        well &= as_it_must
        verdict = f"exit status {code}, {'' if as_it_must else 'NOT '}as it must; {seconds:.0f} s"
        parts.append("\n".join([f"$ python -m {command}", *lines, f"[{verdict}]"]))
        print(f"{name}: {verdict}", flush=True)
    SAVED.mkdir(parents=True, exist_ok=True)
    (SAVED / f"{name}.txt").write_text("\n\n".join([_heading(), *parts, ""]), encoding="utf-8")
    return well


def has_reported(said: Sequence[str]) -> bool:
    """True if a drill named a loss. One that stumbled over itself ends with 1, too, and has shown
    nothing."""
    return any(REPORT.search(line) for line in said)


def _run(command: str) -> tuple[int, float, list[str]]:
    started, lines = time.monotonic(), []
    with subprocess.Popen(
        [sys.executable, "-u", "-m", *command.split()],
        cwd=TOP,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"  {line}", end="", flush=True)
            if not REMARK.match(line):
                lines.append(FOLDERS.sub("", line.rstrip()))
    return process.returncode, time.monotonic() - started, lines


def _heading() -> str:
    sys.path.insert(0, str(TOP / "benchmarks"))
    import bench

    installed = (f"{package} {version}" for package, version in bench.versions().items())
    lines = (f"date: {datetime.now(UTC):%Y-%m-%d}", f"machine: {bench.machine_in_words()}")
    return "\n".join([*lines, f"versions: {', '.join(installed)}"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen forms, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("forms", nargs="*", metavar="FORM", help=", ".join(FORMS))
    parser.add_argument("--list", action="store_true", help="what would run")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.forms) - set(FORMS):
        parser.error(f"no form is called {', '.join(sorted(unknown))}")
    forms = {name: form for name, form in FORMS.items() if name in (chosen.forms or FORMS)}
    if chosen.list:
        for name, form in forms.items():
            print(f"{name}:", *(f"  python -m {c}" for c in (form.long, *form.controls)), sep="\n")
        return 0
    ended = [run_form(name, form) for name, form in forms.items()]
    return int(not all(ended))


if __name__ == "__main__":
    sys.exit(main())
