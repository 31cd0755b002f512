"""DICOM files with one image, as display values.

Decode, then the modality LUT (PS3.3 C.11.1), the VOI LUT (C.11.2), then inversion of MONOCHROME1 (C.7.6.3.1.2).
"""

import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import _read_file_meta_info, read_partial, read_preamble
from pydicom.pixels import apply_color_lut
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medtl.data.dicom_header import header_of, spacing_of
from medtl.data.dicom_objects import PIXELS, check_image
from medtl.data.dicom_pixels import broken, decode, decoded_frames, number_of_frames, settle_syntax
from medtl.data.jpeg2000 import may_be_coarse
from medtl.data.kinds import LARGEST_PIXELS
from medtl.data.levels import levels_of
from medtl.data.lut import table_of
from medtl.data.quiet import quiet
from medtl.data.scan import Scan
from medtl.data.values import TO_LUMINANCE, Pixels, coloured, luminance
from medtl.data.voi import display, first_number
from medtl.errors import ScanError

AIR_HU = np.float32(-1000)
"""What lies outside of the field of view of a CT becomes air."""
# Where objects with functional groups keep what a plain image has at its top level (PS3.3 C.7.6.16), and what of the
# top level a group therefore replaces.
_MACROS = {
    "PixelValueTransformationSequence": ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameVOILUTSequence": ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PlanePositionSequence": (),
    "PlaneOrientationSequence": (),
}


def read_dicom(data: bytes, *, name: str, sha256: str, least_px: int | None = None) -> Scan:
    """Read a DICOM file of one frame, with or without preamble, of any transfer syntax that a decoder is there for.

    Args:
        data: the whole file.
        name: how the scan and messages call it.
        sha256: of the file.
        least_px: how many pixels the longer side needs at least, where fewer are faster to decode; None for all.

    Raises:
        ScanError: `several_frames`, or as `read_dicom_frames`.
    """
    return next(_frames(data, name, sha256, most=1, least_px=least_px))


def read_dicom_frames(data: bytes, *, name: str, sha256: str, least_px: int | None = None) -> Iterator[Scan]:
    """Every frame of a DICOM file as an image, one in memory at a time; a single frame has the file's own name.

    Of several frames all pixels are decoded, whatever `least_px` says.

    Raises:
        ScanError: a code of `kinds.LISTED` for an object that is no image, `too_large`, `unsupported_syntax`,
            `truncated` or `damaged`.
    """
    return _frames(data, name, sha256, least_px=least_px)


def _frames(
    data: bytes, name: str, sha256: str, *, most: int | None = None, least_px: int | None = None
) -> Iterator[Scan]:
    with quiet("pydicom"):
        try:
            dataset = parse(data, name)
            check_image(dataset, name, has_pixels=any(key in dataset for key in PIXELS))
            frames = number_of_frames(dataset)
            if most is not None and frames > most:
                what = (
                    f"holds {frames} frames; single images are expected here. medtl ingest and score take every frame"
                )
                raise ScanError("several_frames", name, what)
            step = settle_syntax(dataset, name)
            if frames == 1:
                (raw,), said = decode(dataset, name, least_px=least_px)
                step = step if raw.shape[0] == int(dataset.Rows) else said
                again = partial(_coarser, data, name, sha256) if least_px is None and may_be_coarse(dataset) else None
                yield _scan(of_frame(dataset, 0), raw, step, name=name, sha256=sha256, coarser=again)
                return
            for index, raw in enumerate(decoded_frames(dataset, name)):
                place = f"frame/{index}"
                own = hashlib.sha256(f"{sha256}/{place}".encode()).hexdigest()
                yield _scan(of_frame(dataset, index), raw, step, name=f"{name}#{place}", sha256=own)
        except ScanError:
            raise
        except MemoryError:
            raise ScanError("too_large", name, "needs more memory than there is") from None
        except Exception as problem:  # a damaged element raises when it is touched, with any exception
            raise broken(name, problem) from None


def _coarser(data: bytes, name: str, sha256: str, least_px: int) -> Scan:
    return read_dicom(data, name=name, sha256=sha256, least_px=least_px)


