"""Resized pictures: what is on them, made once, kept in bounds, and never of another file."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from field import jpeg
from logbook import DAWN, item, take_in
from photographs import photographs
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

import monitor.images.frame_reader as reader_page
import monitor.images.pictures as pictures_page
import monitor.system.reading as reading_page
from monitor.images.decode import DecodeRules, ImageRejected, decode
from monitor.images.frame_reader import leads_out
from monitor.images.pictures import LONGEST_SIDE, PictureMissing, Pictures, Size
from monitor.log.species_log import SpeciesLog

HARD_INPUTS = Path(__file__).resolve().parents[2] / "shared" / "data" / "hard-inputs"
RULES = DecodeRules()
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow, of hostile EXIF


class Shelf:
    """A watched folder whose files are in the log, and the pictures of them."""

    def __init__(self, base: Path, log: SpeciesLog) -> None:
        self.base, self.log = base, log
        self.frames, self.folder = base / "frames", base / "data" / "pictures"
        self.frames.mkdir()
        self.opened: list[Pictures] = []

    def put(self, name: str | bytes, data: bytes, known_as: bytes | None = None) -> int:
        """Write a file below the watched folder, and take it in (under another path, if given)."""
        path = os.path.join(os.fsencode(self.frames), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        return self.know(known_as or path, data)

    def know(self, path: bytes, data: bytes) -> int:
        """Take in a path whose bytes are these."""
        row = replace(item(path, DAWN), sha256=hashlib.sha256(data).hexdigest())
        return take_in(self.log, [row])[0]

    def open(self, most_bytes: int = 10**8, rules: DecodeRules = RULES, **options) -> Pictures:
        options = {"folders": (self.frames,), **options}
        pictures = Pictures(self.log.find_media, self.folder, most_bytes, rules, **options)
        self.opened.append(pictures)
        return pictures

    def kept(self) -> list[Path]:
        """The files in the folder, whatever they are."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def kept_bytes(self) -> int:
        sizes = 0
        for path in self.kept():
            with suppress(FileNotFoundError):  # deleted meanwhile
                sizes += path.stat().st_size
        return sizes

    def age(self, seconds: float) -> None:
        """Let time pass for every kept picture."""
        for path in self.kept():
            with suppress(FileNotFoundError):
                os.utime(path, (path.stat().st_mtime - seconds,) * 2)


@pytest.fixture
def shelf(tmp_path: Path, log: SpeciesLog) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path, log)
    yield shelf
    for pictures in shelf.opened:
        pictures.close()


@pytest.fixture(scope="module")
def photo() -> bytes:
    return photographs(1)[0]


