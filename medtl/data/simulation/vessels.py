"""The lungs' branching vessels and the windpipe."""

import numpy as np

from medtl.data.simulation.anatomy import Anatomy
from medtl.data.simulation.rays import Array
from medtl.data.simulation.tubes import Cloud, curve, tube

SMALLEST_MM = 0.42
PIECES = 6


def _unit(vectors: Array) -> Array:
    unit: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    return unit


def tree(trunk: Array, radius_mm: float, rng: np.random.Generator, *, reach: float) -> Cloud:
    """A vessel that runs along `trunk` (N, 3) and gives off branches that fork and taper towards the pleura.

    Each fork obeys Murray's law: the cubes of the daughters' radii add up to the cube of the mother's
    (Murray, Proc Natl Acad Sci 12, 1926). All branches of one order grow together, as arrays.
    """
    taper = np.linspace(radius_mm, 0.38 * radius_mm, len(trunk)).astype(np.float32)
    clouds = [tube(trunk, high_mm=taper, wide_mm=taper, rings=5)]
    count = 12
    place = np.linspace(0.15, 1, count) * (len(trunk) - 1)
    start = trunk[place.astype(int)]
    side = np.sign(trunk[-1, 0])
    # Daughters fan out away from the middle, up and down with the place on the trunk, to the front and the back.
    fan = np.stack(
        [
            side * (0.75 + 0.5 * rng.random(count)),
            rng.normal(0, 0.75, count),
            np.linspace(0.9, -1.1, count) * np.sign(trunk[0, 2] - trunk[-1, 2] + 1e-3) + rng.normal(0, 0.35, count),
        ],
        1,
    )
    direction = _unit(fan)
    radius = radius_mm * rng.uniform(0.36, 0.56, count)
    while len(start):
        length = reach * 11.5 * radius**0.45 * rng.uniform(0.7, 1.35, len(radius))
        outward = _unit(start - [30 * side, -8, 4])
        swerve = _unit(direction + 0.22 * outward + rng.normal(0, 0.28, direction.shape))
        share = np.linspace(0, 1, PIECES)[:, None, None]
        heading = _unit(((1 - share) * direction + share * swerve).reshape(-1, 3)).reshape(PIECES, -1, 3)
        steps = heading * (length / PIECES)[:, None]
        line = start + np.concatenate([np.zeros((1, *start.shape)), np.cumsum(steps, 0)])  # (PIECES + 1, N, 3)
        clouds.append(_branches(line, radius))
        # Two daughters, one the bigger.
        share_big = rng.uniform(0.5, 0.85, len(radius))
        big, small = radius * np.cbrt(share_big), radius * np.cbrt(1 - share_big)
        across = _unit(np.cross(swerve, rng.normal(0, 1, swerve.shape)))
        wide = rng.uniform(0.2, 0.5, (len(radius), 1))
        direction = np.concatenate([_unit(swerve + across * wide * 0.5), _unit(swerve - across * wide * 1.5)])
        radius = np.concatenate([big, small]) * 0.97
        start = np.concatenate([line[-1], line[-1]])
        keep = (radius > SMALLEST_MM) & (np.abs(start) < [150, 115, 180]).all(1)
        start, direction, radius = start[keep], direction[keep], radius[keep]
    return Cloud.joined(clouds)


def _branches(line: Array, radius: Array) -> Cloud:
    """Thin straight-ish vessels (PIECES + 1, N, 3) as points on and beside their axes."""
    fine = 4
    share = ((np.arange(fine) + 0.5) / fine)[:, None, None, None]
    points = (1 - share) * line[:-1] + share * line[1:]  # (fine, PIECES, N, 3)
    length = np.linalg.norm(np.diff(line, axis=0), axis=2) / fine  # (PIECES, N)
    along = np.gradient(line, axis=0)[:-1]
    one = np.cross(along, [0.31, 0.9, 0.3])
    one /= np.maximum(np.linalg.norm(one, axis=-1, keepdims=True), 1e-6)
    two = np.cross(along, one)
    two /= np.maximum(np.linalg.norm(two, axis=-1, keepdims=True), 1e-6)
    angle = np.arange(5)[:, None] * 2 * np.pi / 5 + 0.3
    ring = np.cos(angle) * one[..., None, :] + np.sin(angle) * two[..., None, :]
    spread = points[..., None, :] + 0.7 * ring * radius[:, None, None]
    volume = np.broadcast_to((np.pi * radius**2 * length / 5)[None, ..., None], spread.shape[:-1])
    return Cloud(spread.reshape(-1, 3).astype(np.float32), volume.ravel().astype(np.float32))


def lung_vessels(anatomy: Anatomy, raised_mm: float) -> Cloud:
    """Arteries and veins of both lungs, in the patient's own size."""
    rng = np.random.default_rng([anatomy.seed, 2])
    v = anatomy.vessels
    trunks = [
        # right: descending artery, upper trunk; left: descending artery, upper branch
        ([(-22, -2, 10), (-42, -8, 0), (-53, -16, -30), (-60, -24, -66)], 8.2),
        ([(-20, 0, 14), (-38, 0, 26), (-48, -4, 50)], 4.5),
        ([(24, -10, 22), (43, -18, 16), (53, -24, -18), (56, -28, -48)], 8.2),
        ([(24, -8, 22), (40, -4, 36), (50, -4, 58)], 4.5),
        # veins run lower and flatter to the left atrium, and down from the upper lobes
        ([(-18, -6, -22), (-40, 2, -34), (-66, 12, -56)], 4.4),
        ([(22, -8, -22), (44, -2, -34), (68, 8, -56)], 4.4),
        ([(-20, 8, 2), (-40, 14, 30), (-52, 18, 60)], 3.6),
        ([(24, 8, 4), (42, 14, 32), (54, 18, 60)], 3.6),
    ]
    down = max(0.5, 1 - 0.004 * raised_mm)
    clouds = []
    for nodes, radius in trunks:
        moved = [(x + rng.normal(0, 2), y + rng.normal(0, 3), z * down + rng.normal(0, 3)) for x, y, z in nodes]
        clouds.append(tree(curve(moved), radius * v, rng, reach=1.0))
    cloud = Cloud.joined(clouds)
    stretch = np.array(anatomy.stretch)
    return Cloud((cloud.points * stretch).astype(np.float32), cloud.volume_mm3)


def airways(anatomy: Anatomy) -> Cloud:
    """Air in the windpipe and the main bronchi."""
    bow = 0.25 * anatomy.unfolding_mm
    size = 7.6 if anatomy.sex == "F" else 8.8
    parts = [
        tube(curve([(0, -10, 250), (0, -12, 150), (-2 - bow, -18, 80), (-2, -24, 44)]), high_mm=size, wide_mm=size),
        tube(curve([(-3, -24, 46), (-16, -25, 26), (-30, -26, 6), (-36, -28, -14)]), high_mm=5.8, wide_mm=6.2),
        tube(curve([(1, -24, 46), (18, -26, 28), (40, -28, 10), (48, -32, -8)]), high_mm=5.2, wide_mm=5.6),
    ]
    cloud = Cloud.joined(parts)
    stretch = np.array(anatomy.stretch)
    return Cloud((cloud.points * stretch).astype(np.float32), cloud.volume_mm3)
