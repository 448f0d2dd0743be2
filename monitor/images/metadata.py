"""Bytes to capture time, camera and temperature: what a file says besides its pixels.

Pure functions that never raise, whatever the bytes: a frame with broken EXIF is still a frame, and
its name or its modification time still says when it was taken.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from monitor.core.domain import CaptureTime, Metadata, OffsetSource, TimeSource
from monitor.images.decode import ImageRejected, exif_of, open_header, upright_size

Tags = dict[int, Any]

_EXIF_IFD = 0x8769
_MAKE, _MODEL, _SERIAL, _MAKER_NOTE, _TEMPERATURE = 0x010F, 0x0110, 0xA431, 0x927C, 0x9400
_TIME_TAGS = (  # wall clock, its fraction of a second, its offset from UTC; best first
    (0x9003, 0x9291, 0x9011),  # DateTimeOriginal
    (0x9004, 0x9292, 0x9012),  # DateTimeDigitized
    (0x0132, 0x9290, 0x9010),  # DateTime
)
_OFFSET_TIME = 0x9010  # counts for any of them that lacks its own
_WANTED = {_MAKE, _MODEL, _SERIAL, _MAKER_NOTE, _TEMPERATURE} | {
    tag for row in _TIME_TAGS for tag in row
}

_MAX_OFFSET = timedelta(hours=14)  # UTC+14: Kiribati
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLDEST, _HOTTEST = -90.0, 100.0  # Celsius
_MAX_TEXT = 100

_EXIF_TIME = re.compile(
    r"\s*(\d{4})[:/. -](\d{1,2})[:/. -](\d{1,2})[ T:]+(\d{1,2})[:.](\d{1,2})(?:[:.](\d{1,2}))?"
    r"(?:[.,](\d{1,9}))?\s*(Z|[+-]\d{2}:?\d{2})?\s*",
    re.ASCII,
)
_OFFSET = re.compile(r"\s*([+-])(\d{1,2}):?([0-5]\d)\s*", re.ASCII)
# 20210531082538, 20051007_1205, 20230102-030405, PXL_20230102_030405123
_COMPACT_NAME = re.compile(
    r"(?<!\d)(\d{4})(\d\d)(\d\d)[-_T ]{0,2}(\d\d)[-_.:h]?(\d\d)(?:[-_.:m]?(\d\d)(?:\d{3})?)?(?!\d)",
    re.ASCII,
)
# 2009-05-07__18-45-00, 2024-07-01T12-30, 2024.07.01 12.30.05; a time in one block needs its
# seconds here, because 2021-05-28_0041 is a day and a counter
_DASHED_NAME = re.compile(
    r"(?<!\d)(\d{4})([-_.])(\d\d)\2(\d\d)[-_T. ]{1,3}"
    r"(\d\d)(?:[-_.:h](\d\d)(?:[-_.:m](\d\d))?|(\d\d)(\d\d))(?!\d)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class _MakerNote:
    serial: str | None = None
    temperature_celsius: float | None = None


def read_metadata(data: bytes, *, name: str, mtime_ns: int, zone: ZoneInfo) -> Metadata:
    """Read all a media row wants besides the pixels, from the header only.

    The capture time is EXIF's (DateTimeOriginal, DateTimeDigitized, DateTime), else the one in the
    file name, else the modification time as the station's wall clock. It is kept as read: a
    camera that woke up in 1970 is corrected by its deployment, not here.

    Args:
        data: the file's bytes, whole or from its start.
        name: file name, with or without folders.
        mtime_ns: modification time, nanoseconds since 1970 UTC.
        zone: where the camera stands, for clocks that carry no offset.

    Returns:
        Metadata; width and height are upright, None where no header could be read.
    """
    size, tags = _header_of(data)
    note = _reconyx_note(tags.get(_MAKER_NOTE))
    temperature = _celsius(tags.get(_TEMPERATURE))
    return Metadata(
        width=size[0] if size else None,
        height=size[1] if size else None,
        captured=_captured(tags, name, mtime_ns, zone),
        make=_text(tags.get(_MAKE)),
        model=_text(tags.get(_MODEL)),
        serial=_text(tags.get(_SERIAL)) or note.serial,
        temperature_celsius=note.temperature_celsius if temperature is None else temperature,
    )


def attach_offset(
    local: datetime, exif_offset: timedelta | None, zone: ZoneInfo
) -> tuple[timedelta, OffsetSource]:
    """Offset from UTC of a naive wall clock: the file's own if sane (within 14 h), else the zone's.

    Daylight saving, where the zone decides: a wall clock that occurs twice is taken as its first
    occurrence; one that is skipped is read with the offset in force before the change (PEP 495,
    fold=0, in both cases).
    """
    if exif_offset is not None and abs(exif_offset) <= _MAX_OFFSET:
        return exif_offset, OffsetSource.EXIF
    offset = local.replace(tzinfo=zone, fold=0).utcoffset()
    return offset or timedelta(0), OffsetSource.STATION


def to_utc(captured: CaptureTime) -> datetime:
    """The instant, as an aware datetime in UTC."""
    return (captured.local - captured.utc_offset).replace(tzinfo=UTC)


def time_from_name(name: str) -> datetime | None:
    """Naive wall clock in a file name, or None; needs a date and at least hour and minute.

    Known: 20210531082538-RCNX0031, AABP_13_20051007_1205, IMG_20230102_030405,
    StationB__2009-05-07__18-45-00(1), 2024-07-01T12-30-05. Years 1990 to 2100.
    """
    base = name.replace("\\", "/").rpartition("/")[2]
    for year, month, day, hour, minute, second in _times_in(base):
        moment = _moment((year, month, day, hour, minute, second or "0"), first_year=1990)
        if moment is not None:
            return moment
    return None


def _times_in(base: str) -> Iterator[tuple[str, ...]]:
    """Year, month, day, hour, minute, second ('' if not given) of all that looks like a time."""
    for match in _COMPACT_NAME.finditer(base):
        yield match.groups("")
    for match in _DASHED_NAME.finditer(base):
        year, _, month, day, hour, minute, second, packed_minute, packed_second = match.groups("")
        yield year, month, day, hour, minute or packed_minute, second or packed_second


def _header_of(data: bytes) -> tuple[tuple[int, int] | None, Tags]:
    """Upright size and the wanted tags; what cannot be read is left out."""
    try:
        image = open_header(data)
        size = upright_size(image)
    except ImageRejected:
        return None, {}
    tags: Tags = {}
    try:  # each step may raise anything on hostile EXIF; what was read before it still counts
        exif = exif_of(image)
        tags |= {tag: exif[tag] for tag in _WANTED if tag in exif}
        tags |= {tag: value for tag, value in exif.get_ifd(_EXIF_IFD).items() if tag in _WANTED}
    except Exception:  # noqa: BLE001  broken EXIF is common, and no reason to lose the frame
        return size, tags
    return size, tags


def _captured(tags: Tags, name: str, mtime_ns: int, zone: ZoneInfo) -> CaptureTime:
    """The best capture time there is, and where it and its offset were read."""
    from_exif = _exif_time(tags)
    if from_exif is not None:
        local, own = from_exif
        offset, offset_source = attach_offset(local, own, zone)
        return CaptureTime(local, offset, TimeSource.EXIF, offset_source)
    from_name = time_from_name(name)
    if from_name is not None:
        offset, offset_source = attach_offset(from_name, None, zone)
        return CaptureTime(from_name, offset, TimeSource.NAME, offset_source)
    return _mtime_captured(mtime_ns, zone)


def _mtime_captured(mtime_ns: int, zone: ZoneInfo) -> CaptureTime:
    """The modification time on the station's clock; an absurd one counts as 1970."""
    try:
        moment = (_EPOCH + timedelta(microseconds=mtime_ns // 1000)).astimezone(zone)
    except OverflowError:
        moment = _EPOCH.astimezone(zone)
    # The instant is known, so a clock that occurs twice needs no rule here.
    local, offset = moment.replace(tzinfo=None, fold=0), moment.utcoffset() or timedelta(0)
    return CaptureTime(local, offset, TimeSource.MTIME, OffsetSource.STATION)


def _exif_time(tags: Tags) -> tuple[datetime, timedelta | None] | None:
    """The first EXIF time that is one, with the offset the file gives for it."""
    for time_tag, fraction_tag, offset_tag in _TIME_TAGS:
        match = _EXIF_TIME.fullmatch(_text(tags.get(time_tag)) or "")
        if match is None:
            continue
        year, month, day, hour, minute, second, fraction, suffix = match.groups("")
        moment = _moment((year, month, day, hour, minute, second or "0"), first_year=1970)
        if moment is None:
            continue
        micro = _microseconds(fraction or _text(tags.get(fraction_tag)) or "")
        for said in (suffix, tags.get(offset_tag), tags.get(_OFFSET_TIME)):
            own = _offset_of(_text(said) or "")
            if own is not None:
                return moment + micro, own
        return moment + micro, None
    return None


def _moment(fields: tuple[str, ...], *, first_year: int) -> datetime | None:
    """Naive datetime from year, month, day, hour, minute, second; None if there is no such time."""
    year, month, day, hour, minute, second = map(int, fields)
    leap = second == 60  # some clocks write the second before midnight so
    if not first_year <= year <= 2100:
        return None
    try:
        moment = datetime(year, month, day, hour, minute, 59 if leap else second)
    except ValueError:
        return None
    return moment + timedelta(seconds=1 if leap else 0)


def _microseconds(digits: str) -> timedelta:
    """SubSecTime "5" is half a second; anything but digits counts as none."""
    if not (digits.isascii() and digits.isdigit()):
        return timedelta(0)
    return timedelta(microseconds=int(digits[:6].ljust(6, "0")))


def _offset_of(text: str) -> timedelta | None:
    """Offset from "+02:00", "-0330" or "Z"; None if it is none or beyond 14 hours."""
    if text == "Z":
        return timedelta(0)
    match = _OFFSET.fullmatch(text)
    if match is None:
        return None
    sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    return offset if abs(offset) <= _MAX_OFFSET else None


def _reconyx_note(note: object) -> _MakerNote:
    """Serial number and temperature from a Reconyx MakerNote (HyperFire 2, HyperFire).

    Byte offsets: ExifTool, lib/Image/ExifTool/Reconyx.pm, tables Type3 and Main.
    """
    if not isinstance(note, bytes):
        return _MakerNote()
    if note.startswith(b"RECONYXH2\x00"):
        temperature_at, serial_at = 0x4E, 0x7E
    elif note.startswith(b"\x01\xf1"):
        temperature_at, serial_at = 2 * 0x13, 2 * 0x15
    else:
        return _MakerNote()
    if len(note) < serial_at + 30:
        return _MakerNote()
    fahrenheit, celsius = struct.unpack_from("<hh", note, temperature_at)
    # The note says it twice; where the two disagree, the layout is not the one we know.
    if abs((fahrenheit - 32) / 1.8 - celsius) > 1.0:
        return _MakerNote()
    serial = note[serial_at : serial_at + 30].decode("utf-16-le", "replace")
    return _MakerNote(_text(serial), _celsius(celsius))


def _celsius(value: object) -> float | None:
    """A temperature that can occur on Earth, else None."""
    try:
        degrees = float(value)  # type: ignore[arg-type]  # whatever Pillow made of the tag
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return degrees if math.isfinite(degrees) and _COLDEST <= degrees <= _HOTTEST else None


def _text(value: object) -> str | None:
    """Printable text up to the first NUL, blanks collapsed, at most 100 characters; else None."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return None
    printable = "".join(letter if letter.isprintable() else " " for letter in value.split("\0")[0])
    return " ".join(printable.split())[:_MAX_TEXT].rstrip() or None
