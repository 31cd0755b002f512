"""DICOM images as display values: decode, modality LUT, VOI LUT, MONOCHROME1 (PS3.3 C.7.6.3, C.11.1, C.11.2)."""

import io
import logging
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.pixels.processing import apply_color_lut

from medtl.data.images import Pixels, check_size, luminance, percentile_window, stretch
from medtl.data.scan import Header
from medtl.errors import ScanError

HU_WINDOW = (-1000.0, 1000.0)
NOT_IMAGES = {
    "1.2.840.10008.1.3.10": "a DICOMDIR",
    "1.2.840.10008.5.1.4.1.1.104.1": "an encapsulated PDF",
    "1.2.840.10008.5.1.4.1.1.66": "raw data",
}
logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def read_dicom(data: bytes, path: str) -> tuple[Pixels, tuple[float, float] | None, Header, tuple[str, ...]]:
    """A DICOM file with one image.

    Returns:
        (H, W) in 0..1, row and column spacing in mm, the header, and what was done to get there.

    Raises:
        ScanError: not an image, several frames, damaged, or an encoding that cannot be decoded.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(io.BytesIO(data), force=True)
            _check_image(dataset, path)
            values = _decode(dataset, path)
            pixels, steps = _display(dataset, values)
            return pixels, _spacing(dataset), _header(dataset), steps
        except ScanError:
            raise
        except Exception as problem:  # pydicom and its decoders raise many kinds on damaged files
            raise ScanError("damaged", path, f"damaged DICOM ({_short(problem)}); copy it again") from None


def _check_image(dataset: FileDataset, path: str) -> None:
    kind = str(dataset.get("SOPClassUID", dataset.file_meta.get("MediaStorageSOPClassUID", "")))
    name = str(pydicom.uid.UID(kind).name) if kind else "an object without SOP class"
    if not any(key in dataset for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        if "Image Storage" in name or "Rows" in dataset or not kind:
            raise ScanError("truncated", path, "ends before its pixels; copy it again")
        raise ScanError("no_pixels", path, f"is {NOT_IMAGES.get(kind, name)}, not an image")
    check_size(path, int(dataset.Rows), int(dataset.Columns), int(dataset.get("SamplesPerPixel", 1)))
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ScanError("volume", path, f"holds {frames} frames; this version reads single images")


def _decode(dataset: FileDataset, path: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(pixel_array(dataset))
    except (AttributeError, ValueError, RuntimeError, NotImplementedError, KeyError, EOFError) as problem:
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        text = str(problem)
        if syntax is None or "Transfer Syntax" in text or "no available" in text.lower():
            name = syntax.name if syntax is not None else "missing"
            raise ScanError("unsupported_syntax", path, f"its transfer syntax ({name}) cannot be decoded") from None
        if "The number of bytes" in text or "unexpected" in text.lower() or "expected" in text.lower():
            raise ScanError("truncated", path, "its pixel data are too short; copy it again") from None
        raise ScanError("damaged", path, f"its pixels cannot be decoded ({_short(problem)}); copy it again") from None


def _display(dataset: FileDataset, raw: npt.NDArray[Any]) -> tuple[Pixels, tuple[str, ...]]:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    steps = [f"decoded {syntax.name}" if syntax else "decoded"]
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        raw = apply_color_lut(raw, dataset)
        steps.append("palette to colour")
    if raw.ndim == 3:
        depth = 16 if raw.dtype.itemsize > 1 else 8
        bits = min(int(dataset.get("BitsStored", depth)), depth) if photometric != "PALETTE COLOR" else depth
        return stretch(luminance(raw), 0, 2**bits - 1), (*steps, f"{photometric} to luminance")
    values = np.asarray(apply_modality_lut(raw, dataset), np.float64)
    if "ModalityLUTSequence" in dataset:
        steps.append("modality LUT")
    elif (slope := dataset.get("RescaleSlope")) is not None:
        steps.append(f"rescaled x {float(slope):g} {float(dataset.get('RescaleIntercept') or 0):+g}")
    inside = _inside(dataset, raw)
    pixels, how = _window(dataset, raw, values, inside)
    steps.append(how)
    if photometric == "MONOCHROME1":
        pixels = (1 - pixels).astype(np.float32)
        steps.append("inverted MONOCHROME1")
    if not inside.all():
        pixels = np.where(inside, pixels, np.float32(0.0)).astype(np.float32)
        steps.append("padding black")
    return pixels, tuple(steps)


def _inside(dataset: Dataset, raw: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where the picture is, outside the padding (PS3.3 C.7.5.1.1.2)."""
    padding = dataset.get("PixelPaddingValue")
    if not isinstance(padding, int):
        return np.ones(raw.shape, np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit", padding)
    low, high = min(padding, int(limit)), max(padding, int(limit))
    inside = (raw < low) | (raw > high)
    return inside if inside.any() else np.ones(raw.shape, np.bool_)


def _window(
    dataset: FileDataset, raw: npt.NDArray[Any], values: npt.NDArray[np.float64], inside: npt.NDArray[np.bool_]
) -> tuple[Pixels, str]:
    """The VOI LUT: a table, else a window with its function, else a choice by modality (PS3.3 C.11.2.1)."""
    table = dataset.get("VOILUTSequence")
    if table and values.dtype.kind == "f" and np.all(values == np.rint(values)):
        seen = apply_voi_lut(values.astype(np.int64), dataset, prefer_lut=True)
        bits = int(table[0].LUTDescriptor[2])
        return stretch(seen, 0, 2**bits - 1), "VOI LUT"
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if centre is not None and width is not None and width >= 1:
        function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
        return windowed(
            values, centre=centre, width=width, function=function
        ), f"window {centre:g}/{width:g} {function}"
    if dataset.get("Modality") == "CT":
        return stretch(
            values, *HU_WINDOW
        ), f"window {HU_WINDOW[0]:g} to {HU_WINDOW[1]:g} HU, for want of one in the header"
    low, high = percentile_window(values[inside])
    return stretch(values, low, high), f"percentiles {low:g} to {high:g}, for want of a window in the header"


def windowed(values: npt.NDArray[np.float64], *, centre: float, width: float, function: str) -> Pixels:
    """Window centre and width to 0..1 (PS3.3 C.11.2.1.2.1 LINEAR, C.11.2.1.3.1 SIGMOID, C.11.2.1.3.2 LINEAR_EXACT)."""
    if function == "SIGMOID":
        return (1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -80, 80)))).astype(np.float32)
    if function == "LINEAR_EXACT":
        return stretch(values, centre - width / 2, centre + width / 2)
    if width == 1:
        return (values > centre - 0.5).astype(np.float32)
    return stretch(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _first(value: Any) -> float | None:
    try:
        if isinstance(value, pydicom.multival.MultiValue):
            value = value[0] if len(value) else None
        number = None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        return None
    return number if number is not None and np.isfinite(number) else None


def _spacing(dataset: Dataset) -> tuple[float, float] | None:
    for key in ("PixelSpacing", "ImagerPixelSpacing"):
        try:
            row, column = (float(value) for value in dataset.get(key) or ())
        except (TypeError, ValueError):
            continue
        if 0 < row < 100 and 0 < column < 100:
            return row, column
    return None


def _header(dataset: Dataset) -> Header:
    def text(key: str) -> str | None:
        try:
            value = str(dataset.get(key) or "").strip()
        except (TypeError, ValueError, NotImplementedError):
            return None
        return value[:200] or None

    sex = text("PatientSex")
    return Header(
        patient_id=text("PatientID"),
        patient_name=text("PatientName"),
        study_id=text("StudyInstanceUID"),
        series_id=text("SeriesInstanceUID"),
        modality=text("Modality"),
        body_part=text("BodyPartExamined"),
        view=text("ViewPosition"),
        manufacturer=text("Manufacturer"),
        scanner=text("ManufacturerModelName"),
        age_years=age_years(text("PatientAge")),
        sex=sex if sex in ("M", "F", "O") else None,
    )


def age_years(text: str | None) -> float | None:
    """An age string such as `045Y`, `006M`, `003W`, `010D` in years (PS3.5 6.2, AS)."""
    if text is None or len(text) < 2 or not text[:-1].isdigit():
        return None
    days = {"Y": 365.25, "M": 365.25 / 12, "W": 7.0, "D": 1.0}.get(text[-1].upper())
    return None if days is None else round(int(text[:-1]) * days / 365.25, 2)


def is_dicom_without_preamble(data: bytes) -> bool:
    """Whether the bytes are a bare DICOM data set, as old archives write them."""
    if len(data) < 16 or data[:2] not in (b"\x02\x00", b"\x08\x00"):
        return False
    try:
        return len(pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True)) > 2
    except Exception:  # whatever pydicom stumbles over, it is not DICOM
        return False


def _short(problem: Exception) -> str:
    return " ".join(str(problem).split())[:160] or type(problem).__name__
