"""JPEG in DICOM: values beside GDCM's, whose encoder makes the phantoms, and damage that used to end the process."""

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gdcm
import imagecodecs
import jpeg_ls
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from medtl.data.codestream import codestream_head
from medtl.data.dicom import parse
from medtl.data.dicom_pixels import decode
from medtl.errors import ScanError
from tests.data.conftest import DAMAGES

Make = Callable[..., bytes]
IN_THE_WHEEL = ("JPEG-lossy", "JPGExtended", "SC_rgb_jpeg_dcmtk", "SC_rgb_jpeg_gdcm", "SC_rgb_small_odd_jpeg",
                "SC_jpeg_no_color_transform", "SC_jpeg_no_color_transform_2", "SC_rgb_jpeg_lossy_gdcm")  # fmt: skip
"""JPEG files that come with pydicom: extended, baseline grey and colour, lossless colour."""


def wheel_file(name: str) -> Path:
    return Path(str(get_testdata_file(f"{name}.dcm", download=False)))


def noise(shape: tuple[int, ...], bits: int, *, signed: bool = False) -> np.ndarray:
    values = np.random.default_rng(bits).integers(0, 2**bits, shape)
    values.flat[:2] = 0, 2**bits - 1
    return (values - 2 ** (bits - 1)).astype(np.int16) if signed else values.astype(np.uint16)


def jpeg_dicom(make_dicom: Make, stream: bytes, *, shape: tuple[int, ...], syntax: str, **elements: object) -> bytes:
    size = {"Rows": shape[0], "Columns": shape[1]}
    pixels = {"PixelData": encapsulate([stream]), "TransferSyntaxUID": syntax}
    return make_dicom(np.zeros(shape[:2], np.uint16), **(size | pixels | elements))


def by_gdcm(data: bytes, folder: Path, *, to: int | None = None) -> tuple[bytes, Path]:
    """The pixels that GDCM reads, and the file written again in a transfer syntax of GDCM's."""
    path, out = folder / "in.dcm", folder / "out.dcm"
    path.write_bytes(data)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    pixels = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
    if to is not None:
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(to))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(out))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    return pixels, out


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_lossless_of_every_depth_is_what_gdcm_compressed(
    make_dicom: Make, tmp_path: Path, bits: int, signed: bool
) -> None:
    values = noise((31, 17), bits, signed=signed)
    plain = make_dicom(values, BitsStored=bits, HighBit=bits - 1)
    for process in (gdcm.TransferSyntax.JPEGLosslessProcess14, gdcm.TransferSyntax.JPEGLosslessProcess14_1):
        _, path = by_gdcm(plain, tmp_path, to=process)
        assert np.array_equal(decode(parse(path.read_bytes(), "x"), "x")[0][0], values)


@pytest.mark.parametrize("bits", range(2, 17))
def test_lossless_of_two_to_sixteen_bits(make_dicom: Make, bits: int) -> None:
    values = noise((9, 14), bits)
    stored = values.astype(np.uint8) if bits <= 8 else values
    stream = imagecodecs.jpeg8_encode(stored, lossless=True, predictor=1, bitspersample=bits)
    head = codestream_head(stream)
    assert head is not None and (head.size, head.bits) == ((9, 14, 1), bits)
    depth = {"BitsStored": bits, "HighBit": bits - 1}
    data = jpeg_dicom(make_dicom, stream, shape=values.shape, syntax=JPEGLosslessSV1, **depth)
    assert np.array_equal(decode(parse(data, "x"), "x")[0][0], values)


@pytest.mark.parametrize("name", IN_THE_WHEEL)
def test_values_are_those_of_gdcm(name: str, tmp_path: Path) -> None:
    """Colours before their conversion, which GDCM leaves to others."""
    from pydicom.pixels import pixel_array

    data = wheel_file(name).read_bytes()
    theirs, _ = by_gdcm(data, tmp_path)
    dataset = parse(data, name)
    ours = pixel_array(dataset, raw=True, decoding_plugin="medtl")
    assert ours.tobytes() == theirs
    if ours.ndim == 2:
        assert np.array_equal(decode(dataset, name)[0][0], ours) and np.ptp(ours) > 200


