"""Slices of a volume against a phantom whose sides are known."""

import numpy as np
import pytest

from app.planes import PLANES, cut, cut_spacing, hottest
from app.render import HU_WINDOWS, WINDOWS, displayed, windows_of
from medtl.data.scan import Scan


def phantom() -> np.ndarray:
    """Axes to head, front, right: one voxel marked at each end of each axis."""
    volume = np.zeros((5, 7, 9), np.float32)
    volume[4, 3, 4], volume[0, 3, 4] = 1.0, 0.9  # head, foot
    volume[2, 6, 4], volume[2, 0, 4] = 0.8, 0.7  # front, back
    volume[2, 3, 8], volume[2, 3, 0] = 0.6, 0.5  # right, left
    return volume


@pytest.mark.parametrize(
    ("plane", "index", "left", "right", "top", "bottom"),
    [
        ("Axial", 2, 0.6, 0.5, 0.8, 0.7),  # the patient's right is on the viewer's left, front up
        ("Coronal", 3, 0.6, 0.5, 1.0, 0.9),  # head up
        ("Sagittal", 4, 0.8, 0.7, 1.0, 0.9),  # front on the left, head up
    ],
)
def test_radiological_convention(plane: str, index: int, left: float, right: float, top: float, bottom: float) -> None:
    picture = cut(phantom(), plane, index)
    rows, columns = picture.shape
    found = [picture[rows // 2, 0], picture[rows // 2, -1], picture[0, columns // 2], picture[-1, columns // 2]]
    assert np.allclose(found, [left, right, top, bottom])
    letter = {0.6: "R", 0.5: "L", 0.8: "A", 0.7: "P", 1.0: "H", 0.9: "F"}
    assert PLANES[plane].edges == tuple(letter[value] for value in (left, right, top, bottom))


def test_proportions_follow_the_axes_that_are_left() -> None:
    spacing = (5.0, 0.7, 0.8)
    assert [cut_spacing(spacing, plane) for plane in PLANES] == [(0.7, 0.8), (5.0, 0.8), (5.0, 0.7)]
    assert cut_spacing(None, "Axial") is None


def test_hottest_voxel() -> None:
    assert hottest(phantom()) == (4, 3, 4)
    assert hottest(np.zeros((5, 7, 9), np.float32)) == (2, 3, 4)


def test_ct_has_the_windows_of_the_workstation() -> None:
    hu = np.linspace(-1000, 1000, 4 * 4 * 4, dtype=np.float32).reshape(4, 4, 4)
    scan = Scan(pixels=(hu + 1000) / 2000, hu=hu, source="ct", sha256="0" * 64)
    assert windows_of(scan) == ["As read", *HU_WINDOWS]
    [brain] = [name for name in HU_WINDOWS if name.startswith("Brain")]
    assert brain == "Brain (40 / 80 HU)"
    shown = displayed(scan, brain, lambda whole: whole[2])
    # PS3.3 C.11.2.1.2.1: from (centre - 0.5) - (width - 1) / 2, and as far up
    assert np.allclose(shown, np.clip((hu[2] - 39.5) / 79 + 0.5, 0, 1), atol=1e-6)


def test_a_volume_keeps_one_window_for_all_slices() -> None:
    values = np.random.default_rng(0).uniform(0.2, 0.8, (8, 8, 8)).astype(np.float32)
    values[3] *= 0.5
    scan = Scan(pixels=values, source="mr", sha256="0" * 64)
    assert windows_of(scan) == list(WINDOWS)
    dim, plain = (displayed(scan, "Full contrast", lambda whole, i=i: whole[i]) for i in (3, 4))
    assert dim.mean() < 0.6 * plain.mean(), "a dim slice stays dim"
