"""Oracles: the arrays that were written, and Pillow's own conversions."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from medtl.data.sources import read_bytes
from medtl.errors import ScanError
from tests.data.picture_files import saved, tiff

GREY = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
DEEP = (GREY.astype(np.uint16) << 8) + 7
LUMA = COLOUR @ [0.299, 0.587, 0.114] / 255
ROUNDING = 1e-6  # float32
EIGHT_BITS = 0.51 / 255  # what Pillow rounds away


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (saved(Image.fromarray(GREY)), GREY / 255),
        (saved(Image.fromarray(DEEP)), DEEP / 65535),
        (saved(Image.fromarray(GREY > 99)), GREY > 99),
        (saved(Image.fromarray(COLOUR)), LUMA),
        (tiff(GREY), GREY / 255),
        (tiff(DEEP), DEEP / 65535),
        (tiff(DEEP, byteorder=">"), DEEP / 65535),
        (tiff(DEEP, compression="zlib", predictor=True), DEEP / 65535),
        (tiff(COLOUR, photometric="rgb"), LUMA),
        (tiff(COLOUR.astype(np.uint16) * 257, photometric="rgb"), LUMA),
        (tiff(np.moveaxis(COLOUR, -1, 0), photometric="rgb", planarconfig="separate"), LUMA),
        (tiff(GREY, photometric="miniswhite"), 1 - GREY / 255),
        (tiff(DEEP, photometric="miniswhite"), 1 - DEEP / 65535),
        (saved(Image.fromarray(GREY), "TIFF", compression="tiff_lzw"), GREY / 255),
    ],
)
def test_values_are_those_that_were_written(data: bytes, expected: np.ndarray) -> None:
    assert read_bytes(data, name="x").pixels == pytest.approx(np.asarray(expected, float), abs=ROUNDING)


def test_palettes_agree_with_pillow() -> None:
    image = Image.fromarray(COLOUR).quantize(16)
    scan = read_bytes(saved(image), name="x")
    assert scan.pixels == pytest.approx(np.asarray(image.convert("RGB").convert("L")) / 255, abs=EIGHT_BITS)
    assert scan.steps == ("colour to luminance",)


def test_transparent_pixels_are_black() -> None:
    alpha = np.zeros((20, 30), np.uint8)
    alpha[5:] = 255
    scan = read_bytes(saved(Image.fromarray(np.dstack([COLOUR, alpha]))), name="x")
    assert scan.pixels[:5].max() == 0
    assert scan.pixels[5:] == pytest.approx(LUMA[5:], abs=ROUNDING)


@pytest.mark.parametrize(
    ("values", "hidden"),
    [(GREY, 77), (GREY, 300), (GREY.astype(np.uint16) * 257, 77 * 257), (GREY > 100, 1)],
    ids=["8 bits", "no such value", "16 bits", "1 bit"],
)
def test_the_grey_value_that_is_transparent_is_black(values: np.ndarray, hidden: int) -> None:
    """PNG 3rd edition, 11.3.1.1: pixels of that value are transparent, all others opaque."""
    scan = read_bytes(saved(Image.fromarray(values), transparency=hidden), name="x")
    white = {np.dtype(bool): 1, np.dtype(np.uint8): 255}.get(values.dtype, 65535)
    assert scan.pixels == pytest.approx(np.where(values == hidden, 0, values) / white, abs=ROUNDING)
    assert scan.steps[0] == "transparency on black"


@pytest.mark.parametrize(("top", "white"), [(200, 255), (1000, 1023), (4095, 4095), (4096, 65535)])
def test_sixteen_bits_that_use_fewer_say_so(top: int, white: int) -> None:
    values = np.linspace(0, top, 600).round().astype(np.uint16).reshape(20, 30)
    scan = read_bytes(saved(Image.fromarray(values)), name="x")
    assert scan.pixels == pytest.approx(values / white, abs=ROUNDING)
    assert f"scaled by {white}" in scan.steps[0]


def test_floats_and_signed_values_are_spread_between_percentiles() -> None:
    values = np.linspace(-50, 50, 600).reshape(20, 30)
    for data in (tiff(values.astype(np.float32)), tiff(values.astype(np.int16))):
        scan = read_bytes(data, name="x")
        assert (scan.pixels.min(), scan.pixels.max()) == (0, 1)
        assert "percentiles" in scan.steps[0]


def test_floats_within_0_to_1_are_spread_like_other_floats() -> None:
    scan = read_bytes(tiff(np.linspace(0.4, 0.6, 600, dtype=np.float32).reshape(20, 30)), name="x")
    assert np.ptp(scan.pixels) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_exif_orientation_is_honoured(orientation: int, kind: str) -> None:
    shades = np.zeros((32, 48), np.uint8)
    shades[:16, :24], shades[:16, 24:], shades[16:, :24] = 255, 170, 85
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(shades), kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))) / 255
    assert read_bytes(data, name="x").pixels == pytest.approx(expected, abs=ROUNDING)


def test_animations_and_stacks_are_volumes() -> None:
    pages = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    for data, words in (
        (saved(pages[0], "PNG", save_all=True, append_images=pages[1:]), "holds 2 frames"),
        (tiff(np.stack([GREY, GREY, GREY]), photometric="minisblack"), "holds 3 pages"),
    ):
        with pytest.raises(ScanError, match=words) as caught:
            read_bytes(data, name="x")
        assert caught.value.code == "volume"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_cut_file_is_refused(kind: str) -> None:
    big = np.random.default_rng(2).integers(0, 256, (200, 200), np.uint8)
    data = saved(Image.fromarray(big), kind)
    for length in (40, len(data) // 2, len(data) - 100):
        with pytest.raises(ScanError, match="copy it again") as caught:
            read_bytes(data[:length], name="x")
        assert caught.value.code in ("truncated", "damaged")


def test_a_png_that_claims_an_absurd_size_is_refused() -> None:
    import struct
    import zlib

    data = bytearray(saved(Image.fromarray(GREY)))
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(ScanError) as caught:
        read_bytes(bytes(data), name="x")
    assert caught.value.code == "too_large"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_no_damage_gets_past_as_another_exception(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    whole = saved(Image.fromarray(GREY), kind)

    @settings(max_examples=60, deadline=None)
    @given(place=st.integers(4, len(whole) - 1), change=st.binary(min_size=1, max_size=8))
    def damaged(place: int, change: bytes) -> None:
        data = bytearray(whole)
        data[place : place + len(change)] = change
        try:
            read_bytes(bytes(data), name="x")
        except ScanError as problem:
            assert "\n" not in str(problem)

    damaged()
    assert not caplog.records


def test_identity_is_the_bytes(make_png: Callable[[int], bytes]) -> None:
    import hashlib

    scan = read_bytes(make_png(1), name="x.png")
    assert scan.sha256 == hashlib.sha256(make_png(1)).hexdigest()
    assert (scan.source, scan.scan_id) == ("x.png", scan.sha256[:16])
