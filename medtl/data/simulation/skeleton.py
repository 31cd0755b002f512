"""Ribs, spine, clavicles, shoulder blades and upper arms, as clouds of mineral."""

import numpy as np

from medtl.data.simulation.anatomy import BACK, FRONT, LEVELS, OUTER, Anatomy
from medtl.data.simulation.organs import profile
from medtl.data.simulation.rays import Array
from medtl.data.simulation.tubes import Cloud, curve, tube

SPONGE = 0.16  # mineral of trabecular bone, against cortical bone
T1_MM = 121.0
STEP_T_MM = 24.5


def rib(number: int, side: int, anatomy: Anatomy, rng: np.random.Generator) -> Cloud:
    """The bony part of one rib (1 to 11), from its head beside the spine round to the cartilage in front."""
    head_z = T1_MM - STEP_T_MM * (number - 1)
    slope = anatomy.rib_slope * (0.55 + 0.075 * min(number, 7))
    end = 0.86 if number < 8 else 0.86 - 0.11 * (number - 7)
    angle = np.linspace(0.075, end, 420)  # 0 at the spine, 0.5 at the side, 1 at the breastbone
    behind = np.clip(angle / 0.5, 0, 1)
    before = np.clip((angle - 0.5) / 0.5, 0, 1)
    z = head_z + 5 * np.sin(np.pi * np.clip(behind * 1.6, 0, 1)) - slope * (38 * behind**1.7 + 62 * before**0.9)
    z = z + rng.normal(0, 1.2) * np.sin(np.pi * angle) + rng.normal(0, 1.0)
    wall = profile(z, LEVELS, OUTER) + 4.0
    if number == 1:
        wall = wall * 0.70
    back, front = profile(z, LEVELS, BACK) - 5, profile(z, LEVELS, FRONT) + 5
    sin, cos = np.sin(np.pi * angle), np.cos(np.pi * angle)
    x = wall * np.abs(sin) ** 0.8
    y = (back + front) / 2 - (front - back) / 2 * np.sign(cos) * np.abs(cos) ** 0.8
    line = np.stack([side * x, y, z], 1).astype(np.float32)
    cortex = 1.9 - 1.1 * np.abs(sin) ** 6 - 0.3 * before
    if number == 1:
        cortex = cortex * 0.5
    high = (5.6 + 0.9 * behind + 0.8 * before) * (0.8 if number in (1, 10, 11) else 1.0)
    return tube(
        line, high_mm=high.astype(np.float32), wide_mm=3.8, rings=5, core=SPONGE, shell_mm=cortex.astype(np.float32)
    )


def vertebra(level: int, anatomy: Anatomy) -> Cloud:
    """One vertebra: body with its end plates, pedicles, transverse processes and spinous process."""
    z = T1_MM + 2 - STEP_T_MM * (level - 1)
    wide = 14.5 + 0.5 * max(0, level) if level > 0 else 11.0
    deep = 13.0 + 0.5 * max(0, level)
    high = STEP_T_MM / 2 - 2.6
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 31), np.linspace(-1, 1, 13), np.linspace(-1, 1, 27)), -1)
    unit = grid.reshape(-1, 3).astype(np.float32)
    radius = np.abs(unit[:, 0]) ** 3 + np.abs(unit[:, 1]) ** 3
    unit, radius = unit[radius < 1], radius[radius < 1]
    waist = 1 - 0.12 * (1 - unit[:, 2] ** 2)
    plates = np.clip((np.abs(unit[:, 2]) - 0.85) / 0.1, 0, 1) * 0.35 + np.clip((radius - 0.75) / 0.2, 0, 1) * 0.3
    points = unit * [wide, deep, high] * np.stack([waist, waist, np.ones_like(waist)], 1) + [0, -58, z]
    volume = (SPONGE * 0.8 + plates) * (8 * wide * deep * high / len(grid.reshape(-1, 3)))
    parts = [Cloud(points.astype(np.float32), volume.astype(np.float32))]
    for side in (-1, 1):
        pedicle = curve([(side * 10.5, -70, z + 4), (side * 11, -88, z + 4)])
        parts.append(tube(pedicle, high_mm=6, wide_mm=3.5, core=0.08, shell_mm=0.45))
        process = curve([(side * 9, -88, z + 3), (side * 22, -94, z + 6), (side * 31, -99, z + 7)])
        parts.append(tube(process, high_mm=4.2, wide_mm=3.2, core=SPONGE, shell_mm=0.9))
    spinous = curve([(0, -92, z - 2), (0, -108, z - 14), (0, -118, z - 22)])
    parts.append(tube(spinous, high_mm=4, wide_mm=2.8, core=SPONGE, shell_mm=1.0))
    return Cloud.joined(parts)


