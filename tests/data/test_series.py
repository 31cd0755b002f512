"""Oracles: phantoms whose voxels say where they come from, and dcm2niix for real series."""

import hashlib
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset

from medtl.data import volume
from medtl.data.nifti import read_nifti
from medtl.data.scan import Scan
from medtl.data.series import Series, group_series
from medtl.data.slice_head import read_head
from medtl.data.volume import read_dicom_volume, read_series
from medtl.errors import ScanError
from tests.data.fake_series import AXIAL, CORONAL, INTERCEPT, SAGITTAL, SHAPE, SPACING_MM, fake_series

OBLIQUE = (0.9396926, 0.3420201, 0.0, -0.3420201, 0.9396926, 0.0)  # 20 degrees about the long axis


def grouped(*paths: Path) -> tuple[list[Series], list[ScanError]]:
    return group_series([read_head(path, name=path.name) for path in paths])


def only(*paths: Path) -> Series:
    series, errors = grouped(*paths)
    assert not errors and len(series) == 1
    return series[0]


def codes(*paths: Path) -> set[str]:
    series, errors = grouped(*paths)
    assert not series
    assert sorted(error.path for error in errors) == sorted(path.name for path in paths)
    return {error.code for error in errors}


def reads(series: Series) -> Scan:
    scan = read_series(series.paths, name=series.name)
    assert scan.pixels.shape == series.shape and scan.spacing_mm == pytest.approx(series.spacing_mm)
    assert scan.source == series.name
    return scan


def origins(scan: Scan) -> np.ndarray:
    """(D, H, W, 3): the slice, row and column that each voxel came from."""
    assert scan.hu is not None
    return np.stack(np.unravel_index((scan.hu - INTERCEPT).astype(int), SHAPE), axis=-1)


def points(scan: Scan, orientation: tuple[float, ...]) -> np.ndarray:
    """(D, H, W, 3): where each voxel was, by PS3.3 C.7.6.2.1.1, in mm towards right, front and head."""
    along_row, along_column = np.reshape(orientation, (2, 3))
    steps = [np.cross(along_row, along_column), along_column, along_row]
    lps = sum(
        origins(scan)[..., axis, None] * np.array(step) * mm
        for axis, (step, mm) in enumerate(zip(steps, SPACING_MM, strict=True))
    )
    return lps * [-1, -1, 1]


def negative(orientation: tuple[float, ...], which: int) -> tuple[float, ...]:
    return tuple(value * (-1 if index // 3 == which else 1) for index, value in enumerate(orientation))


@pytest.mark.parametrize("plane", [AXIAL, SAGITTAL, CORONAL])
@pytest.mark.parametrize("turned", [None, 0, 1])
def test_axes_grow_towards_head_front_and_right(tmp_path: Path, plane: tuple[float, ...], turned: int | None) -> None:
    orientation = plane if turned is None else negative(plane, turned)
    scan = reads(only(*fake_series(tmp_path, orientation=orientation)))
    where = points(scan, orientation)
    # Neighbours along D, H, W differ by exactly one step towards head, front, right, and by nothing else.
    for axis, patient in enumerate((2, 1, 0)):
        step = np.zeros(3)
        assert scan.spacing_mm is not None
        step[patient] = scan.spacing_mm[axis]
        assert np.diff(where, axis=axis) == pytest.approx(np.broadcast_to(step, np.diff(where, axis=axis).shape))
    assert not any("oblique" in step for step in scan.steps)


def test_oblique_volumes_go_to_the_nearest_axes_and_say_so(tmp_path: Path) -> None:
    scan = reads(only(*fake_series(tmp_path, orientation=OBLIQUE)))
    where = points(scan, OBLIQUE)
    for axis, patient in enumerate((2, 1, 0)):
        step = np.diff(where, axis=axis)
        assert (step[..., patient] > 0.9 * np.linalg.norm(step, axis=-1)).all()
    assert "oblique by 20 degrees" in scan.steps
    assert scan.spacing_mm == pytest.approx(SPACING_MM)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**16))
