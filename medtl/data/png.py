"""Plain grey PNGs, decoded by libpng; Pillow, which reads all others, takes 1.2 times as long to do it."""

import struct
import zlib

import numpy as np
import numpy.typing as npt
from imagecodecs import PngError, png_decode

from medtl.data.quiet import quiet

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# None of these changes the values (PNG 3rd edition, 11.3): resolution, time, colour space.
_WITHOUT_MEANING = {b"pHYs", b"tIME", b"gAMA", b"cHRM", b"sRGB"}
_EIGHT_BIT_GREY = b"\x08\x00\x00\x00\x00"
"""Depth, colour type, compression, filter, no interlacing (11.2.1)."""
_MOST_PIXELS = 2**26
"""Pillow is wary of larger ones."""


def decode_grey(data: bytes) -> npt.NDArray[np.uint8] | None:
    """(H, W) values of a PNG of 8-bit grey with nothing else in it; None of any other, also of a damaged one.

    Of a damaged one Pillow says what is wrong, or reads what can be read.
    """
    size = _size(data)
    if size is None:
        return None
    pixels = np.zeros(size, np.uint8)
    try:
        with quiet("imagecodecs"):
            png_decode(data, out=pixels)
    except (PngError, ValueError):
        return None
    return pixels


def _size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns, where all chunks are known and whole."""
    kinds: list[bytes] = []
    place, size = len(_SIGNATURE), (0, 0)
    while place + 12 <= len(data) and kinds[-1:] != [b"IEND"]:
        length, kind = struct.unpack_from(">I4s", data, place)
        content, end = place + 8, place + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[place + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return None
        if kind == b"IHDR" and length == 13 and data[content + 8 : end] == _EIGHT_BIT_GREY:
            columns, rows = struct.unpack_from(">II", data, content)
            size = rows, columns
        elif kind not in {b"IDAT", b"IEND"} | _WITHOUT_MEANING:
            return None
        kinds.append(kind)
        place = end + 4
    whole = data.startswith(_SIGNATURE) and kinds[:1] == [b"IHDR"] and kinds[-1:] == [b"IEND"] and b"IDAT" in kinds
    return size if whole and kinds.count(b"IHDR") == 1 and 0 < size[0] * size[1] <= _MOST_PIXELS else None
