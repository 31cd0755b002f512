"""DICOM files with one image, as display values.

Decode, then the modality LUT (PS3.3 C.11.1), the VOI LUT (C.11.2), then inversion of MONOCHROME1 (C.7.6.3.1.2).
"""

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_partial
from pydicom.pixels import apply_color_lut, apply_modality_lut, get_decoder, pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medtl.data.dicom_header import header_of, spacing_of
from medtl.data.kinds import LARGEST_PIXELS, check_size
from medtl.data.quiet import quiet
from medtl.data.scan import Scan
from medtl.data.values import luminance
from medtl.data.voi import display
from medtl.errors import ScanError

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Where objects with functional groups keep what a plain image has at its top level (PS3.3 C.7.6.16).
_MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence")


def read_dicom(data: bytes, *, name: str, sha256: str) -> Scan:
    """Read a DICOM file, with or without preamble, of any transfer syntax that an installed decoder knows.

    Raises:
        ScanError: `no_pixels` (a report, a DICOMDIR, ...), `volume`, `too_large`, `unsupported_syntax`, `truncated`
            or `damaged`.
    """
    with quiet("pydicom"):
        try:
            dataset = parse(data, name)
            _check_is_one_image(dataset, name)
            frames, step = decode(dataset, name)
            return _scan(dataset, frames[0], step, name=name, sha256=sha256)
        except ScanError:
            raise
        except MemoryError:
            raise ScanError("too_large", name, "needs more memory than there is") from None
        except Exception as problem:  # a damaged element raises when it is touched, with any exception
            raise _broken(name, problem) from None


def parse(data: bytes, name: str) -> FileDataset:
    """The header and the undecoded pixels of a file's bytes.

    Raises:
        ScanError: `too_large`, `truncated` or `damaged`; pydicom's own exceptions for what is worse.
    """
    _check_deflated_size(data, name)
    # Zeros where elements should be, as half-copied files have them, would each be read as an empty element.
    dataset = read_partial(io.BytesIO(data), stop_when=lambda tag, _vr, _length: tag == 0, force=True)
    groups = [*dataset.get("SharedFunctionalGroupsSequence", []), *dataset.get("PerFrameFunctionalGroupsSequence", [])]
    if len(groups) <= 2:  # one frame: its macros say what the top level of a plain image would
        for macro in (item for group in groups for key in _MACROS for item in group.get(key, [])):
            for element in macro:
                if element.tag not in dataset:
                    dataset[element.tag] = element
    return dataset


def _check_deflated_size(data: bytes, name: str) -> None:
    """pydicom inflates a deflated file whole; look first how large that becomes."""
    if DeflatedExplicitVRLittleEndian.encode() not in data[:1024] or data[132:136] != b"\x02\x00\x00\x00":
        return
    start = 144 + struct.unpack("<I", data[140:144])[0]
    inflater, rest, length = zlib.decompressobj(wbits=-15), data[start:], 0
    while rest and not inflater.eof:
        length += len(inflater.decompress(rest, 2**24))
        rest = inflater.unconsumed_tail
        if length > 4 * LARGEST_PIXELS:
            raise ScanError("too_large", name, "unpacks to more than 1 GB; it may be damaged")


def _check_is_one_image(dataset: FileDataset, name: str) -> None:
    uid = str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    kind = UID(uid).name if uid else ""
    if not any(key in dataset for key in _PIXELS):
        if "Rows" in dataset or "Image Storage" in kind:
            raise ScanError("truncated", name, "is DICOM that ends before its pixels; copy it again")
        if not len(dataset):
            raise ScanError("truncated", name, "is DICOM that ends in its header; copy it again")
        raise ScanError("no_pixels", name, f"is DICOM without an image ({kind or 'of no stated class'}); leave it out")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ScanError("volume", name, f"holds {frames} frames; this version of medtl reads single images")
    for key in ("Rows", "Columns"):
        if not dataset.get(key):
            raise ScanError("damaged", name, f"is DICOM whose header does not say its {key}; export it again")
    rows, columns, samples = int(dataset.Rows), int(dataset.Columns), int(dataset.get("SamplesPerPixel") or 1)
    check_size(name, rows * columns * samples, what=f"{rows} x {columns} pixels")


