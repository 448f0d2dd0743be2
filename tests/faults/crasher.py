"""Runs trapwatch and kills it (SIGKILL) just before or just after the N-th write at one place.

    python tests/faults/crasher.py PLACE before|after N -- <trapwatch arguments>
    python tests/faults/crasher.py --serve      many runs, each in a fork: see `Zygote` in drill.py

A place is the function of monitor/ that commits or renames, like
`log.media.MediaQueries.take_in`. Nothing in the product knows of this. A request may also name a
protection to take away, to see that the drills would notice (`BREAKS`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[2]))  # this checkout, whatever is installed


def place_of_write() -> str | None:
    """The nearest function of monitor/ on the stack, by its write helper; None: it only reads."""
    frame = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module == "monitor.log.connection":
            if frame.f_code.co_name == "_read":
                return None
        elif module.startswith("monitor."):
            function = frame.f_code.co_qualname.partition(".<locals>")[0]
            return f"{module.removeprefix('monitor.')}.{function}"
        frame = frame.f_back
    return None


class Bomb:
    """Goes off before or after the n-th write at `place`."""

    def __init__(self, place: str, when: str, n: int) -> None:
        self.place, self.when, self.left = place, when, n

    def around(self, write: Callable[..., Any]) -> Callable[..., Any]:
        """`write`, with this bomb beside it."""

        def armed(*args: Any, **kwargs: Any) -> Any:
            here = place_of_write() == self.place
            self.left -= here
            if here and self.left == 0 and self.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = write(*args, **kwargs)
            if here and self.left == 0 and self.when == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return armed


def arm(place: str, when: str, n: int) -> None:
    """Put a bomb beside every commit and every rename of this process."""
    from sqlalchemy.engine.default import DefaultDialect

    from monitor.log.features import CacheFile

    bomb = Bomb(place, when, n)
    DefaultDialect.do_commit = bomb.around(DefaultDialect.do_commit)  # type: ignore[method-assign]
    os.replace, os.rename = bomb.around(os.replace), bomb.around(os.rename)
    os.link = bomb.around(os.link)
    opened = CacheFile._open
    CacheFile._open = lambda file: _Cache(opened(file), bomb)  # type: ignore[method-assign]


def break_transactions() -> None:
    """SQLite commits each statement by itself."""
    from sqlalchemy.engine.default import DefaultDialect

    execute = DefaultDialect.do_execute

    def do_execute(dialect: Any, cursor: Any, statement: str, *rest: Any, **more: Any) -> None:
        begins = statement.startswith("BEGIN")
        execute(dialect, cursor, "SELECT 1" if begins else statement, *rest, **more)

    DefaultDialect.do_execute = do_execute  # type: ignore[method-assign]


def break_sync() -> None:
    """SQLite never waits for the disk."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def begin(connection: Any) -> None:
        connection.connection.dbapi_connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "begin", begin)


BREAKS = {"transactions": break_transactions, "sync": break_sync}


class _Cache:
    """The connection of the feature cache, which commits by a statement of its own."""

    def __init__(self, connection: Any, bomb: Bomb) -> None:
        self._connection = connection
        self._commit = bomb.around(connection.execute)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *values: Any) -> Any:
        return (self._commit if sql == "COMMIT" else self._connection.execute)(sql, *values)


def run(arguments: list[str]) -> NoReturn:
    """A trapwatch command, or one of the library calls below that no command makes at once."""
    calls = {
        "housekeeping": _housekeeping,
        "review": _review,
        "propose": _propose,
        "tell": _tell,
        "render": _render,
        "write-weights": _write_weights,
        "keep-picture": _keep_picture,
        "replace-log": _replace_log,
    }
    if arguments[0] in calls:
        calls[arguments[0]](Path(arguments[1]))
        raise SystemExit(0)
    from monitor.cli import main

    sys.argv = ["trapwatch", *arguments]
    main()
    raise SystemExit(0)


def _housekeeping(config: Path) -> None:
    from monitor.core.config import load_settings
    from monitor.service.periodic_tasks import housekeeping
    from monitor.service.station import Station

    station = Station(load_settings(config))
    housekeeping(station)
    station.close()


def _propose(config: Path) -> None:
    from monitor.core.config import load_settings
    from monitor.core.domain import utc_now
    from monitor.log.species_log import open_log

    with open_log(load_settings(config).database.url) as log:
        log.propose_outages(utc_now())


