"""Small files to read, and where the real ones are."""

import io
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

DAMAGES = int(os.environ.get("MEDTL_DAMAGES", "2"))
"""How much of each kind of damage the tests of damaged files do; more by hand."""


@contextmanager
def processor_s_below(limit_s: float) -> Iterator[None]:
    """Seconds of the processor, not of the clock, as the machine that runs the tests may be busy."""
    began = time.process_time()
    yield
    assert time.process_time() - began < limit_s


SHARED = Path(__file__).parents[2] / "../shared/data"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs the real scans of {SHARED}, which are not here")
    return SHARED


@pytest.fixture(scope="session")
def make_dicom() -> Callable[..., bytes]:
    return dicom_bytes


@pytest.fixture(scope="session")
def make_png() -> Callable[[int], bytes]:
    return png_bytes


def png_bytes(seed: int, shape: tuple[int, int] = (20, 30)) -> bytes:
    """A grey PNG of a seed."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(file, "PNG")
    return file.getvalue()


def dicom_bytes(values: np.ndarray, **elements: Any) -> bytes:
    """A plain image of `values` (H, W) uint16 or int16, with any element set or, where None, left out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = elements.pop("TransferSyntaxUID", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = elements.get("SOPClassUID", DigitalXRayImageStorageForPresentation)
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\x00" * 128)
    plain: dict[str, Any] = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": "1.2.3",
        "Modality": "DX",
        "PatientID": "P1",
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": int(values.dtype.kind == "i"),
        "PixelData": values.tobytes(),
    }
    for key, value in (plain | elements).items():
        if value is not None:
            setattr(dataset, key, value)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def deflated_bomb(data: bytes) -> bytes:
    """A deflated DICOM file that goes on with 64 MB of zeros."""
    start = 144 + int.from_bytes(data[140:144], "little")
    deflate = zlib.compressobj(1, wbits=-15)
    content = zlib.decompress(data[start:], wbits=-15)
    zeros = b"".join(deflate.compress(part) for part in (content, *[bytes(2**24)] * 4))
    return data[:start] + zeros + deflate.flush()


@pytest.fixture
def bomb(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """More than may be inflated, which is made 16 MB here to save time."""
    monkeypatch.setattr("medtl.data.dicom.LARGEST_PIXELS", 2**22)
    return deflated_bomb(dicom_bytes(np.zeros((20, 20), np.uint16), TransferSyntaxUID=DeflatedExplicitVRLittleEndian))
