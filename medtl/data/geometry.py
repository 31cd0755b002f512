"""Arrays with an affine to volumes whose axes grow towards the patient's head, front and right."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Affine = npt.NDArray[np.float64]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM counts towards the patient's left and back (PS3.3 C.7.6.2.1.1), NIfTI towards right and front."""


def upright(values: npt.NDArray[Any], affine: Affine) -> tuple[npt.NDArray[Any], tuple[float, float, float], str]:
    """Turn and mirror an array, without resampling, until its axes run as nearly as they can along the body.

    Args:
        values: (I, J, K) voxels.
        affine: (4, 4) from (i, j, k) to millimetres towards the patient's right, front and head (RAS).

    Returns:
        (D, H, W) voxels towards head, front and right, the spacing in mm of each axis, and the step in words.
    """
    from nibabel.orientations import apply_orientation, io_orientation

    turn = io_orientation(affine)
    turned = np.asarray(apply_orientation(values, turn)).transpose(2, 1, 0)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[np.argsort(turn[:, 0])]
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    lean = float(np.degrees(np.arccos(np.clip(np.abs(directions).max(axis=0).min(), -1, 1))))
    step = "turned to head, front, right" + (f", {lean:.0f} degrees oblique" if lean >= 0.5 else "")
    return turned, (float(spacing[2]), float(spacing[1]), float(spacing[0])), step


def upright_extent(shape: Sequence[int], affine: Affine) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The shape and spacing that `upright` will give."""
    from nibabel.orientations import io_orientation

    order = np.argsort(io_orientation(affine)[:, 0])[::-1]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return tuple(int(shape[axis]) for axis in order), tuple(float(spacing[axis]) for axis in order)


def slice_affine(orientation: Sequence[float], spacing_mm: Sequence[float], first: Any, step: Any) -> Affine:
    """The affine, in RAS, of slices stacked as (slice, row, column).

    Args:
        orientation: direction of a row, then of a column (Image Orientation (Patient), PS3.3 C.7.6.2.1.1).
        spacing_mm: between rows, between columns (Pixel Spacing, PS3.3 10.7.1.3).
        first: Image Position (Patient) of the first slice, mm.
        step: from each slice to the next, mm.
    """
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = np.asarray(orientation[3:]) * spacing_mm[0]
    affine[:3, 2] = np.asarray(orientation[:3]) * spacing_mm[1]
    affine[:3, 3] = first
    return LPS_TO_RAS @ affine
