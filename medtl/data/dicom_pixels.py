"""DICOM pixel data: stored values, decoded by the fastest correct decoder of each transfer syntax."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder, iter_pixels, pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    RLELossless,
)

from medtl.data.codestream import codestream_head, has_end
from medtl.data.dicom_objects import size_of
from medtl.data.jpeg import PLUGIN, SYNTAXES, add_to_pydicom
from medtl.data.jpeg2000 import decode_coarse, decode_whole
from medtl.data.kinds import check_size
from medtl.data.quiet import in_one_line
from medtl.errors import ScanError

# One for each, since pydicom would else ask all that it finds installed, GDCM among them. Measured in docs/results.md.
_DECODERS = {
    **dict.fromkeys(SYNTAXES, PLUGIN),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "pylibjpeg"),
    RLELossless: "pydicom",
}
add_to_pydicom()


def settle_syntax(dataset: FileDataset, name: str) -> str:
    """Make sure that the pixels can be decoded and are no larger than memory; say how they are decoded.

    Raises:
        ScanError: `unsupported_syntax`, `damaged` or `too_large`.
    """
    rows, columns = size_of(dataset, name)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    check_size(name, rows * columns * samples, what=f"{rows} x {columns} pixels")
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


def decode(dataset: FileDataset, name: str, *, least_px: int | None = None) -> tuple[npt.NDArray[Any], str]:
    """Stored values (F, H, W), or RGB or palette colour (F, H, W, 3), and how they were decoded.

    Args:
        dataset: the header and the undecoded pixels.
        name: the file, for messages.
        least_px: how many pixels the longer side needs at least; None for all of them.

    Raises:
        ScanError: `unsupported_syntax`, `too_large`, `truncated` or `damaged`.
    """
    step = settle_syntax(dataset, name)
    frames, rows, columns = number_of_frames(dataset), int(dataset.Rows), int(dataset.Columns)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    check_size(name, frames * rows * columns * samples, what=f"{frames} frames of {rows} x {columns} pixels")
    for _ in _checked_streams(dataset, name):
        pass
    if least_px is not None and (coarse := decode_coarse(dataset, least_px)) is not None:
        return coarse[0][None], f"{step} at 1/{2 ** coarse[1]} of its sides"
    if (whole := decode_whole(dataset)) is not None:
        return whole[None], step
    try:
        options, shift = _from_the_top(dataset)
        raw = np.asarray(pixel_array(dataset, allow_excess_frames=False, **options))
    except MemoryError:
        raise
    except Exception as problem:  # each decoder has its own
        raise broken_pixels(name, problem) from None
    raw = raw >> shift if shift else raw
    return raw if frames > 1 else raw[None], step


def decoded_frames(dataset: FileDataset, name: str) -> Iterator[npt.NDArray[Any]]:
    """The same, (H, W) or (H, W, 3), one frame in memory at a time; `settle_syntax` comes first.

    Raises:
        ScanError: `truncated` or `damaged`.
    """
    streams = _checked_streams(dataset, name)
    options, shift = _from_the_top(dataset)
    frames = iter_pixels(dataset, **options)
    for _ in range(number_of_frames(dataset)):
        try:
            next(streams, None)
            raw = np.asarray(next(frames))
        except (ScanError, MemoryError):
            raise
        except StopIteration:
            raise ScanError("truncated", name, "holds fewer frames than its header says; copy it again") from None
        except Exception as problem:
            raise broken_pixels(name, problem) from None
        yield raw >> shift if shift else raw


def number_of_frames(dataset: Dataset) -> int:
    """NumberOfFrames, 1 where a plain image does not say.

    Raises:
        ValueError: it says fewer than none.
    """
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames < 1:
        raise ValueError(f"NumberOfFrames is {frames}")
    return frames


def broken(name: str, problem: Exception) -> ScanError:
    """What a decoder or parser raised on a damaged file, as one kind of error."""
    said = in_one_line(problem)
    if _is_short(problem):
        return ScanError("truncated", name, f"is DICOM that ends too early ({said}); copy it again")
    return ScanError("damaged", name, f"is DICOM that cannot be decoded ({said}); copy or export it again")


def broken_pixels(name: str, problem: Exception) -> ScanError:
    """The same, where only the pixels can be meant."""
    if _is_short(problem):
        return ScanError("truncated", name, "its pixel data are too short; copy it again")
    return broken(name, problem)


def _is_short(problem: Exception) -> bool:
    said = str(problem).lower()
    short = ("less than expected", "end of file", "end of the file", "no more data", "missing at least", "too short")
    return isinstance(problem, EOFError) or any(words in said for words in short)


def _checked_streams(dataset: FileDataset, name: str) -> Iterator[None]:
    """Look at each compressed frame before it is decoded: it must be of the size that the header says.

    Decoders reserve memory for what the frame says of itself, which may be a thousand times as much.
    """
    if not _is_coded(dataset):
        return
    expected = (int(dataset.Rows), int(dataset.Columns), int(dataset.get("SamplesPerPixel") or 1))
    for stream in generate_frames(dataset.PixelData, number_of_frames=number_of_frames(dataset)):
        head = codestream_head(stream)
        if head is None:
            raise ScanError(
                "damaged", name, "holds a compressed image that does not say its size; copy or export it again"
            )
        if head.size != expected:
            raise ScanError(
                "damaged", name, f"holds a compressed image of {head.rows} x {head.columns} pixels with {head.samples} "
                f"samples, its header says {expected[0]} x {expected[1]} with {expected[2]}; export it again"
            )  # fmt: skip
        if stream.startswith(b"\xff\xd8") and not has_end(stream):
            raise ScanError("truncated", name, "holds a compressed image without its end; copy it again")
        yield


def _is_coded(dataset: FileDataset) -> bool:
    """Whether frames are codestreams that say themselves what they are; RLE does not (PS3.5 G)."""
    syntax: UID = dataset.file_meta.TransferSyntaxUID
    return syntax.is_encapsulated and syntax != RLELossless and "PixelData" in dataset


def _from_the_top(dataset: FileDataset) -> tuple[dict[str, Any], int]:
    """Options that make pydicom keep all bits up to the highest one used, and by how much values are then too high.

    Values need not start at the lowest bit (PS3.5 8.1.1), which pydicom takes for granted. In a codestream they start
    there if it has no more bits than are stored, whatever HighBit says.
    """
    options: dict[str, Any] = {"decoding_plugin": _DECODERS.get(dataset.file_meta.TransferSyntaxUID, "")}
    stored, high = int(dataset.get("BitsStored") or 0), int(dataset.get("HighBit") or 0)
    shift = high + 1 - stored
    if shift <= 0 or stored < 1 or high >= int(dataset.BitsAllocated):
        return options, 0
    if _is_coded(dataset):
        first = next(generate_frames(dataset.PixelData, number_of_frames=number_of_frames(dataset)))
        head = codestream_head(first)
        if head is None or head.bits <= high:
            return options, 0
    return options | {"bits_stored": high + 1}, shift
