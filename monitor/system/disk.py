"""How much room is left where the station keeps its data, and what that means.

Below `disk.warn_mb` it is told and what can be made anew is cleaned; below `disk.stop_mb` all work
that writes rests, so that the log, and labels by people, have what is left. A file system that can
hold only so many files (inodes) may be full although megabytes are free: that is looked at, too.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from monitor.core.config import Settings
from monitor.core.config.station import Disk
from monitor.core.pauses import KINDS_OF_WORK, Reason, Rest
from monitor.system.far_disks import ANSWER_SECONDS, DoesNotAnswer, Figures, ask, figures_of

REST_NAME = "disk"
"""Under which the guard gives its reason to rest."""
CACHED_SECONDS = 2.0
"""A look at the disks serves for so long."""
MARGIN = 1.1
"""So many times a threshold must be free again before things count as better: no flapping."""
MEGABYTE = 1_000_000
WARN_FILES, STOP_FILES = 10_000, 1000
"""So many more files must have room, or the disk is low, or full …"""
WARN_SHARE, STOP_SHARE = 10, 50
"""… but where it can hold few in all, only one part in so many of them."""


class DiskState(StrEnum):
    """How full a disk is. `low`: below warn_mb; `full`: below stop_mb."""

    OK = "ok"
    LOW = "low"
    FULL = "full"


GRAVITY = {DiskState.OK: 0, DiskState.LOW: 1, DiskState.FULL: 2}


@dataclass(frozen=True, slots=True)
class Storage:
    """Where the station keeps something.

    Attributes:
        what: is kept there, for people.
        is_vital: work rests where there is no room; elsewhere it is only told.
    """

    what: str
    path: Path
    is_vital: bool = True


@dataclass(frozen=True, slots=True)
class Room:
    """What is free on the file system of one place, and how it stands.

    Attributes:
        device: the system's number of that file system.
        needed_bytes: what should be free at least; more is called `ok`.
        free_files: how many more files have room; None: as many as have bytes.
        needed_files: how many should have.
        few_files: it is for want of these that it does not stand better.
    """

    storage: Storage
    device: int
    free_bytes: int
    total_bytes: int
    state: DiskState
    needed_bytes: int
    free_files: int | None = None
    needed_files: int = 0
    few_files: bool = False

    @property
    def words(self) -> str:
        """For people: `disk full, 310 MB free where the log lies (/data); 500 needed`."""
        free, needed = self.free_bytes // MEGABYTE, -(-self.needed_bytes // MEGABYTE)
        where = f"where {self.storage.what} ({self.storage.path})"
        if self.state is DiskState.OK:
            return f"{free:,} MB free {where}"
        sign = "full" if self.state is DiskState.FULL else "low"
        if self.few_files:
            return (
                f"disk {sign}, room for only {self.free_files:,} more files (inodes) {where}, "
                f"although {free:,} MB are free; {self.needed_files:,} needed: delete many small "
                "files there"
            )
        return f"disk {sign}, {free:,} MB free {where}; {needed:,} needed"

    @property
    def is_out(self) -> bool:
        """True if a write that failed may have failed for want of room."""
        return self.state is DiskState.FULL or self.free_bytes < MEGABYTE or self.free_files == 0

    def facts(self) -> dict[str, object]:
        """For the log's state: what other processes tell."""
        return {
            "state": self.state.value,
            "words": self.words,
            "path": str(self.storage.path),
            "free_bytes": self.free_bytes,
            "total_bytes": self.total_bytes,
            "free_files": self.free_files,
        }


def standing(free_bytes: int, rules: Disk, before: DiskState) -> DiskState:
    """How full a disk with so much free is.

    Args:
        before: what was said the last time: to count as better, more must be free than what made
            it worse.
    """
    return _state(free_bytes, rules.warn_mb * MEGABYTE, rules.stop_mb * MEGABYTE, before)


def standing_of_files(free: int | None, total: int, before: DiskState) -> DiskState:
    """The same for how many more files have room; None: the file system counts none."""
    if free is None:
        return DiskState.OK
    return _state(free, *files_needed(total), before)


