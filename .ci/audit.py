"""Known vulnerabilities in what constraints.txt pins, by pip-audit: python3 .ci/audit.py

Runs where it can: without the tool, or without its list of vulnerabilities, it says so and exits 0.
pip-audit itself says "No known vulnerabilities found" also where it could look nothing up, so its
words are not believed, only its document is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
HOME = TOP / ".venv" / "audit"
"""An environment of its own: what the tool needs is not what a station needs."""
SECONDS = 240


def verdict(document: dict[str, Any]) -> tuple[int, list[str]]:
    """Exit status and words for one document of `pip-audit -f json`.

    1 if something is vulnerable that another version mends: then constraints.txt is to be changed.
    """
    asked = document.get("dependencies", [])
    skipped = [d for d in asked if "skip_reason" in d]
    looked_up = len(asked) - len(skipped)
    if not looked_up:
        return 0, ["audit left out: no package could be looked up from here"]
    lines, status = [], 0
    for package in asked:
        for fault in package.get("vulns", []):
            mended = ", ".join(fault.get("fix_versions", []))
            status = 1 if mended else status
            advice = f"mended in {mended}" if mended else "no version mends it yet"
            lines.append(f"{package['name']} {package['version']}: {fault['id']}; {advice}")
    left = f"; {len(skipped)} could not be looked up" if skipped else ""
    return status, [f"audit: {looked_up} packages, {len(lines)} known faults{left}", *lines]


def audited() -> dict[str, Any] | str:
    """The document; or why there is none."""
    tool = HOME / "bin" / "pip-audit"
    try:
        if not tool.exists():
            subprocess.run([sys.executable, "-m", "venv", HOME], check=True, capture_output=True)
            get = [HOME / "bin" / "pip", "install", "-q", "--retries", "0", "--timeout", "10"]
            subprocess.run([*get, "pip-audit"], check=True, capture_output=True, timeout=SECONDS)
        with tempfile.TemporaryDirectory() as folder:
            found = Path(folder) / "found.json"
            ask = [tool, "-r", TOP / "constraints.txt", "--no-deps", "--disable-pip"]
            ask += ["--progress-spinner", "off", "-f", "json", "-o", found]
            subprocess.run(ask, check=False, capture_output=True, timeout=SECONDS)
            document: dict[str, Any] = json.loads(found.read_text())
            return document
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return f"audit left out: pip-audit cannot be had or cannot ask ({type(error).__name__})"


def main() -> int:
    """Audit, and say what came of it."""
    document = audited()
    status, lines = (0, [document]) if isinstance(document, str) else verdict(document)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
