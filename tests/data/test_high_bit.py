"""Stored values that end at HighBit (PS3.5 8.1.1): one picture in every transfer syntax, whatever lies beside them."""

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medtl.data.dicom import parse, read_dicom_frames
from medtl.data.dicom_pixels import decode, decoded_frames, settle_syntax

Make = Callable[..., bytes]
SHAPE = (12, 20)
NATIVE = (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)


def values_of(bits: int, *, signed: bool, frames: int) -> np.ndarray:
    values = np.random.default_rng(bits).integers(0, 2**bits, (frames, *SHAPE))
    values.flat[:2] = 0, 2**bits - 1
    return values - 2 ** (bits - 1) if signed else values


def in_place(values: np.ndarray, *, bits: int, high: int, beside: bool) -> np.ndarray:
    """What is written: `bits` bits that end at `high`, and, if asked for, noise in all others, as old overlays are."""
    low = high + 1 - bits
    words = (values % 2**bits) << low
    if beside:
        spare = np.random.default_rng(0).integers(0, 2**16, values.shape)
        words |= spare & ~((2**bits - 1) << low) & 0xFFFF
    return words.astype(np.uint16)


def frame_stream(frame: np.ndarray, syntax: str, *, signed: bool) -> bytes:
    """A frame (H, W) uint16 compressed with all 16 bits."""
    if syntax == RLELossless:
        kind = {"rows": frame.shape[0], "columns": frame.shape[1], "samples_per_pixel": 1, "number_of_frames": 1,
                "bits_allocated": 16, "bits_stored": 16, "pixel_representation": 0,
                "photometric_interpretation": "MONOCHROME2"}  # fmt: skip
        return bytes(RLELosslessEncoder.encode(frame.tobytes(), encoding_plugin="pydicom", **kind))
    if syntax == JPEGLosslessSV1:
        return bytes(imagecodecs.jpeg8_encode(frame, lossless=True, predictor=1, bitspersample=16))
    if syntax == JPEGLSLossless:
        return bytes(imagecodecs.jpegls_encode(frame))
    return bytes(
        imagecodecs.jpeg2k_encode(
            frame.view(np.int16) if signed else frame, codecformat="j2k", reversible=True, level=0
        )
    )


def made(make_dicom: Make, words: np.ndarray, syntax: str, *, bits: int, high: int, signed: bool) -> bytes:
    elements: dict[str, Any] = {
        "Rows": SHAPE[0], "Columns": SHAPE[1], "NumberOfFrames": len(words), "BitsStored": bits, "HighBit": high,
        "PixelRepresentation": int(signed), "TransferSyntaxUID": syntax,
    }  # fmt: skip
    if syntax not in NATIVE:
        elements["PixelData"] = encapsulate([frame_stream(frame, syntax, signed=signed) for frame in words])
    return make_dicom(words, **elements)


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "high"), [(12, 15), (10, 13), (12, 11), (16, 15), (8, 15)])
@pytest.mark.parametrize("frames", [1, 3])
def test_values_are_those_that_were_put_in(
    make_dicom: Make, syntax: str, signed: bool, bits: int, high: int, frames: int
) -> None:
    values = values_of(bits, signed=signed, frames=frames)
    beside = syntax in (*NATIVE, RLELossless)
    if not beside:
        high = 15  # the codestreams made here have 16 bits
    words = in_place(values, bits=bits, high=high, beside=beside)
    dataset = parse(made(make_dicom, words, syntax, bits=bits, high=high, signed=signed), "x")
    assert np.array_equal(decode(dataset, "x")[0], values)
    settle_syntax(dataset, "x")
    assert np.array_equal(np.stack(list(decoded_frames(dataset, "x"))), values)


def test_the_picture_is_the_same_with_and_without_room_below(make_dicom: Make) -> None:
    values = values_of(12, signed=False, frames=2)
    pictures = []
    for high in (11, 15):
        words = in_place(values, bits=12, high=high, beside=True)
        data = made(make_dicom, words, ExplicitVRLittleEndian, bits=12, high=high, signed=False)
        pictures.append([scan.pixels for scan in read_dicom_frames(data, name="x", sha256="ab")])
    assert np.array_equal(*pictures) and np.ptp(pictures[0]) == 1


def test_colours_are_as_bright_as_their_stored_bits_say(make_dicom: Make) -> None:
    values = np.stack([values_of(12, signed=False, frames=1)[0]] * 3, axis=-1)
    words = in_place(values, bits=12, high=15, beside=False)
    keys = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}
    data = make_dicom(words, BitsStored=12, HighBit=15, **keys)
    [scan] = read_dicom_frames(data, name="x", sha256="ab")
    assert scan.pixels == pytest.approx(values[..., 0] / 4095, abs=1e-6)  # float32


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEG2000Lossless])
def test_a_codestream_of_no_more_bits_than_stored_starts_at_the_lowest(make_dicom: Make, syntax: str) -> None:
    """The encoder took the values out of their place and left HighBit in the header as it was."""
    values = values_of(12, signed=False, frames=1).astype(np.uint16)
    if syntax == JPEGLosslessSV1:
        stream = imagecodecs.jpeg8_encode(values[0], lossless=True, predictor=1, bitspersample=12)
    else:
        stream = imagecodecs.jpeg2k_encode(values[0], codecformat="j2k", reversible=True, level=0, bitspersample=12)
    keys = {"BitsStored": 12, "HighBit": 15, "TransferSyntaxUID": syntax, "PixelData": encapsulate([bytes(stream)])}
    assert np.array_equal(decode(parse(make_dicom(values[0], **keys), "x"), "x")[0], values)
