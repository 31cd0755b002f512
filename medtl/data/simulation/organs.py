"""The large organs on the grid of rays: how much of each step of a ray is lung, and how much is body."""

from dataclasses import dataclass, replace

import numpy as np

from medtl.data.simulation.anatomy import (
    BACK,
    BODY_DEPTH,
    BODY_LEVELS,
    BODY_WIDTH,
    FRONT,
    INNER,
    LEVELS,
    OUTER,
    Anatomy,
)
from medtl.data.simulation.rays import Array, Rays

EDGE_MM = 4.5  # occupancy falls from 1 to 0 over this width; less than a step of the grid would show as bands
BAND = 12  # rows


def profile(z: Array, levels: Array, values: Array) -> Array:
    """An outline at heights z; `levels` may rise or fall."""
    order = np.argsort(levels)
    return np.interp(z, levels[order], values[order]).astype(np.float32)


def inside(distance: Array, edge_mm: float = EDGE_MM) -> Array:
    """Occupancy 0..1 from a signed distance in mm, negative inside."""
    occupancy = distance * np.float32(-1 / edge_mm)
    occupancy += 0.5
    return np.clip(occupancy, 0, 1, out=occupancy)


@dataclass(frozen=True)
class Person:
    """The rays in the coordinates of the average adult, and the state of this breath."""

    anatomy: Anatomy
    raised_mm: float
    """How far the diaphragm stands above full inspiration."""
    x: Array
    y: Array
    z: Array

    @classmethod
    def on(cls, rays: Rays, anatomy: Anatomy, raised_mm: float) -> "Person":
        across, deep, long = (np.float32(s) for s in anatomy.stretch)
        z = rays.z / long
        bend = np.float32(anatomy.bend_mm) * np.sin((z.mean(axis=2, keepdims=True) + 40) / 70)
        return cls(anatomy, raised_mm, (rays.x / across - bend * 0.6).astype(np.float32), rays.y / deep, z)

    def ellipsoid(self, center: tuple[float, float, float], axes: tuple[float, float, float], turn: float = 0) -> Array:
        """Roughly signed distance in mm to an ellipsoid turned in the frontal plane: (H, W, K)."""
        x, y, z = self.x - np.float32(center[0]), self.y - np.float32(center[1]), self.z - np.float32(center[2])
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        radius = np.sqrt(
            ((cos * x + sin * z) / np.float32(axes[0])) ** 2
            + (y / np.float32(axes[1])) ** 2
            + ((cos * z - sin * x) / np.float32(axes[2])) ** 2
        )
        return (radius - 1) * np.float32(min(axes))


def pleura(person: Person, side: int) -> Array:
    """Signed distance in mm to the pleural cavity of one side (+1 left), without diaphragm and mediastinum."""
    z = person.z
    outer, inner = profile(z, LEVELS, OUTER), profile(z, LEVELS, INNER)
    back, front = profile(z, LEVELS, BACK), profile(z, LEVELS, FRONT)
    half_x = np.maximum((outer - inner) / 2, 0.5)
    half_y = np.maximum((front - back) / 2, 0.5)
    a = np.abs(np.float32(side) * person.x - (outer + inner) / 2) / half_x
    b = np.abs(person.y - (front + back) / 2) / half_y
    distance: Array = (np.cbrt(a * a * a + b * b * b) - 1) * np.minimum(half_x, half_y)
    np.maximum(distance, z - np.float32(LEVELS[0]), out=distance)
    return distance


def dome(person: Person, side: int) -> Array:
    """Height z in mm of the diaphragm of one side above each x and y: (H or 1, W, K)."""
    top = person.anatomy.dome_mm[side > 0] + person.raised_mm
    x = np.float32(side) * person.x - 62
    y = person.y - 22
    depth = 52 + 0.5 * person.raised_mm
    lateral = np.where(x > 0, np.abs(x / 74) ** 2.5 * depth, (x / 62) ** 2 * 13)
    sagittal = np.where(y < 0, (y / 112) ** 2 * depth * 1.25, (y / 60) ** 2 * 16)
    return (top - lateral - sagittal).astype(np.float32)


