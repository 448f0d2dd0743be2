"""The service, less patient than usual with folders that hang, so that drills take seconds.

python tests/faults/card_service.py whole|reading run --config CONFIG

`reading` takes a protection out: a file that cannot be read counts as an empty one.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # this checkout, whatever is installed

from monitor.cli import main
from monitor.pipeline import places
from monitor.pipeline.scan import stamp_of
from monitor.service import workers as attention
from monitor.system import reads as patience
from monitor.system.reading import Content

READ_SECONDS, HANG_SECONDS, PROBE_SECONDS = 1.0, 2.0, 2.0


def break_reading() -> None:
    """Errors of a card are taken for what is on it."""
    read = patience.Patience.read

    def read_badly(reader: patience.Patience, path: bytes) -> Content:
        try:
            return read(reader, path)
        except OSError:
            stamp = stamp_of(path)
            if stamp is None:
                raise
            return Content(b"", hashlib.sha256(path).hexdigest(), stamp)

    patience.Patience.read = read_badly  # type: ignore[method-assign]


if __name__ == "__main__":
    patience.READ_SECONDS = READ_SECONDS
    attention.WATCH_HANGS_SECONDS = HANG_SECONDS
    places.PROBE_SECONDS = PROBE_SECONDS
    if sys.argv[1] == "reading":
        break_reading()
    sys.argv = ["trapwatch", *sys.argv[2:]]
    main()
