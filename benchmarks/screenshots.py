"""Makes the pictures of docs/: `make screenshots`.

docs/demo-world.jpg is a contact sheet of the demo's rendered world; docs/demo.svg is what
`trapwatch demo` prints in a terminal, from a real run of it.
"""

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

from monitor.cli.demo.world import plan, render
from monitor.core.domain import BLANK

SEED = 7
TILE = (400, 300)
COLUMNS = 3
TERMINAL_COLUMNS = 110
DEPLOYMENTS = ("waterhole", "ridge", "forest-edge")
DOCS = Path(__file__).parents[1] / "docs"


def contact_sheet() -> Image.Image:
    """One day and one infrared frame of each species, and a blank, from different cameras."""
    chosen, seen = [], set()
    for frame in plan(SEED, 240).frames:
        key = (frame.species, frame.infrared)
        if key in seen or frame.deployment != DEPLOYMENTS[len(seen) % len(DEPLOYMENTS)]:
            continue
        seen.add(key)
        chosen.append(frame)
    chosen = sorted(chosen, key=lambda f: (f.species == BLANK, f.species, f.infrared))[:9]
    sheet = Image.new("RGB", (TILE[0] * COLUMNS, TILE[1] * ((len(chosen) + 2) // COLUMNS)))
    for place, frame in enumerate(chosen):
        tile = render(frame, SEED).resize(TILE, Image.Resampling.LANCZOS)
        sheet.paste(tile, (place % COLUMNS * TILE[0], place // COLUMNS * TILE[1]))
    return sheet


def demo_in_a_terminal() -> str:
    """What the demo prints, with the colours and tables of a terminal."""
    program = Path(sys.executable).with_name("trapwatch")
    with tempfile.TemporaryDirectory() as folder:
        command = "trapwatch demo --dir demo 2>/dev/null"
        size = {"COLUMNS": str(TERMINAL_COLUMNS), "LINES": "60", "TERM": "xterm-256color"}
        size["PATH"] = f"{program.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["script", "-qec", command, "/dev/null"],
            cwd=folder,
            env={**os.environ, **size},
            capture_output=True,
            text=True,
            check=True,
        )
    return done.stdout.replace("\r\n", "\n")


def main() -> None:
    """Both pictures."""
    contact_sheet().save(DOCS / "demo-world.jpg", quality=82)
    printed = demo_in_a_terminal()
    console = Console(record=True, width=TERMINAL_COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi("$ make demo\n" + printed))
    svg = console.export_svg(title="trapwatch demo")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # nothing from elsewhere
    (DOCS / "demo.svg").write_text(svg, encoding="utf-8")
    print(Text.from_ansi(printed).plain)


if __name__ == "__main__":
    main()
