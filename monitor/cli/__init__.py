"""The command line: parse, call, print."""

from __future__ import annotations

import sys

from monitor.cli.app import UsageError, app
from monitor.config import ConfigError
from monitor.domain import TrapwatchError


def main() -> None:
    """Entry of `trapwatch`. Exits 0 done, 1 failed with a message on stderr, 2 wrong usage."""
    try:
        app()
    except (ConfigError, UsageError) as error:
        _end(str(error), 2)
    except TrapwatchError as error:
        _end(str(error), 1)
    except KeyboardInterrupt:
        _end("interrupted", 130)


def _end(message: str, code: int) -> None:
    print(f"trapwatch: {message}", file=sys.stderr)
    raise SystemExit(code)
