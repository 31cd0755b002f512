"""Slices whose orientation is known."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

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
    assert refused(image(np.zeros((5, 6, 1, 7), np.int16))) == "volume"
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
    with pytest.raises(ScanError, match="this version of medtl reads single images"):
        read_scan(path)
