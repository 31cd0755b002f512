"""Slices of a volume against a phantom whose sides are known."""

import numpy as np
import pytest

from app.planes import PLANES, cut, cut_spacing, hottest, same_place


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


def test_the_same_place_of_another_volume_is_at_the_same_share_of_each_side() -> None:
    assert same_place([0, 3, 8], (5, 7, 9), (9, 13, 5)) == [0, 6, 4]
    assert same_place([4, 6, 8], (5, 7, 9), (2, 3, 4)) == [1, 2, 3], "the last slice goes to the last"
