"""Makes the pictures of docs/: `python benchmarks/screenshots.py` (or `make screenshots`)."""

from pathlib import Path

from PIL import Image

from monitor.demo.world import plan, render
from monitor.domain import BLANK

SEED = 7
TILE = (400, 300)
COLUMNS = 3
TARGET = Path(__file__).parents[1] / "docs" / "demo-world.jpg"


def contact_sheet() -> Image.Image:
    """One day and one infrared frame of each species, and two blanks, from different cameras."""
    chosen, seen, cameras = [], set(), {}
    for frame in plan(SEED, 240).frames:
        key = (frame.species, frame.infrared)
        turn = cameras.get(key, len(seen) % 3)
        if key in seen or frame.deployment != ("waterhole", "ridge", "forest-edge")[turn]:
            continue
        seen.add(key)
        chosen.append(frame)
    chosen = sorted(chosen, key=lambda f: (f.species == BLANK, f.species, f.infrared))[:9]
    sheet = Image.new("RGB", (TILE[0] * COLUMNS, TILE[1] * ((len(chosen) + 2) // COLUMNS)))
    for place, frame in enumerate(chosen):
        tile = render(frame, SEED).resize(TILE, Image.Resampling.LANCZOS)
        sheet.paste(tile, (place % COLUMNS * TILE[0], place // COLUMNS * TILE[1]))
    return sheet


if __name__ == "__main__":
    contact_sheet().save(TARGET, quality=82)
    print(TARGET)
