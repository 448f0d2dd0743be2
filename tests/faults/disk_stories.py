"""What a station does that writes, as stories for full disks and power cuts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from monitor.log.engine import choose_sqlite

from .drill import Drill, fill
from .losses import imported_losses, losses
from .shim import Forks

connect = choose_sqlite().module.connect
FIXTURES = Path(__file__).parents[1] / "fixtures"


class Stations:
    """States to start from, each made once, always at the same place (paths are in the log).

    Args:
        folder: the states are kept in it; `folder / "station"` is the one in use.
        each: labelled frames of each camera and species.
    """

    def __init__(self, folder: Path, forks: Forks, each: int = 1) -> None:
        self.forks, self.folder, self._each = forks, folder, each
        self.root, self.output = folder / "station", folder / "output.txt"

    def station(self, base: str) -> Drill:
        """A station in this state."""
        kept = self.folder / f"base-{base}"
        if not kept.exists():
            before, make = BASES[base]
            drill = self.station(before) if before else Drill(self._empty())
            make(self, drill)
            shutil.copytree(self.root, kept)
        shutil.copytree(kept, self._empty(), dirs_exist_ok=True)
        return Drill(self.root)

    def run(self, drill: Drill, command: tuple[str, ...]) -> None:
        """A command that must succeed."""
        code = self.forks.run(drill.config, filled_in(command, drill), self.output)
        if code != 0:
            raise AssertionError(f"{command}: exit status {code}\n{self.said()}")

    def said(self) -> str:
        """What the last command printed."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def frames(self, drill: Drill) -> None:
        """Photographs, and copies of them sorted by species."""
        fill(drill, each=self._each, unlabelled=0)

    def _empty(self) -> Path:
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        return self.root


@contextmanager
def temporary_stations(prefix: str) -> Iterator[Stations]:
    """Stations in a temporary folder, whose commands go through the fault library."""
    folder, forks = Path(mkdtemp(prefix=prefix)), Forks()
    try:
        yield Stations(folder, forks)
    finally:
        forks.close()
        shutil.rmtree(folder, ignore_errors=True)


def shares(total: int, names: Sequence[str]) -> dict[str, int]:
    """So many tries, spread evenly over stories."""
    return {n: total // len(names) + (i < total % len(names)) for i, n in enumerate(names)}


def filled_in(command: tuple[str, ...], drill: Drill) -> tuple[str, ...]:
    """`command` with this station's paths."""
    return tuple(argument.format(root=drill.root) for argument in command)


ONCE = ("run", "--once")
IMPORT = ("label", "import-folder", "{root}/sorted")
TRAIN = ("train", "--force")
BACKUP = ("backup", "{root}/data/copy.db")


def _old_log(stations: Stations, drill: Drill) -> None:
    """A log of an older release, and photographs that it does not know."""
    stations.frames(drill)
    drill.data.mkdir()
    connection = connect(drill.data / "trapwatch.db")
    connection.executescript((FIXTURES / "log-0002.sql").read_text(encoding="utf-8"))
    connection.execute(
        "UPDATE media SET status = 'rejected', rejected_reason = 'old', "
        "classified_at = NULL WHERE status = 'pending'"
    )
    connection.commit()
    connection.close()


BASES: dict[str, tuple[str | None, Callable[[Stations, Drill], None]]] = {
    "empty": (None, lambda stations, drill: stations.frames(drill)),
    "seen": ("empty", lambda stations, drill: stations.run(drill, ONCE)),
    "labelled": ("seen", lambda stations, drill: stations.run(drill, IMPORT)),
    "gated": ("labelled", lambda stations, drill: stations.run(drill, TRAIN)),
    "old": (None, _old_log),
}
"""State -> (the state it is made from, how)."""


@dataclass(frozen=True, slots=True)
class Story:
    """One thing that a station does.

    Attributes:
        base: the state it starts from.
        command: what is done; {root} is the station's folder.
        afterwards: what must be right once the story and `run --once` came to their end.
        meanwhile: what must be right at any moment.
    """

    base: str
    command: tuple[str, ...]
    afterwards: Callable[[Drill], list[str]] = losses
    meanwhile: Callable[[Drill], list[str]] = lambda drill: losses(drill, settled=False)


def _all(drill: Drill) -> list[str]:
    return losses(drill) + imported_losses(drill)


def _trained(drill: Drill) -> list[str]:
    return _all(drill) + _run_left_open(drill)


def _run_left_open(drill: Drill) -> list[str]:
    running = drill.number("SELECT count(*) FROM training_run WHERE state = 'running'")
    return [f"trainings that never end: {running}"] if running else []


def _rescored(drill: Drill) -> list[str]:
    old = drill.number(
        "SELECT count(*) FROM media WHERE status = 'classified' AND NOT EXISTS (SELECT 1 FROM "
        "prediction JOIN model_version v ON v.id = model_version_id WHERE media_id = media.id "
        "AND current AND v.state = 'live')"
    )
    live = drill.number("SELECT count(*) FROM model_version WHERE state = 'live'")
    return _trained(drill) + ([f"media not re-scored: {old}"] if old and live else [])


def _backed_up(drill: Drill) -> list[str]:
    found, copy = _all(drill), drill.data / "copy.db"
    if not copy.exists():
        return [*found, "there is no backup"]
    connection = connect(copy)
    try:
        sound = connection.execute("PRAGMA integrity_check").fetchone()[0]
        labels = connection.execute("SELECT count(*) FROM label").fetchone()[0]
    except choose_sqlite().module.Error as error:
        return [*found, f"the backup cannot be read: {error}"]
    finally:
        connection.close()
    found += [] if sound == "ok" else [f"the backup is damaged: {sound}"]
    there = drill.number("SELECT count(*) FROM label")
    return found + ([] if labels == there else [f"labels in the backup: {labels} of {there}"])


def _migrated(drill: Drill) -> list[str]:
    """The old rows are all there: those that the fixture has."""
    source = connect(":memory:")
    source.executescript((FIXTURES / "log-0002.sql").read_text(encoding="utf-8"))
    found = [line for line in losses(drill) if "media twice" in line or "integrity" in line]
    for table in ("label", "act", "observation"):
        before = source.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        after = drill.number(f"SELECT count(*) FROM {table}")
        found += [] if after >= before else [f"{table}: {after} of {before} are left"]
    source.close()
    return found


STORIES = {
    "intake": Story("empty", ONCE),
    "labels": Story("seen", IMPORT, _all),
    "train": Story("labelled", TRAIN, _trained),
    "rescore": Story("gated", ONCE, _rescored),
    "backup": Story("labelled", BACKUP, _backed_up),
    "migration": Story("old", ONCE, _migrated, _migrated),
}


def go_on(stations: Stations, drill: Drill, story: Story) -> list[str]:
    """What stopped the story is over: the same command, then all that is left to do."""
    for command in (story.command, ONCE):
        code = stations.forks.run(drill.config, filled_in(command, drill), stations.output)
        if code != 0 and not _is_there_already(stations.said()):
            return [f"{' '.join(command)} fails afterwards: {stations.said()[-300:]}"]
    left = [str(path.name) for path in (drill.data / "models").glob(".v*")]
    return story.afterwards(drill) + ([f"left half-written: {left}"] if left else [])


def _is_there_already(said: str) -> bool:
    """A backup that was written before something failed is not written over."""
    return "exists" in said or "is there already" in said
