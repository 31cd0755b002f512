"""Pixels to PNG, checked by decoding the PNG again."""

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.render import HEAT_PX, SHOWN_PX, heat_png, scan_png, shown_size

RAMP = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (8, 1))


def decoded(png: bytes) -> np.ndarray:
    assert png.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(png)))


def test_as_read_is_exact() -> None:
    assert np.array_equal(decoded(scan_png(RAMP))[0], np.arange(256))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_any_picture_comes_back_from_its_png(height: int, width: int, seed: int) -> None:
    grey = np.random.default_rng(seed).integers(0, 256, (height, width))
    assert np.array_equal(decoded(scan_png((grey / 255).astype(np.float32))), grey)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_any_picture_in_colour_comes_back_from_its_png(height: int, width: int, seed: int) -> None:
    colours = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    assert np.array_equal(decoded(scan_png((colours / 255).astype(np.float32))), colours)


def test_colours_are_stretched_as_pillow_does() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (10, 40, 3), np.uint8)
    shown = decoded(scan_png((colours / 255).astype(np.float32), spacing_mm=(4.0, 1.0)))
    oracle = np.asarray(Image.fromarray(colours).resize((40, 40), Image.Resampling.BILINEAR))
    assert shown.shape == (40, 40, 3) and np.abs(shown.astype(int) - oracle).max() <= 1  # rounding


def test_the_scan_s_pixels_are_left_as_they_are() -> None:
    pixels = RAMP.copy()
    pixels.flags.writeable = False
    scan_png(pixels)
    assert np.array_equal(pixels, RAMP)


def test_large_scans_are_sent_smaller() -> None:
    assert decoded(scan_png(np.zeros((3000, 1500), np.float32))).shape == (SHOWN_PX, SHOWN_PX // 2)


def test_unequal_spacing_is_shown_in_the_body_s_proportions() -> None:
    assert decoded(scan_png(np.zeros((10, 40), np.float32), spacing_mm=(4.0, 1.0))).shape == (40, 40)


@given(
    st.integers(2, 5000), st.integers(2, 5000), st.none() | st.tuples(st.floats(0.1, 5.0), st.floats(0.1, 5.0))
)  # fmt: skip
def test_proportions(height: int, width: int, spacing_mm: tuple[float, float] | None) -> None:
    shown_width, shown_height = shown_size((height, width), spacing_mm, longest=512)
    row_mm, column_mm = spacing_mm or (1.0, 1.0)
    assert min(shown_width, shown_height) >= 1 and max(shown_width, shown_height) <= 512
    wanted = (height * row_mm) / (width * column_mm)
    # Both sides are rounded to whole pixels, each by half a pixel at most.
    low, high = (shown_height - 0.51) / (shown_width + 0.51), (shown_height + 0.51) / max(shown_width - 0.51, 0.01)
    assert low <= wanted <= high or min(shown_width, shown_height) == 1


def test_heat_is_transparent_where_cold_and_marks_the_right_place() -> None:
    heat = np.zeros((60, 40), np.float32)
    heat[10:20, 25:35] = 1.0
    shown = decoded(heat_png(heat))
    assert shown.shape == (60, 40, 4)
    assert (shown[..., 3][heat == 0] == 0).all() and (shown[..., 3][heat == 1] == 255).all()
    assert shown[15, 30, 0] > shown[15, 30, 2], "hot is orange, not blue"


def test_heat_lies_exactly_over_the_scan() -> None:
    for shape in [(3000, 2000), (700, 701), (64, 64)]:
        scan, heat = (decoded(png(np.zeros(shape, np.float32))).shape[:2] for png in (scan_png, heat_png))
        assert max(heat) <= HEAT_PX
        # object-fit: contain scales both to the same box; a pixel of the smaller is the most they can differ by
        assert abs(scan[0] / scan[1] - heat[0] / heat[1]) < 2 / min(heat)
