"""From anatomy to what a detector would see without noise: line integrals of attenuation coefficients."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from medtl.data.simulation.anatomy import Anatomy
from medtl.data.simulation.organs import Organs, Person, organs
from medtl.data.simulation.rays import Array, Rays
from medtl.data.simulation.skeleton import skeleton
from medtl.data.simulation.tubes import Cloud
from medtl.data.simulation.vessels import airways, lung_vessels

# Linear attenuation coefficients in 1/mm at about 60 keV, the mean energy behind a patient at 120 kV: NIST XCOM mass
# coefficients times density (soft tissue 1.05, fat 0.92, cortical bone 1.85, lung 0.25 g/cm3).
SOFT = 0.0214
FAT = 0.0181
LUNG = 0.0050
CORTICAL = 0.0560


@dataclass(frozen=True)
class Chest:
    """A chest on the grid of rays."""

    organs: Organs
    integral: Array
    """(H, W): line integral of attenuation, without findings."""


def texture(shape: tuple[int, int], rng: np.random.Generator, *, power: float) -> Array:
    """A random field (H, W) of mean 0 and deviation 1 whose amplitude falls as frequency to the -`power`."""
    height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    wave = np.fft.rfft2(rng.normal(size=shape)) * np.maximum(frequency, 0.012) ** -power
    field = np.fft.irfft2(wave, shape)
    unit: Array = ((field - field.mean()) / field.std()).astype(np.float32)
    return unit


def chest(rays: Rays, anatomy: Anatomy, raised_mm: float, rng: np.random.Generator) -> Chest:
    """The line integrals through a person without findings."""
    person = Person.on(rays, anatomy, raised_mm)
    parts = organs(person)
    lung_mm = rays.integrate(parts.lung)
    vessels = lung_vessels(anatomy, raised_mm)
    inside = rays.at(parts.lung, vessels.points)
    vessel_mm = rays.splat(vessels.points, vessels.volume_mm3 * inside)
    air = airways(anatomy)
    air_mm = rays.splat(air.points, air.volume_mm3 * (1 - rays.at(parts.lung, air.points)))
    bones = skeleton(anatomy)
    bone_mm = rays.splat(bones.points, bones.volume_mm3)
    body_mm = rays.integrate(parts.body)
    fat_mm = np.minimum(2.0 * anatomy.fat_mm, body_mm * 0.5)
    # Fine vessels and septa below the resolution of the trees; the bases hold more blood and less air.
    own = np.random.default_rng([anatomy.seed, 3])
    grain = 1 + 0.03 * texture(rays.shape, own, power=0.9) + 0.02 * texture(rays.shape, rng, power=0.6)
    long = rays.z[:, 0, :].mean(1, keepdims=True)
    lung_coefficient = LUNG * grain * (1 - 0.0011 * long)
    integral = (
        SOFT * (body_mm - fat_mm - lung_mm)
        + FAT * fat_mm
        + lung_coefficient * lung_mm
        + (SOFT - LUNG) * vessel_mm
        - SOFT * air_mm
        + (CORTICAL * anatomy.bone - SOFT) * bone_mm
        + SOFT * soft_folds(rays, anatomy)
        - SOFT * stomach(rays, anatomy, raised_mm, rng)
    )
    # Muscle and fat are not even either.
    integral += 0.03 * texture(rays.shape, own, power=1.3) * np.clip(body_mm / 100, 0, 1)
    return Chest(parts, np.maximum(integral, 0).astype(np.float32))


def soft_folds(rays: Rays, anatomy: Anatomy) -> Array:
    """Path length in mm through breasts, pectoral muscles and the muscles beside the neck: (H, W)."""
    grid_x = rays.x[0].mean(1)[None]
    grid_z = rays.z[:, 0].mean(1)[:, None]
    across, _, long = anatomy.stretch
    total = np.zeros(rays.shape, np.float32)
    breast = anatomy.breast_mm
    for side in (-1, 1):
        x, z = side * grid_x / across - 88, grid_z / long + 72 + 0.55 * breast
        wide = 62 + 0.35 * breast
        radius = (np.abs(x) / wide) ** 2.4 + np.where(z > 0, (z / 105) ** 2, (z / (30 + 0.45 * breast)) ** 2)
        total += breast * np.clip(1 - radius, 0, None) ** 0.6
        # Pectoralis: from the breastbone to the armpit, with an oblique lower edge.
        edge = 20 + 0.55 * (side * grid_x / across - 60) - grid_z / long
        fold = np.clip(1 - edge / 7, 0, 1) * np.clip((grid_x * side - 30) / 40, 0, 1)
        total += 9 * fold * np.clip((125 - grid_z) / 60, 0, 1) * np.clip((185 - side * grid_x) / 40, 0, 1)
    soft: Array = gaussian_filter(total, 0.8)
    return soft


def stomach(rays: Rays, anatomy: Anatomy, raised_mm: float, rng: np.random.Generator) -> Array:
    """Path length in mm through gas in the stomach and the bowel below the left dome: (H, W)."""
    total = np.zeros(rays.shape, np.float32)
    size = anatomy.stomach_mm * rng.uniform(0.6, 1.2)
    top = anatomy.dome_mm[1] + raised_mm - 9
    bubbles = [(58 + rng.normal(0, 6), 20.0, top - 0.62 * size, 1.25 * size, size, 0.62 * size, 0.35)]
    for _ in range(rng.integers(0, 5)):
        wide = rng.uniform(8, 17)
        place = (rng.uniform(-60, 125), 15.0, top - rng.uniform(45, 110))
        bubbles.append((*place, wide, wide * 0.8, wide * rng.uniform(0.6, 1), 2.0))
    for x, y, z, a, b, c, floor in bubbles:
        if a < 9:
            continue
        unit = np.stack(np.meshgrid(*[(np.arange(40) + 0.5) / 20 - 1] * 3), -1).reshape(-1, 3)
        fold = 1 + 0.07 * np.sin(3 * np.arctan2(unit[:, 2], unit[:, 0]) + rng.uniform(0, 6))
        kept = unit[((unit**2).sum(1) < fold**2 * 0.8) & (unit[:, 2] > -floor)]  # fluid stands level below the gas
        points = (kept * [a, b, c] + [x, y, z]) * anatomy.stretch
        cloud = Cloud(points.astype(np.float32), np.full(len(kept), 8 * a * b * c / len(unit), np.float32))
        total += rays.splat(cloud.points, cloud.volume_mm3)
    soft: Array = gaussian_filter(total, 0.9)
    return soft