def test_an_image_of_eight_bits_in_sixteen(make_dicom: Make) -> None:
    values = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48) // 12
    stream = imagecodecs.jpeg8_encode(values.astype(np.uint8), lossless=True)
    data = jpeg_dicom(make_dicom, stream, shape=values.shape, syntax=JPEGLosslessSV1, BitsStored=8, HighBit=7)
    assert np.array_equal(decode(parse(data, "x"), "x")[0][0], values)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [7, 8, 10, 12, 16])
def test_jpeg_ls_values_are_those_of_pyjpegls(make_dicom: Make, bits: int, signed: bool) -> None:
    for error, syntax in ((0, JPEGLSLossless), (2, JPEGLSNearLossless)):
        values = noise((31, 17), bits)
        stored = values.astype(np.uint8) if bits <= 8 else values
        stream = bytes(jpeg_ls.encode_buffer(stored.tobytes(), 31, 17, 1, bits, error, 0))
        expected = np.frombuffer(jpeg_ls.decode_pixel_data(stream)[0], stored.dtype).reshape(31, 17).astype(int)
        if signed:  # two's complement of so many bits (PS3.5 8.1.1)
            expected -= 2**bits * (expected >= 2 ** (bits - 1))
        depth = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(signed)}
        data = jpeg_dicom(make_dicom, stream, shape=values.shape, syntax=syntax, **depth)
        assert np.array_equal(decode(parse(data, "x"), "x")[0][0], expected)


@pytest.mark.parametrize("interleaved", [0, 1, 2], ids=["planes", "lines", "pixels"])
def test_jpeg_ls_of_three_colours(make_dicom: Make, interleaved: int) -> None:
    values = noise((31, 17, 3), 8).astype(np.uint8)
    planes = values.transpose(2, 0, 1) if interleaved == 0 else values
    stream = bytes(jpeg_ls.encode_buffer(planes.tobytes(), 31, 17, 3, 8, 0, interleaved))
    colours = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "SamplesPerPixel": 3,
               "PhotometricInterpretation": "RGB", "PlanarConfiguration": int(interleaved == 0)}  # fmt: skip
    data = jpeg_dicom(make_dicom, stream, shape=(31, 17), syntax=JPEGLSLossless, **colours)
    assert np.array_equal(decode(parse(data, "x"), "x")[0][0], values)


