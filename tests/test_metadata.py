"""Bytes to capture time and camera: right on real EXIF, silent on hostile EXIF."""

from __future__ import annotations

import io
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from monitor.core.domain import CaptureTime, Metadata, OffsetSource, TimeSource
from monitor.images.metadata import attach_offset, read_metadata, time_from_name, to_utc

BERLIN = ZoneInfo("Europe/Berlin")
DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not on this machine")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow, of hostile EXIF
MTIME_NS = 1_700_000_000 * 10**9  # 2023-11-14 22:13:20 UTC


def jpeg(
    main: dict[int, object] | None = None,
    sub: dict[int, object] | None = None,
    size: tuple[int, int] = (64, 48),
) -> bytes:
    """A JPEG with tags in the main and in the EXIF directory."""
    exif = Image.Exif()
    for tag, value in (main or {}).items():
        exif[tag] = value
    exif.get_ifd(0x8769).update(sub or {})
    stream = io.BytesIO()
    Image.new("RGB", size, "green").save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def read(data: bytes, name: str = "a.jpg", mtime_ns: int = MTIME_NS) -> Metadata:
    return read_metadata(data, name=name, mtime_ns=mtime_ns, zone=BERLIN)


def test_the_time_the_shutter_fired_comes_first() -> None:
    times = {0x9003: "2021:05:31 08:25:38", 0x9004: "2022:01:01 00:00:00"}
    captured = read(jpeg({0x0132: "2023:01:01 00:00:00"}, times), "20200101000000.jpg").captured
    assert captured == CaptureTime(
        datetime(2021, 5, 31, 8, 25, 38),
        timedelta(hours=2),
        TimeSource.EXIF,
        OffsetSource.STATION,
    )
    assert to_utc(captured) == datetime(2021, 5, 31, 6, 25, 38, tzinfo=UTC)


def test_digitized_then_file_change_time_stand_in() -> None:
    change = {0x0132: "2023:01:01 00:00:00"}
    digitized = read(jpeg(change, {0x9003: "0000:00:00 00:00:00", 0x9004: "2022:01:01 00:00:00"}))
    assert digitized.captured.local == datetime(2022, 1, 1)
    assert read(jpeg(change)).captured.local == datetime(2023, 1, 1)


def test_then_the_name_then_the_modification_time() -> None:
    by_name = read(jpeg(), "20210531082538-RCNX0031.JPG").captured
    assert (by_name.local, by_name.source) == (datetime(2021, 5, 31, 8, 25, 38), TimeSource.NAME)
    by_mtime = read(jpeg(), "IMG_0001.JPG").captured
    assert by_mtime.local == datetime(2023, 11, 14, 23, 13, 20)
    assert by_mtime.source is TimeSource.MTIME
    assert to_utc(by_mtime) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_a_modification_time_in_the_repeated_hour_keeps_its_instant() -> None:
    second_time = datetime(2023, 10, 29, 1, 30, tzinfo=UTC)  # 02:30 in Berlin, for the second time
    captured = read(b"", mtime_ns=int(second_time.timestamp()) * 10**9).captured
    assert captured.local == datetime(2023, 10, 29, 2, 30)
    assert to_utc(captured) == second_time


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2021:05:31 08:25:38", datetime(2021, 5, 31, 8, 25, 38)),
        ("2021-05-31 08:25:38", datetime(2021, 5, 31, 8, 25, 38)),
        ("2021-05-31T08:25:38", datetime(2021, 5, 31, 8, 25, 38)),
        ("2021/05/31 08:25", datetime(2021, 5, 31, 8, 25)),
        ("2021:05:31 08:25:38.25", datetime(2021, 5, 31, 8, 25, 38, 250_000)),
        ("2021:05:31 08:25:38\0\0garbage", datetime(2021, 5, 31, 8, 25, 38)),
        ("2021:05:31 08:25:60", datetime(2021, 5, 31, 8, 26)),
        ("1970:01:01 00:00:00", datetime(1970, 1, 1)),
        ("2000:01:01 00:00:03", datetime(2000, 1, 1, 0, 0, 3)),
    ],
)
def test_dates_are_kept_as_the_camera_wrote_them(written: str, expected: datetime) -> None:
    captured = read(jpeg(sub={0x9003: written})).captured
    assert (captured.local, captured.source) == (expected, TimeSource.EXIF)


