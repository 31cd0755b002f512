"""What can be wrong with a simulated chest: nodules, consolidations and pleural effusions, as matter in the lung."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from medtl.data.simulation.anatomy import Anatomy
from medtl.data.simulation.attenuation import LUNG, SOFT, Chest
from medtl.data.simulation.rays import Array, Rays
from medtl.data.simulation.tubes import Cloud


@dataclass(frozen=True, kw_only=True)
class Nodule:
    """One or several round masses with uneven edges, as of a tumour and its metastases."""

    centers_mm: tuple[tuple[float, float, float], ...]
    diameter_mm: float
    """Of the first; the others are smaller."""
    density: float
    """Against soft tissue; above 1 where there is calcium."""
    seed: int


@dataclass(frozen=True, kw_only=True)
class Consolidation:
    """Alveoli filled with fluid: a patchy opacity with a soft edge."""

    center_mm: tuple[float, float, float]
    axes_mm: tuple[float, float, float]
    filled: float
    """Share of the air that is replaced in the middle, 0 to 1."""
    seed: int


@dataclass(frozen=True, kw_only=True)
class Effusion:
    """Fluid in the pleural cavity, which rises towards the chest wall."""

    side: int
    """+1 left, -1 right."""
    level_mm: float
    """Height of the fluid above the bottom of the cavity beside the dome."""
    seed: int


Finding = Nodule | Consolidation | Effusion
NAMES = {Nodule: "nodule", Consolidation: "consolidation", Effusion: "effusion"}
# Path lengths of added matter in mm from which a reader would draw the edge of the finding.
DRAWN_FROM_MM = {Nodule: 1.5, Consolidation: 7.0, Effusion: 9.0}


def draw_finding(kind: type[Finding], rng: np.random.Generator) -> Finding:
    """A random finding of one kind."""
    side = int(rng.choice([-1, 1]))
    seed = int(rng.integers(2**31))
    if kind is Nodule:
        sides = [side, *rng.choice([-1, 1], size=rng.choice([0, 2, 4, 6, 8]))]
        places = tuple((s * rng.uniform(54, 106), rng.uniform(-60, 50), rng.uniform(-40, 82)) for s in sides)
        size, density = float(np.exp(rng.uniform(np.log(20), np.log(36)))), float(rng.uniform(1.3, 2.0))
        return Nodule(centers_mm=places, diameter_mm=size, density=density, seed=seed)
    if kind is Consolidation:
        place = (side * rng.uniform(48, 98), rng.uniform(-60, 40), rng.uniform(-75, 70))
        axes = (rng.uniform(34, 56), rng.uniform(38, 62), rng.uniform(30, 56))
        return Consolidation(center_mm=place, axes_mm=axes, filled=float(rng.uniform(0.6, 1.0)), seed=seed)
    return Effusion(side=side, level_mm=float(rng.gamma(2.0, 11) + 8), seed=seed)


def later(finding: Finding, rng: np.random.Generator) -> Finding:
    """The same finding on another day: a little bigger or smaller."""
    if isinstance(finding, Nodule):
        grown = finding.diameter_mm * rng.uniform(1.0, 1.15)
        return replace(finding, diameter_mm=grown)
    if isinstance(finding, Consolidation):
        filled = float(np.clip(finding.filled * rng.uniform(0.8, 1.2), 0.5, 1.0))
        a, b, c = finding.axes_mm
        scale = rng.uniform(0.85, 1.1)
        axes = (a * scale, b * scale, c * scale)
        return replace(finding, axes_mm=axes, filled=filled)
    return replace(finding, level_mm=max(8.0, finding.level_mm * rng.uniform(0.7, 1.4)))


def add(
    finding: Finding, chest: Chest, rays: Rays, anatomy: Anatomy, raised_mm: float
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Put a finding into a chest.

    Returns:
        What it adds to the line integral (H, W), and its mask (H, W) of bool.
    """
    if isinstance(finding, Nodule):
        matter_mm = nodule(finding, chest, rays, anatomy)
    elif isinstance(finding, Consolidation):
        matter_mm = consolidation(finding, chest, rays, anatomy)
    else:
        matter_mm = effusion(finding, chest, rays, anatomy, raised_mm)
    return (SOFT - LUNG) * matter_mm, matter_mm > DRAWN_FROM_MM[type(finding)]