def refused(data: bytes) -> ScanError:
    with pytest.raises(ScanError) as caught:
        decode(parse(data, "x.dcm"), "x.dcm")
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_frame_that_claims_more_than_the_header(make_dicom: Make) -> None:
    """Also where a decoder would look for the size behind what it does not know."""
    stream = imagecodecs.jpeg8_encode(np.zeros((16, 16), np.uint8))
    place = stream.index(b"\xff\xc0")
    large = stream[: place + 5] + struct.pack(">HH", 60000, 60000) + stream[place + 9 :]
    keys = {"shape": (16, 16), "syntax": JPEGBaseline8Bit, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    assert "60000 x 60000 pixels" in refused(jpeg_dicom(make_dicom, large, **keys)).message
    for hidden in (b"\x00", b"\xff\xd9\x00\x04zz", b"\xff\x01", b"\xff\xd8"):
        data = jpeg_dicom(make_dicom, large[:2] + hidden + large[2:], **keys)
        assert "does not say its size" in refused(data).message
    assert decode(parse(jpeg_dicom(make_dicom, stream, **keys), "x"), "x")[0].shape == (1, 16, 16)


def test_a_frame_without_end_is_too_short(make_dicom: Make) -> None:
    """libjpeg makes the rest of it grey and says nothing."""
    stream = imagecodecs.jpeg8_encode(noise((64, 64), 8).astype(np.uint8))
    keys = {"shape": (64, 64), "syntax": JPEGBaseline8Bit, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    assert refused(jpeg_dicom(make_dicom, stream[: len(stream) // 2], **keys)).code == "truncated"


def test_thousands_of_scans_do_not_keep_the_decoder_busy(make_dicom: Make) -> None:
    stream = imagecodecs.jpeg8_encode(noise((64, 64), 8).astype(np.uint8))
    scan = stream[stream.index(b"\xff\xda") : -2]
    keys = {"shape": (64, 64), "syntax": JPEGBaseline8Bit, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    assert "scans" in refused(jpeg_dicom(make_dicom, stream[:-2] + 100 * scan + b"\xff\xd9", **keys)).message


def test_a_jp2_with_a_palette_or_without_a_codestream_is_refused(make_dicom: Make, shared: Path) -> None:
    dataset = dcmread(shared / "dicom/conformance/MR2_J2KR.dcm")
    stream = dataset.PixelData[dataset.PixelData.index(b"\xff\x4f\xff\x51") :]

    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", len(content) + 8, kind) + content

    start = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \x00\x00\x00\x00jp2 ")
    decoy = box(b"xml ", stream[:64])
    expected = codestream_head(stream)
    assert expected is not None and expected.size == (1024, 1024, 1) and expected.bits == 12
    assert codestream_head(start + decoy + box(b"jp2c", stream)) == expected
    assert codestream_head(start + decoy) is None
    assert codestream_head(start + box(b"jp2h", box(b"pclr", b"\x00\x01\xff")) + box(b"jp2c", stream)) is None
    data = jpeg_dicom(make_dicom, start + decoy, shape=(1024, 1024), syntax=JPEG2000Lossless)
    assert "does not say its size" in refused(data).message


FUZZ = """
import resource, sys
import numpy as np
from medtl.data.dicom import parse
from medtl.data.dicom_pixels import decode
from medtl.data.quiet import quiet
from medtl.errors import ScanError
path, place, length, count = sys.argv[1], *map(int, sys.argv[2:])
whole, rng, codes = open(path, "rb").read(), np.random.default_rng(0), {}
decode(parse(whole, "x"), "x")
least = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range(count):
    data = bytearray(whole)
    for _ in range(int(rng.integers(1, 4))):  # flipped bits, and bytes that mean something in headers
        at = place + int(rng.integers(length))
        data[at] = data[at] ^ 1 << int(rng.integers(8)) if number % 2 else int(rng.choice([0, 1, 127, 128, 254, 255]))
    print(number, file=sys.stderr, flush=True)
    try:
        with quiet("pydicom"):
            decode(parse(bytes(data), "x"), "x")
    except ScanError:
        pass
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - least < 2**20  # KiB
print("alive")
"""


@pytest.mark.parametrize("name", [*IN_THE_WHEEL[:5], "JPEGLSNearLossless_16"])
def test_no_damaged_header_ends_the_process(name: str) -> None:
    """GDCM died of one in 40 to 200 of these."""
    data = wheel_file(name).read_bytes()
    place = data.index(b"\xff\xd8\xff")
    header = data.index(b"\xff\xda", place) - place + 16
    command = [sys.executable, "-c", FUZZ, str(wheel_file(name)), str(place), str(header), str(100 * DAMAGES)]
    done = subprocess.run(command, capture_output=True, timeout=max(60, 10 * DAMAGES))
    assert done.stdout.strip() == b"alive", (name, done.returncode, done.stderr[-500:])


def test_twelve_bits_of_grey(tmp_path: Path) -> None:
    """Two bytes a pixel of twelve bits; pydicom's own GDCM plugin takes eight only."""
    dataset = dcmread(wheel_file("JPGExtended"))
    assert dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit and dataset.BitsStored == 12
    values = decode(parse(wheel_file("JPGExtended").read_bytes(), "x"), "x")[0]
    assert values.dtype == np.uint16 and values.max() > 255