def of_frame(dataset: Dataset, index: int) -> Dataset:
    """The header of one frame: what its functional groups say stands at the top level, as in a plain image.

    A frame's own group counts before the one that all share, and that before the top level.
    """
    frame = Dataset()
    frame.update(dataset._dict)
    frame.set_original_encoding(*dataset.original_encoding, dataset.original_character_set)
    for groups, place in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", index)):
        for group in (dataset.get(groups) or [])[place : place + 1]:
            for macro, replaced in _MACROS.items():
                for item in group.get(macro) or []:
                    for key in replaced:
                        frame.pop(key, None)
                    frame.update(item)
    return frame


def parse(data: bytes, name: str) -> FileDataset:
    """The header and the undecoded pixels of a file's bytes.

    Raises:
        ScanError: `too_large`, `truncated` or `damaged`; pydicom's own exceptions for what is worse.
    """
    _check_deflated_size(data, name)
    # Zeros where elements should be, as half-copied files have them, would each be read as an empty element.
    return read_partial(io.BytesIO(data), stop_when=lambda tag, _vr, _length: tag == 0, force=True)


def is_deflated(file: BinaryIO) -> bool:
    """Whether what follows a file's meta group is deflated; leaves the file there, as pydicom would.

    Raises:
        Exception: of any kind, by pydicom, for a damaged meta group.
    """
    read_preamble(file, force=True)
    return bool(_read_file_meta_info(file).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian)


def _check_deflated_size(data: bytes, name: str) -> None:
    """pydicom inflates a deflated file whole; look first how large that becomes."""
    if DeflatedExplicitVRLittleEndian.encode() not in data or not is_deflated(file := io.BytesIO(data)):
        return
    inflater, rest, length = zlib.decompressobj(wbits=-15), file.read(), 0
    while rest and not inflater.eof:
        length += len(inflater.decompress(rest, 2**24))
        rest = inflater.unconsumed_tail
        if length > 4 * LARGEST_PIXELS:
            raise ScanError("too_large", name, "unpacks to more than 1 GB; it may be damaged")


def modality_values(dataset: Dataset, raw: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], list[str]]:
    """Stored values through the modality LUT or the rescale of a header (PS3.3 C.11.1), and the steps in words.

    Raises:
        ValueError: a modality LUT that is damaged.
    """
    if dataset.get("ModalityLUTSequence"):
        little = dataset.original_encoding[1] is not False
        table = table_of(dataset.ModalityLUTSequence[0], signed=raw.dtype.kind == "i", little=little)
        return table(raw), ["modality LUT"]
    slope, intercept = first_number(dataset, "RescaleSlope"), first_number(dataset, "RescaleIntercept") or 0.0
    if not slope:  # missing, empty, or 0, which would make all values one
        return raw, []
    return raw.astype(np.float64) * slope + intercept, [f"rescaled: {slope:g} x value {intercept:+g}"]


def _scan(
    dataset: Dataset,
    raw: npt.NDArray[Any],
    step: str,
    *,
    name: str,
    sha256: str,
    coarser: Callable[[int], Scan] | None = None,
) -> Scan:
    steps, hu, rgb = [step], None, None
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        _swap_big_endian_palette(dataset)
        raw = apply_color_lut(raw, dataset)
        pixels, rgb = _of_colours(raw, white=np.iinfo(raw.dtype).max)
        steps.append(f"palette {TO_LUMINANCE}")
    elif raw.ndim == 3:
        pixels, rgb = _of_colours(raw, white=2 ** int(dataset.BitsStored) - 1)
        steps.append(TO_LUMINANCE)
    else:
        pixels, hu, said = _grey(dataset, raw)
        steps += said
    return Scan(
        pixels=pixels,
        spacing_mm=spacing_of(dataset),
        hu=hu,
        rgb=rgb,
        header=header_of(dataset),
        source=name,
        sha256=sha256,
        steps=tuple(steps),
        file_shape=(int(dataset.Rows), int(dataset.Columns)),
        coarser=coarser,
    )


