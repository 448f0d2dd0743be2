"""Bytes to pixels, on real files made by Pillow and on files that break readers."""

from __future__ import annotations

import io
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from monitor.images.decode import DecodeRules, ImageRejected, decode, dimensions

RULES = DecodeRules()
DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not on this machine")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow, of hostile EXIF

READ = ""
HARD_INPUTS = {  # what becomes of each: READ, or words of the reason
    "16bit.cropped.tif": READ,
    "30-type_error.jpg": READ,
    "45-gps_ifd.jpg": READ,
    "67-0_length_string.jpg": READ,
    "anim_frame1.webp": READ,
    "app13.jpg": READ,
    "broken.png": "damaged PNG",
    "broken_data_stream.png": "damaged PNG",
    "broken_exif_dpi.jpg": READ,
    "crash-0c7e0e8e11ce787078f00b5b0ca409a167f070e0.tif": "damaged TIFF",
    "crash-2020-10-test.tif": "damaged TIFF",
    "decompression_bomb.gif": "not an image trapwatch reads (it looks like GIF)",
    "different_transparency.gif": "not an image trapwatch reads (it looks like GIF)",
    "empty_gps_ifd.jpg": READ,
    "exif_gps_typeerror.jpg": READ,
    "exif_typeerror.jpg": READ,
    "hopper_16bit_qtables.jpg": READ,
    "hopper_bad_exif.jpg": READ,
    "hopper_gray.jpg": READ,
    "hopper_orientation_6.jpg": READ,
    "image00971.jpg": READ,
    "image01088.jpg": READ,
    "image01137.jpg": READ,
    "image01551.jpg": READ,
    "invalid-exif.jpg": READ,
    "jpeg_ff00_header.jpg": READ,
    "junk_jpeg_header.jpg": READ,
    "landscape_3.jpg": READ,
    "photoshop-200dpi-broken.jpg": READ,
    "pil_sample_cmyk.jpg": READ,
    "png_decompression_dos.png": "damaged PNG",
    "portrait_6.jpg": READ,
    "sugarshack.mpo": READ,
    "zero_bytes.JPG": "the file is empty",
    "zero_bytes.mp4": "the file is empty",
}


