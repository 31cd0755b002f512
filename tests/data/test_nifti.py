"""Slices whose orientation is known."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medtl.data.nifti import nifti_extent
from medtl.data.sources import read_bytes, read_scan
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


def test_volumes_cut_files_and_bombs_are_refused() -> None:
    assert refused(image(np.zeros((5, 6, 7), np.int16))) == "volume"
    assert refused(image(np.zeros((5, 6, 1, 7), np.int16))) == "several_volumes"
    whole = image(np.random.default_rng(0).integers(0, 999, (50, 60), np.int16))
    assert refused(whole[:-10]) == "truncated"
    assert refused(gzip.compress(whole)[:-20]) == "truncated"
    assert refused(gzip.compress(whole + bytes(2**26))) == "too_large"
    header = nibabel.Nifti1Header()
    header["magic"] = b"n+1"
    header.set_data_shape((32000, 32000, 1))
    assert refused(header.binaryblock + bytes(16)) == "too_large"


def test_real_volumes_are_volumes(shared: Path) -> None:
    path = next((shared / "hippocampus_mr/volumes").glob("*.nii.gz"))
    with pytest.raises(ScanError, match=r"volume of .* voxels; single images are expected here"):
        read_scan(path)
    assert read_scan(path, dims=3).dims == 3


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_a_volume_is_turned_to_head_front_right(order: tuple[int, ...], flips: tuple[int, ...]) -> None:
    """Voxels that hold their own place in the body: 100 right + 10 front + head, in millimetres."""
    sides, mm = (5, 6, 7), (1.0, 2.0, 3.0)
    grid = np.zeros([sides[axis] for axis in order])
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, body in enumerate(order):
        affine[body, axis] = flips[body] * mm[body]
        affine[body, 3] = 0 if flips[body] > 0 else (sides[body] - 1) * mm[body]
    for index in np.ndindex(grid.shape):
        right, front, head = (affine @ [*index, 1])[:3]
        grid[index] = 100 * right + 10 * front + head
    data = nibabel.Nifti1Image(grid.astype(np.float32), affine).to_bytes()
    scan = read_bytes(data, name="v.nii", dims=3)
    assert scan.pixels.shape == (7, 6, 5) and scan.spacing_mm == pytest.approx((3.0, 2.0, 1.0))
    d, h, w = np.mgrid[:7, :6, :5]
    expected = 100 * w * 1.0 + 10 * h * 2.0 + d * 3.0
    low, high = np.percentile(expected, (0.5, 99.5))
    assert np.allclose(scan.pixels, np.clip((expected - low) / (high - low), 0, 1), atol=1e-5)


def test_extents_are_those_of_the_volume(tmp_path: Path) -> None:
    affine = np.array([[0, 0, 2.0, 0], [-3.0, 0, 0, 0], [0, 1.5, 0, 0], [0, 0, 0, 1]])
    path = tmp_path / "v.nii.gz"
    nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(4, 5, 6)), affine).to_filename(path)
    scan = read_scan(path, dims=3)
    assert nifti_extent(path, name="v") == (scan.pixels.shape, pytest.approx(scan.spacing_mm))
    assert scan.pixels.shape == (5, 4, 6) and scan.spacing_mm == pytest.approx((1.5, 3.0, 2.0))
