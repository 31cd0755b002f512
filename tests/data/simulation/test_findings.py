"""Findings are matter where it belongs, and their masks show where."""

import numpy as np
import pytest

from medtl.data.simulation.anatomy import draw_anatomy
from medtl.data.simulation.attenuation import LUNG, SOFT, Chest, chest
from medtl.data.simulation.findings import Consolidation, Effusion, Nodule, add
from medtl.data.simulation.rays import Pose, Rays

ANATOMY = draw_anatomy(np.random.default_rng(5))


@pytest.fixture(scope="module")
def rays() -> Rays:
    return Rays(
        Pose(rows=96, columns=90, pitch_mm=4.4, frontal=False, source_mm=1800, yaw=0, lean=0, center_mm=(0, -20))
    )


@pytest.fixture(scope="module")
def body(rays: Rays) -> Chest:
    return chest(rays, ANATOMY, 8.0, np.random.default_rng(0))


def test_the_chest_has_lungs_of_a_chest(rays: Rays, body: Chest) -> None:
    lung_mm = rays.integrate(body.organs.lung)
    magnification = 1800 / (1800 - 150)
    litres = lung_mm.sum() * (4.4 / magnification) ** 2 / 1e6
    assert 3.0 < litres < 8.5  # total lung capacity of adults is 4 to 7 litres
    assert 90 < lung_mm.max() < 220
    # Through the lungs less is absorbed than through the abdomen.
    assert np.median(body.integral[lung_mm > 100]) < np.median(body.integral[-12:, 30:60])


@pytest.mark.parametrize("diameter_mm", [12.0, 20.0, 28.0])
def test_a_nodule_has_the_volume_of_a_ball(rays: Rays, body: Chest, diameter_mm: float) -> None:
    finding = Nodule(centers_mm=((-75, -20, 10),), diameter_mm=diameter_mm, density=1.0, seed=3)
    added, mask = add(finding, body, rays, ANATOMY, 8.0)
    volume = added.sum() / (SOFT - LUNG) * (4.4 * (1 - (150 + 20) / 1800)) ** 2
    # Its edge is uneven and its axes differ by up to 15 %, so the volume agrees to a third.
    assert volume == pytest.approx(np.pi / 6 * diameter_mm**3, rel=0.35)
    assert (added >= 0).all() and mask.any()
    row, column, _ = rays.project(np.array([[-75.0, -20, 10]]) * ANATOMY.stretch)
    rows, columns = np.nonzero(mask)
    assert (rows.mean(), columns.mean()) == (pytest.approx(row[0], abs=1.5), pytest.approx(column[0], abs=1.5))


def test_an_effusion_is_at_the_bottom_of_its_side(rays: Rays, body: Chest) -> None:
    small = add(Effusion(side=1, level_mm=25, seed=1), body, rays, ANATOMY, 8.0)
    large = add(Effusion(side=1, level_mm=80, seed=1), body, rays, ANATOMY, 8.0)
    lung_rows = np.nonzero(rays.integrate(body.organs.lung).max(axis=1) > 20)[0]
    for added, mask in (small, large):
        rows, columns = np.nonzero(mask)
        assert columns.min() >= 43  # the patient's left is on the right of the image
        assert rows.mean() > lung_rows.mean()
        assert added.max() > 0
    assert large[0].sum() > 2 * small[0].sum()


def test_a_consolidation_stays_in_the_lung(rays: Rays, body: Chest) -> None:
    finding = Consolidation(center_mm=(95, -10, 0), axes_mm=(45, 45, 40), filled=0.8, seed=2)
    added, mask = add(finding, body, rays, ANATOMY, 8.0)
    lung_mm = rays.integrate(body.organs.lung)
    assert mask.any()
    assert added[lung_mm < 1].sum() < 0.02 * added.sum()
    assert (added / (SOFT - LUNG) <= 1.15 * lung_mm + 12).all()  # never more fluid than there was air, but for the blur
