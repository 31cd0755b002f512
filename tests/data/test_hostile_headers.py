"""Headers that lie: only a `ScanError` or a valid scan, quickly, and no memory that the file does not back."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medtl.data.dicom import parse, read_dicom_frames
from medtl.data.dicom_pixels import decode
from medtl.data.slice_head import read_head
from medtl.data.volume import read_dicom_volume
from medtl.errors import ScanError
from tests.data.conftest import DAMAGES, processor_s_below

Make = Callable[..., bytes]
RAMP = np.arange(400, dtype=np.uint16).reshape(20, 20) * 10

LIMITED = """
import resource, sys
from medtl.data.dicom import parse, read_dicom_frames
from medtl.data.dicom_pixels import decode
from medtl.data.volume import read_dicom_volume
from medtl.errors import ScanError
used = 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1])
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
for path in sys.argv[1:]:
    data = open(path, "rb").read()
    for read in (lambda **keys: list(read_dicom_frames(data, **keys)), lambda **keys: read_dicom_volume(data, **keys)):
        try:
            read(name=path, sha256="ab")
            print("read")
        except ScanError as problem:
            print(problem.code)
"""


def codec_stream(syntax: str) -> bytes:
    """RAMP by a codec that is none of pydicom's."""
    small = (RAMP // 16).astype(np.uint8)
    return {
        JPEGBaseline8Bit: lambda: bytes(imagecodecs.jpeg8_encode(small)),
        JPEGLosslessSV1: lambda: bytes(imagecodecs.jpeg8_encode(RAMP, lossless=True, bitspersample=16)),
        JPEGLSLossless: lambda: bytes(imagecodecs.jpegls_encode(RAMP)),
        JPEG2000Lossless: lambda: bytes(imagecodecs.jpeg2k_encode(RAMP, codecformat="j2k", reversible=True, level=0)),
        RLELossless: lambda: b"\x02\x00\x00\x00\x40\x00\x00\x00\x60\x00\x00\x00" + bytes(52) + b"\x81\x00" * 32,
    }[syntax]()


@pytest.mark.timeout(120)
def test_60000_by_60000_pixels_are_refused_before_memory_is_asked_for(make_dicom: Make, tmp_path: Path) -> None:
    """In 256 MB more than the program itself needs; one such image would be 7 GB."""
    paths = []
    places = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1]}
    native = (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
    codecs = (JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless)
    for syntax in (*native, *codecs):
        for frames in (None, 1, 1000, 2**31 - 1):
            keys = {"Rows": 60000, "Columns": 60000, "NumberOfFrames": frames, "TransferSyntaxUID": syntax} | places
            if syntax in codecs:
                keys["PixelData"] = encapsulate([codec_stream(syntax)])
            paths.append(tmp_path / f"{len(paths)}.dcm")
            paths[-1].write_bytes(make_dicom(RAMP, **keys))
    command = [sys.executable, "-c", LIMITED, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, timeout=100, text=True)
    assert done.stdout.split() == ["too_large"] * 2 * len(paths), done.stderr


def read_all(data: bytes, folder: Path) -> None:
    """As images, as a volume, and as the head of a slice."""
    try:
        scans = list(read_dicom_frames(data, name="x", sha256="ab"))
        assert scans, "neither scans nor a refusal"
        for scan in scans:
            assert np.isfinite(scan.pixels).all() and scan.pixels.min() >= 0 and scan.pixels.max() <= 1
    except ScanError as problem:
        assert "\n" not in str(problem)
    (path := folder / "x").write_bytes(data)
    for read in (lambda: read_dicom_volume(data, name="x", sha256="ab"), lambda: read_head(path, name="x")):
        try:
            read()
        except ScanError as problem:
            assert "\n" not in str(problem)


@pytest.mark.parametrize("frames", ["-1", "-3", "2000000000", "1e9", "x", "", "2\\3"])
def test_absurd_numbers_of_frames(make_dicom: Make, tmp_path: Path, frames: str) -> None:
    data = with_raw(make_dicom, {0x00280008: ("IS", frames.encode())})
    with processor_s_below(20):
        read_all(data, tmp_path)
    if frames:
        with pytest.raises(ScanError) as caught:
            list(read_dicom_frames(data, name="x", sha256="ab"))
        assert caught.value.code in ("damaged", "truncated", "too_large")


def with_raw(make_dicom: Make, raw: dict[int, tuple[str, bytes]], **elements: Any) -> bytes:
    """A good image with elements of any bytes, which pydicom would not write."""
    good = make_dicom(RAMP, RescaleSlope=1, RescaleIntercept=0, WindowCenter=2000, WindowWidth=4000, **elements)
    if not raw:
        return good
    start = good.index(b"\x08\x00\x16\x00UI")
    pieces: dict[int, bytes] = {}
    place = start
    while place < len(good):  # the file holds no sequences
        tag = int.from_bytes(good[place : place + 2], "little") << 16 | int.from_bytes(
            good[place + 2 : place + 4], "little"
        )
        long = good[place + 4 : place + 6] in (b"OB", b"OW", b"UN")
        length = int.from_bytes(good[place + 8 : place + 12] if long else good[place + 6 : place + 8], "little")
        end = place + (12 if long else 8) + length
        pieces[tag] = good[place:end]
        place = end
    for tag, (vr, value) in raw.items():
        value += b"\x00" * (len(value) % 2)
        size = (
            b"\x00\x00" + len(value).to_bytes(4, "little")
            if vr in ("OW", "OB", "UN", "SQ")
            else len(value).to_bytes(2, "little")
        )
        pieces[tag] = (
            (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr.encode() + size + value
        )
    return good[:start] + b"".join(pieces[tag] for tag in sorted(pieces))


NUMBERS = st.sampled_from([0, 1, 2, 7, 8, 12, 16, 20, 21, 32, 64, 255, 4096, 32768, 65535])
WORD = NUMBERS.map(lambda number: number.to_bytes(2, "little"))
WORDS = st.lists(WORD, max_size=4).map(b"".join)
DECIMALS = st.lists(
    st.sampled_from(
        ["0", "1", "-1", "0.5", "1e308", "-1e308", "1e-320", "nan", "inf", "-inf", "", " ", "x", "1,5", "9" * 40]
    ),
    max_size=7,
).map(lambda parts: "\\".join(parts).encode())
TEXTS = st.sampled_from(
    [b"", b"MONOCHROME1", b"MONOCHROME2", b"PALETTE COLOR", b"RGB", b"YBR_FULL", b"YBR_FULL_422", b"HU", b"SIGMOID",
     b"LINEAR_EXACT", b"INVERSE", b"CT", b"SEG", b"\xff\xfe\x00", b"A\\B\\C"]
)  # fmt: skip
# What stands in a header about pixels, with the representation that it should have.
US = [0x00280002, 0x00280006, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280120,
      0x00280121, 0x00281101, 0x00281102, 0x00281103]  # fmt: skip
DS = [0x00180088, 0x00181164, 0x00200032, 0x00200037, 0x00280030, 0x00281050, 0x00281051, 0x00281052, 0x00281053]
CS = [0x00080008, 0x00080060, 0x00280004, 0x00281054, 0x00281056, 0x20500020, 0x00101010, 0x00080020]
PALETTES = [0x00281201, 0x00281202, 0x00281203]
GROUPS = [0x00283000, 0x00283010, 0x52009229, 0x52009230]
VALUE = st.one_of(
    st.tuples(st.sampled_from(US), st.just("US"), WORDS),
    st.tuples(st.sampled_from(DS), st.just("DS"), DECIMALS),
    st.tuples(st.sampled_from(CS), st.just("CS"), TEXTS),
    st.tuples(st.just(0x00280008), st.just("IS"), DECIMALS),
    st.tuples(st.sampled_from(PALETTES), st.just("OW"), st.binary(max_size=64)),
    st.tuples(st.sampled_from(GROUPS), st.just("SQ"), st.binary(max_size=24)),
    # Of the wrong representation.
    st.tuples(
        st.sampled_from(US + DS + CS),
        st.sampled_from(["US", "SS", "DS", "IS", "CS", "UN", "FD"]),
        st.binary(max_size=16),
    ),
)
HOSTILE = st.lists(VALUE, min_size=1, max_size=4).map(lambda found: {tag: (vr, value) for tag, vr, value in found})


@settings(max_examples=50 * DAMAGES, deadline=4000)
@given(raw=HOSTILE)
def test_no_header_gets_past_as_another_exception(make_dicom: Make, tmp_path_factory: Any, raw: dict) -> None:
    read_all(with_raw(make_dicom, raw), tmp_path_factory.getbasetemp())


@settings(max_examples=20 * DAMAGES, deadline=4000)
@given(
    kind=st.sampled_from(["ModalityLUTSequence", "VOILUTSequence"]),
    descriptor=st.lists(st.sampled_from([0, 1, 2, 8, 12, 16, 17, 255, 4096, 65535]), min_size=0, max_size=4),
    content=st.one_of(st.none(), st.binary(max_size=40).map(lambda content: content[: len(content) // 2 * 2])),
    signed=st.booleans(),
)
def test_tables_that_make_no_sense(
    make_dicom: Make, tmp_path_factory: Any, kind: str, descriptor: list[int], content: bytes | None, signed: bool
) -> None:
    table = Dataset()
    if descriptor:
        table.add_new(0x00283002, "US", descriptor if len(descriptor) > 1 else descriptor[0])
    if content is not None:
        table.add_new(0x00283006, "OW", content)
    values = RAMP.astype(np.int16) - 2000 if signed else RAMP
    read_all(make_dicom(values, **{kind: [table]}), tmp_path_factory.getbasetemp())


def test_a_jpeg_ls_image_without_end_does_not_keep_the_decoder_busy(make_dicom: Make) -> None:
    """CharLS takes 9 seconds for 20 KB of these; they are a megabyte."""
    values = np.random.default_rng(0).integers(0, 2**12, (1024, 1024)).astype(np.uint16)
    stream = imagecodecs.jpegls_encode(values)
    keys = {"Rows": 1024, "Columns": 1024, "TransferSyntaxUID": JPEGLSLossless}
    whole = parse(make_dicom(RAMP, PixelData=encapsulate([stream]), **keys), "x")
    assert np.array_equal(decode(whole, "x")[0][0], values)
    for rest in (bytes(15) + b"\x01", bytes(16)):
        data = make_dicom(RAMP, PixelData=encapsulate([stream[:500] + rest * (len(stream) // 16)]), **keys)
        with (
            processor_s_below(20),
            pytest.raises(ScanError, match="a compressed image without its end") as caught,
        ):
            list(read_dicom_frames(data, name="x", sha256="ab"))
        assert caught.value.code == "truncated"
