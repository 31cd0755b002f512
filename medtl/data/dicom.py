"""DICOM files with one image, as display values.

Decode, then the modality LUT (PS3.3 C.11.1), the VOI LUT (C.11.2), then inversion of MONOCHROME1 (C.7.6.3.1.2).
"""

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_partial
from pydicom.pixels import apply_color_lut, apply_modality_lut, get_decoder, iter_pixels, pixel_array
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from medtl.data.dicom_header import header_of, spacing_of
from medtl.data.kinds import LARGEST_PIXELS, check_size
from medtl.data.quiet import quiet
from medtl.data.scan import Scan
from medtl.data.values import luminance
from medtl.data.voi import display
from medtl.errors import ScanError

AIR_HU = np.float32(-1000)
"""What lies outside of the field of view of a CT becomes air."""
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Where objects with functional groups keep what a plain image has at its top level (PS3.3 C.7.6.16).
_MACROS = (
    "PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence", "PlanePositionSequence",
    "PlaneOrientationSequence",
)  # fmt: skip
_FASTEST = {
    JPEGLSLossless: "pyjpegls", JPEGLSNearLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg", JPEG2000: "pylibjpeg",
}  # fmt: skip
_LARGE = {tag_for_keyword(key) for key in (*_PIXELS, "PerFrameFunctionalGroupsSequence")}
# What a storage class is, by words in its name (PS3.6 A), where it is no image.
_OBJECTS = {
    "Media Storage Directory": ("dicomdir", "a DICOMDIR, the table of contents of a medium"),
    "Key Object Selection": ("key_object", "a key object selection"),
    "Presentation State": ("presentation_state", "a presentation state"),
    "Encapsulated": ("document", "an encapsulated document"),
    "Waveform": ("waveform", "a waveform"),
    "Raw Data": ("raw_data", "raw data of a scanner"),
    "Spectroscopy": ("spectroscopy", "spectroscopy"),
    "Segmentation": ("segmentation", "a segmentation: masks, not a scan"),
    "RT Dose": ("radiotherapy", "a dose distribution"),
    "RT ": ("radiotherapy", "a radiotherapy object"),
    " SR": ("report", "a structured report"),
    "Radiation Dose": ("report", "a dose report"),
    "Report": ("report", "a report"),
}


def read_dicom(data: bytes, *, name: str, sha256: str) -> Scan:
    """Read a DICOM file of one frame, with or without preamble, of any transfer syntax that a decoder is there for.

    Raises:
        ScanError: `several_frames`, or as `read_dicom_frames`.
    """
    return next(_frames(data, name, sha256, most=1))


def read_dicom_frames(data: bytes, *, name: str, sha256: str) -> Iterator[Scan]:
    """Every frame of a DICOM file as an image, one in memory at a time; a single frame has the file's own name.

    Raises:
        ScanError: a code of `kinds.LISTED` for an object that is no image, `too_large`, `unsupported_syntax`,
            `truncated` or `damaged`.
    """
    return _frames(data, name, sha256)


def _frames(data: bytes, name: str, sha256: str, *, most: int | None = None) -> Iterator[Scan]:
    with quiet("pydicom"):
        try:
            dataset = parse(data, name)
            check_image(dataset, name)
            frames = int(dataset.get("NumberOfFrames") or 1)
            if most is not None and frames > most:
                what = (
                    f"holds {frames} frames; single images are expected here. medtl ingest and score take every frame"
                )
                raise ScanError("several_frames", name, what)
            step = _settle_syntax(dataset, name)
            if frames == 1:
                yield _scan(dataset, decode(dataset, name)[0][0], step, name=name, sha256=sha256)
                return
            for index, raw in enumerate(iter_pixels(dataset, decoding_plugin=plugin_for(dataset))):
                place = f"frame/{index}"
                own = hashlib.sha256(f"{sha256}/{place}".encode()).hexdigest()
                yield _scan(of_frame(dataset, index), raw, step, name=f"{name}#{place}", sha256=own)
        except ScanError:
            raise
        except MemoryError:
            raise ScanError("too_large", name, "needs more memory than there is") from None
        except Exception as problem:  # a damaged element raises when it is touched, with any exception
            raise broken(name, problem) from None


def of_frame(dataset: Dataset, index: int) -> Dataset:
    """The header of one frame: what its functional groups say stands at the top level, as in a plain image."""
    shared, own = dataset.get("SharedFunctionalGroupsSequence"), dataset.get("PerFrameFunctionalGroupsSequence")
    frame = Dataset()
    frame.update({tag: dataset.get_item(tag) for tag in dataset._dict if tag not in _LARGE})
    frame.set_original_encoding(*dataset.original_encoding, dataset.original_character_set)
    for groups, place in ((shared, 0), (own, index)):
        if groups and place < len(groups):
            for macro in (item for key in _MACROS for item in groups[place].get(key, [])):
                for element in macro:
                    frame[element.tag] = element
    return frame


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


