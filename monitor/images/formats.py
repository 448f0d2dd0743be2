"""What bytes are, by signature; file names are not believed."""

from __future__ import annotations

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II\x2a\x00": "TIFF",
    b"MM\x00\x2a": "TIFF",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"%PDF": "PDF",
}
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def format_of(data: bytes) -> str:
    """JPEG, PNG, TIFF, WEBP or HEIF, which trapwatch reads; else a name of it for people."""
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature):
            return name
    if data.startswith(b"RIFF"):
        return "WEBP" if data[8:12] == b"WEBP" else "AVI video"
    if data[4:8] == b"ftyp":
        return "HEIF" if data[8:12] in _HEIF_BRANDS else "MP4 video"
    return "nothing known" if data.strip(b"\x00") else "nothing but zero bytes"