@pytest.mark.parametrize(
    "written",
    [
        *("", " ", "\0\0", "    :  :     :  :  ", "0000:00:00 00:00:00", "2021:02:30 10:00:00"),
        *("2021:05:31", "2021:05:31 25:00:00", "1969:12:31 23:59:59", "2101:01:01 00:00:00"),
        *("2021:05:31 08:25:61", "2021:05:31 08:25:38 PM", "٢٠٢١:05:31 08:25:38", "yesterday"),
    ],
)
def test_what_is_no_time_falls_through(written: str) -> None:
    tag = written.encode("utf-8") if not written.isascii() else written
    assert read(jpeg(sub={0x9003: tag})).captured.source is TimeSource.MTIME


@pytest.mark.parametrize(
    ("digits", "microseconds"), [("5", 500_000), ("07 ", 70_000), ("123456789", 123_456), ("x", 0)]
)
def test_fractions_of_a_second_are_read(digits: str, microseconds: int) -> None:
    captured = read(jpeg(sub={0x9003: "2021:05:31 08:25:38", 0x9291: digits})).captured
    assert captured.local.microsecond == microseconds


@pytest.mark.parametrize(
    ("tags", "offset", "source"),
    [
        ({0x9011: "+05:30"}, timedelta(hours=5, minutes=30), OffsetSource.EXIF),
        ({0x9010: "-03:00"}, timedelta(hours=-3), OffsetSource.EXIF),
        ({0x9011: "Z"}, timedelta(0), OffsetSource.EXIF),
        ({0x9011: "   :  ", 0x9010: "+14:00"}, timedelta(hours=14), OffsetSource.EXIF),
        ({0x9011: "+25:00"}, timedelta(hours=2), OffsetSource.STATION),
        ({0x9011: "nonsense"}, timedelta(hours=2), OffsetSource.STATION),
        ({0x9012: "+05:00"}, timedelta(hours=2), OffsetSource.STATION),  # another time's offset
    ],
)
def test_the_files_own_offset_counts_if_it_is_sane(
    tags: dict[int, object], offset: timedelta, source: OffsetSource
) -> None:
    captured = read(jpeg(sub={0x9003: "2021:05:31 08:25:38", **tags})).captured
    assert (captured.utc_offset, captured.offset_source) == (offset, source)


def test_an_offset_inside_the_time_itself_is_honoured() -> None:
    captured = read(jpeg(sub={0x9003: "2021-05-31T08:25:38-07:00"})).captured
    assert captured.utc_offset == timedelta(hours=-7)


def test_a_clock_that_occurs_twice_is_taken_as_the_first_occurrence() -> None:
    offset, source = attach_offset(datetime(2023, 10, 29, 2, 30, fold=1), None, BERLIN)
    assert (offset, source) == (timedelta(hours=2), OffsetSource.STATION)


def test_a_clock_that_is_skipped_is_read_with_the_offset_before_the_change() -> None:
    assert attach_offset(datetime(2023, 3, 26, 2, 30), None, BERLIN)[0] == timedelta(hours=1)


def test_an_offset_beyond_fourteen_hours_is_not_believed() -> None:
    local = datetime(2023, 7, 1)
    assert attach_offset(local, timedelta(hours=15), BERLIN)[1] is OffsetSource.STATION
    assert attach_offset(local, timedelta(hours=-14), BERLIN)[1] is OffsetSource.EXIF


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20210531082538-RCNX0031.JPG", datetime(2021, 5, 31, 8, 25, 38)),
        ("AABP_13_20051007_1205.jpg", datetime(2005, 10, 7, 12, 5)),
        ("StationB__2009-05-07__18-45-00(1).JPG", datetime(2009, 5, 7, 18, 45)),
        ("2024-07-01T12-30-05", datetime(2024, 7, 1, 12, 30, 5)),
        ("2024-07-01T123005.jpg", datetime(2024, 7, 1, 12, 30, 5)),
        ("2024.07.01 12.30.05.jpg", datetime(2024, 7, 1, 12, 30, 5)),
        ("IMG_20230102_030405.jpg", datetime(2023, 1, 2, 3, 4, 5)),
        ("PXL_20230102_030405123.jpg", datetime(2023, 1, 2, 3, 4, 5)),
        ("cam/20190101000000/20230102_0304.jpg", datetime(2023, 1, 2, 3, 4)),
        (r"D:\cam\20230102_0304.jpg", datetime(2023, 1, 2, 3, 4)),
        ("20231345_0000_20230102_0304.jpg", datetime(2023, 1, 2, 3, 4)),
        ("2021-05-28_SYFR0041_deer.JPG", None),
        ("2021-05-28_0041.JPG", None),  # a day and a counter
        ("B012_2021-05-27_human.jpg", None),
        ("IMG-20210531-WA0012.jpg", None),
        ("1622449538123.jpg", None),  # milliseconds since 1970
        ("20210230_1200.jpg", None),
        ("20210531_2460.jpg", None),
        ("19890101_1200.jpg", None),
        ("21010101_1200.jpg", None),
        ("1234520210531082538.jpg", None),
        ("", None),
    ],
)
def test_times_in_names(name: str, expected: datetime | None) -> None:
    assert time_from_name(name) == expected


