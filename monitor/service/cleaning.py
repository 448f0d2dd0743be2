"""What is given up when the disk fills: only what the station can make anew, the cheapest first.

Pictures are made again when somebody looks at them, maps when a fine-tuning needs them, features
when past frames are scored again. Where all work rests for want of room, backups beyond the newest
three go, too. Models, the log, the journal of labels and the photographs are never touched.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from monitor.core.config import Settings
from monitor.core.domain import ModelState
from monitor.images.pictures import PICTURES_FOLDER
from monitor.log.backup_facts import NoRoom
from monitor.log.engine import LogError
from monitor.log.versions import VersionRow, place_among
from monitor.recovery.backup_places import folder_of, mark_of
from monitor.recovery.backups import spare
from monitor.service.opening import open_station
from monitor.service.station import Station
from monitor.system.disk import DiskGuard, DiskState, Room
from monitor.system.locks import TRAINING_LOCK_NAME, is_held
from monitor.system.systemd import notify
from monitor.training.feature_maps import FOLDER as MAPS_FOLDER

logger = logging.getLogger(__name__)

CLEANING_SECONDS = 30.0
WAIT_SECONDS = 5.0
DAY_SECONDS = 86_400.0
CHECKPOINT_DAYS = 7
"""A fine-tuning that was killed goes on from its checkpoint; one that old is hardly waited for."""
CHECKPOINT = "finetune.safetensors"
FEWEST_FEATURES = 8
"""features.db keeps one part in so many of its bound."""
ROOMY = 1.5
"""It may grow again when so many times `disk.warn_mb` is free."""
STATE_KEY = "disk"

ROTATION_SECONDS = 3600.0

IsEnding = Callable[[], bool]


def watch_the_disk(station: Station, is_ending: IsEnding = lambda: False) -> None:
    """A duty: look at the disks, clean where room is short, tell what came of it."""
    room = station.disk.look(anew=True)
    cleaned: list[str] = []
    if room.state is not DiskState.OK:
        cleaned = clean_files(station.settings, station.disk, is_ending)
        cleaned += _shrink_features(station, is_ending)
        room = station.disk.look(anew=True)
    if room.free_bytes > ROOMY * room.needed_bytes:
        station.features.end_shrinking()
    _tell(station, room, cleaned)


def drop_old_weights(station: Station, is_ending: IsEnding = lambda: False) -> None:
    """A duty: of versions that were retired or rejected long ago only the card is kept."""
    keep, log = station.settings.models.keep, station.log
    for name in weights_to_drop(log.versions(), log.order_of_going_live(), keep):
        if is_ending():
            return
        freed = station.store.drop_weights(name)
        if freed:
            logger.info("%s: only its card is kept, %.1f MB freed", name, freed / 1e6)


def weights_to_drop(
    versions: Sequence[VersionRow], order: Mapping[str, int], keep: int
) -> list[str]:
    """Versions that nobody will go back to, the oldest first.

    The newest `keep` of the retired ones stay, which `models rollback` goes back through one by
    one, and the newest `keep` of the rejected ones, which a person may look at and promote. Those
    that were found damaged stay as they are: they are evidence.

    Args:
        order: of going live (`order_of_going_live`), for the clock may have been wrong.
    """
    retired = [v for v in versions if v.state is ModelState.RETIRED]
    rejected = [v for v in versions if v.state is ModelState.REJECTED]
    retired.sort(key=lambda v: place_among(v.name, v.id, order))
    rejected.sort(key=lambda v: v.id)
    gone = retired[: max(0, len(retired) - keep)] + rejected[: max(0, len(rejected) - keep)]
    return [v.name for v in sorted(gone, key=lambda v: v.id)]


def open_when_there_is_room(
    settings: Settings, stop: threading.Event, meanwhile: Callable[[], None]
) -> Station | None:
    """The station. While a full disk does not let it open, this cleans and waits.

    Args:
        stop: ends the waiting; None is returned then.
        meanwhile: called every few seconds of it.
    """
    guard, told = DiskGuard(settings), ""
    while not stop.is_set():
        try:
            return open_station(settings)
        except Exception as error:
            room = guard.look(anew=True)
            needed = error.needed_bytes if isinstance(error, NoRoom) else 0
            if not (room.is_out or needed):
                raise
            if told != str(error):
                logger.error("waiting for room, %s: %s", room.words, error)
                told = str(error)
        while not stop.is_set():  # a restore that cannot succeed yet reads whole backups in vain
            words = room.words if room.is_out else told
            notify(f"STATUS=waiting for room, {words}\nEXTEND_TIMEOUT_USEC=60000000")
            meanwhile()
            clean_files(settings, guard, stop.is_set, needed)
            stop.wait(WAIT_SECONDS)
            if not needed or shutil.disk_usage(settings.data_directory).free >= needed:
                break
    return None


def clean_files(
    settings: Settings,
    guard: DiskGuard,
    is_ending: IsEnding = lambda: False,
    needed_bytes: int = 0,
) -> list[str]:
    """Delete files that can be made anew, until there is room. Needs no log.

    Args:
        needed_bytes: so much must be free at least, whatever the thresholds say.

    Returns:
        What was deleted, in words.
    """
    room, data = guard.look(anew=True), settings.data_directory
    device = data.stat().st_dev if needed_bytes else room.device

    def is_enough(good: tuple[DiskState, ...], *, anew: bool) -> bool:
        if is_ending():
            return True
        is_free = not needed_bytes or shutil.disk_usage(data).free >= needed_bytes
        return guard.look(anew=anew).state in good and is_free

    cleaned, not_full = [], (DiskState.OK, DiskState.LOW)
    for what, files in _rebuildable(settings, time.time(), few_files=room.few_files):
        cleaned += _clear(
            what, files, device, lambda n: is_enough((DiskState.OK,), anew=n % 16 == 0)
        )
    if not room.few_files and not is_enough(not_full, anew=True):
        old = spare(folder_of(settings), mark_of(settings))
        cleaned += _clear("old backups", old, device, lambda _: is_enough(not_full, anew=True))
    return cleaned


def _clear(
    what: str, files: Iterator[Path], device: int, is_enough: Callable[[int], bool]
) -> list[str]:
    """Delete files until that is enough, which is asked with how many were deleted so far."""
    count, size = 0, 0
    for path in files:
        if is_enough(count):
            break
        freed = _delete(path, device)
        count, size = count + (freed is not None), size + (freed or 0)
    return [f"{what} ({count} files, {size // 1_000_000} MB)"] if count else []


def _rebuildable(
    settings: Settings, now: float, *, few_files: bool
) -> Iterator[tuple[str, Iterator[Path]]]:
    """The least valuable first; none of it below a watched folder.

    Args:
        few_files: only what is many files helps.
    """
    data = settings.data_directory
    kinds: list[tuple[str, Iterator[Path]]] = [
        ("leftovers of writes that failed", _older(_partials(settings), now - DAY_SECONDS)),
        ("resized pictures", _oldest_first(data / PICTURES_FOLDER, "*/*")),
    ]
    if not is_held(data / TRAINING_LOCK_NAME) and not few_files:
        forgotten = now - CHECKPOINT_DAYS * DAY_SECONDS
        kinds += [
            ("maps of fine-tuning", _oldest_first(data / MAPS_FOLDER, "*.maps")),
            ("an old checkpoint of fine-tuning", _older(iter([data / CHECKPOINT]), forgotten)),
        ]
    watched = settings.watch.folders
    for what, paths in kinds:
        yield what, (path for path in paths if not any(f in path.parents for f in watched))


def _partials(settings: Settings) -> Iterator[Path]:
    data = settings.data_directory
    for folder in (data, data / "weights", data / MAPS_FOLDER):
        yield from folder.glob(".*.partial")
    yield from (data / PICTURES_FOLDER).glob("*/.*.partial")


def _older(paths: Iterator[Path], moment: float) -> Iterator[Path]:
    """Those last written before `moment`; after, too, if that lies far in the future (a clock)."""
    for path in paths:
        written = _mtime(path)
        if written is not None and (written < moment or written > moment + 10 * DAY_SECONDS):
            yield path


def _oldest_first(folder: Path, pattern: str) -> Iterator[Path]:
    paths = (path for path in folder.glob(pattern) if path.name[0] != ".")  # not yet written
    found = [(written, path) for path in paths if (written := _mtime(path))]
    yield from (path for _, path in sorted(found))


def _mtime(path: Path) -> float | None:
    try:
        return path.lstat().st_mtime
    except OSError:  # gone meanwhile
        return None


def _delete(path: Path, device: int) -> int | None:
    """Bytes that were freed; None if it lies on another disk, is no file, or stays."""
    try:
        facts = path.lstat()
        if facts.st_dev != device or not path.is_file():
            return None
        path.unlink()
    except OSError as error:
        logger.warning("%s cannot be deleted: %s", path, error.strerror or error)
        return None
    return facts.st_blocks * 512


def _shrink_features(station: Station, is_ending: IsEnding) -> list[str]:
    """Give room of features.db back, if it lies on the disk that is short of it."""
    guard, file = station.disk, station.features.path
    room = guard.look()
    if room.few_files or not file.exists() or file.stat().st_dev != room.device:
        return []
    least = station.settings.classifier.feature_cache_mb * 2**20 // FEWEST_FEATURES

    def is_enough() -> bool:
        return is_ending() or guard.look(anew=True).state is DiskState.OK

    freed = station.features.shrink(is_enough, least)
    return [f"features of the oldest frames ({freed // 1_000_000} MB)"] if freed else []


def _tell(station: Station, room: Room, cleaned: list[str]) -> None:
    """In the journal what changed, and in the log's state how things are."""
    if cleaned:
        logger.warning("cleaned, to make room: %s", "; ".join(cleaned))
    before = (station.log.state(STATE_KEY) or {}).get("state", DiskState.OK)
    if before != room.state:
        level = logging.INFO if room.state is DiskState.OK else logging.WARNING
        logger.log(level, "%s", room.words)
    try:
        station.log.put_state(STATE_KEY, room.facts(), station.clock())
    except LogError:
        if not room.is_out:  # said above, and in the status of the service
            raise
