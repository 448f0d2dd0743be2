"""The command line: parse, call, print."""

from __future__ import annotations

import errno
import os
import sys

from monitor.cli.app import UsageError, app
from monitor.core.config import ConfigError
from monitor.core.domain import TrapwatchError

OTHERS = 0o027
"""Who is neither the station's user nor in its group reads nothing that is written here: a log
tells where rare animals live."""

OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of a disk that is full, broken or not ours: told in a line, wherever they come from."""


def main() -> None:
    """Entry of `trapwatch`. Exits 0 done, 1 failed with a message on stderr, 2 wrong usage."""
    os.umask(os.umask(OTHERS) | OTHERS)
    try:
        app()
    except (ConfigError, UsageError) as error:
        _end(str(error), 2)
    except TrapwatchError as error:
        _end(str(error), 1)
    except OSError as error:
        if error.errno not in OF_THE_MACHINE:
            raise
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        _end(f"{where}{error.strerror}", 1)
    except KeyboardInterrupt:
        _end("interrupted", 130)


def _end(message: str, code: int) -> None:
    print(f"trapwatch: {message}", file=sys.stderr)
    raise SystemExit(code)
