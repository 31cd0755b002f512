"""Slices in space: in which order they lie, and whether they make a volume."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medtl.data.geometry import Affine, slice_affine
from medtl.errors import ScanError

FEWEST = 4
"""Slices of a volume; fewer are scouts or single images."""
_UNEVEN, _GAP, _SAME = 0.05, 1.5, 0.01
_TILT_DEGREES = 1.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a slice lies (PS3.3 C.7.6.2).

    Args:
        name: of the file or frame, for messages.
        orientation: six direction cosines, of rows and of columns.
        position: of the first pixel, mm.
        spacing_mm: between rows and between columns.
    """

    name: str
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    spacing_mm: tuple[float, float]

    @property
    def height_mm(self) -> float:
        """Where it lies along the normal of its plane."""
        return float(np.asarray(self.position) @ np.cross(self.orientation[:3], self.orientation[3:]))


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Slices that make a volume.

    Args:
        order: indices of the slices, in space.
        affine: from (slice, row, column) to mm, RAS.
        notes: what is unusual, in words.
    """

    order: tuple[int, ...]
    affine: Affine
    notes: tuple[str, ...]


def stacked(places: Sequence[Place], *, name: str) -> Stack:
    """Order slices along their normal.

    Raises:
        ScanError: `no_volume` (fewer than 4), `ambiguous_positions` (two slices at one place) or `missing_slices`.
    """
    if len(places) < FEWEST:
        said = "a single image" if len(places) == 1 else f"{len(places)} images"
        raise ScanError("no_volume", name, f"belongs to a series of {said} of its kind; a volume needs {FEWEST} slices")
    heights = np.array([place.height_mm for place in places])
    order = np.lexsort((np.array([place.name for place in places]), heights))
    gaps = np.diff(heights[order])
    usual = float(np.median(gaps))
    _check_gaps(gaps, usual, [places[i] for i in order], name)
    first, last = (np.asarray(places[i].position) for i in (order[0], order[-1]))
    step = (last - first) / (len(places) - 1)
    one = places[order[0]]
    normal = np.cross(one.orientation[:3], one.orientation[3:])
    tilt = float(np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1))))
    notes = [f"{len(places)} slices stacked"]
    if float(np.abs(gaps - usual).max()) > _UNEVEN * usual:
        notes.append(f"slices {gaps.min():.3g} to {gaps.max():.3g} mm apart, taken as {np.mean(gaps):.3g} mm")
    if tilt > _TILT_DEGREES:
        notes.append(f"tilted by {tilt:.0f} degrees, not sheared back")
        step = normal * (step @ normal)
    return Stack(order=tuple(int(i) for i in order), affine=_affine(one, first, step), notes=tuple(notes))


def _affine(one: Place, first: npt.NDArray[np.float64], step: npt.NDArray[np.float64]) -> Affine:
    return slice_affine(one.orientation, one.spacing_mm, first, step)


def _check_gaps(gaps: npt.NDArray[np.float64], usual: float, places: Sequence[Place], name: str) -> None:
    closest, widest = int(np.argmin(gaps)), int(np.argmax(gaps))
    if gaps[closest] <= max(_SAME * usual, 1e-4):
        raise ScanError(
            "ambiguous_positions",
            name,
            f"{places[closest].name} and {places[closest + 1].name} lie at one place ({places[closest].height_mm:.2f} "
            "mm), and nothing in their headers tells two volumes apart; export them as two series",
        )
    if gaps[widest] > _GAP * usual:
        raise ScanError(
            "missing_slices",
            name,
            f"slices are {usual:.3g} mm apart, but {gaps[widest]:.3g} mm between {places[widest].name} and "
            f"{places[widest + 1].name}; export the series again, whole",
        )
