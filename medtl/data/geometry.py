"""Where voxels lie in the patient: from any order of axes to head, front, right; from slices to a stack.

DICOM counts towards the patient's left, back and head (LPS, PS3.3 C.7.6.2.1.1), NIfTI towards right, front and head
(RAS). Volumes of medtl have axes (D, H, W) that grow towards head, front and right.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from medtl.data.dicom_header import spacing_of
from medtl.errors import ScanError

Matrix = npt.NDArray[np.float64]
SAME_ANGLE = 1e-3
"""Direction cosines that differ by less are of parallel slices."""
SAME_PLACE_MM = 0.01
"""Slices whose distance is less lie at one place."""
EVEN = 0.05
"""A step between slices may differ from the median by this fraction; scanners round positions."""
LARGEST_TILT_DEGREES = 35.0
"""CT gantries tilt by up to 30 degrees."""
_RAS_OF_LPS = np.array([[-1.0], [-1.0], [1.0]])


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """How an array becomes (D, H, W): its axes are permuted and flipped, never resampled.

    Args:
        axes: for D, H and W, the axis of the array.
        flips: for D, H and W, whether it runs the other way.
        spacing_mm: along D, H and W.
        oblique_degrees: the largest angle between an axis and the patient's.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    spacing_mm: tuple[float, float, float]
    oblique_degrees: float

    def shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """The sides along D, H and W of an array of `shape`."""
        depth, height, width = (int(shape[axis]) for axis in self.axes)
        return depth, height, width

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of the array as (D, H, W)."""
        return values.transpose(self.axes)[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    @property
    def notes(self) -> list[str]:
        """The obliqueness in words, where there is any."""
        return [f"oblique by {self.oblique_degrees:.0f} degrees"] if self.oblique_degrees >= 0.5 else []


def arrangement(steps_mm: Matrix) -> Arrangement:
    """The arrangement that brings each axis closest to the patient's, as nibabel's `as_closest_canonical` decides.

    Args:
        steps_mm: (3, 3), a column for each axis of the array: what one step along it means, towards right, front
            and head.

    Raises:
        ValueError: steps that span no volume.
    """
    from nibabel.affines import obliquity
    from nibabel.orientations import io_orientation

    lengths = np.linalg.norm(steps_mm, axis=0)
    if not np.isfinite(lengths).all() or not (lengths > 0).all():
        raise ValueError("its voxels have no size")
    if abs(np.linalg.det(steps_mm / lengths)) < 1e-3:
        raise ValueError("its axes span no volume")
    affine = np.eye(4)
    affine[:3, :3] = steps_mm
    towards = io_orientation(affine)  # a row for each axis of the array: right, front or head; which way
    depth, height, width = (int(np.flatnonzero(towards[:, 0] == axis)[0]) for axis in (2, 1, 0))
    return Arrangement(
        axes=(depth, height, width),
        flips=(bool(towards[depth, 1] < 0), bool(towards[height, 1] < 0), bool(towards[width, 1] < 0)),
        spacing_mm=(float(lengths[depth]), float(lengths[height]), float(lengths[width])),
        oblique_degrees=float(np.degrees(np.max(obliquity(affine)))),
    )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one slice lies, towards left, back and head.

    Args:
        position_mm: the centre of the first pixel, ImagePositionPatient.
        orientation: unit vectors along a row and down a column, ImageOrientationPatient.
        spacing_mm: of rows and of columns.
    """

    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, float]


def place_of(dataset: Dataset) -> Place | None:
    """Where a header says that its slice lies; None where it does not say, or says what cannot be."""
    position, orientation = (_numbers(dataset, key) for key in ("ImagePositionPatient", "ImageOrientationPatient"))
    spacing = spacing_of(dataset)
    if len(position) != 3 or len(orientation) != 6 or spacing is None:
        return None
    row, column = np.reshape(orientation, (2, 3))
    if max(abs(row @ row - 1), abs(column @ column - 1), abs(row @ column)) > 0.01:
        return None
    return Place(position_mm=position, orientation=orientation, spacing_mm=spacing)


def _numbers(dataset: Dataset, key: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in dataset.get(key) or ())
    except (TypeError, ValueError):
        return ()
    return numbers if all(math.isfinite(number) for number in numbers) else ()


def normal_of(orientation: Sequence[float]) -> Matrix:
    """The unit vector through slices, which completes row and column to a right-handed system."""
    normal: Matrix = np.cross(orientation[:3], orientation[3:])
    return normal / np.linalg.norm(normal)


def offsets_mm(places: Sequence[Place]) -> Matrix:
    """How far along the normal of the first slice each slice lies."""
    positions = np.array([place.position_mm for place in places])
    return np.asarray(positions @ normal_of(places[0].orientation), np.float64)