def shoulder(side: int, anatomy: Anatomy) -> Cloud:
    """Clavicle, scapula and humerus of one side."""
    up = anatomy.shoulder_mm

    def at(*nodes: tuple[float, float, float]) -> Array:
        return curve([(side * x, y, z + up * min(1.0, x / 120)) for x, y, z in nodes])

    clavicle = at((13, 58, 92), (40, 62, 97), (80, 38, 104), (118, 0, 116), (150, -14, 121))
    high = 5.2 + 2.2 * np.exp(-np.linspace(0, 6, len(clavicle))) + 0.8 * np.linspace(0, 1, len(clavicle)) ** 3
    top, tip, neck = (92.0, -86.0, 108.0), (101.0, -92.0, -8.0), (146.0, -30.0, 84.0)
    edges = [
        at(top, (90, -92, 60), tip),  # medial border
        at(tip, (122, -70, 40), neck),  # lateral border
        at(top, (120, -62, 112), (140, -34, 104)),  # upper border
        at((95, -98, 80), (128, -76, 96), (158, -38, 120), (166, -18, 121)),  # spine and acromion
        at((140, -30, 98), (142, 0, 104), (150, 8, 94)),  # coracoid
    ]
    sizes = [(2.2, 1.6), (3.4, 2.6), (1.8, 1.5), (4.6, 3.0), (4.0, 3.5)]
    parts = [tube(clavicle, high_mm=high.astype(np.float32), wide_mm=5.5, rings=6, core=SPONGE, shell_mm=1.4)]
    parts += [
        tube(edge, high_mm=a, wide_mm=b, rings=4, core=SPONGE, shell_mm=0.9)
        for edge, (a, b) in zip(edges, sizes, strict=True)
    ]
    share = np.random.default_rng(side + 5).dirichlet([1, 1, 1], 9000)
    blade = share @ np.array([top, tip, neck]) * [side, 1, 1] + [0, 0, up]
    parts.append(Cloud(blade.astype(np.float32), np.full(len(blade), 5200 * 0.75 / len(blade), np.float32)))
    out = 0.5 * max(0.0, anatomy.fat_mm - 12)
    humerus = at(
        (166, -16, 84),
        (172, -16, 66),
        (181 + out, -15, 30),
        (198 + out, -15, -60),
        (222 + out, -14, -190),
        (238 + out, -12, -300),
    )
    away = np.linspace(0, 1, len(humerus))
    width = (10.5 + 4 * np.exp(-away / 0.12)).astype(np.float32)
    parts.append(tube(humerus, high_mm=width, wide_mm=width, rings=6, core=0.08, shell_mm=2.4))
    ball = np.random.default_rng(side + 9).normal(size=(16000, 3))
    ball *= (
        (np.random.default_rng(side + 7).random((16000, 1)) ** 0.30) * 23 / np.linalg.norm(ball, axis=1, keepdims=True)
    )
    ball += [side * 163, -16, 88 + up]
    parts.append(Cloud(ball.astype(np.float32), np.full(16000, 4 / 3 * np.pi * 23**3 * 0.16 / 16000, np.float32)))
    return Cloud.joined(parts)


def skeleton(anatomy: Anatomy) -> Cloud:
    """All bones in the picture, in the patient's own size."""
    rng = np.random.default_rng([anatomy.seed, 1])
    parts = [vertebra(level, anatomy) for level in range(-4, 17)]
    for side in (-1, 1):
        parts += [rib(number, side, anatomy, rng) for number in range(1, 12)]
        parts.append(shoulder(side, anatomy))
    manubrium = curve([(0, 62, 96), (0, 72, 62), (0, 82, 10), (0, 86, -60)])
    wide = np.interp(np.linspace(0, 1, len(manubrium)), [0, 0.1, 0.25, 1], [24, 22, 14, 15]).astype(np.float32)
    # The breastbone is wide across: its section's upward half-axis is its thickness from front to back.
    parts.append(tube(manubrium, high_mm=4.5, wide_mm=wide, rings=6, core=SPONGE * 0.8, shell_mm=0.7))
    bones = Cloud.joined(parts)
    bend = anatomy.bend_mm * np.sin((bones.points[:, 2] + 40) / 70) * 0.6
    points = bones.points + np.stack([bend, 0 * bend, 0 * bend], 1)
    stretch = np.array(anatomy.stretch)
    return Cloud((points * stretch).astype(np.float32), (bones.volume_mm3 * stretch.prod()).astype(np.float32))