def test_names_and_order_do_not_matter(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = random.Random(seed)
    names = [f"{number}.dcm" for number in range(SHAPE[0])]
    plane = negative(rng.choice([AXIAL, SAGITTAL, CORONAL, OBLIQUE]), rng.choice([0, 1, 2]))
    folder = tmp_path_factory.mktemp("series")
    straight = reads(only(*fake_series(folder / "a", orientation=plane, names=names)))
    mixed = fake_series(folder / "b", orientation=plane, names=rng.sample(names, len(names)))
    series = only(*rng.sample(mixed, len(mixed)))
    assert series.name == "0.dcm"
    assert np.array_equal(reads(series).pixels, straight.pixels)
    shuffled = read_series(rng.sample(series.paths, len(series.paths)), name="x")
    assert np.array_equal(shuffled.pixels, straight.pixels)
    assert shuffled.sha256 == reads(series).sha256


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.booleans(), column=st.booleans(), transposed=st.booleans())
def test_the_same_body_stored_another_way_is_the_same_volume(
    tmp_path_factory: pytest.TempPathFactory, row: bool, column: bool, transposed: bool
) -> None:
    """Rows and columns mirrored or swapped by the scanner, with the orientation that says so."""
    folder = tmp_path_factory.mktemp("series")
    plain = reads(only(*fake_series(folder / "a")))
    along_row, along_column = (np.array(AXIAL[:3]), np.array(AXIAL[3:]))
    numbers = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)

    def stored(number: int) -> dict[str, Any]:
        pixels, first = numbers[number], np.array([-30.0, 20.0, 10.0 + SPACING_MM[0] * number])
        directions, sizes = [along_column, along_row], list(SPACING_MM[1:])
        for axis, mirrored in enumerate((column, row)):
            if mirrored:
                first = first + directions[axis] * sizes[axis] * (pixels.shape[axis] - 1)
                directions[axis] = -directions[axis]
                pixels = np.flip(pixels, axis)
        if transposed:
            pixels, directions, sizes = pixels.T, directions[::-1], sizes[::-1]
        return {
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "PixelData": pixels.tobytes(),
            "PixelSpacing": sizes,
            "ImageOrientationPatient": [*directions[1].tolist(), *directions[0].tolist()],
            "ImagePositionPatient": first.tolist(),
        }

    other = reads(only(*fake_series(folder / "b", each=stored)))
    assert np.array_equal(other.pixels, plain.pixels) and other.spacing_mm == plain.spacing_mm


def test_hounsfield_units_are_kept_and_shown_from_air_to_bone(tmp_path: Path) -> None:
    paths = fake_series(tmp_path, each=lambda number: {"RescaleIntercept": INTERCEPT + 100 * number})
    scan = reads(only(*paths))
    stored = np.arange(np.prod(SHAPE)).reshape(SHAPE)[:, ::-1, ::-1]
    expected = stored + INTERCEPT + 100 * np.arange(SHAPE[0])[:, None, None]
    assert scan.hu is not None and np.array_equal(scan.hu, expected)
    assert scan.pixels == pytest.approx(np.clip((expected + 1000) / 2000, 0, 1), abs=1e-6)
    assert "rescaled in 5 ways, as each slice says" in scan.steps and "-1000 to 1000 HU" in scan.steps
    assert scan.header.patient_id == "P1" and scan.header.modality == "CT"
    digests = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    assert scan.sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()


def test_what_is_no_hounsfield_unit_is_spread(tmp_path: Path) -> None:
    for number, elements in enumerate(({"Modality": "MR"}, {"RescaleType": "US"}, {"RescaleSlope": None})):
        scan = reads(only(*fake_series(tmp_path / str(number), **elements)))
        assert scan.hu is None and scan.steps[-1].startswith("percentiles 0.5 to 99.5 of the volume")
        assert (scan.pixels.min(), scan.pixels.max()) == (0, 1)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_count(tmp_path: Path, photometric: str) -> None:
    values = np.arange(SHAPE[1] * SHAPE[2], dtype=np.uint16).reshape(SHAPE[1:]) + 1000
    values[0] = 63536
    elements = {"PixelPaddingValue": 63536, "PixelData": values.tobytes(), "PhotometricInterpretation": photometric}
    scan = reads(only(*fake_series(tmp_path / "mr", Modality="PT", **elements)))
    assert scan.pixels[:, -1].max() == 0 and np.ptp(scan.pixels[:, :-1]) == 1
    assert scan.pixels[:, :-1].mean() == pytest.approx(0.5, abs=0.05)
    ct = reads(only(*fake_series(tmp_path / "ct", **elements)))
    assert ct.hu is not None and (ct.hu[:, -1] == -1000).all() and ct.pixels[:, -1].max() == 0


