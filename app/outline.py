"""Where a heatmap is hottest, as curves to be drawn around it."""

import numpy as np
import numpy.typing as npt
from skimage.measure import approximate_polygon, find_contours

from app.render import HEAT_PX, in_proportion

Pixels = npt.NDArray[np.float32]

TOLERANCE_PX = 0.1
"""How far a curve may leave the contour, in pixels of the drawn heatmap: less than can be seen."""


def outlines(
    heat: Pixels, *, level: float, spacing_mm: tuple[float, float] | None = None
) -> list[npt.NDArray[np.float64]]:
    """Closed curves around all that is at least `level`, by marching squares (Lorensen & Cline 1987) in scikit-image.

    Args:
        heat: (H, W).
        level: above 0.
        spacing_mm: row and column spacing.

    Returns:
        (N, 2) arrays of x and y in pixels of `heat_png` of the same heatmap, counted from its upper left corner. A
        region at the border is closed along it.
    """
    shown = in_proportion(heat, spacing_mm, longest=HEAT_PX)
    height, width = shown.shape
    # Beyond the border the map goes on for a pixel and then ends, so that a curve leaves the picture and comes back.
    curves = find_contours(np.pad(np.pad(shown, 1, mode="edge"), 1), level)
    # The padding moves all by two pixels; values stand in the middle of theirs.
    moved = (approximate_polygon(curve, TOLERANCE_PX)[:, ::-1] - 1.5 for curve in curves)
    return [np.clip(curve, 0, (width, height)) for curve in moved if len(curve) > 3]
