"""Oracles: pydicom's own window, PS3.3's formulas, and the real files of the conformance set."""

import datetime
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medtl.data.dicom import read_dicom_frames
from medtl.data.dicom_header import age_years
from medtl.data.kinds import LISTED
from medtl.data.slice_head import read_head
from medtl.data.sources import read_bytes, read_scan
from medtl.data.windows import windowed
from medtl.errors import ScanError
from tests.data.conftest import processor_s_below

Make = Callable[..., bytes]
RAMP = np.arange(400, dtype=np.uint16).reshape(20, 20) * 10
RAMP16 = np.arange(64, dtype=np.uint16).reshape(8, 8)
ROUNDING = 1e-6  # float32


def refusal(data: bytes) -> ScanError:
    with pytest.raises(ScanError) as caught:
        read_bytes(data, name="x.dcm")
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(2000.0, 1000.0), (40.5, 3.0), (-100.0, 7000.0)])
def test_windows_agree_with_pydicom(function: str, centre: float, width: float) -> None:
    other = Dataset()
    other.WindowCenter, other.WindowWidth, other.VOILUTFunction = centre, width, function
    other.BitsStored, other.PixelRepresentation, other.PhotometricInterpretation = 16, 0, "MONOCHROME2"
    expected = apply_windowing(RAMP, other) / 65535
    assert windowed(RAMP, centre=centre, width=width, function=function) == pytest.approx(expected, abs=ROUNDING)


def test_a_linear_window_of_width_one_is_a_threshold() -> None:
    """PS3.3 C.11.2.1.2.1: x <= c - 0.5 is black, x > c - 0.5 is white."""
    assert windowed(np.array([1.0, 1.5, 2.0]), centre=2, width=1).tolist() == [0, 0, 1]


def test_monochrome1_shows_the_same_picture_as_monochrome2(make_dicom: Make) -> None:
    window = {"WindowCenter": 2000, "WindowWidth": 4000}
    plain = read_bytes(make_dicom(RAMP, **window), name="a")
    inverse = read_bytes(make_dicom(RAMP, PhotometricInterpretation="MONOCHROME1", **window), name="b")
    assert inverse.pixels == pytest.approx(1 - plain.pixels, abs=ROUNDING)
    assert inverse.steps[-1] == "inverted (MONOCHROME1)"


def test_rescale_comes_before_the_window(make_dicom: Make) -> None:
    hu = np.linspace(-1000, 1000, 400).reshape(20, 20).round().astype(np.int16)
    stored = (hu + 1024).astype(np.uint16)
    scan = read_bytes(
        make_dicom(stored, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400),
        name="ct",
    )
    assert scan.pixels == pytest.approx(np.clip((hu - 39.5) / 399 + 0.5, 0, 1), abs=ROUNDING)
    assert scan.steps == ("decoded Explicit VR Little Endian", "rescaled: 1 x value -1024", "window 40/400")


def test_ct_without_window_is_shown_in_hounsfield_units(make_dicom: Make) -> None:
    values = np.full((4, 4), 500, np.int16)
    values[0] = -2000
    scan = read_bytes(make_dicom(values, Modality="CT", RescaleSlope=1, RescaleIntercept=0), name="ct")
    assert scan.pixels[0].max() == 0 and scan.pixels[1:] == pytest.approx(0.75)
    assert "-1000 to 1000 HU" in scan.steps


def test_without_units_or_window_percentiles_decide(make_dicom: Make) -> None:
    scan = read_bytes(make_dicom(RAMP), name="dx")
    low, high = np.percentile(RAMP, [0.5, 99.5])
    assert scan.pixels == pytest.approx(np.clip((RAMP - low) / (high - low), 0, 1), abs=ROUNDING)
    assert "percentiles 0.5 to 99.5" in scan.steps[-1]