def nodule(finding: Nodule, chest: Chest, rays: Rays, anatomy: Anatomy) -> Array:
    """Path length in mm through nodules, times their density against soft tissue: (H, W)."""
    rng = np.random.default_rng(finding.seed)
    sizes = finding.diameter_mm * np.concatenate([[1.0], rng.uniform(0.6, 1.0, len(finding.centers_mm) - 1)])
    clouds = []
    for center, size in zip(finding.centers_mm, sizes, strict=True):
        ball = _ball(size / 2, rng)
        clouds.append(Cloud(ball.points + np.array(center, np.float32) * anatomy.stretch, ball.volume_mm3))
    cloud = Cloud.joined(clouds)
    return finding.density * rays.splat(cloud.points, cloud.volume_mm3 * rays.at(chest.organs.lung, cloud.points))


def _ball(radius: float, rng: np.random.Generator) -> Cloud:
    """A ball with an uneven edge around the origin."""
    axis = np.arange(-1.5, 1.5, 1.0 / radius, dtype=np.float32)
    unit = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    uneven = gaussian_filter(rng.normal(size=unit.shape[:3]), 0.42 * radius)
    uneven *= 0.13 / uneven.std()
    squeeze = rng.uniform(0.85, 1.15, 3)
    edge = (np.linalg.norm(unit / squeeze, axis=-1) - 1 + uneven) * radius
    density = np.clip(0.5 - edge / 1.6, 0, 1).ravel()
    points = unit.reshape(-1, 3)[density > 0] * radius
    return Cloud(points.astype(np.float32), density[density > 0].astype(np.float32))


def consolidation(finding: Consolidation, chest: Chest, rays: Rays, anatomy: Anatomy) -> Array:
    """Path length in mm of fluid in place of air: (H, W)."""
    rng = np.random.default_rng(finding.seed)
    step = 2.5
    reach = 1.5 * np.array(finding.axes_mm)
    grid = np.stack(np.meshgrid(*[np.arange(-r, r, step) for r in reach], indexing="ij"), -1)
    noise = rng.normal(size=grid.shape[:3])
    coarse, fine = gaussian_filter(noise, 11 / step), gaussian_filter(noise, 3.2 / step)
    uneven = 0.30 * coarse / coarse.std() + 0.20 * fine / fine.std()
    radius = np.linalg.norm(grid / finding.axes_mm, axis=-1)
    density = finding.filled / (1 + np.exp((radius - 0.9 + uneven) / 0.09))
    # Air in the bronchi stays: dark branches that run from the hilum outwards.
    bronchi = gaussian_filter(rng.normal(size=grid.shape[:3]), (7 / step, 2.2 / step, 2.2 / step))
    density *= np.where(bronchi > 1.5 * bronchi.std(), 0.25, 1.0)
    points = grid.reshape(-1, 3) + rng.uniform(-step / 2, step / 2, (radius.size, 3))
    points = points + np.array(finding.center_mm) * anatomy.stretch
    kept = density.ravel() > 0.02
    points, volume = points[kept].astype(np.float32), density.ravel()[kept].astype(np.float32) * step**3
    soft: Array = gaussian_filter(rays.splat(points, volume * rays.at(chest.organs.lung, points)), 0.9)
    return soft


def effusion(finding: Effusion, chest: Chest, rays: Rays, anatomy: Anatomy, raised_mm: float) -> Array:
    """Path length in mm through fluid that has run to the bottom of one pleural cavity: (H, W)."""
    rng = np.random.default_rng(finding.seed)
    long = anatomy.stretch[2]
    bottom = (anatomy.dome_mm[finding.side > 0] + raised_mm - 56) * long
    rise = rng.uniform(0.35, 0.7) * finding.level_mm + 22
    surface = bottom + finding.level_mm + rise * np.exp(-chest.organs.to_wall_mm / rng.uniform(11, 20))
    wave = np.float32(0.012) * (rays.x * np.float32(rng.normal())) + np.float32(0.02) * rays.y
    filled = np.clip((surface + wave - rays.z) / 9 + 0.5, 0, 1)
    same_side = rays.x > 0 if finding.side > 0 else rays.x < 0
    return rays.integrate(chest.organs.lung * filled * same_side)
