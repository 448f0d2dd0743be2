"""A log of any earlier revision comes up to date with all it holds, or stays as it was."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from logbook import NOW, rows
from sqlalchemy import create_engine, inspect

from monitor.log.engine import HEAD, LogError, migrate, migrations_folder
from monitor.log.species_log import SpeciesLog
from monitor.log.tables import Base

pytestmark = pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression")

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("log-*.sql"))
BAD_MIGRATION = """
from alembic import op
revision, down_revision = "9999", "0004"

def upgrade():
    op.execute("CREATE TABLE half (id INTEGER)")
    op.execute("UPDATE media SET path = 'changed'")
    op.execute("INSERT INTO nowhere VALUES (1)")
"""

KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import Engine, event
from monitor.log.engine import migrate

at, passed = int(sys.argv[2]), 0

@event.listens_for(Engine, "before_cursor_execute")
def before(connection, cursor, statement, *_):
    global passed
    passed += "prediction_by_probability" in statement or "foreign_key_check" in statement
    if passed == at:
        os.kill(os.getpid(), signal.SIGKILL)

migrate(Path(sys.argv[1]), target="0004")
"""


def indexes_of(engine, table: str) -> list[str]:
    """How each index of a table was made: what SQLAlchemy tells leaves out those of expressions."""
    made = "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = ?"
    with engine.connect() as connection:
        found = connection.exec_driver_sql(made, (table,)).scalars()
        return sorted(" ".join(sql.replace('"', "").split()) for sql in found)


def schema_of(engine) -> dict[str, object]:
    """Tables, columns and indexes as SQLite tells them."""
    found: dict[str, object] = {}
    look = inspect(engine)
    for table in look.get_table_names():
        if table == "alembic_version":
            continue
        columns = {
            c["name"]: (str(c["type"]), c["nullable"], c["primary_key"])
            for c in look.get_columns(table)
        }
        unique = {tuple(u["column_names"]) for u in look.get_unique_constraints(table)}
        keys = {
            (*k["constrained_columns"], k["referred_table"]) for k in look.get_foreign_keys(table)
        }
        found[table] = (columns, indexes_of(engine, table), unique, keys)
    return found


def declared(folder: Path) -> dict[str, object]:
    """The schema that monitor/log/tables.py declares."""
    engine = create_engine(f"sqlite:///{folder / 'declared.db'}")
    Base.metadata.create_all(engine)
    return schema_of(engine)


def load(fixture: Path, path: Path) -> dict[str, list[tuple]]:
    """Make the database of a fixture; returns all rows of its tables."""
    connection = sqlite3.connect(path)
    connection.executescript(fixture.read_text(encoding="utf-8"))
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    ).fetchall()
    content = {t: connection.execute(f'SELECT * FROM "{t}"').fetchall() for (t,) in tables}
    connection.close()
    return content


def test_migrations_make_exactly_the_tables_that_the_program_works_with(log, tmp_path):
    assert schema_of(log._engine) == declared(tmp_path)


def test_the_newest_migration_is_the_one_the_program_expects():
    names = sorted(p.name for p in (migrations_folder() / "versions").glob("0*.py"))
    assert names[-1].split("_")[0] == HEAD


def test_every_revision_has_a_fixture():
    versions = {p.name.split("_")[0] for p in (migrations_folder() / "versions").glob("0*.py")}
    assert {re.sub(r"\D", "", f.stem) for f in FIXTURES} == versions


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.stem)
def test_a_log_of_an_earlier_revision_keeps_all_its_data(fixture, tmp_path):
    path = tmp_path / "log.db"
    before = load(fixture, path)
    with SpeciesLog(path, create=True) as log:
        assert log.check() == []
        assert schema_of(log._engine) == declared(tmp_path)
        assert rows(log, "SELECT version_num FROM alembic_version") == [(HEAD,)]
        for table, content in before.items():
            if table not in ("alembic_version", "state"):
                assert len(rows(log, f'SELECT * FROM "{table}"')) == len(content), table
        shown = list(log.sightings())
        assert len(shown) == log.counts()["media"] == len(before["media"])
        assert any(len(s.observations) == 2 for s in shown)
        log.undo(None, "Ana", "cli", NOW)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_upgrade_that_is_killed_leaves_the_log_as_it_was(at, tmp_path):
    """At its first or second statement, and when all is done but the commit."""
    path = tmp_path / "log.db"
    before = load(FIXTURES[1], path)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), str(at)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            ("0002",)
        ]
        held = connection.execute("SELECT * FROM prediction").fetchall()
        assert held == before["prediction"]
    with SpeciesLog(path, create=True) as log:
        assert log.check() == []
        assert rows(log, "SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_a_migration_that_fails_is_undone_whole(filled, tmp_path):
    folder = tmp_path / "migrations"
    shutil.copytree(migrations_folder(), folder)
    (folder / "versions" / "9999_bad.py").write_text(BAD_MIGRATION)
    paths = rows(filled, "SELECT path FROM media")
    with pytest.raises(LogError, match=r"failed and was undone: no such table: nowhere"):
        migrate(filled.path, folder)
    assert rows(filled, "SELECT name FROM sqlite_master WHERE name = 'half'") == []
    assert rows(filled, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert rows(filled, "SELECT path FROM media") == paths


def test_a_migration_that_breaks_references_is_undone(filled, tmp_path):
    folder = tmp_path / "migrations"
    shutil.copytree(migrations_folder(), folder)
    text = BAD_MIGRATION.replace("INSERT INTO nowhere VALUES (1)", "DELETE FROM deployment")
    (folder / "versions" / "9999_bad.py").write_text(text)
    with pytest.raises(LogError, match="broken references; undone"):
        migrate(filled.path, folder)
    assert len(rows(filled, "SELECT * FROM deployment")) == 2


def test_a_log_of_a_newer_program_is_refused_with_words(filled):
    path = filled.path
    filled.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(LogError, match=r"written by a newer trapwatch.*upgrade trapwatch"):
        SpeciesLog(path)


def test_an_empty_file_is_no_log_until_the_service_makes_it_one(tmp_path):
    path = tmp_path / "log.db"
    path.touch()
    with pytest.raises(LogError, match="not a species log yet"):
        SpeciesLog(path)
    SpeciesLog(path, create=True).close()
    SpeciesLog(path).close()