def scene(width: int = 640, height: int = 480) -> Image.Image:
    """A picture with detail everywhere, bright at the top left, dark at the bottom right."""
    noise = np.random.default_rng(7).integers(0, 60, (height // 8, width // 8, 3), dtype=np.uint8)
    slope = np.linspace(190, 20, width)[None, :, None] * np.linspace(1, 0.4, height)[:, None, None]
    texture = np.asarray(Image.fromarray(noise).resize((width, height)), dtype=np.float64)
    return Image.fromarray(np.clip(slope + texture, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def reason(data: bytes, rules: DecodeRules = RULES) -> str:
    with pytest.raises(ImageRejected) as refused:
        decode(data, rules)
    return str(refused.value)


def assert_like(pixels: np.ndarray, image: Image.Image, tolerance: float = 4.0) -> None:
    """`pixels` show what the plain way, full decode and one resize, shows."""
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    plain = image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    assert np.abs(pixels.astype(int) - np.asarray(plain).astype(int)).mean() < tolerance


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has next to no data."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))
        )

    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(*entries: tuple[int, int, int, int], order: str = "<") -> bytes:
    """A TIFF of one directory with (tag, type, count, value) and 1 KB of data."""
    head = (b"II\x2a\x00" if order == "<" else b"MM\x00\x2a") + struct.pack(f"{order}L", 8)
    body = b"".join(struct.pack(f"{order}HHLL", *entry) for entry in entries)
    return head + struct.pack(f"{order}H", len(entries)) + body + bytes(4) + bytes(1024)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "MPO"])
def test_every_allowed_format_gives_the_same_square_of_rgb(kind: str) -> None:
    assert_like(decode(encoded(scene(), kind), RULES), scene())


@pytest.mark.parametrize("size", [(4000, 3000), (900, 700), (449, 448), (300, 100), (7, 5), (1, 1)])
def test_jpeg_draft_mode_shows_the_same_picture_at_any_size(size: tuple[int, int]) -> None:
    picture = scene(640, 480).resize(size)
    assert_like(decode(encoded(picture, "JPEG", quality=95), RULES), picture, tolerance=6)


def test_the_side_of_the_square_is_a_rule() -> None:
    assert decode(encoded(scene(), "JPEG"), DecodeRules(size=96)).shape == (96, 96, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP"])
def test_every_exif_orientation_comes_out_upright(orientation: int, kind: str) -> None:
    turned = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # how it was held
    stored = scene() if turned is None else scene().transpose(Image.Transpose(turned))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, kind, exif=exif)
    assert_like(decode(data, RULES), scene(), tolerance=5)
    assert dimensions(data, RULES) == (640, 480)


def test_a_compressed_tiff_comes_out_upright_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = scene().transpose(Image.Transpose.ROTATE_90)
    data = encoded(stored, "TIFF", exif=exif, compression="tiff_lzw")
    assert_like(decode(data, RULES), scene())


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_a_nonsense_orientation_counts_as_upright(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert dimensions(encoded(scene(), "JPEG", exif=exif), RULES) == (640, 480)


def test_broken_exif_does_not_cost_the_picture() -> None:
    data = encoded(scene(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 90)
    assert_like(decode(data, RULES), scene())


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_grey_palette_bilevel_and_cmyk_become_rgb(mode: str) -> None:
    picture = scene().convert(mode)
    data = encoded(picture, "JPEG" if mode in {"L", "CMYK"} else "PNG")
    assert_like(decode(data, RULES), picture, tolerance=6)


def test_what_is_transparent_shows_the_neutral_ground() -> None:
    clear = Image.new("RGBA", (50, 50), (255, 0, 0, 0))
    assert (decode(encoded(clear, "PNG"), RULES) == (124, 117, 104)).all()
    palette = Image.new("P", (50, 50), 0)
    palette.putpalette([255, 0, 0] * 256)
    data = encoded(palette, "PNG", transparency=bytes([0] * 256))
    assert (decode(data, RULES) == (124, 117, 104)).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_deep_grey_is_scaled_to_eight_bits_and_not_clipped(bits: int, kind: str) -> None:
    ramp = np.linspace(0, 2**bits - 1, 448).astype(np.uint16)
    pixels = decode(encoded(Image.fromarray(np.tile(ramp, (448, 1))), kind), RULES)
    row = pixels[100, :, 0].astype(int)
    assert row[0] <= 2
    assert row[-1] >= 253
    assert (np.diff(row) >= 0).all()
    assert abs(row[112] - 128) <= 2


def test_floating_point_tiff_with_infinities_is_read() -> None:
    values = np.linspace(0, 1, 300 * 300, dtype=np.float32).reshape(300, 300)
    values[0, 0], values[0, 1] = np.inf, np.nan
    pixels = decode(encoded(Image.fromarray(values), "TIFF"), RULES)
    assert pixels[-1, -1, 0] >= 250


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (60, 60), colour) for colour in ("white", "black")]
    for kind in ("WEBP", "PNG", "TIFF", "MPO"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert decode(data, RULES).mean() > 250, kind


def test_heif_is_read_upright_where_the_package_is_there() -> None:
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    stored = scene().transpose(Image.Transpose.ROTATE_90)
    try:
        heif.from_pillow(stored).save(stream, exif=exif.tobytes(), quality=90)
    except RuntimeError as error:
        pytest.skip(f"this pillow_heif cannot write HEIF: {error}")
    assert_like(decode(stream.getvalue(), RULES), scene(), tolerance=6)
    assert dimensions(stream.getvalue(), RULES) == (640, 480)
    assert "damaged HEIF" in reason(stream.getvalue()[:900])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (bytes(5000), "nothing but zero bytes"),
        (b"GIF89a" + bytes(50), "it looks like GIF"),
        (b"\0\0\0\x18ftypmp42" + bytes(50), "it looks like MP4 video"),
        (b"hello", "not an image trapwatch reads"),
        (b"\xff\xd8\xff", "damaged JPEG"),
        (b"\x89PNG\r\n\x1a\n", "damaged PNG"),
        (b"II\x2a\x00", "damaged TIFF"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "damaged WEBP"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(data: bytes, words: str) -> None:
    assert words in reason(data)
    with pytest.raises(ImageRejected):
        dimensions(data, RULES)


def test_a_picture_over_the_pixel_limit_is_refused_before_it_is_decoded() -> None:
    began = time.process_time()
    words = reason(png_header(120_000, 90_000))
    assert words == (
        "120,000 x 90,000 pixels is over the limit of 100,000,000 (classifier.max_pixels)"
    )
    assert time.process_time() - began < 1
    assert "over the limit of 1,000" in reason(encoded(scene(), "JPEG"), DecodeRules(1_000))
    with pytest.raises(ImageRejected, match="over the limit"):
        dimensions(png_header(120_000, 90_000), RULES)


def test_a_limit_above_pillows_own_is_honoured() -> None:
    assert dimensions(png_header(20_000, 15_000), DecodeRules(400_000_000)) == (20_000, 15_000)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tiff((273, 4, 900_000_000, 8)), "900,000,000 strips"),
        (tiff((279, 4, 900_000_000, 8), order=">"), "900,000,000 strips"),
        (tiff(*[(tag, 3, 1, 1) for tag in range(300)]), "300 tags"),
        (
            tiff(
                *((256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 5), (262, 3, 1, 1)),
                *((277, 3, 1, 1), (322, 4, 1, 60_000), (323, 4, 1, 60_000)),
                *((324, 4, 1, 150), (325, 4, 1, 900)),
            ),
            "tiles of 60000 x 60000",
        ),
    ],
)
def test_a_tiff_that_would_eat_the_memory_is_refused(data: bytes, words: str) -> None:
    assert words in reason(data)


