"""What every part of the log shares: one engine, read and write transactions, small lookups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine, func, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import DBAPIError

from monitor.core.domain import iso_utc
from monitor.log.engine import LogError, error_for, in_words, is_damage, refuse_if_replaced
from monitor.log.tables import Act, Deployment, State

ACTED = "acted"
"""In a connection's notes: this transaction recorded an act."""


class LogPart:
    """A group of queries. Every public method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.after_act: Callable[[], None] = lambda: None
        """Called once a transaction that recorded an act is in the file for good."""
        self.damage: str | None = None
        """Why the file is known to be broken, since somebody came upon that."""

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        refuse_if_replaced(self._engine)
        with (
            self._errors_in_words(),
            self._engine.connect() as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """One transaction that holds the write lock from its start (BEGIN IMMEDIATE)."""
        refuse_if_replaced(self._engine)
        with (
            self._errors_in_words(),
            self._engine.connect().execution_options(write=True) as connection,
            connection.begin(),
        ):
            connection.info.pop(ACTED, None)
            yield connection
            acted = connection.info.pop(ACTED, False)
            refuse_if_replaced(self._engine)  # still: rolled back
        if acted:
            self.after_act()

    @contextmanager
    def _errors_in_words(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._told(error.orig) from error
        except UnicodeDecodeError as error:  # SQLite quotes what is broken in its messages
            raise self._told(error) from error

    def _told(self, error: BaseException | None) -> LogError:
        """The driver's error in words; damage of the file is remembered."""
        path = Path(self._engine.url.database or "")
        words = f"the log {path}: {in_words(error, path)}"
        if is_damage(error):
            self.damage = self.damage or words
        return error_for(error)(words)


def deployment_id(connection: Connection, name: str) -> int:
    """The row of a deployment, made if it is new."""
    connection.execute(
        upsert(Deployment).values(name=name, clock_shift_seconds=0.0).on_conflict_do_nothing()
    )
    return int(
        connection.execute(select(Deployment.id).where(Deployment.name == name)).scalar_one()
    )


def new_act(
    connection: Connection,
    kind: str,
    by: str,
    how: str,
    now: datetime,
    *,
    scope: str | None = None,
    details: dict[str, Any] | None = None,
    request: str | None = None,
) -> int:
    """Record that somebody did something; returns the act's id."""
    values = {"at": iso_utc(now), "by": by, "how": how, "kind": kind, "request": request}
    result = connection.execute(insert(Act).values(**values, scope=scope, details=details))
    connection.info[ACTED] = True
    return inserted_id(result)


def count_of(connection: Connection, table: Any, *where: Any) -> int:
    """How many rows of `table` fulfil `where`."""
    return int(
        connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()
    )


def inserted_id(result: CursorResult[Any]) -> int:
    """The key of the row that an INSERT made."""
    key = result.inserted_primary_key
    assert key is not None, "an INSERT of one row"
    return int(key[0])


def put_state(connection: Connection, key: str, value: dict[str, Any], now: datetime) -> None:
    """Remember a small fact under `key`, in the place of what was there."""
    row = {"value": value, "updated_at": iso_utc(now)}
    statement = upsert(State).values(key=key, **row)
    connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=row))