def _settle_syntax(dataset: FileDataset, name: str) -> str:
    """Make sure that the pixels can be decoded; say how."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:  # without a file meta group only native encodings are possible
        implicit, little = dataset.original_encoding
        guessed = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = guessed
        return f"decoded as {guessed.name}, for want of a transfer syntax"
    try:
        if get_decoder(syntax).is_available:
            return f"decoded {syntax.name}"
    except NotImplementedError:
        pass
    raise ScanError(
        "unsupported_syntax", name, f"is encoded as {syntax.name}, which medtl cannot decode; export it uncompressed"
    )


def decode(dataset: FileDataset, name: str) -> tuple[npt.NDArray[Any], str]:
    """Stored values (F, H, W), or RGB or palette colour (F, H, W, 3), and how they were decoded.

    Raises:
        ScanError: `unsupported_syntax`, `truncated` or `damaged`.
    """
    step = _settle_syntax(dataset, name)
    try:
        raw = np.asarray(pixel_array(dataset))
    except MemoryError:
        raise
    except Exception as problem:  # each decoder has its own
        broken = _broken(name, problem)
        if broken.code == "truncated":
            raise ScanError("truncated", name, "its pixel data are too short; copy it again") from None
        raise broken from None
    frames = int(dataset.get("NumberOfFrames") or 1)
    return raw if frames > 1 else raw[None], step


def modality_values(dataset: Dataset, raw: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], list[str]]:
    """Stored values through the modality LUT or the rescale of a header (PS3.3 C.11.1), and the steps in words."""
    values = np.asarray(apply_modality_lut(raw, dataset))
    if "ModalityLUTSequence" in dataset:
        return values, ["modality LUT"]
    if "RescaleSlope" in dataset:
        slope, intercept = float(dataset.RescaleSlope), float(dataset.get("RescaleIntercept") or 0)
        return values, [f"rescaled: {slope:g} x value {intercept:+g}"]
    return values, []


def _scan(dataset: FileDataset, raw: npt.NDArray[Any], step: str, *, name: str, sha256: str) -> Scan:
    steps = [step]
    photometric = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2")
    if photometric == "PALETTE COLOR":
        _swap_big_endian_palette(dataset)
        raw = apply_color_lut(raw, dataset)
        pixels = luminance(raw) / np.float32(np.iinfo(raw.dtype).max)
        steps.append("palette colour to luminance")
    elif raw.ndim == 3:
        pixels = luminance(raw) / np.float32(2 ** int(dataset.BitsStored) - 1)
        steps.append("colour to luminance")
    else:
        values, rescaled = modality_values(dataset, raw)
        steps += rescaled
        inside = _inside(dataset, raw)
        pixels, step = display(dataset, values, inside)
        steps.append(step)
        if photometric == "MONOCHROME1":
            pixels = np.float32(1) - pixels
            steps.append("inverted (MONOCHROME1)")
        if not inside.all():
            pixels = np.where(inside, pixels, np.float32(0))
            steps.append("padding made black")
    return Scan(
        pixels=np.clip(pixels, 0, 1).astype(np.float32),
        spacing_mm=spacing_of(dataset),
        header=header_of(dataset),
        source=name,
        sha256=sha256,
        steps=tuple(steps),
    )


def _swap_big_endian_palette(dataset: FileDataset) -> None:
    """pydicom 3.0 reads 16-bit palettes as little endian whatever the file is."""
    little = dataset.original_encoding[1]
    for colour in ("Red", "Green", "Blue"):
        entries = int(dataset[f"{colour}PaletteColorLookupTableDescriptor"].value[0]) or 2**16
        data = dataset.get(key := f"{colour}PaletteColorLookupTableData")
        if not little and data is not None and len(data) == 2 * entries:
            setattr(dataset, key, np.frombuffer(data, ">u2").astype("<u2").tobytes())


def _inside(dataset: FileDataset, raw: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which stored values are image, not padding (PS3.3 C.7.5.1.1.2)."""
    everywhere = np.ones(raw.shape, np.bool_)
    padding = dataset.get("PixelPaddingValue")
    limit = dataset.get("PixelPaddingRangeLimit", padding)
    if not isinstance(padding, int) or not isinstance(limit, int):
        return everywhere
    if raw.dtype.kind == "u":  # a writer that took the signed type for an unsigned image
        padding, limit = (value % 2 ** int(dataset.BitsAllocated) for value in (padding, limit))
    low, high = sorted((padding, limit))
    inside = (raw < low) | (raw > high)
    return inside if inside.any() else everywhere


def _broken(name: str, problem: Exception) -> ScanError:
    said = " ".join(str(problem).split())[:200] or type(problem).__name__
    short = ("less than expected", "end of file", "end of the file", "no more data", "missing at least", "too short")
    if isinstance(problem, EOFError) or any(words in said.lower() for words in short):
        return ScanError("truncated", name, f"is DICOM that ends too early ({said}); copy it again")
    return ScanError("damaged", name, f"is DICOM that cannot be decoded ({said}); copy or export it again")