def test_size_is_upright_and_none_where_there_is_no_header() -> None:
    turned = read(jpeg({0x0112: 6}))
    assert (turned.width, turned.height) == (48, 64)
    nothing = read(b"\xff\xd8\xff\xe0")
    assert (nothing.width, nothing.height) == (None, None)


def test_camera_strings_are_cleaned() -> None:
    main = {0x010F: "BolyMedia   \0trash", 0x0110: "SG\x07565\n" + "F" * 300}
    seen = read(jpeg(main, {0xA431: "  A-1\t7 "}))
    assert (seen.make, seen.serial) == ("BolyMedia", "A-1 7")
    assert seen.model is not None
    assert seen.model.startswith("SG 565 FFF")
    assert len(seen.model) == 100
    blank = read(jpeg({0x010F: "\0", 0x0110: "   "}))
    assert (blank.make, blank.model, blank.serial) == (None, None, None)


def reconyx(fahrenheit: int, celsius: int, head: bytes = b"RECONYXH2\0") -> bytes:
    """A HyperFire 2 MakerNote with nothing in it but both temperatures and the serial number."""
    serial = "H2X01".ljust(15, "\0").encode("utf-16-le")
    return head.ljust(0x4E, b"\0") + struct.pack("<hh", fahrenheit, celsius) + bytes(44) + serial


def test_temperature_is_read_from_exif_or_a_reconyx_note() -> None:
    assert read(jpeg(sub={0x9400: -7.5})).temperature_celsius == pytest.approx(-7.5)
    cold = read(jpeg(sub={0x927C: reconyx(5, -15)}))
    assert (cold.temperature_celsius, cold.serial) == (-15.0, "H2X01")


@pytest.mark.parametrize(
    "note", [reconyx(70, -15), reconyx(5, -15)[:60], reconyx(5, -15, b"OTHER"), b"", b"\x01\xf1"]
)
def test_a_maker_note_that_is_not_the_known_layout_says_nothing(note: bytes) -> None:
    seen = read(jpeg(sub={0x927C: note}))
    assert (seen.temperature_celsius, seen.serial) == (None, None)


def test_the_first_64_kilobytes_are_enough() -> None:
    noise = Image.effect_noise((3000, 2000), 90)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0132] = "2021:05:31 08:25:38"
    noise.save(stream, "JPEG", exif=exif)
    whole = stream.getvalue()
    assert len(whole) > 1_000_000
    assert read(whole[:65_536]) == read(whole)
    assert read(whole).width == 3000


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"", b"\xff\xd8\xff", b"II\x2a\x00\x08\0\0\0", b"\x89PNG\r\n\x1a\n"]),
    st.binary(max_size=300),
    st.text(max_size=40),
    st.integers(),
)
def test_arbitrary_bytes_never_raise(head: bytes, rest: bytes, name: str, mtime_ns: int) -> None:
    assert read(head + rest, name, mtime_ns).captured.local.year >= 1