def test_a_window_that_shows_nothing_is_not_used(make_dicom: Make) -> None:
    scan = read_bytes(make_dicom(RAMP, WindowCenter=60000, WindowWidth=10), name="dx")
    assert np.ptp(scan.pixels) == 1 and "window 60000/10 of the header shows nothing" in scan.steps[-1]


def test_a_window_shows_when_it_tells_a_single_pixel_apart(make_dicom: Make) -> None:
    values = np.full((100, 100), 5, np.uint16)  # most pixels, and all of a sample of them, are alike
    values[50, 51] = 60
    scan = read_bytes(make_dicom(values, WindowCenter=50, WindowWidth=60), name="dx")
    assert scan.steps[-1] == "window 50/60"
    assert np.argwhere(scan.pixels > scan.pixels[0, 0]).tolist() == [[50, 51]]


def test_padding_is_black_and_does_not_count(make_dicom: Make) -> None:
    values = RAMP + 100
    values[:, :5] = 60000
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        data = make_dicom(values, PixelPaddingValue=60000, PhotometricInterpretation=photometric)
        scan = read_bytes(data, name="dx")
        assert scan.pixels[:, :5].max() == 0
        assert np.ptp(scan.pixels[:, 5:]) == 1
        assert scan.steps[-1] == "padding made black"


def test_a_voi_lut_counts_before_a_window(make_dicom: Make) -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 10, 8], np.array([0, 51, 102, 255], np.uint16).tobytes()
    values = np.array([[0, 10, 11], [12, 13, 99]], np.uint16)
    scan = read_bytes(make_dicom(values, VOILUTSequence=[table], WindowCenter=1, WindowWidth=2), name="mg")
    assert scan.pixels == pytest.approx(np.array([[0, 0, 0.2], [0.4, 1, 1]]), abs=ROUNDING)
    assert scan.steps[-1] == "VOI LUT"


def test_a_big_endian_palette_reads_as_the_little_endian_one(shared: Path) -> None:
    little, big = (read_scan(shared / f"dicom/conformance/OBXXXX1A{end}.dcm") for end in ("", "_expb"))
    assert np.array_equal(little.pixels, big.pixels) and little.pixels.max() > 0.1


def test_the_header_is_kept(make_dicom: Make) -> None:
    elements = {
        "PatientName": "Doe^Jane", "PatientSex": "F", "PatientAge": "006M", "BodyPartExamined": "CHEST",
        "ViewPosition": "PA", "Manufacturer": "Acme", "ManufacturerModelName": "X1", "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.3", "ImagerPixelSpacing": [0.2, 0.1],
    }  # fmt: skip
    scan = read_bytes(make_dicom(RAMP, **elements), name="x")
    header = scan.header
    assert (header.patient_id, header.patient_name, header.sex, header.age_years) == ("P1", "Doe^Jane", "F", 0.5)
    assert (header.modality, header.body_part, header.view) == ("DX", "CHEST", "PA")
    assert (header.manufacturer, header.scanner) == ("Acme", "X1")
    assert scan.spacing_mm == (0.2, 0.1)


@pytest.mark.parametrize(
    ("text", "years"),
    [("045Y", 45), ("006M", 0.5), ("052W", 0.997), ("010D", 0.027), ("Y", None), ("45", None), (None, None)],
)
def test_ages(text: str | None, years: float | None) -> None:
    assert age_years(text) == years


def test_unknown_sex_is_not_stated(make_dicom: Make) -> None:
    assert read_bytes(make_dicom(RAMP, PatientSex="X"), name="x").header.sex is None


def test_without_preamble_or_file_meta(make_dicom: Make, tmp_path: Path) -> None:
    whole = make_dicom(RAMP)
    assert np.array_equal(read_bytes(whole[132:], name="x").pixels, read_bytes(whole, name="x").pixels)
    start = whole.index(b"\x08\x00\x16\x00UI")
    bare = read_bytes(whole[start:], name="x")
    assert np.array_equal(bare.pixels, read_bytes(whole, name="x").pixels)
    assert bare.steps[0] == "decoded as Explicit VR Little Endian, for want of a transfer syntax"


