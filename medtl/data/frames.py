"""Frames of DICOM objects: where each lies and what its values mean, whether said once, for each, or for all.

Enhanced objects keep this in functional groups, shared or per frame (PS3.3 C.7.6.16.1); plain images at their top
level.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from medtl.data.dicom import inside_of, modality_values, of_frame
from medtl.data.geometry import Place, Stack, most_at_one_place, place_of, stacked
from medtl.errors import ScanError

Values = npt.NDArray[np.float32]
_PLACE = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")


def is_colour(dataset: Dataset) -> bool:
    """Whether pixels are red, green, blue, or numbers of colours."""
    return int(dataset.get("SamplesPerPixel") or 1) > 1 or dataset.get("PhotometricInterpretation") == "PALETTE COLOR"


def places_of(dataset: Dataset, frames: int) -> tuple[Place, ...]:
    """Where each frame lies, by its functional groups or, in a plain image, the top level; none if one is unknown."""
    plain = place_of(dataset)
    if frames == 1 and plain is not None:
        return (plain,)
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(own) < frames > 1:  # also what a damaged header says are thousands of millions
        return ()
    places = [place_of(_place_header(dataset, own[frame : frame + 1])) for frame in range(frames)]
    known = tuple(place for place in places if place is not None)
    return known if len(known) == frames else ()


def frames_stacked(places: Sequence[Place], *, name: str) -> Stack:
    """The frames of one object as a stack.

    Raises:
        ScanError: `several_volumes`, such as the moments of a dynamic series, or what `stacked` refuses.
    """
    volumes = most_at_one_place(places)
    if volumes > 1:
        raise ScanError(
            "several_volumes",
            name,
            f"holds {volumes} volumes in its {len(places)} frames; convert it with dcm2niix and save each by itself",
        )
    return stacked(places, [f"frame {number + 1}" for number in range(len(places))], name=name)


def _place_header(dataset: Dataset, own: Sequence[Dataset]) -> Dataset:
    """What functional groups say of a frame's place, as a plain image would at its top level."""
    header = Dataset()
    groups = [*(dataset.get("SharedFunctionalGroupsSequence") or []), *own]
    for macro in (item for group in groups for key in _PLACE for item in group.get(key) or []):
        header.update(macro)
    return header


def frame_values(dataset: Dataset, raw: npt.NDArray[Any], frame: int) -> tuple[Values, list[str]]:
    """One frame (H, W) of stored values as modality values, NaN where it is padding; the steps in words.

    Unlike in an image, a whole slice of a volume may be padding.

    Args:
        dataset: the object's header.
        raw: the frame's stored values.
        frame: its number, from 0.
    """
    values, steps = modality_values(of_frame(dataset, frame), raw)
    known = values.astype(np.float32)
    known[~inside_of(dataset, raw)] = np.nan
    return known, steps
