"""The rays against geometry: magnification, chords, and matter that is neither lost nor made."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl.data.simulation.organs import inside
from medtl.data.simulation.rays import DEPTH_MM, Pose, Rays
from medtl.data.simulation.tubes import curve, tube


def pose(**changes: object) -> Pose:
    usual = Pose(
        rows=64, columns=60, pitch_mm=3.0, frontal=False, source_mm=1800.0, yaw=0.0, lean=0.0, center_mm=(0.0, 0.0)
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(
    yaw=st.floats(-0.3, 0.3),
    lean=st.floats(-0.2, 0.2),
    frontal=st.booleans(),
    x=st.floats(-20, 20),
    z=st.floats(-20, 20),
)
def test_projection_inverts_the_grid(yaw: float, lean: float, frontal: bool, x: float, z: float) -> None:
    rays = Rays(pose(yaw=yaw, lean=lean, frontal=frontal, center_mm=(x, z)))
    row, column, depth = 17, 41, 30
    point = np.array([[rays.x[0, column, depth], rays.y[0, column, depth], rays.z[row, 0, depth]]])
    # float32 coordinates of up to 150 mm are good to about 1e-4 of a pixel
    assert np.concatenate(rays.project(point)) == pytest.approx([row, column, depth], abs=2e-3)


def test_the_heart_is_bigger_from_the_front() -> None:
    """What lies in front is far from the detector on AP films: magnification is source over source minus distance."""
    edge = np.array([[60.0, 50.0, 0.0], [-60.0, 50.0, 0.0]])
    widths = {}
    for frontal in (False, True):
        _, column, _ = Rays(pose(frontal=frontal, source_mm=1100.0)).project(edge)
        widths[frontal] = float(column[0] - column[1]) * 3.0
    assert widths[False] == pytest.approx(120 * 1100 / (1100 - (DEPTH_MM / 2 - 50)), rel=1e-6)
    assert widths[True] == pytest.approx(120 * 1100 / (1100 - (DEPTH_MM / 2 + 50)), rel=1e-6)


def test_the_chord_of_a_ball() -> None:
    rays = Rays(pose())
    ball = inside(np.sqrt(rays.x**2 + rays.y**2 + rays.z**2) - 50)
    assert rays.integrate(ball)[31:33, 29:31].mean() == pytest.approx(100, rel=0.01)  # the grid's step is 4.5 mm


def test_a_tube_keeps_its_volume_and_its_chord() -> None:
    rays = Rays(pose())
    cloud = tube(curve([(0, 0, -40), (0, 0, 40)]), high_mm=9, wide_mm=9, rings=8)
    assert cloud.volume_mm3.sum() == pytest.approx(np.pi * 81 * 80, rel=0.01)  # the two ends are half steps
    image = rays.splat(cloud.points, cloud.volume_mm3)
    magnification = 1800 / (1800 - DEPTH_MM / 2)
    assert image.sum() * 9 / magnification**2 == pytest.approx(cloud.volume_mm3.sum(), rel=1e-3)
    # Pixels of 3 mm average the chord of 18 mm over the middle third.
    assert image[28:36, 29:31].mean() == pytest.approx(17.5, rel=0.06)


def test_what_falls_outside_the_picture_is_left_out() -> None:
    rays = Rays(pose())
    points = np.array([[1000.0, 0, 0], [0, 0, -1000.0], [0, 0, 0]])
    inside_only = rays.splat(points[2:], np.ones(1))
    assert np.array_equal(rays.splat(points, np.ones(3)), inside_only)
    assert inside_only.sum() > 0
