"""Opening the log's database: which SQLite, which journal, which revision."""

from __future__ import annotations

import importlib
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

import monitor
from monitor.core.domain import TrapwatchError, utc_now
from monitor.log.open_files import OpenFiles
from monitor.log.other_users import writer_of
from monitor.log.recovery_note import why_missing
from monitor.system.files import make_folder

HEAD = "0004"
"""The newest Alembic revision; a log that stands there opens without importing Alembic."""

CACHES_BYTES = 64 * 2**20
"""What SQLite keeps in memory for all connections of a process together: each has 32 MB at most,
and there are as many as threads that read; over hours their sum filled up."""
BUSY_SECONDS = 30.0
RETRY_SECONDS = 0.02
FILES = "open_files"
"""Of an engine's options: its `OpenFiles`."""
NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "ceph",
        "cifs",
        "davfs",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
        "fuse.cephfs",
        "fuse.davfs2",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.smbnetfs",
        "fuse.sshfs",
    }
)


class LogError(TrapwatchError):
    """The species log cannot be used; the message says why and what to do."""


class LogDamaged(LogError):
    """The file of the log is broken, or is no log at all: it is to be restored."""


class LogReplaced(LogError):
    """A file of the log was deleted or replaced while this program had it open."""


class LogNewer(LogError):
    """A newer release wrote the log; this one changes nothing in it."""


DAMAGE = ("malformed", "not a database", "is encrypted", "corrupt", "decode to UTF-8")
"""How SQLite says that a file is broken."""


def is_damage(error: BaseException | None) -> bool:
    """True where the file itself is broken; False where waiting or room or leave would help."""
    text = str(error)
    return isinstance(error, UnicodeDecodeError) or any(sign in text for sign in DAMAGE)


def error_for(error: BaseException | None) -> type[LogError]:
    """The class under which an error of the database driver is told."""
    return LogDamaged if is_damage(error) else LogError


def in_words(error: BaseException | None, log: Path | None = None) -> str:
    """What an error of the database driver means and what to do about it.

    Args:
        log: where it came from; by which whoever keeps it locked is named.
    """
    text = str(error)
    writer = writer_of(log) if log is not None and "locked" in text else None
    advice = {
        "disk is full": "free some space; nothing that was recorded is lost",
        "disk I/O error": "the disk is full (not even a lock finds room) or it fails; free some "
        "space, then see what the system's journal says of the disk",
        "locked": f"{writer or 'another process'} has been writing for too long; try again",
        "malformed": "the file is damaged; the service restores the newest backup when it starts",
        "not a database": "the file is something else; set database.url to another path",
        "readonly": "this user may not write there; see who owns the file and its folder",
        "unable to open": "this user may not open it, or the disk is full; see who owns its folder",
    }
    hints = [hint for sign, hint in advice.items() if sign in text]
    return f"{text}: {hints[0]}" if hints else text


@dataclass(frozen=True, slots=True)
class SqliteChoice:
    """The SQLite in use. `wal` only where the WAL-reset bug is known to be fixed."""

    module: Any
    name: str
    version: str
    wal: bool


def wal_is_safe(version: str) -> bool:
    """True for SQLite releases without the WAL-reset bug (sqlite.org/wal.html)."""
    parts = tuple(int(part) for part in version.split("."))
    return (
        parts < (3, 7, 0)
        or parts >= (3, 51, 3)
        or (3, 50, 7) <= parts < (3, 51, 0)
        or (3, 44, 6) <= parts < (3, 45, 0)
    )


def choose_sqlite() -> SqliteChoice:
    """pysqlite3 where its wheel is, else the system's; WAL only where that is safe."""
    try:
        module: Any = importlib.import_module("pysqlite3.dbapi2")
        name = "pysqlite3"
    except ImportError:
        module, name = sqlite3, "system sqlite3"
    version = module.sqlite_version
    return SqliteChoice(module, name, version, wal_is_safe(version))


def file_system_of(path: Path) -> str:
    """The type of the file system that holds `path` (which need not exist yet)."""
    import psutil  # only where a log is opened

    resolved = path.resolve()
    best, kind = -1, ""
    for mount in psutil.disk_partitions(all=True):
        point = Path(mount.mountpoint)
        if (resolved == point or point in resolved.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), mount.fstype
    return kind