def mediastinum(person: Person) -> Array:
    """Occupancy of heart, great vessels and spine: (H, W, K)."""
    a = person.anatomy
    lift = 0.55 * person.raised_mm + 0.35 * (a.dome_mm[1] + 95)
    size = a.heart * (1 + 0.0022 * person.raised_mm)
    wide = a.thymic
    aorta, bow = a.aorta_mm, a.unfolding_mm
    parts = [
        # left ventricle and septum; right atrium; right ventricle; left atrial appendage and pulmonary trunk
        ((30 * size, 8, -62 + lift), (47 * size, 62 * size, 69 * size), a.heart_turn),
        ((-5, 14, -55 + lift), (36 * size, 40 * size, 50 * size), -0.1),
        ((14, 40, -72 + lift), (54 * size, 36 * size, 42 * size), 0.25),
        ((21, 12, -6 + lift), (20 * size, 22, 28), 0.35),
        # ascending aorta, upper mediastinum, superior vena cava
        ((-10 - 0.4 * bow, 18, 22), (19 + 0.5 * (aorta - 13), 20, 44), 0.05),
        ((0, -12, 40), (27 * wide, 50, 96), 0.0),
        ((-19, 8, 50), (12 * wide, 14, 66), 0.06),
        ((15, -20, 100), (15 * wide, 22, 58), -0.12),
        # arch
        ((20 + 0.35 * bow, -14, 46 + 0.4 * bow), (aorta * 1.12, 34, aorta * 1.25), 0.0),
    ]
    distance = np.full(np.broadcast_shapes(person.x.shape, person.y.shape, person.z.shape), 99, np.float32)
    for center, axes, turn in parts:
        if np.abs(person.z - center[2]).min() > max(axes) + EDGE_MM:
            continue
        np.minimum(distance, person.ellipsoid(center, axes, turn), out=distance)
    z = person.z
    # The descending aorta beside the spine, and the spine with the tissue around it.
    middle = np.float32(17) + np.float32(bow) * np.exp(-(((z - 5) / 50) ** 2)) - 0.05 * (50 - z)
    descending = np.hypot(person.x - middle, person.y + 46) - np.float32(aorta)
    np.minimum(distance, np.maximum(descending, z - 48), out=distance)
    column = (np.hypot(person.x / 19, (person.y + 66) / 40) - 1) * np.float32(19)
    return np.maximum(inside(distance, 3.2), inside(column, 13.0))


@dataclass(frozen=True)
class Organs:
    """Occupancies 0..1 on the grid of rays, each (H, W, K)."""

    body: Array
    lung: Array
    """Both lungs, all that is between pleura, diaphragm and mediastinum."""
    to_wall_mm: Array
    """Distance to the nearer chest wall, inside the pleural cavities."""


def organs(person: Person) -> Organs:
    """The body and the lungs of a person."""
    parts = Organs(*(np.zeros(person.x.shape, np.float32) for _ in range(3)))
    for top in range(0, len(person.z), BAND):  # in bands that fit the processor's cache
        rows = slice(top, top + BAND)
        band = replace(person, x=person.x[rows], z=person.z[rows])
        to_wall, lung = np.full(band.x.shape, 99, np.float32), np.zeros(band.x.shape, np.float32)
        for side in (-1, 1):
            cavity = pleura(band, side)
            np.minimum(to_wall, np.abs(cavity), out=to_wall)
            np.maximum(lung, inside(np.maximum(cavity, dome(band, side) - band.z)), out=lung)
        parts.body[rows], parts.to_wall_mm[rows] = body(band), to_wall
        parts.lung[rows] = lung * (1 - mediastinum(band))
    return parts


def body(person: Person) -> Array:
    """Occupancy of skin and everything inside it: trunk, neck and arms."""
    a = person.anatomy
    z, fat = person.z, a.fat_mm
    torso = profile(z, BODY_LEVELS, np.where(BODY_LEVELS > 140, 0.35, 1.0))
    belly = np.float32(0.5 * max(0, fat - 14)) * np.clip((-60 - z) / 100, 0, 1)
    shoulders = z - np.float32(a.shoulder_mm) * np.clip((z - 60) / 60, 0, 1)
    half_x = profile(shoulders, BODY_LEVELS, BODY_WIDTH) + torso * np.float32(fat - 12) + belly
    half_y = profile(z, BODY_LEVELS, BODY_DEPTH) + torso * np.float32(fat - 12) + belly * 1.4
    p = np.abs(person.x) / half_x
    q = np.abs(person.y + 10) / half_y
    distance = (np.sqrt(np.sqrt(p * p * p + q * q * q) * np.sqrt(p + q)) - 1) * half_x
    np.maximum(distance, z - 260, out=distance)
    # Upper arms hang a little away from the trunk.
    below = np.float32(86 + a.shoulder_mm) - z
    down = np.clip(below, 0, None)
    arm_x = np.float32(182 + 0.7 * (fat - 12)) + 0.19 * down
    arm = np.sqrt((np.abs(person.x) - arm_x) ** 2 + (0.9 * (person.y + 12)) ** 2 + np.minimum(below, 0) ** 2)
    np.minimum(distance, arm - np.float32(43 + 0.7 * (fat - 12)) + np.minimum(0.05 * down, 8), out=distance)
    return inside(distance, 7.0)
