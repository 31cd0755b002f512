"""Plain grey PNGs: Pillow's values, and nothing that Pillow would not read."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from medtl.data.png import decode_grey
from medtl.data.sources import read_bytes

GREY = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8).cumsum(axis=1).astype(np.uint8)
SIGNATURE = b"\x89PNG\r\n\x1a\n"
AT_IHDR, BEHIND_IHDR = 8, 33


def saved(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def by_pillow(data: bytes) -> np.ndarray | None:
    try:
        return np.asarray(Image.open(io.BytesIO(data), formats=("PNG",)))
    except Exception:  # any, of a damaged file
        return None


@pytest.mark.parametrize("shape", [(2, 2), (20, 30), (257, 3), (3, 257)])
def test_values_are_those_that_were_written(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    stream = zlib.compress(np.pad(values, ((0, 0), (1, 0))).tobytes())  # no row is filtered
    parts = chunk(b"IHDR", struct.pack(">IIBBBBB", shape[1], shape[0], 8, 0, 0, 0, 0))
    parts += chunk(b"IDAT", stream[:5]) + chunk(b"IDAT", stream[5:]) + chunk(b"IEND", b"")
    for data in (saved(Image.fromarray(values)), SIGNATURE + parts):
        found = decode_grey(data)
        assert found is not None and found.dtype == np.uint8 and np.array_equal(found, values)


@pytest.mark.parametrize(
    ("kind", "content", "plain"),
    [
        (b"gAMA", struct.pack(">I", 20_000), True),
        (b"pHYs", struct.pack(">IIB", 4000, 4000, 1), True),
        (b"tRNS", struct.pack(">H", GREY[3, 4]), False),
        (b"eXIf", struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0), False),  # turned to the right
        (b"tEXt", b"Comment\x00a", False),
    ],
)  # fmt: skip
def test_what_may_change_the_picture_is_left_to_pillow(kind: bytes, content: bytes, plain: bool) -> None:
    data = saved(Image.fromarray(GREY))
    data = data[:BEHIND_IHDR] + chunk(kind, content) + data[BEHIND_IHDR:]
    assert (decode_grey(data) is not None) == plain
    expected = {b"eXIf": np.rot90(GREY, -1), b"tRNS": np.where(GREY[3, 4] == GREY, 0, GREY)}.get(kind, GREY)
    assert read_bytes(data, name="x").pixels == pytest.approx(expected / 255, abs=1e-6)  # float32


def test_others_are_left_to_pillow() -> None:
    image = Image.fromarray(GREY)
    for mode in ("1", "P", "LA", "RGB"):
        assert decode_grey(saved(image.convert(mode))) is None
    assert decode_grey(saved(Image.fromarray(GREY.astype(np.uint16)))) is None
    assert decode_grey(saved(image, save_all=True, append_images=[Image.fromarray(255 - GREY)])) is None
    header = struct.pack(">IIBBBBB", 2**14, 2**14, 8, 0, 0, 0, 0)
    assert decode_grey(saved(image)[:AT_IHDR] + chunk(b"IHDR", header) + saved(image)[BEHIND_IHDR:]) is None, (
        "too large"
    )
    header = struct.pack(">IIBBBBB", 30, 20, 8, 0, 0, 0, 1)
    assert decode_grey(saved(image)[:AT_IHDR] + chunk(b"IHDR", header) + saved(image)[BEHIND_IHDR:]) is None, (
        "interlaced"
    )


def damages() -> Iterator[bytes]:
    """Half of them with the checksums of the chunks made right again."""
    whole, rng = saved(Image.fromarray(GREY)), np.random.default_rng(0)
    stream = whole[BEHIND_IHDR + 8 : -16]
    assert whole == whole[:BEHIND_IHDR] + chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    for number in range(300):
        data = bytearray(stream if number % 2 else whole)
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        if number % 2:
            data = bytearray(whole[:BEHIND_IHDR] + chunk(b"IDAT", bytes(data)) + chunk(b"IEND", b""))
        yield bytes(data[: int(rng.integers(8, len(data)))] if number % 5 == 0 else data)


def test_a_damaged_file_is_never_read_otherwise_than_by_pillow(capfd: pytest.CaptureFixture[str]) -> None:
    for data in damages():
        ours, theirs = decode_grey(data), by_pillow(data)
        assert ours is None or (theirs is not None and np.array_equal(ours, theirs))
    assert capfd.readouterr() == ("", "")