def test_a_progressive_jpeg_with_thousands_of_scans_is_refused() -> None:
    data = encoded(scene(64, 64), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert "scans" in reason(data[:-2] + scan * 1000 + b"\xff\xd9")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    options = {"compression": "tiff_deflate"} if kind == "TIFF" else {}
    data = encoded(scene(), kind, **options)
    reason(data[: int(len(data) * share)])


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_cut_near_its_end_is_accepted_only_on_request(
    mode: str, options: dict[str, int]
) -> None:
    picture = scene(1200, 900).convert(mode)
    data = encoded(picture, "JPEG", quality=90, **options)
    late, early = data[: int(len(data) * 0.96)], data[: int(len(data) * 0.6)]
    asked = DecodeRules(accept_truncated=True)
    assert "truncated JPEG" in reason(late)
    assert_like(decode(late, asked), picture, tolerance=12)
    assert "90% are needed" in reason(early, asked)
    assert_like(decode(data, asked), picture, tolerance=6)


def test_a_jpeg_whose_end_is_zeros_is_truncated() -> None:
    data = encoded(scene(1200, 900), "JPEG", quality=90)
    half = data[: len(data) // 2]
    for zeros in (len(half), 30 * len(half)):  # so many that every row would seem to be there
        assert "truncated JPEG" in reason(half + bytes(zeros))
    assert_like(decode(data + bytes(10_000), RULES), scene(1200, 900))


def test_a_truncated_progressive_jpeg_is_refused_even_on_request() -> None:
    data = encoded(scene(), "JPEG", progressive=True)
    assert "truncated JPEG" in reason(data[:-500], DecodeRules(accept_truncated=True))


def test_many_threads_see_what_one_sees() -> None:
    whole = encoded(scene(1200, 900), "JPEG", quality=90)
    cut = whole[: int(len(whole) * 0.96)]
    asked = DecodeRules(accept_truncated=True)

    def look(turn: int) -> str:
        try:
            return str(decode(cut, asked if turn % 2 else RULES).sum())
        except ImageRejected:
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(look, range(60)))
    assert seen == ["refused", str(decode(cut, asked).sum())] * 30


def attempt(data: bytes) -> None:
    """Either a square of pixels or ImageRejected with a reason; anything else fails the test."""
    try:
        pixels = decode(data, DecodeRules(max_pixels=2_000_000, accept_truncated=True, size=32))
    except ImageRejected as refused:
        assert str(refused)
        assert str(refused).isprintable()
    else:
        assert pixels.shape == (32, 32, 3)


SIGNATURES = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II\x2a\x00", b"RIFF\0\0\0\0WEBPVP8X"]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SIGNATURES), st.binary(max_size=400))
def test_arbitrary_bytes_are_decoded_or_refused(signature: bytes, rest: bytes) -> None:
    attempt(signature + rest)


SEEDS = [
    encoded(scene(40, 32), "JPEG"),
    encoded(scene(40, 32), "JPEG", progressive=True),
    encoded(scene(40, 32), "PNG"),
    encoded(scene(40, 32), "TIFF"),
    encoded(scene(40, 32), "TIFF", compression="tiff_lzw"),
    encoded(scene(40, 32), "WEBP"),
]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    st.floats(0.3, 1),
)
def test_mutated_pictures_are_decoded_or_refused(
    seed: bytes, changes: list[tuple[float, int]], kept: float
) -> None:
    data = bytearray(seed[: int(len(seed) * kept)])
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    attempt(bytes(data))


@needs_data
def test_the_table_names_every_hard_input() -> None:
    assert set(HARD_INPUTS) == {path.name for path in (DATA / "hard-inputs").iterdir()}


@needs_data
@pytest.mark.parametrize(("name", "verdict"), HARD_INPUTS.items())
def test_each_hard_input_meets_its_verdict(name: str, verdict: str) -> None:
    data = (DATA / "hard-inputs" / name).read_bytes()
    if verdict != READ:
        assert verdict in reason(data)
        return
    pixels = decode(data, RULES)
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8


@needs_data
def test_all_camera_trap_frames_are_decoded() -> None:
    frames = [path for path in (DATA / "camera-traps").rglob("*") if path.is_file()]
    assert len(frames) == 42
    for path in frames:
        assert_like(decode(path.read_bytes(), RULES), Image.open(path), tolerance=4)
