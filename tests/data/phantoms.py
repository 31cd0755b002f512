"""DICOM series whose voxels know where in the body they lie."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def value_at(points: np.ndarray) -> np.ndarray:
    """What stands at points (..., 3) in mm towards left, back and head: a linear function, so that order shows."""
    return 2000 + 3 * points[..., 0] + 5 * points[..., 1] + 7 * points[..., 2]


def slice_file(
    path: Path,
    *,
    orientation: Sequence[float],
    position: Sequence[float],
    rows: int,
    columns: int,
    spacing: tuple[float, float],
    series: str = "1.2.3",
    **elements: object,
) -> None:
    """Write one CT slice; Hounsfield units are what `value_at` says, less 2000."""
    row, column = np.mgrid[:rows, :columns]
    along, down = np.array(orientation[:3]), np.array(orientation[3:])
    offset = column[..., None] * along * spacing[1] + row[..., None] * down * spacing[0]
    values = np.rint(value_at(np.array(position) + offset)).astype(np.uint16)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    uid = meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\x00" * 128)
    plain = {
        "SOPClassUID": CTImageStorage, "SOPInstanceUID": uid, "StudyInstanceUID": "1.2", "SeriesInstanceUID": series,
        "PatientID": "P", "Modality": "CT", "Rows": rows, "Columns": columns, "PixelSpacing": list(spacing),
        "ImageOrientationPatient": list(orientation), "ImagePositionPatient": [float(mm) for mm in position],
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 16,
        "HighBit": 15, "PixelRepresentation": 0, "RescaleSlope": 1, "RescaleIntercept": -2000,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "PixelData": values.tobytes(),
    }  # fmt: skip
    for name, value in (plain | elements).items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)


def write_series(
    folder: Path,
    *,
    orientation: Sequence[float] = AXIAL,
    slices: int = 6,
    gap_mm: float = 2.0,
    order: Sequence[int] | None = None,
    prefix: str = "s",
    missing: Sequence[int] = (),
    **elements: object,
) -> list[Path]:
    """A series of slices; `order` gives their names, so that names say nothing about places."""
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:])
    names = list(order) if order is not None else list(range(slices))
    paths = []
    for index in range(slices):
        if index in missing:
            continue
        path = folder / f"{prefix}{names[index]:03d}"
        position = np.array([-10.0, -20.0, -30.0]) + index * gap_mm * normal
        slice_file(path, orientation=orientation, position=position, rows=8, columns=10, spacing=(1.5, 1.0), **elements)
        paths.append(path)
    return paths
