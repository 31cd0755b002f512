"""Cuts through a volume as a radiologist sees them.

Axes of a volume grow towards head, front and right, so each cut is turned by half: the patient's right is on the
viewer's left, the front is up on axial and left on sagittal cuts, the head is up on the others.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medtl.data.scan import Scan

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One of the three orientations.

    Args:
        axis: of the volume, along which its slices follow each other.
        edges: the letters at the left, right, top and bottom: Right, Left, Anterior, Posterior, Head, Foot.
    """

    axis: int
    edges: tuple[str, str, str, str]


PLANES = {
    "Axial": Plane(axis=0, edges=("R", "L", "A", "P")),
    "Coronal": Plane(axis=1, edges=("R", "L", "H", "F")),
    "Sagittal": Plane(axis=2, edges=("A", "P", "H", "F")),
}


def cut(volume: Pixels, plane: str, index: int) -> Pixels:
    """The slice (rows, columns) of a volume (D, H, W), ready to be shown."""
    return np.ascontiguousarray(volume.take(index, axis=PLANES[plane].axis)[::-1, ::-1])


def cut_spacing(spacing_mm: tuple[float, ...] | None, plane: str) -> tuple[float, float] | None:
    """Row and column spacing of a slice."""
    if spacing_mm is None:
        return None
    rows, columns = (mm for axis, mm in enumerate(spacing_mm) if axis != PLANES[plane].axis)
    return rows, columns


def seen(whole: Pixels, plane: str, at: list[int]) -> Pixels:
    """What is on the screen: an image (H, W) as it is, of a volume (D, H, W) the slice through the voxel `at`."""
    return whole if whole.ndim == 2 else cut(whole, plane, at[PLANES[plane].axis])


def seen_spacing(scan: Scan, plane: str) -> tuple[float, float] | None:
    """Row and column spacing of what is on the screen; None where the file does not say."""
    if scan.spacing_mm is None or scan.dims == 3:
        return cut_spacing(scan.spacing_mm, plane)
    rows, columns = scan.spacing_mm
    return rows, columns


def same_place(at: list[int], shape: tuple[int, ...], other: tuple[int, ...]) -> list[int]:
    """The voxel of another volume at the same share of each side; the two are not registered."""
    return [round(index * (its - 1) / (side - 1)) for index, side, its in zip(at, shape, other, strict=True)]


def hottest(heat: Pixels) -> tuple[int, int, int]:
    """Where a heatmap (D, H, W) is hottest; the middle where all of it is cold."""
    if not heat.any():
        return heat.shape[0] // 2, heat.shape[1] // 2, heat.shape[2] // 2
    depth, row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    return int(depth), int(row), int(column)
