"""Slices and volumes whose orientation is known; nibabel as the oracle."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medtl.data.nifti import nifti_extent, read_nifti
from medtl.data.scan import Scan
from medtl.data.sources import read_bytes
from medtl.data.volume_display import SAMPLED, spread_volume
from medtl.errors import ScanError

RAS = np.diag([2.0, 3.0, 4.0, 1.0])


def image(values: np.ndarray, affine: np.ndarray = RAS) -> bytes:
    return nibabel.Nifti1Image(values, affine).to_bytes()


def marked(left_front: tuple[int, int], shape: tuple[int, ...] = (10, 20, 1)) -> np.ndarray:
    values = np.zeros(shape, np.int16)
    values[left_front] = 1000
    values[5, 5] = 500  # so that no percentile is equal
    return values


@pytest.mark.parametrize("shape", [(10, 20, 1), (10, 20)])
def test_the_patients_right_is_on_the_left_and_the_front_is_up(shape: tuple[int, ...]) -> None:
    # RAS+: the first axis runs to the patient's right, the second to the front.
    scan = read_bytes(image(marked((9, 19), shape)), name="x.nii")
    assert scan.pixels.shape == (20, 10) and scan.spacing_mm == (3.0, 2.0)
    assert scan.pixels[0, 0] == 1


def test_the_affine_says_where_right_is() -> None:
    flipped = RAS.copy()
    flipped[0, 0] = -2.0
    assert read_bytes(image(marked((0, 19)), flipped), name="x").pixels[0, 0] == 1


def test_a_sagittal_slice_has_the_head_up() -> None:
    values = np.zeros((1, 20, 10), np.int16)
    values[0, 19, 9], values[0, 3, 3] = 1000, 500  # front, top
    scan = read_bytes(image(values), name="x")
    assert scan.pixels.shape == (10, 20) and scan.pixels[0, 0] == 1 and scan.spacing_mm == (4.0, 3.0)


def test_gzip_and_nifti2() -> None:
    plain = read_bytes(image(marked((9, 19))), name="x")
    assert np.array_equal(read_bytes(gzip.compress(image(marked((9, 19)))), name="x").pixels, plain.pixels)
    second = nibabel.Nifti2Image(marked((9, 19)), RAS).to_bytes()
    assert np.array_equal(read_bytes(second, name="x").pixels, plain.pixels)


def refused(data: bytes) -> str:
    with pytest.raises(ScanError) as caught:
        read_bytes(data, name="x.nii.gz")
    return caught.value.code


def test_several_volumes_cut_files_and_bombs_are_refused() -> None:
    assert refused(image(np.zeros((5, 6, 8, 7), np.int16))) == "several_volumes"
    assert refused(image(np.zeros((5, 6, 1, 7), np.int16))) == "several_volumes"
    whole = image(np.random.default_rng(0).integers(0, 999, (50, 60), np.int16))
    assert refused(whole[:-10]) == "truncated"
    assert refused(gzip.compress(whole)[:-20]) == "truncated"
    assert refused(gzip.compress(whole + bytes(2**26))) == "too_large"
    header = nibabel.Nifti1Header()
    header["magic"] = b"n+1"
    header.set_data_shape((32000, 32000, 1))
    assert refused(header.binaryblock + bytes(16)) == "too_large"


def test_several_volumes_are_counted() -> None:
    with pytest.raises(ScanError, match="holds 14 volumes of 5 x 6 x 8 voxels"):
        volume(np.zeros((5, 6, 8, 7, 2), np.int16))


def volume(values: np.ndarray, affine: np.ndarray = RAS, **header: object) -> Scan:
    made = nibabel.Nifti1Image(values, affine)
    for key, value in header.items():
        made.header[key] = value
    return read_nifti(made.to_bytes(), name="x.nii", sha256="0" * 64)


def extent(tmp_path: Path, data: bytes) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    (path := tmp_path / "x").write_bytes(data)
    return nifti_extent(path, name="x")


@settings(max_examples=40)
@given(axes=st.permutations([0, 1, 2]), signs=st.tuples(*[st.sampled_from([1, -1])] * 3), degrees=st.integers(0, 30))
def test_any_order_of_axes_gives_the_same_volume(axes: list[int], signs: tuple[int, ...], degrees: int) -> None:
    values = np.random.default_rng(1).normal(size=(4, 5, 6)).astype(np.float32)
    turn = np.radians(degrees)
    oblique = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = oblique @ np.diag([2.0, 3.0, 4.0])
    stored, other = np.transpose(values, axes), np.eye(4)
    other[:3, :3] = affine[:3, axes]
    for axis, sign in enumerate(signs):
        if sign < 0:
            other[:3, 3] += other[:3, axis] * (stored.shape[axis] - 1)
            other[:3, axis] *= -1
            stored = np.flip(stored, axis)
    scan = volume(stored, other)
    plain = volume(values, affine)
    assert np.array_equal(scan.pixels, plain.pixels) and scan.pixels.shape == (6, 5, 4)
    assert scan.spacing_mm == pytest.approx((4, 3, 2), rel=1e-6)
    low, high = np.percentile(values, [0.5, 99.5])
    assert scan.pixels == pytest.approx(np.clip((values.T - low) / (high - low), 0, 1), abs=1e-5)
    assert any("oblique" in step for step in scan.steps) == (degrees > 0)
    assert scan.hu is None


def test_the_sform_counts_before_the_qform_and_zooms_where_there_is_neither() -> None:
    values = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    made = nibabel.Nifti1Image(values, np.diag([-2.0, 3.0, 4.0, 1.0]))
    made.set_qform(RAS, 1)
    made.set_sform(np.diag([-2.0, 3.0, 4.0, 1.0]), 1)
    flipped = read_nifti(made.to_bytes(), name="x", sha256="0" * 64)
    made.set_sform(None, 0)
    straight = read_nifti(made.to_bytes(), name="x", sha256="0" * 64)
    assert np.array_equal(flipped.pixels[..., ::-1], straight.pixels)
    made.set_qform(None, 0)
    unknown = read_nifti(made.to_bytes(), name="x", sha256="0" * 64)
    assert np.array_equal(unknown.pixels, straight.pixels) and unknown.spacing_mm == (4, 3, 2)
    assert unknown.steps[0] == "taken as lying straight: the file states no orientation"


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("mm", 1), ("micron", 0.001), ("unknown", 1)])
def test_units_of_length(tmp_path: Path, unit: str, factor: float) -> None:
    made = nibabel.Nifti1Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), RAS)
    made.header.set_xyzt_units(unit)
    expected = pytest.approx((4 * factor, 3 * factor, 2 * factor))
    assert read_nifti(made.to_bytes(), name="x", sha256="0" * 64).spacing_mm == expected
    assert extent(tmp_path, made.to_bytes())[1] == expected


def test_slopes_a_fourth_axis_of_one_and_missing_values() -> None:
    values = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
    plain = volume(values)
    assert np.array_equal(volume(values[..., None]).pixels, plain.pixels)
    scaled = nibabel.Nifti1Image(values, RAS)
    scaled.header.set_slope_inter(-1, 5)
    inverted = read_nifti(scaled.to_bytes(), name="x", sha256="0" * 64)
    assert inverted.pixels == pytest.approx(1 - plain.pixels, abs=1e-5)
    holes = values.astype(np.float32)
    holes[0, 0, 0], holes[9, 9, 9] = np.nan, np.inf
    some = volume(holes)
    assert some.pixels[0, 0, 0] == 0 and some.pixels[9, 9, 9] == 0
    assert some.pixels[1:9] == pytest.approx(plain.pixels[1:9], abs=2e-3)  # percentiles of two values fewer
    assert volume(np.full((4, 4, 4), 7.0, np.float32)).pixels.max() == 0
    assert volume(values[:2]).pixels.shape == (10, 10, 2)


def test_large_volumes_are_spread_by_a_sample() -> None:
    values = np.random.default_rng(0).normal(size=(170, 160, 160)).astype(np.float32)
    assert values.size > SAMPLED
    pixels, _ = spread_volume(values)
    low, high = np.percentile(values, [0.5, 99.5])
    # The 0.5 % quantile of 4 million normal values has a standard error of 0.0024; the scale is about 5.
    assert np.abs(pixels - np.clip((values - low) / (high - low), 0, 1)).max() < 0.003


def test_the_extent_is_that_of_the_volume(tmp_path: Path, shared: Path) -> None:
    for path in sorted((shared / "hippocampus_mr/volumes").glob("*.nii.gz"))[:20]:
        scan = read_nifti(path.read_bytes(), name="x", sha256="0" * 64)
        assert nifti_extent(path, name="x") == (scan.pixels.shape, scan.spacing_mm)
        canonical = nibabel.as_closest_canonical(nibabel.load(path))
        assert scan.pixels.shape == canonical.shape[::-1]
        low, high = np.percentile(canonical.get_fdata(), [0.5, 99.5])
        expected = np.clip((canonical.get_fdata().T - low) / (high - low), 0, 1)
        assert np.abs(scan.pixels - expected).max() < 1e-5
    assert extent(tmp_path, image(np.zeros((4, 5, 6), np.int16)))[0] == (6, 5, 4)
    with pytest.raises(ScanError, match="cannot be opened"):
        nifti_extent(tmp_path / "none", name="none")


@settings(max_examples=150)
@given(
    place=st.integers(0, 600), change=st.binary(min_size=1, max_size=8), cut=st.integers(0, 700), zipped=st.booleans()
)
@example(place=280, change=bytes(48), cut=0, zipped=False)
def test_no_damage_gets_past_as_another_exception(place: int, change: bytes, cut: int, zipped: bool) -> None:
    data = bytearray(image(np.arange(120, dtype=np.int16).reshape(4, 5, 6)))
    data = bytearray(gzip.compress(bytes(data))) if zipped else data
    data[place : place + len(change)] = change
    for damaged in (bytes(data), bytes(data[: len(data) - cut])):
        try:
            scan = read_nifti(damaged, name="x", sha256="0" * 64)
        except ScanError:
            continue
        assert scan.pixels.dtype == np.float32