def test_a_preamble_that_looks_like_tiff(make_dicom: Make) -> None:
    """PS3.10 7.1 allows it, so that one file may be opened as both."""
    data = make_dicom(RAMP)
    scan = read_bytes(b"II*\x00" + data[4:], name="x")
    assert np.array_equal(scan.pixels, read_bytes(data, name="x").pixels) and scan.header.modality == "DX"


def test_several_frames_are_told_where_to_go(make_dicom: Make) -> None:
    problem = refusal(make_dicom(RAMP, NumberOfFrames=12))
    assert problem.code == "several_frames"
    assert "holds 12 frames; single images are expected here. medtl ingest and score take every frame" in str(problem)


def test_each_frame_is_an_image_with_its_own_rescale_and_spacing(make_dicom: Make) -> None:
    """An enhanced object whose functional groups differ from frame to frame (PS3.3 C.7.6.16)."""
    stored = np.stack([RAMP16, RAMP16 + 10, RAMP16 + 20])
    groups = []
    for slope in (1, 2, 3):
        rescale, measures, group = Dataset(), Dataset(), Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = slope, -1000, "HU"
        measures.PixelSpacing = [slope, 2 * slope]
        group.PixelValueTransformationSequence, group.PixelMeasuresSequence = [rescale], [measures]
        groups.append(group)
    keys = {"NumberOfFrames": 3, "Modality": "CT", "PerFrameFunctionalGroupsSequence": groups}
    data = make_dicom(stored, Rows=RAMP16.shape[0], Columns=RAMP16.shape[1], **keys)
    scans = list(read_dicom_frames(data, name="e.dcm", sha256="ab"))
    assert [scan.source for scan in scans] == [f"e.dcm#frame/{i}" for i in range(3)]
    assert len({scan.scan_id for scan in scans}) == 3
    for slope, frame, scan in zip((1, 2, 3), stored, scans, strict=True):
        assert scan.hu is not None and np.array_equal(scan.hu, np.clip(frame * slope - 1000.0, -1000, None))
        assert scan.spacing_mm == (slope, 2 * slope)


@pytest.mark.parametrize(
    ("uid", "code"),
    [
        ("1.2.840.10008.1.3.10", "dicomdir"),
        ("1.2.840.10008.5.1.4.1.1.88.22", "report"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "key_object"),
        ("1.2.840.10008.5.1.4.1.1.88.67", "report"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "presentation_state"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "document"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "radiotherapy"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "radiotherapy"),
        ("1.2.840.10008.5.1.4.1.1.66", "raw_data"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "segmentation"),
        ("1.2.840.10008.5.1.4.1.1.9.1.1", "waveform"),
        ("1.2.840.10008.5.1.4.1.1.4.2", "spectroscopy"),
        ("1.2.3.4", "no_pixels"),
    ],
)
def test_objects_that_go_with_scans_are_named(make_dicom: Make, uid: str, code: str) -> None:
    problem = refusal(make_dicom(RAMP, SOPClassUID=uid, **dict.fromkeys(["PixelData", "Rows", "Columns"])))
    assert problem.code == code and code in LISTED


def test_images_of_radiotherapy_are_images(make_dicom: Make) -> None:
    assert (
        read_bytes(make_dicom(RAMP, SOPClassUID="1.2.840.10008.5.1.4.1.1.481.1"), name="x").pixels.shape == RAMP.shape
    )


def test_age_and_date(make_dicom: Make) -> None:
    dates = {"PatientBirthDate": "19700101", "StudyDate": "20200701"}
    header = read_bytes(make_dicom(RAMP, **dates), name="x").header
    assert header.acquired == datetime.date(2020, 7, 1) and header.age_years == pytest.approx(50.5, abs=0.01)
    header = read_bytes(make_dicom(RAMP, PatientBirthDate="1970", StudyDate="yesterday"), name="x").header
    assert header.acquired is None and header.age_years is None