def scene(width: int = 640, height: int = 480) -> Image.Image:
    """Bright at the top left, dark at the bottom right."""
    across, down = np.linspace(230, 20, width), np.linspace(1, 0.4, height)
    grey = (across[None, :] * down[:, None]).astype(np.uint8)
    bands = [Image.fromarray(band) for band in (grey, grey // 2, 255 - grey)]
    return Image.merge("RGB", bands)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(seed: int, side: int = 320) -> bytes:
    """A picture whose thumbnail is large for what it is."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), quality=80)


def opened(content: bytes) -> JpegImageFile:
    image = JpegImageFile(io.BytesIO(content))
    image.load()
    return image


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


# --- what is on a picture


@pytest.mark.parametrize("size", ["thumb", "screen"])
def test_a_real_frame_comes_out_as_a_plain_jpeg_of_that_size(shelf, photo, size: Size) -> None:
    picture = opened(shelf.open().get(shelf.put("a.jpg", photo), size))
    whole = Image.open(io.BytesIO(photo))
    assert max(picture.size) == min(LONGEST_SIDE[size], max(whole.size))
    assert picture.mode == "RGB"
    assert "progressive" not in picture.info
    plain = np.asarray(whole.convert("RGB").resize(picture.size), int)
    assert np.abs(np.asarray(picture, int) - plain).mean() < 8


def test_twelve_megapixels_are_decoded_small(shelf, photo) -> None:
    large = encoded(Image.open(io.BytesIO(photo)).convert("RGB").resize((4000, 3000)), quality=90)
    pictures, media_id = shelf.open(), shelf.put("a.jpg", large)
    assert opened(pictures.get(media_id, "screen")).size == (1600, 1200)
    assert opened(pictures.get(media_id, "thumb")).size == (320, 240)


def test_a_small_frame_is_never_enlarged(shelf) -> None:
    pictures, media_id = shelf.open(), shelf.put("a.png", encoded(scene(100, 60), "PNG"))
    assert opened(pictures.get(media_id, "screen")).size == (100, 60)
    thin = shelf.put("b.png", encoded(scene(5000, 2), "PNG"))
    assert opened(pictures.get(thin, "thumb")).size == (320, 1)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP"])
def test_it_is_upright_and_says_nothing_of_place_or_camera(shelf, kind) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 7.0)
    stored = scene().transpose(Image.Transpose.ROTATE_90)
    extra = {"comment": b"a comment", "icc_profile": b"profile"} if kind == "JPEG" else {}
    media_id = shelf.put("a.jpg", encoded(stored, kind, exif=exif, **extra))
    content = shelf.open().get(media_id, "thumb")
    picture = opened(content)
    assert picture.size == (320, 240)
    assert np.abs(np.asarray(picture, int) - np.asarray(scene(320, 240), int)).mean() < 5
    assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    for left in (b"Exif", b"camera", b"comment", b"profile", b"http"):
        assert left not in content


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded(scene().convert("CMYK")), id="CMYK"),
        pytest.param(encoded(scene().convert("L")), id="grey"),
        pytest.param(encoded(scene().convert("P"), "PNG"), id="palette"),
        pytest.param(encoded(scene().convert("RGBA"), "PNG"), id="RGBA"),
        pytest.param(encoded(scene(), "MPO", save_all=True, append_images=[scene()]), id="MPO"),
        pytest.param(encoded(scene(), "JPEG", progressive=True), id="progressive"),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(shelf, data) -> None:
    picture = opened(shelf.open().get(shelf.put("a.jpg", data), "thumb"))
    assert (picture.mode, picture.size) == ("RGB", (320, 240))
    expected = scene(320, 240).convert("L")
    assert np.abs(np.asarray(picture.convert("L"), int) - np.asarray(expected, int)).mean() < 25


def test_what_is_transparent_is_filled_with_one_colour(shelf) -> None:
    clear = Image.new("RGBA", (400, 300), (255, 0, 0, 0))
    picture = opened(shelf.open().get(shelf.put("a.png", encoded(clear, "PNG")), "thumb"))
    assert np.abs(np.asarray(picture, int) - (124, 117, 104)).max() <= 3


def test_sixteen_bits_are_scaled_to_eight(shelf) -> None:
    deep = np.linspace(0, 4095, 400 * 300).reshape(300, 400).astype(np.uint16)
    picture = opened(
        shelf.open().get(shelf.put("a.tif", encoded(Image.fromarray(deep), "TIFF")), "thumb")
    )
    pixels = np.asarray(picture)
    assert pixels.min() < 5
    assert pixels.max() > 250


def test_heif_frames_are_shown(shelf) -> None:
    heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    heif.from_pillow(scene()).save(stream)
    media_id, pictures = shelf.put("a.heic", stream.getvalue()), shelf.open()
    assert opened(pictures.get(media_id, "thumb")).size == (320, 240)
    assert pictures.original(media_id) == (stream.getvalue(), "image/heif")


@pytest.mark.skipif(not HARD_INPUTS.is_dir(), reason=f"{HARD_INPUTS} is not on this machine")
def test_hostile_files_become_pictures_or_a_reason_just_as_for_the_classifier(shelf) -> None:
    pictures = shelf.open()
    outcomes = set()
    for file in sorted(HARD_INPUTS.iterdir()):
        data = file.read_bytes()
        media_id = shelf.put(file.name, data)
        try:
            decode(data, RULES)
        except ImageRejected as refused:
            with pytest.raises(PictureMissing) as missing:
                pictures.get(media_id, "thumb")
            assert str(missing.value) == f"media {media_id} cannot be shown: {refused}"
            outcomes.add("refused")
        else:
            for size in ("thumb", "screen"):
                picture = opened(pictures.get(media_id, size))
                assert max(picture.size) <= LONGEST_SIDE[size]
            outcomes.add("shown")
    assert outcomes == {"refused", "shown"}


def test_a_frame_cut_off_is_shown_only_where_such_frames_are_accepted(shelf) -> None:
    data = encoded(scene(800, 608), quality=95)
    media_id = shelf.put("a.jpg", data[: int(len(data) * 0.97)])
    with pytest.raises(PictureMissing, match="truncated JPEG"):
        shelf.open().get(media_id, "thumb")
    picture = shelf.open(rules=DecodeRules(accept_truncated=True)).get(media_id, "thumb")
    assert opened(picture).size == (320, 243)


def test_too_many_pixels_are_refused_unread(shelf) -> None:
    media_id = shelf.put("a.png", encoded(scene(), "PNG"))
    with pytest.raises(PictureMissing, match="over the limit"):
        shelf.open(rules=DecodeRules(max_pixels=10_000)).get(media_id, "thumb")


# --- only the bytes that the log knows, only from where they may come


def test_the_original_comes_byte_for_byte_with_its_true_type(shelf, photo) -> None:
    pictures = shelf.open()
    assert pictures.original(shelf.put("a.png", photo)) == (photo, "image/jpeg")
    png = encoded(scene(), "PNG")
    assert pictures.original(shelf.put("b.jpg", png)) == (png, "image/png")
    page = b"<html><script>alert(1)</script>"
    assert pictures.original(shelf.put("c.jpg", page)) == (page, "application/octet-stream")


def test_a_file_whose_bytes_changed_is_not_shown(shelf, photo) -> None:
    pictures, media_id = shelf.open(), shelf.put("a.jpg", photo)
    (shelf.frames / "a.jpg").write_bytes(photo + b"\0")
    for ask in (lambda: pictures.get(media_id, "thumb"), lambda: pictures.original(media_id)):
        with pytest.raises(PictureMissing, match=r"a\.jpg: its bytes changed"):
            ask()
    (shelf.frames / "a.jpg").write_bytes(photo)
    assert opened(pictures.get(media_id, "thumb"))


def test_a_file_that_is_gone_is_told_and_an_unknown_media_too(shelf, photo) -> None:
    pictures, media_id = shelf.open(), shelf.put("a.jpg", photo)
    (shelf.frames / "a.jpg").unlink()
    with pytest.raises(PictureMissing, match=r"a\.jpg: No such file"):
        pictures.get(media_id, "thumb")
    with pytest.raises(PictureMissing, match="there is no media 99"):
        pictures.get(99, "thumb")


def test_the_first_path_that_still_has_the_bytes_serves(shelf, photo) -> None:
    media_id = shelf.put("a.jpg", photo)
    assert shelf.put(b"caf\xe9.jpg", photo) == media_id
    (shelf.frames / "a.jpg").write_bytes(noise(1))
    pictures = shelf.open()
    assert pictures.original(media_id)[0] == photo
    assert opened(pictures.get(media_id, "thumb"))


@pytest.mark.parametrize("instead", ["fifo", "folder", "socketlike device"])
def test_what_is_no_regular_file_any_more_is_refused_at_once(shelf, photo, instead) -> None:
    pictures, media_id, path = shelf.open(), shelf.put("a.jpg", photo), shelf.frames / "a.jpg"
    path.unlink()
    if instead == "fifo":
        os.mkfifo(path)
    elif instead == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    started = time.monotonic()
    with pytest.raises(PictureMissing, match=rf"media {media_id} cannot be shown"):
        pictures.get(media_id, "thumb")
    with pytest.raises(PictureMissing):
        pictures.original(media_id)
    assert time.monotonic() - started < 5


def test_a_file_too_large_to_hold_is_not_handed_out_in_part(shelf, photo, monkeypatch) -> None:
    monkeypatch.setattr(reading_page, "MAX_FILE_BYTES", 1000)
    with pytest.raises(PictureMissing, match="larger than 1,000 bytes"):
        shelf.open().original(shelf.put("a.jpg", photo))


def test_a_link_out_of_the_watched_folders_is_not_followed(shelf, photo) -> None:
    outside = shelf.base / "private"
    outside.mkdir()
    (outside / "a.jpg").write_bytes(photo)
    (shelf.frames / "file.jpg").symlink_to(outside / "a.jpg")
    (shelf.frames / "folder").symlink_to(outside)
    pictures = shelf.open()
    for path in ("file.jpg", "folder/a.jpg"):
        media_id = shelf.know(os.fsencode(shelf.frames / path), photo)
        with pytest.raises(PictureMissing, match="leads out of the watched folders"):
            pictures.original(media_id)
        with pytest.raises(PictureMissing, match=r"watch\.folders"):
            pictures.get(media_id, "thumb")
    also_watched = shelf.open(folders=(shelf.frames, outside))
    assert also_watched.original(media_id)[0] == photo


def test_links_inside_and_a_watched_folder_that_is_a_link_are_followed(shelf, photo) -> None:
    media_id = shelf.put("north/a.jpg", photo)
    (shelf.frames / "south").symlink_to(shelf.frames / "north")
    (shelf.base / "card").symlink_to(shelf.frames)
    (shelf.frames / "north" / "a.jpg").rename(shelf.frames / "north" / "b.jpg")
    assert shelf.know(os.fsencode(shelf.frames / "south" / "b.jpg"), photo) == media_id
    assert shelf.open().original(media_id)[0] == photo
    other = noise(1)
    media_id = shelf.put("c.jpg", other, known_as=os.fsencode(shelf.base / "card" / "c.jpg"))
    assert shelf.open(folders=(shelf.base / "card",)).original(media_id)[0] == other


def test_a_file_imported_from_elsewhere_is_shown_unless_it_is_a_link(shelf, photo) -> None:
    real = shelf.base / "var" / "home"
    real.mkdir(parents=True)
    (shelf.base / "home").symlink_to(real)  # as /home is on some systems
    (real / "a.jpg").write_bytes(photo)
    media_id = shelf.know(os.fsencode(shelf.base / "home" / "a.jpg"), photo)
    pictures = shelf.open()
    assert pictures.original(media_id)[0] == photo
    (real / "a.jpg").rename(real / "b.jpg")
    (real / "a.jpg").symlink_to(real / "b.jpg")
    with pytest.raises(PictureMissing, match="leads out"):
        pictures.original(media_id)


# --- made once, kept


def counted(monkeypatch: pytest.MonkeyPatch, slow: threading.Event | None = None) -> list[str]:
    """The SHA-256 of every file that is shrunk from now on, in order; `slow` holds them up."""
    made, real = [], pictures_page.shrink

    def shrink(data: bytes, *rest: object) -> Image.Image:
        made.append(hashlib.sha256(data).hexdigest())
        if slow is not None:
            assert slow.wait(20)
        return real(data, *rest)

    monkeypatch.setattr(pictures_page, "shrink", shrink)
    return made


def test_a_picture_is_kept_and_needs_the_file_no_more(shelf, photo, monkeypatch) -> None:
    pictures, media_id, made = shelf.open(), shelf.put("a.jpg", photo), counted(monkeypatch)
    content = pictures.get(media_id, "thumb")
    sha256 = hashlib.sha256(photo).hexdigest()
    assert shelf.kept() == [shelf.folder / sha256[:2] / f"{sha256}-thumb.jpg"]
    assert shelf.kept()[0].read_bytes() == content
    (shelf.frames / "a.jpg").unlink()
    assert pictures.get(media_id, "thumb") == content
    assert shelf.open().get(media_id, "thumb") == content  # after a restart
    assert made == [sha256]


def test_sixteen_who_ask_at_once_have_it_made_once(shelf, photo, monkeypatch) -> None:
    go_on = threading.Event()
    made = counted(monkeypatch, go_on)
    pictures, media_id = shelf.open(threads=4), shelf.put("a.jpg", photo)
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(pictures.get, media_id, "screen") for _ in range(16)]
        wait_until(lambda: made)
        go_on.set()
        answers = {future.result() for future in asked}
    assert len(answers) == 1
    assert len(made) == 1


def test_many_who_ask_for_many_all_get_theirs(shelf) -> None:
    ids = [shelf.put(f"{n}.jpg", noise(n, 64 + n)) for n in range(30)]
    pictures = shelf.open(threads=2)
    with ThreadPoolExecutor(16) as pool:
        wanted = ids * 4
        answers = list(pool.map(lambda media_id: pictures.get(media_id, "thumb"), wanted))
    for media_id, content in zip(wanted, answers, strict=True):
        assert opened(content).size == (64 + ids.index(media_id),) * 2


@pytest.mark.parametrize("damage", [b"", b"\xff\xd8 only the start", b"\0" * 5000])
def test_a_kept_picture_that_a_power_cut_damaged_is_made_again(shelf, photo, damage) -> None:
    pictures, media_id = shelf.open(), shelf.put("a.jpg", photo)
    content = pictures.get(media_id, "thumb")
    shelf.kept()[0].write_bytes(damage)
    assert pictures.get(media_id, "thumb") == content
    assert shelf.kept()[0].read_bytes() == content


def test_the_folder_may_be_deleted_at_any_time(shelf) -> None:
    ids = [shelf.put(f"{n}.jpg", noise(n, 64)) for n in range(20)]
    pictures, stop = shelf.open(threads=2), threading.Event()

    def delete() -> None:
        while not stop.is_set():
            shutil.rmtree(shelf.folder, ignore_errors=True)

    deleting = threading.Thread(target=delete)
    deleting.start()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda media_id: pictures.get(media_id, "thumb"), ids * 5))
    stop.set()
    deleting.join()
    assert all(opened(content).size == (64, 64) for content in answers)
    shutil.rmtree(shelf.folder, ignore_errors=True)
    pictures.get(ids[0], "thumb")
    assert len(shelf.kept()) == 1


def test_where_nothing_can_be_kept_pictures_are_shown_and_it_is_told_once(shelf, caplog) -> None:
    shelf.folder.parent.mkdir(exist_ok=True)
    shelf.folder.touch()  # no folder can be made here
    pictures = shelf.open()
    for seed in range(3):
        media_id = shelf.put(f"{seed}.jpg", noise(seed))
        assert opened(pictures.get(media_id, "thumb")).size == (320, 320)
    assert caplog.text.count("cannot be kept") == 1
    shelf.folder.unlink()
    pictures.get(media_id, "thumb")
    assert len(shelf.kept()) == 1


# --- bounds


def test_the_folder_stays_below_its_limit_and_keeps_what_was_used_last(shelf) -> None:
    one = len(shelf.open().get(shelf.put("x.jpg", noise(999)), "thumb"))
    most = one * 10
    pictures = shelf.open(most_bytes=most)
    first = shelf.put("first.jpg", noise(0))
    pictures.get(first, "thumb")
    for seed in range(1, 40):
        media_id = shelf.put(f"{seed}.jpg", noise(seed))
        pictures.get(media_id, "thumb")
        assert shelf.kept_bytes() <= most
        shelf.age(100)
        pictures.get(first, "thumb")
    wait_until(lambda: shelf.kept_bytes() <= 0.95 * most)
    names = {file.name.partition("-")[0] for file in shelf.kept()}
    assert hashlib.sha256(noise(0)).hexdigest() in names
    assert hashlib.sha256(noise(1)).hexdigest() not in names
    assert len(names) >= 5


def test_what_was_there_at_the_start_is_counted(shelf, photo) -> None:
    (shelf.folder / "ab").mkdir(parents=True)
    for number in range(20):
        file = shelf.folder / "ab" / f"ab{number:03d}-thumb.jpg"
        file.write_bytes(b"\xff\xd8" + bytes(10_000) + b"\xff\xd9")
        os.utime(file, (1_000_000 + number,) * 2)
    left_over = shelf.folder / "ab" / ".abc-thumb.jpg.12.34.partial"
    left_over.touch()
    os.utime(left_over, (1_000_000,) * 2)
    pictures = shelf.open(most_bytes=100_000)
    pictures.get(shelf.put("a.jpg", photo), "thumb")
    wait_until(lambda: shelf.kept_bytes() <= 100_000 and not left_over.exists())
    assert (shelf.folder / "ab" / "ab019-thumb.jpg").exists()
    assert not (shelf.folder / "ab" / "ab000-thumb.jpg").exists()


def test_use_is_noted_at_most_once_a_minute(shelf, photo) -> None:
    pictures, media_id = shelf.open(), shelf.put("a.jpg", photo)
    pictures.get(media_id, "thumb")
    (file,) = shelf.kept()
    now = time.time()
    for age, noted in ((30, False), (90, True), (-90, True)):  # a clock may have been set back
        os.utime(file, (now - age,) * 2)
        pictures.get(media_id, "thumb")
        assert (abs(file.stat().st_mtime - (now - age)) > 1) is noted


# --- ahead of time


def test_what_is_made_ahead_is_there_when_asked_for(shelf, monkeypatch) -> None:
    ids = [shelf.put(f"{n}.jpg", noise(n, 64)) for n in range(5)]
    pictures, made = shelf.open(), counted(monkeypatch)
    pictures.make_ahead([*ids, 4711], "thumb")
    wait_until(lambda: len(shelf.kept()) == 5)
    for media_id in ids:
        pictures.get(media_id, "thumb")
    assert made == [hashlib.sha256(noise(n, 64)).hexdigest() for n in range(5)]


def test_what_is_asked_for_never_waits_for_what_is_made_ahead(shelf, monkeypatch) -> None:
    slow, real, begun = threading.Event(), pictures_page.shrink, threading.Event()

    def shrink(data: bytes, *rest: object) -> Image.Image:
        if data == noise(0, 64):
            begun.set()
            assert slow.wait(20)
        return real(data, *rest)

    monkeypatch.setattr(pictures_page, "shrink", shrink)
    ids = [shelf.put(f"{n}.jpg", noise(n, 64)) for n in range(6)]
    pictures = shelf.open()
    pictures.make_ahead(ids, "thumb")
    assert begun.wait(10)
    assert opened(pictures.get(ids[5], "thumb")).size == (64, 64)  # the first is held up still
    assert len(shelf.kept()) == 1
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(pictures.get, ids[0], "thumb")  # being made ahead: waits for that
        slow.set()
        assert opened(asked.result()).size == (64, 64)
    wait_until(lambda: len(shelf.kept()) == 6)


def test_the_newest_wish_is_made_first_and_the_queue_is_bounded(shelf, monkeypatch) -> None:
    monkeypatch.setattr(pictures_page, "MOST_AHEAD", 4)
    hold = threading.Event()
    made = counted(monkeypatch, hold)
    ids = [shelf.put(f"{n}.jpg", noise(n, 64)) for n in range(8)]
    pictures = shelf.open()
    pictures.make_ahead(ids[:1], "thumb")
    wait_until(lambda: made)
    pictures.make_ahead(ids[1:5], "thumb")
    pictures.make_ahead([ids[6], ids[7], ids[2]], "thumb")
    hold.set()
    wait_until(lambda: len(shelf.kept()) == 5)
    wanted = [0, 6, 7, 2, 1]
    assert made == [hashlib.sha256(noise(n, 64)).hexdigest() for n in wanted]


# --- the end


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("pictures")]


def test_threads_begin_with_the_first_wish_and_end_with_close(shelf, photo) -> None:
    media_id = shelf.put("a.jpg", photo)
    pictures = shelf.open()
    assert threads() == []
    content = pictures.get(media_id, "thumb")
    assert len(threads()) == 3
    pictures.close()
    pictures.close()
    assert threads() == []
    assert pictures.get(media_id, "thumb") == content
    with pytest.raises(PictureMissing, match="ending"):
        pictures.get(media_id, "screen")
    pictures.make_ahead([media_id], "screen")
    assert threads() == []


def test_who_waits_when_it_ends_is_told(shelf, monkeypatch) -> None:
    hold = threading.Event()
    made = counted(monkeypatch, hold)
    ids = [shelf.put(f"{n}.jpg", noise(n, 64)) for n in range(2)]
    pictures = shelf.open()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(pictures.get, ids[0], "thumb")
        wait_until(lambda: made)
        second = pool.submit(pictures.get, ids[1], "thumb")
        wait_until(lambda: pictures._asked)
        ending = pool.submit(pictures.close)
        with pytest.raises(PictureMissing, match="ending"):
            second.result()
        hold.set()
        ending.result()
        assert opened(first.result()).size == (64, 64)


def test_who_waits_too_long_is_told_to_come_again(shelf, photo, monkeypatch) -> None:
    monkeypatch.setattr(pictures_page, "WAIT_SECONDS", 0.05)
    hold = threading.Event()
    counted(monkeypatch, hold)
    pictures, media_id = shelf.open(), shelf.put("a.jpg", photo)
    with pytest.raises(PictureMissing, match="not ready"):
        pictures.get(media_id, "thumb")
    hold.set()
    wait_until(shelf.kept)
    assert opened(pictures.get(media_id, "thumb"))


@pytest.fixture
def hung_share(shelf, monkeypatch) -> Iterator[Path]:
    """Of the two watched folders the one that comes first; whoever reads or looks there waits."""
    share, go = shelf.frames / "share", threading.Event()
    reads, real = reader_page.read_content, os.path.realpath

    def read(path: bytes) -> object:
        assert not path.startswith(os.fsencode(share)) or go.wait(30)
        return reads(path)

    def realpath(path, **options) -> object:
        assert not os.fsencode(path).startswith(os.fsencode(share)) or go.wait(30)
        return real(path, **options)

    monkeypatch.setattr(reader_page, "read_content", read)
    monkeypatch.setattr(os.path, "realpath", realpath)
    monkeypatch.setattr(reader_page, "READ_SECONDS", 0.2)
    yield share
    go.set()


def test_a_share_that_hangs_costs_neither_the_pictures_of_others_nor_a_thread(
    shelf, hung_share: Path
) -> None:
    away = [shelf.put(f"share/{n}.jpg", jpeg(n)) for n in range(12)]
    here = shelf.put("card/a.jpg", jpeg(99))
    pictures = shelf.open(folders=(hung_share, shelf.frames / "card"))
    with pytest.raises(PictureMissing, match=r"0\.jpg: no answer within 0 s"):
        pictures.get(away[0], "thumb")
    assert pictures.get(here, "thumb")
    threads = []
    for _ in range(4):
        with ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(pictures.original, media_id) for media_id in away]
            told = [str(one.exception(5)) for one in asked]
        assert all("no answer" in words or "does not answer" in words for words in told)
        threads.append(threading.active_count())
    assert max(threads) <= threads[0] + 1, "one more looks whether it answers"
    assert pictures.original(here)[0] == jpeg(99)


def test_a_link_is_judged_by_its_own_folder_before_others_are_asked(
    shelf, hung_share: Path
) -> None:
    card = shelf.frames / "card"
    card.mkdir()
    (card / "a.jpg").touch()
    began = time.monotonic()
    assert not leads_out(os.fsencode(card / "a.jpg"), (hung_share, card))
    assert time.monotonic() - began < 1