def test_one_missing_slice_is_named(tmp_path: Path) -> None:
    paths = fake_series(tmp_path)
    series, errors = grouped(*paths[:2], *paths[3:])
    assert not series and len(errors) == 4 and {error.code for error in errors} == {"missing_slices"}
    assert "1 slices are missing: a gap of 8 mm between 001.dcm and 003.dcm, where others are 4 mm" in str(errors[0])
    with pytest.raises(ScanError, match="gap of 8 mm") as caught:
        read_series([*paths[:2], *paths[3:]], name="whole")
    assert (caught.value.code, caught.value.path) == ("missing_slices", "whole")


def test_uneven_spacing_is_refused_and_rounding_is_not(tmp_path: Path) -> None:
    def at(offsets: list[float]) -> Any:
        return lambda number: {"ImagePositionPatient": [0, 0, offsets[number]]}

    assert codes(*fake_series(tmp_path / "a", each=at([0, 4, 8, 10, 12]))) == {"uneven_spacing"}
    even = only(*fake_series(tmp_path / "b", each=at([0, 4.1, 8, 12.05, 16])))
    assert even.spacing_mm[0] == pytest.approx(4)


def test_copies_are_reported_and_one_is_used(tmp_path: Path) -> None:
    paths = fake_series(tmp_path)
    copy = Path(shutil.copy(paths[1], tmp_path / "copy.dcm"))
    series, errors = grouped(*paths, copy)
    assert [len(one.paths) for one in series] == [5]
    assert [(error.code, error.path) for error in errors] == [("duplicate", "copy.dcm")]
    assert "is the same image as 001.dcm" in str(errors[0])


