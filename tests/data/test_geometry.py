"""Arrangements against nibabel's own, and stacks of known places."""

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from medtl.data.geometry import Place, arrangement, place_of, stacked
from medtl.errors import ScanError
from tests.data.fake_series import AXIAL, SAGITTAL


def places(heights_mm: list[float], orientation: tuple[float, ...] = AXIAL) -> list[Place]:
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        Place(position_mm=tuple(normal * height), orientation=orientation, spacing_mm=(2.0, 1.0))
        for height in heights_mm
    ]


def stack_of(*heights_mm: float) -> tuple[int, ...]:
    return stacked(places(list(heights_mm)), [f"s{n}" for n in range(len(heights_mm))], name="x").order


@settings(max_examples=100)
@given(seed=st.integers(0, 2**16))
def test_arrangements_are_those_of_nibabel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.uniform(0.5, 5, 3)
    values = rng.normal(size=(2, 3, 4)).astype(np.float32)
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(values, affine))
    found = arrangement(affine[:3, :3])
    assert np.array_equal(found.apply(values), np.asarray(expected.dataobj).T)
    assert found.shape(values.shape) == expected.shape[::-1]
    assert found.spacing_mm == pytest.approx(nibabel.affines.voxel_sizes(expected.affine)[::-1])


@pytest.mark.parametrize("steps_mm", [np.zeros((3, 3)), np.full((3, 3), np.nan), np.ones((3, 3))])
def test_steps_that_span_nothing(steps_mm: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"no size|no volume"):
        arrangement(steps_mm)


def test_slices_are_ordered_along_their_normal() -> None:
    assert stack_of(9, 3, 0, 6) == (2, 1, 3, 0)


@pytest.mark.parametrize(
    ("heights_mm", "code", "words"),
    [
        ([0, 3, 3.001, 6], "ambiguous_positions", "s1 and s2 lie at one place"),
        ([0, 3, 9, 12, 15], "missing_slices", "1 slices are missing: a gap of 6 mm between s1 and s2"),
        ([0, 3, 12, 15, 18, 24], "missing_slices", "3 slices are missing: a gap of 9 mm"),
        ([0, 3, 7, 10], "uneven_spacing", "4 mm between s1 and s2, where others are 3 mm apart"),
        ([0, 3, 6, 8], "uneven_spacing", "2 mm between s2 and s3"),
    ],
)
def test_what_fills_no_volume(heights_mm: list[float], code: str, words: str) -> None:
    with pytest.raises(ScanError, match=words) as caught:
        stack_of(*heights_mm)
    assert (caught.value.code, caught.value.path) == (code, "x")


def test_slices_must_be_parallel() -> None:
    mixed = [*places([0, 3, 6]), *places([0], SAGITTAL)]
    with pytest.raises(ScanError, match="a and d differ in orientation") as caught:
        stacked(mixed, ["a", "b", "c", "d"], name="x")
    assert caught.value.code == "mixed_orientations"


def test_a_header_must_say_all_of_a_place() -> None:
    header = Dataset()
    header.ImagePositionPatient, header.ImageOrientationPatient = [1, 2, 3], list(AXIAL)
    header.PixelSpacing = [2, 1]
    assert place_of(header) == Place(position_mm=(1, 2, 3), orientation=AXIAL, spacing_mm=(2, 1))
    for key, value in (
        ("ImagePositionPatient", [1, 2]),
        ("ImageOrientationPatient", [1, 0, 0, 0.5, 0.5, 0]),
        ("ImageOrientationPatient", [2, 0, 0, 0, 1, 0]),
        ("PixelSpacing", [0, 1]),
    ):
        odd = Dataset()
        odd.update(header)
        setattr(odd, key, value)
        assert place_of(odd) is None
