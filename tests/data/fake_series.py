"""DICOM series of known geometry, to find out where each pixel went."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

# Directions of a row and of a column, towards the patient's left, back and head.
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
# Slices, rows, columns.
SHAPE = (5, 6, 7)
SPACING_MM = (4.0, 2.0, 1.5)
INTERCEPT = -1000


def fake_series(
    folder: Path,
    *,
    orientation: Sequence[float] = AXIAL,
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    shift_mm: Sequence[float] = (0.0, 0.0, 0.0),
    names: Sequence[str] | None = None,
    each: Callable[[int], dict[str, Any]] = lambda number: {},
    **elements: Any,
) -> list[Path]:
    """Write a CT series whose Hounsfield units are `INTERCEPT` plus the voxel's number in order of slice, row, column.

    Args:
        folder: where to; made if missing.
        orientation: of rows and columns.
        shape: slices, rows, columns.
        spacing_mm: of slices, rows, columns.
        shift_mm: from each slice to the next, beside the step along the normal.
        names: of the files.
        each: elements of the slice of a number.
        elements: of all slices; None leaves one out.

    Returns:
        The files, from the first slice to the last along the normal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:])
    numbers = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    paths = []
    for number, pixels in enumerate(numbers):
        own: dict[str, Any] = {
            "SOPInstanceUID": generate_uid(entropy_srcs=[str(folder), str(elements), str(number)]),
            "ImagePositionPatient": np.round(
                (normal * spacing_mm[0] + np.array(shift_mm)) * number + [-30.0, 20.0, 10.0], 6
            ).tolist(),
            "PixelData": pixels.tobytes(),
        }
        path = folder / (names[number] if names else f"{number:03d}.dcm")
        common = {
            "SOPClassUID": CTImageStorage, "Modality": "CT", "PatientID": "P1", "StudyInstanceUID": "1.2.1",
            "SeriesInstanceUID": "1.2.2", "FrameOfReferenceUID": "1.2.3", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "ImageOrientationPatient": list(orientation), "PixelSpacing": list(spacing_mm[1:]),
            "Rows": shape[1], "Columns": shape[2], "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0,
            "RescaleSlope": 1, "RescaleIntercept": INTERCEPT,
        }  # fmt: skip
        write_dicom(path, common | own | elements | each(number))
        paths.append(path)
    return paths


def write_dicom(path: Path, elements: dict[str, Any]) -> None:
    """A DICOM file of elements; None leaves one out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = elements["SOPClassUID"]
    meta.MediaStorageSOPInstanceUID = elements["SOPInstanceUID"] or "1.2.9"
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    for key, value in elements.items():
        if value is not None:
            setattr(dataset, key, value)
    dataset.save_as(path, enforce_file_format=True)
