"""Files to measure with: 12-bit DICOM radiographs, made from real pictures, or from the simulated ones without them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    generate_uid,
)

from medtl.data.sources import read_scan

ROOT = Path(__file__).parents[1]
REAL = ROOT / "../shared/data/cxr_nih/images"
"""Where radiographs lie on the machine that the results were measured on."""
SYNTAXES = (ExplicitVRLittleEndian, JPEGLSLossless, JPEG2000Lossless)
Picture = npt.NDArray[np.uint8]


def pictures(real: Path, *, most: int) -> list[Picture]:
    """Grey pictures of a folder of PNGs; of the simulated radiographs where it has none."""
    paths = sorted(real.glob("*.png"))[:most]
    if paths:
        return [np.asarray(Image.open(path).convert("L")) for path in paths]
    paths = sorted((ROOT / "sample_data/images").rglob("*.dcm"))[:most]
    return [(read_scan(path).pixels * 255).astype(np.uint8) for path in paths]


def write_dicoms(shown: Sequence[Picture], folder: Path, *, count: int, side_px: int) -> list[Path]:
    """12-bit radiographs: explicit little endian, JPEG-LS lossless and JPEG 2000 lossless in turn."""
    folder.mkdir()
    paths, rng = [folder / f"{index:04d}.dcm" for index in range(count)], np.random.default_rng(0)
    for index, path in enumerate(paths):
        large = Image.fromarray(shown[index % len(shown)]).resize((side_px, side_px), Image.Resampling.BICUBIC)
        values = np.asarray(large, np.float32) * 16 + rng.normal(0, 6, (side_px, side_px))  # a detector's noise
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(index)])
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\x00" * 128)
        elements = {
            "SOPClassUID": meta.MediaStorageSOPClassUID, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
            "PatientID": f"P{index}", "Modality": "DX", "Rows": side_px, "Columns": side_px, "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11,
            "PixelRepresentation": 0, "WindowCenter": 2048, "WindowWidth": 4096,
            "PixelData": np.clip(values, 0, 4095).astype(np.uint16).tobytes(),
        }  # fmt: skip
        for name, value in elements.items():
            setattr(dataset, name, value)
        if (syntax := SYNTAXES[index % len(SYNTAXES)]) != ExplicitVRLittleEndian:
            dataset.compress(syntax)
        dataset.save_as(path, enforce_file_format=True)
    return paths