SEED = jpeg(
    {0x0112: 6, 0x010F: "RECONYX", 0x0110: "HYPERFIRE 2", 0x0132: "2021:05:31 08:25:38"},
    {
        0x9003: "2021:05:31 08:25:38",
        0x9291: "25",
        0x9011: "+02:00",
        0xA431: "A1",
        0x9400: 3.5,
        0x927C: reconyx(5, -15),
    },
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=20),
    st.integers(0, len(SEED)),
)
def test_mutated_exif_never_raises(changes: list[tuple[int, int]], kept: int) -> None:
    data = bytearray(SEED)
    for place, value in changes:
        data[place] = value
    for seen in (read(bytes(data)), read(bytes(data[:kept]))):
        assert abs(seen.captured.utc_offset) <= timedelta(hours=14)
        to_utc(seen.captured)


TAGS = [0x0112, 0x010F, 0x0110, 0x0132, 0x8769, 0x9003, 0x9004, 0x9010, 0x9011, 0x9291, 0x9400]
ENTRY = st.tuples(
    st.sampled_from([*TAGS, 0x927C, 0xA431, 0x8825]),
    st.integers(0, 18),  # every TIFF type and some that are none
    st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1)),
    st.one_of(st.integers(0, 400), st.integers(0, 2**32 - 1)),  # the value, or where it is
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from("<>"),
    st.lists(ENTRY, max_size=12),
    st.lists(ENTRY, max_size=12),
    st.binary(max_size=200),
)
def test_arbitrary_values_in_the_tags_never_raise(
    order: str, main: list[tuple[int, ...]], sub: list[tuple[int, ...]], blob: bytes
) -> None:
    def directory(entries: list[tuple[int, ...]]) -> bytes:
        packed = b"".join(struct.pack(f"{order}HHLL", *entry) for entry in entries)
        return struct.pack(f"{order}H", len(entries)) + packed + bytes(4)

    sub_at = 8 + len(directory(main)) + 12
    first = directory([*main, (0x8769, 4, 1, sub_at)])
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}L", 8)
    body = b"Exif\0\0" + head + first + directory(sub) + blob
    plain = jpeg()
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    seen = read(plain[:2] + segment + plain[2:])
    assert {seen.width, seen.height} == {64, 48}
    for text in (seen.make, seen.model, seen.serial):
        assert text is None or (text.isprintable() and 0 < len(text) <= 100)


def raw_exif_time(path: Path) -> datetime | None:
    """DateTimeOriginal, read without our code."""
    with Image.open(path) as image:
        written = image.getexif().get_ifd(0x8769).get(0x9003)
    return datetime.strptime(written, "%Y:%m:%d %H:%M:%S") if written else None


@needs_data
@pytest.mark.parametrize(("folder", "count"), [("camera-traps", 42), ("camera-traps-exif", 68)])
def test_real_frames_give_the_time_their_exif_says(folder: str, count: int) -> None:
    paths = [p for p in (DATA / folder).rglob("*") if p.suffix.lower() in {".jpg", ".jpeg"}]
    assert len(paths) == count
    for path in paths:
        seen = read(path.read_bytes(), path.name)
        expected = raw_exif_time(path) or time_from_name(path.name)
        if expected is None:
            assert seen.captured.source is TimeSource.MTIME, path
        else:
            assert seen.captured.local == expected, path
        with Image.open(path) as image:
            assert (seen.width, seen.height) == image.size


@needs_data
def test_names_of_the_borneo_frames_say_what_their_exif_says() -> None:
    for path in (DATA / "camera-traps-exif").rglob("Station*.JPG"):
        assert time_from_name(path.name) == raw_exif_time(path)


@needs_data
def test_reconyx_frames_give_temperature_and_serial_number() -> None:
    frames = list((DATA / "camera-traps" / "heron-burst").glob("*.JPG"))
    seen = {(m.temperature_celsius, m.serial) for m in (read(f.read_bytes()) for f in frames)}
    assert seen == {(2.0, "H2RXEM06043616")}
    owls = (DATA / "camera-traps" / "sandiego-owl" / "burrowing_owl").glob("*.JPG")
    warmth = {owl.name: read(owl.read_bytes()).temperature_celsius for owl in owls}
    assert warmth == {
        "IMG_0708.JPG": 28.0,
        "IMG_0919.JPG": 22.0,
        "IMG_1435.JPG": 15.0,
        "IMG_2605.JPG": 25.0,
        "IMG_8968.JPG": 16.0,
    }


@needs_data
def test_no_hard_input_raises() -> None:
    for path in (DATA / "hard-inputs").iterdir():
        read(path.read_bytes(), path.name)
