"""Photographs that are sound but for what is written beside the pixels."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import subprocess
from collections import Counter
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from PIL import Image

from monitor.core.config import load_settings
from monitor.core.domain import Metadata, TimeSource, iso_utc
from monitor.images import metadata as metadata_page
from monitor.images.decode import DecodeRules, ImageRejected, decode, dimensions, shrink
from monitor.images.metadata import read_metadata, to_utc
from monitor.pipeline.scan import Found, stamp_of
from monitor.service.station import Station

from .drill import Drill
from .mutate import mutate

PROTECTIONS = ("exif",)
"""Reading EXIF as if it could never raise."""
TAKEN_TOGETHER = 64
SANE_TIME = b"2024:05:01 06:30:00"
DATES = (
    b"0000:00:00 00:00:00", b"9999:99:99 99:99:99", b"2024:02:30 00:00:00", b"1970:01:01 00:00:00",
    b"2100:12:31 23:59:60", b"0001:01:01 00:00:00", b"    :  :     :  :  ", b"2024-05-01T06:30:00Z",
    b"2024:05:01 06:30:00+99:99", b"-124:05:01 06:30:00", b"\xd9\xa2\xd9\xa0", b"2024:05:01",
    b"\0" * 20,
    b"2" * 5000, b"2024:05:01 06:30:00.999999999999",
)  # fmt: skip
TEXTS = (
    b"", b"\xff\xfe\x00\xd8\x00", b"\xed\xa0\x80", b"A" * 9_000, b"\x1b[31mred\x07", b"\0" * 9,
    b"=cmd()",
    b"<script>", b"\xe2\x80\xaetxt", b"\xc0\xaf", b"RECONYX\0UNKNOWN", b"\r\n\r\n", b"%s%n{0}",
)  # fmt: skip
TYPES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    0: 1,
    99: 1,
}
IFD0 = (0x010F, 0x0110, 0x0112, 0x011A, 0x0132, 0x8769, 0x8825, 0x02BC, 0x8298)
EXIF_IFD = (0x9003, 0x9004, 0x9010, 0x9011, 0x9291, 0x927C, 0x9400, 0xA431, 0x9286, 0xA005, 0x829A)
TIMES = frozenset({0x0132, 0x9003, 0x9004, 0x9290, 0x9291, 0x9292, 0x9010, 0x9011, 0x9012})
Entry = tuple[int, int, int, bytes]


class Subject:
    """A station that takes these photographs in."""

    def __init__(self, folder: Path, broken: str | None) -> None:
        self._here = folder / "current"
        self._drill = Drill(folder / "station")
        self._station = Station(load_settings(self._drill.config, {}))
        self._batch: dict[str, Path] = {}
        self._taken = 0
        if broken == "exif":
            metadata_page._header_of = _trusting

    def attempt(self, rng: random.Random) -> tuple[str, list[str]]:
        """Read one, and every so many take all of them in."""
        data, tame = photograph(rng)
        (self._here / "photograph.jpg").write_bytes(data)
        mtime_ns = rng.choice((1_714_545_000 * 10**9, 0, -1, 2**63 - 1, -(2**63), 10**20))
        name = rng.choice(
            ("IMG_0001.JPG", "20240501063000.JPG", "99999999999999.JPG", "\udcff.jpg")
        )
        zone = ZoneInfo(rng.choice(("UTC", "Europe/Berlin", "Pacific/Kiritimati")))
        found = read_metadata(data, name=name, mtime_ns=mtime_ns, zone=zone)
        faults = list(_absurd(found))
        if tame and found.captured.source is not TimeSource.EXIF:
            faults.append("lost: a sound capture time beside other broken tags")
        path = self._drill.frames / "north" / f"{self._taken + len(self._batch):07d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        self._batch[hashlib.sha256(data).hexdigest()] = path
        if len(self._batch) == TAKEN_TOGETHER:
            faults += self.close()
        return f"time of {found.captured.source}, {_decoded(data, faults)}", faults

    def close(self) -> list[str]:
        """Take in those that wait: each content becomes one media."""
        folder = self._drill.frames
        batch = [Found(folder, bytes(p), stamp_of(bytes(p))) for p in self._batch.values()]  # type: ignore[arg-type]
        self._station.intake.take(batch)
        rows = self._drill.query("SELECT sha256, status, rejected_reason, captured_at FROM media")
        seen = Counter(row[0] for row in rows)
        faults = [
            f"lost: {path.name} is no media" for s, path in self._batch.items() if not seen[s]
        ]
        faults += [f"double: {s} is {n} media" for s, n in seen.items() if n > 1]
        faults += [
            f"wrong: {status} with the reason {reason!r}"
            for _, status, reason, _ in rows
            if (status == "rejected") != bool(reason)
        ]
        for path in self._batch.values():
            path.unlink()
        self._taken += len(self._batch)
        self._batch.clear()
        return faults


def command(folder: Path, rng: random.Random) -> subprocess.CompletedProcess[str]:
    """`trapwatch run --once` over a handful."""
    drill = Drill(folder / "current")
    for number in range(20):
        (drill.frames / f"{rng.random()}-{number}.jpg").write_bytes(photograph(rng)[0])
    return drill.trapwatch("run", "--once")


def photograph(rng: random.Random) -> tuple[bytes, bool]:
    """A photograph, and whether its capture time is sound and only tags beside it are not."""
    tame = rng.random() < 0.3
    exif = tiff(rng, tame=tame)
    container = rng.choice(("JPEG",) * 6 + ("PNG", "WEBP"))
    if tame and len(exif) < 65_000:
        return _jpeg(rng, [b"\xff\xe1" + _sized(b"Exif\0\0" + exif)]), True
    exif = mutate(exif, rng) if rng.random() < 0.6 else exif
    if container != "JPEG":
        file = io.BytesIO()
        Image.new("RGB", (8, 6), (9, 99, 9)).save(file, container, exif=exif)
        data = file.getvalue()
    else:
        blocks = [b"\xff\xe1" + _sized(b"Exif\0\0" + exif)]
        blocks += [_block(rng) for _ in range(rng.choice((0, 0, 1, 2)))]
        rng.shuffle(blocks)
        data = _jpeg(rng, blocks)
    if rng.random() < 0.2:
        head = mutate(data[:400], rng)
        data = head + data[400:]
    return data, False


def tiff(rng: random.Random, *, tame: bool = False) -> bytes:
    """A block of EXIF with an IFD, and another that it points to; sorts of nonsense in both."""
    order = rng.choice("<>")
    first = [
        _entry(rng, tag, order, tame=tame) for tag in IFD0 if rng.random() < 0.7 and tag != 0x8769
    ]
    second = [_entry(rng, tag, order, tame=tame) for tag in EXIF_IFD if rng.random() < 0.7]
    if tame:
        first = [entry for entry in first if entry[0] not in TIMES]
        second = [entry for entry in second if entry[0] not in TIMES]
        second.append((0x9003, 2, len(SANE_TIME) + 1, SANE_TIME + b"\0"))
    elif rng.random() < 0.5:
        first += [_entry(rng, rng.randrange(65536), order) for _ in range(rng.choice((1, 20, 300)))]
    start, there = 8, 8 + 2 + 12 * (len(first) + 1) + 4
    there += sum(len(value) + len(value) % 2 for *_, value in first if len(value) > 4)
    pointer = there if tame else rng.choice((there,) * 6 + (8, 0, 0xFFFFFFFF, there + 1, start))
    first.append((0x8769, 4, 1, struct.pack(f"{order}L", pointer)))
    after = 0 if tame else rng.choice((0, 0, 8, there, 0xFFFFFFF0, 9))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}L", start)
    one = _ifd(order, sorted(first, key=lambda e: e[0]), start, after)
    return head + one + _ifd(order, sorted(second, key=lambda e: e[0]), start + len(one), after)


def _entry(rng: random.Random, tag: int, order: str, *, tame: bool = False) -> Entry:
    kind = rng.choice((2, 2, 2, 7, *TYPES))
    if kind in (5, 10):
        value = struct.pack(
            f"{order}LL", rng.choice((0, 1, 2**32 - 1)), rng.choice((0, 0, 1, 2**32 - 1))
        )
    elif tag == 0x927C and rng.random() < 0.7:
        kind, value = 7, _reconyx(rng)
    elif tag in TIMES and rng.random() < 0.8:
        kind, value = 2, rng.choice((*DATES, SANE_TIME, b"+99:99", b"+14:00", b"-14:01")) + b"\0"
    else:
        value = rng.choice((*TEXTS, rng.randbytes(rng.choice((1, 2, 4, 8, 300)))))
    count = max(1, len(value) // TYPES[kind])
    value = value.ljust(TYPES[kind], b"\0")
    if not tame and rng.random() < 0.08:  # Pillow reads no tag behind such a one
        count = rng.choice((0, 1, 2**16, 2**31, 2**32 - 1))
    return tag, kind, count, value


def _ifd(order: str, entries: list[Entry], at: int, after: int) -> bytes:
    """The IFD at this place of the block, its long values behind it."""
    rows, values = bytearray(struct.pack(f"{order}H", len(entries))), bytearray()
    behind = at + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        rows += struct.pack(f"{order}HHL", tag, kind, count)
        if len(value) <= 4:
            rows += value.ljust(4, b"\0")
            continue
        rows += struct.pack(f"{order}L", behind + len(values))
        values += value + b"\0" * (len(value) % 2)
    return bytes(rows + struct.pack(f"{order}L", after) + values)


def _reconyx(rng: random.Random) -> bytes:
    note = bytearray(rng.choice((b"RECONYXH2\0", b"\x01\xf1")).ljust(200, b"\0"))
    celsius = rng.choice((21, -273, 32767, 0))
    struct.pack_into("<hh", note, 0x4E, max(-32768, min(32767, round(celsius * 1.8 + 32))), celsius)
    note[0x7E : 0x7E + 8] = rng.randbytes(8)
    return bytes(note[: rng.choice((200, 200, 90, 12, 3))])


def _block(rng: random.Random) -> bytes:
    """Another block of a JPEG: XMP, maker's own, ICC, MPF, a comment."""
    xmp = b'<x:xmpmeta tiff:Orientation="%s"><!DOCTYPE a [<!ENTITY b "%s">]>&b;' % (
        rng.choice((b"6", b"99999999999999999999", b"-1", b"\xff", b"")),
        b"&b;" * 10,
    )
    mark, content = rng.choice(
        (
            (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp),
            (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + rng.randbytes(60)),
            (0xE1, b"Exif\0\0" + tiff(rng)),
            (0xE2, b"MPF\0" + tiff(rng)),
            (0xE2, b"ICC_PROFILE\0" + bytes((rng.randrange(256),
                rng.randrange(256))) + rng.randbytes(99)),
            (0xED, b"Photoshop 3.0\08BIM" + rng.randbytes(40)),
            (0xEE, b"Adobe" + rng.randbytes(7)),
            (0xFE, rng.choice(TEXTS)),
        )
    )  # fmt: skip
    return bytes((0xFF, mark)) + _sized(content)