def _review(config: Path) -> None:
    """What the pages write besides labels: a lease, a flag, a hidden frame shown, a lease back."""
    from datetime import timedelta

    from monitor.core.config import load_settings
    from monitor.core.domain import How, utc_now
    from monitor.log.species_log import open_log

    with open_log(load_settings(config).database.url) as log:
        log.lease([1, 2], "Ana", 2, utc_now(), timedelta(minutes=10))
        log.flag(1, True, "Ana", How.WEB, utc_now())
        log.reveal(1, "Ana", How.WEB, utc_now())
        log.release([1], "Ana")


def _tell(config: Path) -> None:
    """An alert on its way: looked for, put into the outbox, not sent, sent, and forgotten."""
    from datetime import timedelta

    from monitor.core.config import load_settings
    from monitor.core.domain import utc_now
    from monitor.log.alerts import NewAlert
    from monitor.log.species_log import open_log

    now = utc_now()
    with open_log(load_settings(config).database.url) as log:
        log.add_alerts([NewAlert("species", "a", "a", "")], ["mail"], now, "alerts seen", {})
        number = log.add_alert("station", "b", "b", "", ["mail"], now)
        log.delivery_failed(number, "mail", "no route", now + timedelta(minutes=1))
        log.wake_deliveries("mail", now)
        log.drop_waiting("mail", 1, "too many")
        log.delivered(number, "mail", now)
        log.drop_old_alerts(now + timedelta(days=1))


def _render(folder: Path) -> None:
    from monitor.cli.demo.world import plan, write_world

    write_world(plan(1, 3), folder, 1, only=slice(0, 2))


def _write_weights(file: Path) -> None:
    import numpy as np

    from monitor.model.backbone.weight_files import write_arrays

    write_arrays({"block1_conv1/kernel": np.zeros((3, 3, 3, 4), np.float32)}, file)


def _keep_picture(folder: Path) -> None:
    from monitor.images.picture_folder import PictureFolder

    PictureFolder(folder, 1_000_000).keep("ab-thumb.jpg", b"\xff\xd8 a picture \xff\xd9")


def _replace_log(config: Path) -> None:
    """Another file takes the log's place while it is open, and the service notices."""
    from monitor.core.config import load_settings
    from monitor.core.domain import utc_now
    from monitor.log.species_log import open_log
    from monitor.recovery.replaced_log import save_what_is_open

    log = open_log(load_settings(config).database.url)
    other = log.path.with_name("other.db")
    log.backup(other)
    log.put_state("later", {"than": "the backup"}, utc_now())
    os.rename(other, log.path)
    save_what_is_open(log, "it was replaced", utc_now())
    os._exit(0)  # as the service does: no connection is closed


def warm_up() -> None:
    """Import and prepare once what nearly every command would in its fork: most of its time."""
    import tempfile

    import apscheduler.triggers.cron  # noqa: F401
    import psutil  # noqa: F401

    import monitor.cli
    import monitor.model.backbone.small_engine
    import monitor.service.once
    import monitor.service.station
    import monitor.service.supervisor  # noqa: F401
    from monitor.log.species_log import SpeciesLog

    with tempfile.TemporaryDirectory() as folder:  # alembic, and the mappers of all tables
        SpeciesLog(Path(folder) / "trapwatch.db", create=True).close()


def serve(in_fork: Callable[[dict[str, Any]], NoReturn]) -> None:
    """Read one JSON request a line, run each in a fork, answer with its exit status."""
    warm_up()
    for line in sys.stdin:
        request = json.loads(line)
        if request["arguments"][0] == "train":
            import keras  # noqa: F401  once for all trainings: 3 s

            import monitor.training.run  # noqa: F401
        child = os.fork()
        if child == 0:
            in_fork(request)
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def run_in_fork(request: dict[str, Any]) -> NoReturn:
    """Run a request's command, its output in a file; ends the process."""
    code = 1
    try:
        out = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if request["broken"]:
            BREAKS[request["broken"]]()
        if request["kill"]:
            arm(*request["kill"])
        run(request["arguments"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:  # noqa: BLE001 the edge of a fork: told in its output
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve(run_in_fork)
    else:
        arm(sys.argv[1], sys.argv[2], int(sys.argv[3]))
        run(sys.argv[5:])