def test_different_images_at_one_place_are_refused_by_name(tmp_path: Path) -> None:
    first = fake_series(tmp_path)
    second = fake_series(tmp_path / "more", names=[f"b{number}.dcm" for number in range(5)])
    series, errors = grouped(*first, second[2])
    assert not series and {error.code for error in errors} == {"ambiguous_positions"} and len(errors) == 6
    assert "002.dcm and b2.dcm lie at one place" in errors[0].message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"EchoNumbers": 1}, {"EchoNumbers": 2}),
        ({"EchoTime": 2.3}, {"EchoTime": 4.6}),
        ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}),
        ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}),
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
        ({"TriggerTime": 0}, {"TriggerTime": 50}),
        ({"AcquisitionTime": "100000"}, {"AcquisitionTime": "100130"}),
        ({"orientation": AXIAL}, {"orientation": SAGITTAL}),
        ({"spacing_mm": (4.0, 2.0, 1.5)}, {"spacing_mm": (4.0, 2.0, 1.6)}),
        ({"shape": (5, 6, 7)}, {"shape": (5, 6, 8)}),
        ({"PatientID": "P1"}, {"PatientID": "P2"}),
    ],
)
def test_mixed_series_are_told_apart(tmp_path: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    a, b = fake_series(tmp_path / "a", **one), fake_series(tmp_path / "b", **other)
    heads = [read_head(path, name=path.relative_to(tmp_path).as_posix()) for path in [*a, *b]]
    series, errors = group_series(heads)
    assert not errors and sorted(each.paths for each in series) == sorted([tuple(a), tuple(b)])
    assert group_series(heads[::-1]) == (series, errors)


def test_what_differs_from_slice_to_slice_is_no_moment(tmp_path: Path) -> None:
    def each(number: int) -> dict[str, Any]:
        return {"AcquisitionNumber": number + 1, "TriggerTime": 10 * number, "EchoTime": 4.6 + 0.01 * number}

    only(*fake_series(tmp_path, each=each))


def test_passes_that_interleave_are_one_volume_of_each_moment(tmp_path: Path) -> None:
    """Odd and even slices in two acquisitions, all of it at two times."""

    def at(time: int) -> Any:
        return lambda number: {"AcquisitionNumber": number % 2, "FrameReferenceTime": time}

    a, b = (fake_series(tmp_path / name, each=at(time)) for name, time in (("a", 0), ("b", 900)))
    series, errors = group_series([read_head(path, name=str(path)) for path in [*a, *b]])
    assert not errors and [each.paths for each in series] == [tuple(a), tuple(b)]


def test_siemens_and_ge_b_values(tmp_path: Path) -> None:
    for creator, group, place, plain, weighted in (
        ("SIEMENS MR HEADER", 0x0019, 0x0C, "0", "800"),
        ("GEMS_PARM_01", 0x0043, 0x39, ["0", "1", "2", "3"], ["1000000800", "1", "2", "3"]),
    ):
        paths = []
        for name, value in (("a", plain), ("b", weighted)):
            for path in fake_series(tmp_path / creator / name):
                dataset = dcmread(path)
                dataset.private_block(group, creator, create=True).add_new(place, "IS", value)
                dataset.save_as(path)
                paths.append(path)
        heads = [read_head(path, name=str(path)) for path in paths]
        assert {head.kind[-1] for head in heads} == {"0", "800"}
        assert len(group_series(heads)[0]) == 2


def test_scouts_single_images_and_localizers_are_no_volumes(tmp_path: Path) -> None:
    whole = fake_series(tmp_path)
    scout = fake_series(tmp_path / "s", shape=(1, 6, 7), orientation=SAGITTAL, names=["scout.dcm"])
    planned = fake_series(
        tmp_path / "l", names=[f"l{number}" for number in range(5)], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    series, errors = grouped(*whole, *scout, *planned)
    assert [each.paths for each in series] == [tuple(whole)]
    assert {error.path: error.code for error in errors} == {f"l{number}": "localizer" for number in range(5)} | {
        "scout.dcm": "no_volume"
    }
    assert "1 image of its kind; a volume needs at least 4 parallel ones" in str(errors[-1])
    assert codes(*fake_series(tmp_path / "three", shape=(3, 6, 7))) == {"no_volume"}


def test_what_can_be_in_no_volume_says_why(tmp_path: Path) -> None:
    def code(name: str, **elements: Any) -> set[str]:
        return codes(*fake_series(tmp_path / name, **elements))

    assert code("place", ImagePositionPatient=None) == {"no_geometry"}
    assert code("orientation", ImageOrientationPatient=[1, 0, 0, 1, 0, 0]) == {"no_geometry"}
    assert code("spacing", PixelSpacing=None) == {"no_geometry"}
    assert code("colour", SamplesPerPixel=3, PhotometricInterpretation="RGB") == {"colour"}
    assert code("palette", PhotometricInterpretation="PALETTE COLOR") == {"colour"}
    assert code("mosaic", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]) == {"mosaic"}
    assert code("series", SeriesInstanceUID=None) == {"no_series"}


def test_a_tilted_gantry_is_noted_and_a_shear_is_refused(tmp_path: Path) -> None:
    """The patient moves along the table, the slices lean: each lies tan(15 degrees) of the step further aside."""
    scan = reads(only(*fake_series(tmp_path / "tilt", shift_mm=(0, 4 * np.tan(np.radians(15)), 0))))
    assert "slices shifted sideways as by a gantry tilted 15 degrees; left so" in scan.steps
    assert scan.spacing_mm == pytest.approx(SPACING_MM)
    assert codes(*fake_series(tmp_path / "far", shift_mm=(0, 4, 0))) == {"sheared"}

    def wander(number: int) -> dict[str, Any]:
        return {"ImagePositionPatient": [9 * (number % 2), 0, 4 * number]}

    assert codes(*fake_series(tmp_path / "wander", each=wander)) == {"sheared"}


def test_heads_of_what_is_no_image(tmp_path: Path) -> None:
    def code(content: bytes) -> str:
        (path := tmp_path / "x").write_bytes(content)
        with pytest.raises(ScanError) as caught:
            read_head(path, name="x")
        assert caught.value.path == "x"
        return caught.value.code

    whole = fake_series(tmp_path)[0].read_bytes()
    assert code(whole[: whole.index(b"\xe0\x7f\x10\x00")]) == "truncated"
    assert code(b"\x89PNG\r\n\x1a\n" + bytes(100)) == "not_dicom"
    assert code(b"") == "empty"
    assert code(fake_series(tmp_path / "r", Rows=None, Columns=None)[0].read_bytes()) == "damaged"
    assert code(fake_series(tmp_path / "s", Modality="SEG")[0].read_bytes()) == "segmentation"
    assert code(fake_series(tmp_path / "d", Modality="RTDOSE")[0].read_bytes()) == "radiotherapy"
    empty = {"Rows": None, "Columns": None, "PixelData": None}
    assert code(fake_series(tmp_path / "e", **empty)[0].read_bytes()) == "truncated"
    report = empty | {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.22"}
    assert code(fake_series(tmp_path / "sr", **report)[0].read_bytes()) == "report"
    other = empty | {"SOPClassUID": "1.2.3.4"}
    assert code(fake_series(tmp_path / "o", **other)[0].read_bytes()) == "no_pixels"
    with pytest.raises(ScanError, match="cannot be opened"):
        read_head(tmp_path / "none", name="none")


def test_a_broken_file_of_a_series_is_named(tmp_path: Path) -> None:
    paths = fake_series(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes()[:-10])
    with pytest.raises(ScanError, match=r"002\.dcm: ") as caught:
        read_series(paths, name="whole")
    assert (caught.value.code, caught.value.path) == ("truncated", "whole")
    with pytest.raises(ScanError, match=r"003\.dcm: is of 6 x 8 pixels, not 6 x 7"):
        read_series([*paths[:2], fake_series(tmp_path / "b", shape=(5, 6, 8))[3]], name="whole")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 1400), change=st.binary(min_size=1, max_size=8))
