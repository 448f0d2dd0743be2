"""Camera-trap photographs for tests: real ones where ../shared is at hand, else rendered."""

from __future__ import annotations

import io
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "camera-traps"


def photographs(count: int) -> list[bytes]:
    """The bytes of so many different JPEGs, spread over species and makers."""
    paths = sorted(
        path for path in SHARED.glob("*/*/*") if path.suffix.lower() in (".jpg", ".jpeg")
    )
    if len(paths) >= count:
        step = len(paths) / count
        return [paths[int(number * step)].read_bytes() for number in range(count)]
    return _rendered(count)


def _rendered(count: int) -> list[bytes]:
    from monitor.cli.demo.world import plan, render

    found = []
    frames = plan(1).frames
    for number in range(count):
        frame = frames[number * len(frames) // count]
        stream = io.BytesIO()
        render(frame, 1).save(stream, "JPEG", quality=85)
        found.append(stream.getvalue())
    return found
