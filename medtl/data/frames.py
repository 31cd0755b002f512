"""Frames of DICOM objects: where each lies and what its values mean, whether said once, for each, or for all.

Enhanced objects keep this in functional groups, shared or per frame (PS3.3 C.7.6.16.1); plain images at their top
level.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from medtl.data.dicom import inside_of, modality_values
from medtl.data.geometry import Place, Stack, most_at_one_place, place_of, stacked
from medtl.errors import ScanError

Values = npt.NDArray[np.float32]
_DRAWN = {"SEG": "a segmentation", "RTDOSE": "a dose distribution"}
_PLACE = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")


def check_is_scan(dataset: Dataset, name: str) -> None:
    """Refuse what has pixels, but shows what somebody made of a scan.

    Raises:
        ScanError: `not_a_scan`.
    """
    if (modality := dataset.get("Modality")) in _DRAWN:
        raise ScanError("not_a_scan", name, f"is {_DRAWN[modality]}, not a scan; leave it out")


def is_colour(dataset: Dataset) -> bool:
    """Whether pixels are red, green, blue, or numbers of colours."""
    return int(dataset.get("SamplesPerPixel") or 1) > 1 or dataset.get("PhotometricInterpretation") == "PALETTE COLOR"


def places_of(dataset: Dataset, frames: int) -> tuple[Place, ...]:
    """Where each frame lies, by its functional groups or, in a plain image, the top level; none if one is unknown."""
    plain = place_of(dataset)
    if frames == 1 and plain is not None:
        return (plain,)
    places = [place_of(frame_header(dataset, frame, _PLACE)) for frame in range(frames)]
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


def frame_header(dataset: Dataset, frame: int, macros: tuple[str, ...]) -> Dataset:
    """What functional groups say of one frame, as a plain image would at its top level."""
    header = Dataset()
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*(dataset.get("SharedFunctionalGroupsSequence") or []), *per_frame[frame : frame + 1]]
    for macro in (item for group in groups for key in macros for item in group.get(key) or []):
        for element in macro:
            header[element.tag] = element
    return header


def frame_values(dataset: Dataset, raw: npt.NDArray[Any], frame: int) -> tuple[Values, list[str]]:
    """One frame (H, W) of stored values as modality values, NaN where it is padding; the steps in words.

    Unlike in an image, a whole slice of a volume may be padding.

    Args:
        dataset: the object's header.
        raw: the frame's stored values.
        frame: its number, from 0.
    """
    header = frame_header(dataset, frame, ("PixelValueTransformationSequence",))
    values, steps = modality_values(header if len(header) else dataset, raw)
    known = values.astype(np.float32)
    known[~inside_of(dataset, raw)] = np.nan
    return known, steps


def counts_in_hounsfield(dataset: Dataset) -> bool:
    """Whether modality values are Hounsfield units: CT, rescaled, and not said to be of another type (C.11.1.1.2)."""
    macros = frame_header(dataset, 0, ("PixelValueTransformationSequence",))
    header = macros if len(macros) else dataset
    rescaled = "RescaleSlope" in header or "ModalityLUTSequence" in header
    return dataset.get("Modality") == "CT" and rescaled and (header.get("RescaleType") or "HU") == "HU"