def test_no_damage_gets_past_as_another_exception(tmp_path: Path, place: int, change: bytes) -> None:
    paths = fake_series(tmp_path / "whole")
    data = bytearray(paths[1].read_bytes())
    data[place : place + len(change)] = change
    paths[1].write_bytes(data)
    try:
        series, _ = grouped(*paths)
        for each in series:
            reads(each)
        read_series(paths, name="x")
    except ScanError:
        pass


def dcm2niix(files: list[Path], out: Path) -> Path:
    if shutil.which("dcm2niix") is None:
        pytest.skip("needs dcm2niix, of the Debian package of that name")
    source = out / "in"
    source.mkdir(parents=True)
    for number, path in enumerate(files):
        shutil.copy(path, source / f"{number}.dcm")
    command = ["dcm2niix", "-z", "n", "-o", str(out), "-f", "converted", str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    return out / "converted.nii"


BRAIN_MR = [
    "Study1/12-T1post-05670", "Study1/13_HCropVolume", "Study2/14_HCropVolume", "Study2/37623-FLAIRreg-62665",
    "Study3/11-T1post-18670", "Study3/11_HCropVolume", "Study3/26401-T1prereg-52906", "Study3/36468-FLAIRreg-58706",
    "Study3/37830-T2reg-78532",
]  # fmt: skip


@pytest.mark.parametrize("folder", BRAIN_MR)
def test_real_series_agree_with_dcm2niix(
    shared: Path, tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted((shared / "dicom/brain_mr" / folder).iterdir())
    seen: list[np.ndarray] = []
    spread_volume = volume.spread_volume
    monkeypatch.setattr(volume, "spread_volume", lambda values: (seen.append(values), spread_volume(values))[1])
    scan = reads(only(*files))
    path = dcm2niix(files, tmp_path)
    image = nibabel.as_closest_canonical(nibabel.load(path))
    assert scan.pixels.shape == image.shape[::-1]
    assert scan.spacing_mm == pytest.approx(image.header.get_zooms()[::-1], rel=1e-4)  # float32 there
    assert np.array_equal(seen[0], np.asarray(image.dataobj).T)
    again = read_nifti(path.read_bytes(), name="x", sha256="0" * 64)
    assert np.abs(again.pixels - scan.pixels).max() < 1e-3
    assert again.spacing_mm == pytest.approx(scan.spacing_mm, rel=1e-4)


def test_all_of_the_real_series_at_once(shared: Path) -> None:
    files = [path for path in (shared / "dicom/brain_mr").rglob("*") if path.is_file()]
    series, errors = group_series([read_head(path, name=str(path)) for path in files])
    assert not errors and len(series) == len(BRAIN_MR)
    assert sum(len(each.paths) for each in series) == len(files) == 241


def enhanced(path: Path, offsets: list[float], **shared_groups: Any) -> Path:
    """A multi-frame CT: frame n holds n + 1 everywhere, and its intercept adds 100 n."""

    def item(**elements: Any) -> Dataset:
        dataset = Dataset()
        for key, value in elements.items():
            setattr(dataset, key, value)
        return dataset

    per_frame = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, offset])],
            PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=100 * number, RescaleType="HU")],
        )
        for number, offset in enumerate(offsets)
    ]
    shared_groups = {
        "PlaneOrientationSequence": [item(ImageOrientationPatient=list(AXIAL))],
        "PixelMeasuresSequence": [item(PixelSpacing=[2, 1.5])],
    } | shared_groups
    plain = fake_series(
        path.parent / "plain",
        shape=(1, 6, 7),
        names=[path.name],
        SOPInstanceUID=f"1.2.{path.stem}" if path.stem.isdigit() else "1.2.9",
        NumberOfFrames=len(offsets),
        SharedFunctionalGroupsSequence=[item(**shared_groups)],
        PerFrameFunctionalGroupsSequence=per_frame,
        PixelData=np.repeat(np.arange(1, len(offsets) + 1, dtype=np.uint16), 42).tobytes(),
        **dict.fromkeys(
            ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
        ),
    )
    return plain[0]