def _sized(content: bytes) -> bytes:
    """With its length, as far as a block of a JPEG can be long."""
    return struct.pack(">H", len(content[:65_533]) + 2) + content[:65_533]


def _jpeg(rng: random.Random, blocks: list[bytes]) -> bytes:
    image = Image.new("RGB", (24, 18), (rng.randrange(256), rng.randrange(256), 40))
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()[:2] + b"".join(blocks) + file.getvalue()[2:]


def _absurd(found: Metadata) -> list[str]:
    """What a media row must never say."""
    captured, faults = found.captured, []
    first = {TimeSource.EXIF: 1970, TimeSource.NAME: 1990}.get(captured.source, 1)
    last = 9999 if captured.source is TimeSource.MTIME else 2101
    if not first <= captured.local.year <= last or abs(captured.utc_offset) > timedelta(hours=15):
        faults.append(f"wrong: captured {captured}")
    if len(iso_utc(to_utc(captured)).encode()) > 40:
        faults.append("wrong: a capture time that is none")
    for text in (found.make, found.model, found.serial):
        if text is not None and not (0 < len(text) <= 100 and text.isprintable()):
            faults.append(f"wrong: text {text!a}")
    if found.temperature_celsius is not None and not -90 <= found.temperature_celsius <= 100:
        faults.append(f"wrong: {found.temperature_celsius} degrees")
    return faults


def _decoded(data: bytes, faults: list[str]) -> str:
    rules = DecodeRules()
    try:
        dimensions(data, rules)
        decode(data, rules)
        small = shrink(data, rules, 20)
    except ImageRejected as error:
        return f"rejected: {' '.join(str(error).split()[:4])}"
    if small.info or small.getexif():
        faults.append("wrong: a picture for people carries what the file said")
    return "decoded"


def _trusting(data: bytes) -> tuple[tuple[int, int] | None, dict[int, object]]:
    image = metadata_page.open_header(data)
    exif = metadata_page.exif_of(image)
    return image.size, dict(exif) | dict(exif.get_ifd(0x8769))