def open_engine(path: Path, *, migrating: bool = False) -> Engine:
    """A SQLAlchemy engine on the SQLite file `path`, one write transaction at a time.

    Raises:
        LogError: the folder cannot be made, or lies on a network file system.
    """
    kind = file_system_of(path)
    if kind in NETWORK_FILE_SYSTEMS:
        raise LogError(
            f"{path} lies on a network file system ({kind}), where SQLite cannot keep a log safe; "
            "set database.url to a path on this machine's own disk"
        )
    choice, files = choose_sqlite(), OpenFiles(path)
    engine = create_engine(
        f"sqlite:///{path}",
        module=choice.module,
        connect_args={"timeout": BUSY_SECONDS},
        pool_use_lifo=True,  # SQLite drops a connection's cache when another one has written
        execution_options={FILES: files},
    )

    @event.listens_for(engine, "do_connect")
    def ask(*_: object) -> None:
        refuse_if_replaced(engine)

    @event.listens_for(engine, "close")
    def forget(_connection: Any, _record: Any) -> None:
        files.disconnected()

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        try:
            _prepare(connection, choice, migrating=migrating)
        except BaseException:
            connection.close()  # SQLAlchemy would leave that to the collector of garbage
            raise
        files.connected()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _prepare(connection: Any, choice: SqliteChoice, *, migrating: bool) -> None:
    connection.isolation_level = None  # transactions are begun by the engine, not by the driver
    cursor = connection.cursor()
    _set_journal_mode(cursor, choice)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA cache_size=-32768")
    cursor.execute(f"PRAGMA soft_heap_limit={CACHES_BYTES}")
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.execute(f"PRAGMA foreign_keys={'OFF' if migrating else 'ON'}")
    cursor.execute("PRAGMA journal_size_limit=67108864")
    cursor.close()


def files_of(engine: Engine) -> OpenFiles:
    """Return the files that an engine of `open_engine` has open."""
    files: OpenFiles = engine.get_execution_options()[FILES]
    return files


def refuse_if_replaced(engine: Engine) -> None:
    """Raise LogReplaced if the files that the engine has open are no longer those on the disk."""
    if (what := files_of(engine).replaced()) is not None:
        raise LogReplaced(
            f"{what} while the log was open; this step was not written. The service opens the log "
            "again by itself; start any other command once more"
        )


def _set_journal_mode(cursor: Any, choice: SqliteChoice) -> None:
    """SQLite does not wait for a lock here where two processes make one log at once."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute(f"PRAGMA journal_mode={'WAL' if choice.wal else 'DELETE'}")
            return
        except choice.module.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_SECONDS)


def migrations_folder() -> Path:
    """Where the Alembic scripts lie: inside the wheel, or at the top of the source tree."""
    package = Path(monitor.__file__).parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def revision_of(engine: Engine) -> str | None:
    """The revision a log stands at; None for an empty file."""
    with engine.connect() as connection:
        table = connection.execute(
            text("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")
        ).first()
        if table is None:
            return None
        row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
        return row[0] if row else None


def migrate(path: Path, folder: Path | None = None, target: str = "head") -> None:
    """Bring the log at `path` to `target`, all in one transaction: whole or not at all.

    Raises:
        LogError: a migration failed and was undone, or the log is newer than this program.
    """
    from alembic import command  # 0.6 s: only when there is something to do
    from alembic.config import Config
    from alembic.util import CommandError

    engine = open_engine(path, migrating=True)
    config = Config()
    config.set_main_option("script_location", str(folder or migrations_folder()))
    try:
        with engine.connect().execution_options(write=True) as connection, connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, target)
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise LogError(f"{path}: a migration left {len(broken)} broken references; undone")
    except CommandError as error:
        raise LogError(
            f"{path} was written by a newer trapwatch than this one ({error}); upgrade trapwatch"
        ) from error
    except DBAPIError as error:
        raise LogError(f"{path}: the upgrade failed and was undone: {error.orig}") from error
    finally:
        engine.dispose()


def open_migrated(path: Path, *, create: bool) -> Engine:
    """Open the log at `path` at the newest revision; `create` makes or upgrades it first."""
    if not path.exists() and not create:
        raise LogError(why_missing(path))
    try:
        make_folder(path.parent)
        engine = open_engine(path)
        try:
            standing = revision_of(engine)
            if standing != HEAD:
                if not create and standing is None:
                    start = "start one with: trapwatch run"
                    raise LogError(f"{path} is not a species log yet; {start}")
                engine.dispose()
                _upgrade(path, standing)
        except BaseException:
            engine.dispose()  # or its last connection is closed whenever it is collected, and
            raise  # deletes the write-ahead log of whatever lies at this path then
        return engine
    except DBAPIError as error:
        raise error_for(error.orig)(
            f"{path} cannot be opened as a species log: {in_words(error.orig, path)}"
        ) from error
    except OSError as error:
        raise LogError(f"{path} cannot be opened: {error.strerror}") from error
    except UnicodeDecodeError as error:  # SQLite quotes a broken schema in its error message
        raise LogDamaged(
            f"{path} is damaged; the service restores the newest backup when it starts"
        ) from error


def _upgrade(path: Path, standing: str | None) -> None:
    """Migrate; a log that holds something is copied before: the way back to the older program."""
    if standing is None:
        migrate(path)
        return
    if standing > HEAD:
        raise LogNewer(f"{path} was written by a newer trapwatch than this one; upgrade trapwatch")
    from monitor.log.upgrading import keep_before_upgrade  # which opens the log by itself

    kept = keep_before_upgrade(path, HEAD, utc_now())
    try:
        migrate(path)
    except LogError as error:
        raise type(error)(f"{error}; a copy of before is kept as {kept}") from error