def test_a_cut_file_says_so_wherever_it_was_cut(make_dicom: Make) -> None:
    whole = make_dicom(RAMP)
    for length in (140, 200, 330, 500, len(whole) - 300, len(whole) - 1):
        problem = refusal(whole[:length])
        assert problem.code == "truncated", (length, str(problem))
        assert "copy it again" in problem.message


def test_absurd_sizes_are_refused_before_memory_is_asked_for(make_dicom: Make) -> None:
    code = (
        "import sys, resource\nfrom medtl.data.sources import read_bytes\n"
        "from medtl.errors import ScanError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9, 3 * 10**9))\n"
        "try: read_bytes(sys.stdin.buffer.read(), name='x')\n"
        "except ScanError as problem: print(problem.code)"
    )
    data = make_dicom(RAMP, Rows=65535, Columns=65535)
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, timeout=60)
    assert done.stdout.decode().strip() == "too_large", done.stderr.decode()


@pytest.mark.parametrize("meta", ["whole", "without length", "without preamble"])
def test_a_deflated_bomb_is_refused(make_dicom: Make, bomb: bytes, meta: str, tmp_path: Path) -> None:
    data = make_dicom(RAMP, TransferSyntaxUID=DeflatedExplicitVRLittleEndian)
    assert np.ptp(read_bytes(data, name="x").pixels) == 1
    if meta == "without length":
        bomb = bomb[:132] + bomb[144:]
    if meta == "without preamble":
        bomb = bomb[132:]
    assert refusal(bomb).code == "too_large"
    (path := tmp_path / "x").write_bytes(bomb)
    with pytest.raises(ScanError, match="unpacks to more than 1 GB"):
        read_head(path, name="x")


def test_zeros_instead_of_elements_are_not_read_one_by_one(make_dicom: Make) -> None:
    with processor_s_below(20):
        assert refusal(make_dicom(RAMP)[:300] + bytes(2**26)).code == "truncated"


def test_unknown_transfer_syntax(make_dicom: Make) -> None:
    data = make_dicom(RAMP).replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.9.9.9\x00", 1)
    problem = refusal(data)
    assert problem.code == "unsupported_syntax" and "export it uncompressed" in problem.message


def test_every_conformance_file_is_read_or_refused_quietly(shared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    codes: dict[str, str] = {}
    for path in sorted((shared / "dicom/conformance").iterdir()):
        try:
            read_scan(path)
            codes[path.name] = "read"
        except ScanError as problem:
            codes[path.name] = problem.code
    frames = {path.name for path in (shared / "dicom/conformance").iterdir()
              if int(dcmread(path, stop_before_pixels=True, force=True).get("NumberOfFrames") or 1) > 1}  # fmt: skip
    broken = "emri_small_jpeg_2k_lossless_too_short.dcm"
    masks = {name for name in codes if name.startswith("liver")}
    assert {name for name, code in codes.items() if code == "segmentation"} == masks and len(masks) == 9
    assert {name for name, code in codes.items() if code == "several_frames"} == frames - {broken} - masks
    assert codes[broken] == "truncated"
    assert sum(code == "read" for code in codes.values()) == 79 - len(frames | masks)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 700), change=st.binary(min_size=1, max_size=8))
@example(place=132, change=b"\xff\xff\xff\xff")
def test_no_damage_gets_past_as_another_exception(make_dicom: Make, place: int, change: bytes) -> None:
    data = bytearray(make_dicom(RAMP, WindowCenter=2000, WindowWidth=4000, RescaleSlope=1, RescaleIntercept=0))
    data[place : place + len(change)] = change
    try:
        scan = read_bytes(bytes(data), name="x")
    except ScanError:
        return
    assert scan.pixels.dtype == np.float32