def check_object(dataset: Dataset, name: str) -> None:
    """Make sure that a DICOM object is an image.

    Raises:
        ScanError: a code of `kinds.LISTED`.
    """
    uid = str(dataset.get("SOPClassUID") or _meta(dataset).get("MediaStorageSOPClassUID", ""))
    kind = UID(uid).name if uid else ""
    if "RT Image" not in kind:
        for words, (code, what) in _OBJECTS.items():
            if words in f"{kind} ":
                raise ScanError(code, name, f"is {what}; it is listed and left out")
    if not any(key in dataset for key in (*_PIXELS, "Rows")) and "Image Storage" not in kind and len(dataset):
        raise ScanError("no_pixels", name, f"is DICOM without an image ({kind or 'of no stated class'}); leave it out")


def _meta(dataset: Dataset) -> Dataset:
    return getattr(dataset, "file_meta", None) or Dataset()


def check_image(dataset: FileDataset, name: str) -> None:
    """Make sure that an object is an image with pixels that memory can hold.

    Raises:
        ScanError: a code of `kinds.LISTED`, `truncated`, `damaged` or `too_large`.
    """
    check_object(dataset, name)
    if not any(key in dataset for key in _PIXELS):
        where = "before its pixels" if len(dataset) else "in its header"
        raise ScanError("truncated", name, f"is DICOM that ends {where}; copy it again")
    for key in ("Rows", "Columns"):
        if not dataset.get(key):
            raise ScanError("damaged", name, f"is DICOM whose header does not say its {key}; export it again")
    rows, columns, samples = int(dataset.Rows), int(dataset.Columns), int(dataset.get("SamplesPerPixel") or 1)
    check_size(name, rows * columns * samples, what=f"{rows} x {columns} pixels")


def plugin_for(dataset: FileDataset) -> str:
    """The fastest decoder of a transfer syntax, by docs/results.md; empty where there is no choice to make."""
    return _FASTEST.get(dataset.file_meta.get("TransferSyntaxUID"), "")


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
        raw = np.asarray(pixel_array(dataset, decoding_plugin=plugin_for(dataset)))
    except MemoryError:
        raise
    except Exception as problem:  # each decoder has its own
        said = broken(name, problem)
        if said.code == "truncated":
            raise ScanError("truncated", name, "its pixel data are too short; copy it again") from None
        raise said from None
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


def _scan(dataset: Dataset, raw: npt.NDArray[Any], step: str, *, name: str, sha256: str) -> Scan:
    steps, hu = [step], None
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
        inside = inside_of(dataset, raw)
        if is_hounsfield(dataset):
            hu = np.where(inside, values, AIR_HU).clip(AIR_HU).astype(np.float32)
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
        hu=hu,
        header=header_of(dataset),
        source=name,
        sha256=sha256,
        steps=tuple(steps),
    )


def is_hounsfield(dataset: Dataset) -> bool:
    """Whether modality values are Hounsfield units: of CT, rescaled, and no other unit is named (PS3.3 C.11.1.1.2)."""
    unit = str(dataset.get("RescaleType") or "HU").strip().upper()
    return dataset.get("Modality") == "CT" and "RescaleSlope" in dataset and unit == "HU"


def _swap_big_endian_palette(dataset: Dataset) -> None:
    """pydicom 3.0 reads 16-bit palettes as little endian whatever the file is."""
    little = dataset.original_encoding[1]
    for colour in ("Red", "Green", "Blue"):
        entries = int(dataset[f"{colour}PaletteColorLookupTableDescriptor"].value[0]) or 2**16
        data = dataset.get(key := f"{colour}PaletteColorLookupTableData")
        if not little and data is not None and len(data) == 2 * entries:
            setattr(dataset, key, np.frombuffer(data, ">u2").astype("<u2").tobytes())


def inside_of(dataset: Dataset, raw: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
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


def broken(name: str, problem: Exception) -> ScanError:
    """What a decoder or parser raised on a damaged file, as one kind of error."""
    said = " ".join(str(problem).split())[:200] or type(problem).__name__
    short = ("less than expected", "end of file", "end of the file", "no more data", "missing at least", "too short")
    if isinstance(problem, EOFError) or any(words in said.lower() for words in short):
        return ScanError("truncated", name, f"is DICOM that ends too early ({said}); copy it again")
    return ScanError("damaged", name, f"is DICOM that cannot be decoded ({said}); copy or export it again")