def files_needed(total: int) -> tuple[int, int]:
    """Of a file system that can hold so many files, how many should have room: not to be low, not
    to be full."""
    return min(WARN_FILES, total // WARN_SHARE), min(STOP_FILES, total // STOP_SHARE)


def _state(free: float, warn: float, stop: float, before: DiskState) -> DiskState:
    was_low, was_full = before is not DiskState.OK, before is DiskState.FULL
    if free < stop * (MARGIN if was_full else 1):
        return DiskState.FULL
    if free < warn * (MARGIN if was_low else 1):
        return DiskState.LOW
    return DiskState.OK


def storages(settings: Settings) -> list[Storage]:
    """All places in which a station keeps its data, the most precious first."""
    return [
        Storage("the log lies", settings.data_directory),
        Storage("the models lie", settings.models.directory),
        *(
            Storage(f"{name} are kept", settings.data_directory / name)
            for name in ("pictures", "maps", "weights")  # which may be links to another disk
        ),
        *(
            Storage("backups are kept", folder, is_vital=False)
            for folder in (settings.backup.folder, settings.backup.second_folder)
            if folder is not None
        ),
        Storage("passing files are kept", Path(tempfile.gettempdir()), is_vital=False),
    ]


class DiskGuard:
    """Looks at the disks of a station, and lets work rest where one is full. Thread-safe.

    Args:
        rest: is given the reason; None only looks.
        statvfs: the system's figures of a folder.
        clock: monotonic seconds.
        patience: seconds that a disk which is not vital may take to answer.
    """

    def __init__(
        self,
        settings: Settings,
        rest: Rest | None = None,
        statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
        clock: Callable[[], float] = time.monotonic,
        patience: float = ANSWER_SECONDS,
    ) -> None:
        self._rules, self._storages, self._rest = settings.disk, storages(settings), rest
        self._statvfs, self._clock, self._patience = statvfs, clock, patience
        self._hanging: dict[Path, float] = {}
        self._lock = threading.Lock()
        self._before: dict[int, tuple[DiskState, DiskState]] = {}  # of bytes, of files
        self._room: Room | None = None
        self._looked_at = 0.0

    def look(self, *, anew: bool = False) -> Room:
        """The fullest of the station's disks, as it was a few seconds ago at most.

        A disk that is not vital and does not answer is left out, and nobody waits for it.

        Args:
            anew: look now, whenever the last look was.
        """
        with self._lock:
            now = self._clock()
            if self._room is not None and not anew and now - self._looked_at < CACHED_SECONDS:
                return self._room
            self._looked_at = now
        others = self._others()  # which may take a moment: without the lock
        with self._lock:
            self._room = self._fullest(others)
            self._give_reason(self._room)
            return self._room

    def hanging(self, seconds: float = 0.0) -> dict[Path, str]:
        """Disks that had not answered for longer than so many seconds at the last look -> words."""
        return {
            path: f"no answer for {since:.0f} s; what is kept there waits, all else goes on"
            for path, since in self._hanging.items()
            if since > seconds
        }

    def _others(self) -> list[tuple[Storage, Figures]]:
        """Figures of what is not vital."""
        found, hanging = [], {}
        for storage in self._storages:
            if storage.is_vital:
                continue
            try:
                found.append((storage, ask(storage.path, self._statvfs, self._patience)))
            except DoesNotAnswer as error:
                hanging[storage.path] = error.seconds
            except OSError:  # a dying stick: whoever writes there tells of it
                continue
        self._hanging = hanging
        return found

    def _fullest(self, others: Sequence[tuple[Storage, Figures]]) -> Room:
        seen: dict[int, Room] = {}
        before, self._before = self._before, {}
        vital = [
            (storage, figures_of(storage.path, self._statvfs))
            for storage in self._storages
            if storage.is_vital
        ]
        for storage, figures in (*vital, *others):
            if figures.device not in seen:
                last = before.get(figures.device, (DiskState.OK, DiskState.OK))
                seen[figures.device] = self._room_of(storage, figures, *last)
        return fullest(list(seen.values()))

    def _room_of(
        self, storage: Storage, figures: Figures, before: DiskState, files_before: DiskState
    ) -> Room:
        facts = figures.facts
        free, total = facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize
        rules = self._rules if storage.is_vital else _passing(total, self._rules)
        state = standing(free, rules, before)
        needed = rules.stop_mb if state is DiskState.FULL else rules.warn_mb
        files = facts.f_favail if facts.f_files else None
        of_files = standing_of_files(files, facts.f_files, files_before)
        self._before[figures.device] = state, of_files
        if not storage.is_vital:  # it never stops anything
            of_files = min(of_files, DiskState.LOW, key=GRAVITY.__getitem__)
        warn, stop = files_needed(facts.f_files)
        return Room(
            storage,
            figures.device,
            free,
            total,
            max(state, of_files, key=GRAVITY.__getitem__),
            needed * MEGABYTE,
            files,
            stop if of_files is DiskState.FULL else warn,
            few_files=GRAVITY[of_files] > GRAVITY[state],
        )

    def _give_reason(self, room: Room) -> None:
        if self._rest is not None:
            is_full = room.state is DiskState.FULL
            reason = Reason(frozenset(KINDS_OF_WORK), room.words) if is_full else None
            self._rest.set(REST_NAME, reason)


def fullest(rooms: Sequence[Room]) -> Room:
    """The one that is worst off; of several alike a vital one, and that with least to spare."""

    def plight(room: Room) -> tuple[int, bool, int]:
        missing = room.needed_bytes - room.free_bytes
        return GRAVITY[room.state], room.storage.is_vital, missing

    return max(rooms, key=plight)


def disk_lines(room: Room) -> list[str]:
    """What is to be told of the disks; nothing where all is well."""
    return [] if room.state is DiskState.OK else [room.words]


def _passing(total_bytes: int, rules: Disk) -> Disk:
    """What is asked of a disk that holds nothing the work needs room for, and may be small: it
    never stops anything."""
    return Disk(warn_mb=max(1, min(rules.warn_mb, total_bytes // 10 // MEGABYTE)), stop_mb=0)
