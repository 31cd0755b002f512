"""Outlines of heatmaps whose shape is known."""

import numpy as np
import pytest

from app.outline import outlines
from app.render import HEAT_PX


def area(curve: np.ndarray) -> float:
    """Shoelace formula."""
    x, y = curve[:, 0], curve[:, 1]
    return 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def cone(height: int, width: int, *, centre: tuple[float, float], radius: float) -> np.ndarray:
    """1 in the middle, 0.5 at the radius; x and y are counted from the upper left corner."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    return np.clip(1 - np.hypot(x - centre[0], y - centre[1]) / (2 * radius), 0, 1).astype(np.float32)


def test_a_disc() -> None:
    [curve] = outlines(cone(120, 160, centre=(90, 50), radius=30), level=0.5)
    assert np.allclose(curve[0], curve[-1]), "closed"
    # Marching squares is exact on a cone but for its curvature within a pixel; the polygon may leave it by 0.1.
    assert np.allclose(np.hypot(curve[:, 0] - 90, curve[:, 1] - 50), 30, atol=0.15)
    assert area(curve) == pytest.approx(np.pi * 30**2, rel=0.01)


def test_two_regions_and_none() -> None:
    heat = np.maximum(
        cone(100, 100, centre=(25, 25), radius=10), 0.6 * cone(100, 100, centre=(75, 75), radius=10)
    )  # fmt: skip
    assert len(outlines(heat, level=0.5)) == 2
    assert len(outlines(heat, level=0.7)) == 1
    assert outlines(heat, level=1.1) == []


def test_a_region_at_the_border_is_closed_along_it() -> None:
    [curve] = outlines(cone(60, 60, centre=(0, 30), radius=20), level=0.5)
    assert np.allclose(curve[0], curve[-1]) and curve[:, 0].min() == 0
    assert area(curve) == pytest.approx(np.pi * 20**2 / 2, rel=0.01)


def test_a_large_heatmap_is_drawn_smaller_and_one_of_flat_voxels_in_the_body_s_proportions() -> None:
    [curve] = outlines(cone(2048, 1024, centre=(512, 1024), radius=400), level=0.5)
    assert (curve.min(axis=0) + curve.max(axis=0)) / 2 == pytest.approx([HEAT_PX / 4, HEAT_PX / 2], abs=0.5)
    assert np.ptp(curve[:, 1]) == pytest.approx(2 * 400 * HEAT_PX / 2048, abs=1.0)
    [curve] = outlines(cone(20, 80, centre=(40, 10), radius=6), level=0.5, spacing_mm=(4.0, 1.0))
    assert np.ptp(curve[:, 1]) == pytest.approx(4 * np.ptp(curve[:, 0]), rel=0.1)