def most_at_one_place(places: Sequence[Place]) -> int:
    """The largest number of slices at one distance along the normal."""
    offsets = np.sort(offsets_mm(places))
    numbers = np.cumsum(np.diff(offsets, prepend=offsets[0]) >= SAME_PLACE_MM)
    return int(np.bincount(numbers).max())


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Parallel slices at equal distances.

    Args:
        order: the slices' numbers from one end to the other.
        arrangement: of the array (slices in order, rows, columns).
        notes: what is odd, but harmless, in words.
    """

    order: tuple[int, ...]
    arrangement: Arrangement
    notes: tuple[str, ...]


def stacked(places: Sequence[Place], names: Sequence[str], *, name: str) -> Stack:
    """Sort slices along their normal, never by name or number (PS3.3 C.7.6.2.1.1), and check that they fill a volume.

    Args:
        places: at least two.
        names: how messages call each slice.
        name: what `ScanError` calls the whole.

    Raises:
        ScanError: `mixed_orientations`, `ambiguous_positions`, `missing_slices`, `uneven_spacing` or `sheared`.
    """
    first = places[0]
    for place, other in zip(places, names, strict=True):
        if not (close(place.orientation, first.orientation) and close(place.spacing_mm, first.spacing_mm)):
            raise ScanError(
                "mixed_orientations",
                name,
                f"{names[0]} and {other} differ in orientation or pixel spacing; a volume needs slices that agree",
            )
    offsets = offsets_mm(places)
    order = [int(index) for index in np.argsort(offsets, kind="stable")]
    apart = np.diff(offsets[order])
    _check_even(apart, [names[index] for index in order], name)
    step_mm = float((offsets[order[-1]] - offsets[order[0]]) / (len(order) - 1))
    row, column = np.reshape(first.orientation, (2, 3))
    tilt = _tilt_degrees(np.array([places[index].position_mm for index in order]), first, name)
    steps = [normal_of(first.orientation) * step_mm, column * first.spacing_mm[0], row * first.spacing_mm[1]]
    arranged = arrangement(np.stack(steps, axis=1) * _RAS_OF_LPS)
    notes = [f"{len(order)} slices, {step_mm:.4g} mm apart", *arranged.notes]
    if tilt >= 0.5:
        notes.append(f"slices shifted sideways as by a gantry tilted {tilt:.0f} degrees; left so")
    return Stack(order=tuple(order), arrangement=arranged, notes=tuple(notes))


def close(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether direction cosines, or spacings in mm, are those of the same stack."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) < SAME_ANGLE


def _check_even(apart: Matrix, names: Sequence[str], name: str) -> None:
    """Refuse steps (in mm, between neighbours in `names`) that are not all the same."""
    smallest, largest = int(np.argmin(apart)), int(np.argmax(apart))
    if apart[smallest] < SAME_PLACE_MM:
        raise ScanError(
            "ambiguous_positions",
            name,
            f"{names[smallest]} and {names[smallest + 1]} lie at one place, and their headers do not tell them apart; "
            "keep one of them",
        )
    usual = float(np.sort(apart)[(len(apart) - 1) // 2])  # a step that occurs, unlike the mean of two
    if apart[largest] - usual <= EVEN * usual and usual - apart[smallest] <= EVEN * usual:
        return
    times = apart / usual
    whole = np.rint(times)
    if (np.abs(times - whole) <= EVEN * whole).all() and np.sum(whole > 1) < np.sum(whole == 1):
        raise ScanError(
            "missing_slices",
            name,
            f"{int(np.sum(whole - 1))} slices are missing: a gap of {apart[largest]:.4g} mm between "
            f"{names[largest]} and {names[largest + 1]}, where others are {usual:.4g} mm apart; fetch the series again",
        )
    odd = largest if apart[largest] - usual >= usual - apart[smallest] else smallest
    raise ScanError(
        "uneven_spacing",
        name,
        f"its slices are not equally spaced: {apart[odd]:.4g} mm between {names[odd]} and {names[odd + 1]}, "
        f"where others are {usual:.4g} mm apart; give a reconstruction with one spacing",
    )


def _tilt_degrees(positions_mm: Matrix, first: Place, name: str) -> float:
    """The angle between the line through the slices' first pixels and the normal of the slices."""
    line = positions_mm[-1] - positions_mm[0]
    along = np.linspace(0, 1, len(positions_mm))[:, None] * line + positions_mm[0]
    # Only what lies in the plane of the slices: the rest are steps, which were checked.
    row_and_column = np.reshape(first.orientation, (2, 3))
    aside = np.abs((positions_mm - along) @ row_and_column.T)
    if aside.max() > max(first.spacing_mm):
        raise ScanError("sheared", name, f"its slices are shifted against each other by up to {aside.max():.3g} mm")
    tilt = math.degrees(math.acos(min(1.0, abs(normal_of(first.orientation) @ line) / float(np.linalg.norm(line)))))
    if tilt > LARGEST_TILT_DEGREES:
        raise ScanError("sheared", name, f"its slices are shifted sideways, as if tilted by {tilt:.0f} degrees")
    return tilt