def _of_colours(raw: npt.NDArray[Any], *, white: int) -> tuple[Pixels, Pixels | None]:
    """Luminance (H, W) of red, green and blue (H, W, 3), and these or, where they are equal, None; in 0..1."""
    rgb = np.clip(raw[..., :3] / np.float32(white), 0, 1).astype(np.float32) if coloured(raw) else None
    return np.clip(luminance(raw) / np.float32(white), 0, 1), rgb


def _grey(dataset: Dataset, raw: npt.NDArray[Any]) -> tuple[Pixels, Pixels | None, list[str]]:
    """Display values and, for CT, Hounsfield units of stored values (H, W), and the steps in words."""
    levels = levels_of(raw)
    values, steps = modality_values(dataset, levels.stored)
    inside = inside_of(dataset, levels.stored) & np.isfinite(values)
    if not inside.all() and not levels.counts[inside].any():  # nothing but padding: it happens to have one value
        inside = np.isfinite(values)
    hu = np.where(inside, values, AIR_HU).clip(AIR_HU).astype(np.float32) if is_hounsfield(dataset) else None
    pixels, step = display(dataset, values, levels, inside)
    steps.append(step)
    if said := inverted(dataset):
        pixels = np.float32(1) - pixels
        steps.append(said)
    if not inside.all() and levels.counts[~inside].any():
        pixels = np.where(inside, pixels, np.float32(0))
        steps.append("padding made black")
    return levels.image(np.clip(pixels, 0, 1)), None if hu is None else levels.image(hu), steps


def inverted(dataset: Dataset) -> str:
    """Why the smallest value is white, in words; empty where it is black.

    Presentation LUT Shape decides where it is stated, as it does for dcmtk and dcm4che: the standard (PS3.3 C.8.11.3)
    allows INVERSE with MONOCHROME1 only and IDENTITY with MONOCHROME2 only, but files differ.
    """
    photometric = str(dataset.get("PhotometricInterpretation") or "").strip()
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    if shape == "INVERSE" and photometric != "MONOCHROME1":
        return "inverted (presentation LUT shape INVERSE)"
    if photometric == "MONOCHROME1" and shape != "IDENTITY":
        return "inverted (MONOCHROME1)"
    return ""


def is_hounsfield(dataset: Dataset) -> bool:
    """Whether modality values are Hounsfield units: CT, rescaled, of no other type (PS3.3 C.11.1.1.2), no localizer."""
    table = next(iter(dataset.get("ModalityLUTSequence") or ()), None)
    unit = dataset.get("RescaleType") if table is None else table.get("ModalityLUTType")
    rescaled = table is not None or bool(first_number(dataset, "RescaleSlope"))
    localizer = "LOCALIZER" in str(dataset.get("ImageType") or "").upper()
    return dataset.get("Modality") == "CT" and rescaled and str(unit or "HU").strip().upper() == "HU" and not localizer


def _swap_big_endian_palette(dataset: Dataset) -> None:
    """pydicom 3.0 reads 16-bit palettes as little endian whatever the file is."""
    little = dataset.original_encoding[1]
    for colour in ("Red", "Green", "Blue"):
        entries = int(dataset[f"{colour}PaletteColorLookupTableDescriptor"].value[0]) or 2**16
        data = dataset.get(key := f"{colour}PaletteColorLookupTableData")
        if not little and data is not None and len(data) == 2 * entries:
            setattr(dataset, key, np.frombuffer(data, ">u2").astype("<u2").tobytes())


def inside_of(dataset: Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which stored values, of any shape, are image and not padding (PS3.3 C.7.5.1.1.2)."""
    padding = dataset.get("PixelPaddingValue")
    limit = dataset.get("PixelPaddingRangeLimit", padding)
    if not isinstance(padding, int) or not isinstance(limit, int):
        return np.ones(stored.shape, np.bool_)
    if stored.dtype.kind == "u":  # a writer that took the signed type for an unsigned image
        padding, limit = (value % 2 ** int(dataset.BitsAllocated) for value in (padding, limit))
    low, high = sorted((padding, limit))
    return np.asarray((stored < low) | (stored > high))