def test_frames_lie_and_count_as_their_functional_groups_say(tmp_path: Path) -> None:
    series = only(enhanced(tmp_path / "x.dcm", [8, 0, 4, 12]))
    scan = reads(series)
    assert scan.hu is not None and scan.hu[:, 0, 0].tolist() == [102, 203, 1, 304]
    assert scan.spacing_mm == (4, 2, 1.5) and "rescaled in 4 ways, as each slice says" in scan.steps


def test_enhanced_objects_of_one_frame_make_a_series(tmp_path: Path) -> None:
    scan = reads(only(*(enhanced(tmp_path / f"{offset}.dcm", [offset]) for offset in (8, 0, 4, 12))))
    assert scan.hu is not None and (scan.hu == 1).all()
    assert scan.spacing_mm == (4, 2, 1.5)


def test_an_object_of_several_volumes_says_how_many(tmp_path: Path) -> None:
    path = enhanced(tmp_path / "x.dcm", [0, 4, 8, 0, 4, 8])
    assert codes(path) == {"several_volumes"}
    with pytest.raises(ScanError, match="holds 2 volumes in its 6 frames"):
        read_series([path], name="x")
    assert codes(enhanced(tmp_path / "y.dcm", [0, 4, 8, 16])) == {"missing_slices"}
    assert codes(enhanced(tmp_path / "z.dcm", [0, 4], PixelMeasuresSequence=[])) == {"no_geometry"}


def test_an_enhanced_object_agrees_with_dcm2niix(shared: Path, tmp_path: Path) -> None:
    path = shared / "dicom/conformance/eCT_Supplemental.dcm"
    series = only(path)
    scan = reads(series)
    assert series.paths == (path,) and scan.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    image = nibabel.as_closest_canonical(nibabel.load(dcm2niix([path], tmp_path)))
    assert scan.pixels.shape == image.shape[::-1]
    assert scan.spacing_mm == pytest.approx(image.header.get_zooms()[::-1], rel=1e-4)
    values = image.get_fdata().T
    low, high = np.percentile(values, [0.5, 99.5])
    assert np.abs(scan.pixels - np.clip((values - low) / (high - low), 0, 1)).max() < 1e-5
    assert scan.hu is None  # a map of blood flow: RescaleType is US


def test_frames_without_places_are_no_volume(shared: Path) -> None:
    for path in sorted((shared / "dicom/conformance").glob("emri_small*.dcm")):
        with pytest.raises(ScanError) as caught:
            read_dicom_volume(path.read_bytes(), name="x", sha256="0" * 64)
        assert caught.value.code == ("truncated" if "too_short" in path.name else "no_geometry")
    with pytest.raises(ScanError, match="is a segmentation"):
        read_dicom_volume((shared / "dicom/conformance/liver.dcm").read_bytes(), name="x", sha256="0" * 64)
    with pytest.raises(ScanError, match="holds 1 image"):
        read_dicom_volume((shared / "dicom/conformance/MR2_UNCR.dcm").read_bytes(), name="x", sha256="0" * 64)


def test_one_rule_says_what_is_hounsfield_and_what_is_inverted(tmp_path: Path) -> None:
    """The rules of images (`read_dicom`) hold for volumes."""
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [210, 0, 16], np.arange(210, dtype=np.uint16).tobytes()
    for number, unit in enumerate(("HU", "US")):
        table.ModalityLUTType = unit
        series = fake_series(tmp_path / str(number), ModalityLUTSequence=[table], RescaleSlope=None)
        assert (reads(only(*series)).hu is not None) == (unit == "HU")
    plain = reads(only(*fake_series(tmp_path / "plain")))
    assert plain.hu is not None
    assert reads(only(*fake_series(tmp_path / "zero", RescaleSlope=0))).hu is None
    one_other = fake_series(tmp_path / "odd", each=lambda number: {"RescaleType": "US" if number == 3 else "HU"})
    assert reads(only(*one_other)).hu is None
    inverse = reads(only(*fake_series(tmp_path / "inverse", PresentationLUTShape="INVERSE")))
    assert np.allclose(inverse.pixels, 1 - plain.pixels) and "presentation LUT shape" in " ".join(inverse.steps)
    white = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"}
    assert np.array_equal(reads(only(*fake_series(tmp_path / "identity", **white))).pixels, plain.pixels)
