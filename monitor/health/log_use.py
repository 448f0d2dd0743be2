"""Other programs that keep the log busy: judged by what their locks and its files show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from monitor.health.findings import Finding, Level
from monitor.log.other_users import User, readers_of, writer_of

WAL_MB = 256
"""Emptied every hour, the write-ahead log of the busiest station stays below a quarter of it."""
MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LogUse:
    """At one moment.

    Attributes:
        writer: who writes; None: nobody, or it is not known.
        readers: who reads, as far as it is known; only looked for where the write-ahead log is
            large.
        wal_mb: size of the write-ahead log.
    """

    writer: User | None = None
    readers: Sequence[User] = ()
    wal_mb: int = 0


NOT_IN_USE = LogUse()


def log_use(log: Path) -> LogUse:
    """How it is with the log at this path."""
    wal_mb = 0
    with suppress(OSError):
        wal_mb = log.with_name(f"{log.name}-wal").stat().st_size // MB
    return LogUse(writer_of(log), readers_of(log) if wal_mb >= WAL_MB else (), wal_mb)


def kept_locked(use: LogUse, since: str) -> Finding:
    """What to say where its writer comes to no end.

    Args:
        since: for how long nothing was recorded, in words.
    """
    writer = use.writer
    assert writer is not None, "somebody writes"
    words = f"{writer} keeps the log locked, so that nothing can be recorded: {since}"
    advice = f"let it end what it writes, or end it: kill {writer.pid}; frames wait meanwhile"
    return Finding("service", Level.FAILING, words, advice)


def grown(use: LogUse) -> Iterator[Finding]:
    """Where readers that come to no end let the write-ahead log grow."""
    if use.wal_mb < WAL_MB:
        return
    words = f"the write-ahead log is {use.wal_mb:,} MB and grows until nobody reads any more"
    if use.readers:
        words += f"; reading now: {', '.join(map(str, use.readers))}"
    advice = "end programs that keep the log open; let them read a backup: trapwatch backup FILE"
    yield Finding("log", Level.DEGRADED, words, advice)
