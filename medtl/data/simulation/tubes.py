"""Bones, vessels and airways as bent tubes, filled with points that `Rays.splat` sums."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from medtl.data.simulation.rays import Array


@dataclass(frozen=True)
class Cloud:
    """Points (N, 3) in mm, each with the volume (N,) in mm3 of matter that it stands for."""

    points: Array
    volume_mm3: Array

    @classmethod
    def joined(cls, clouds: "list[Cloud]") -> "Cloud":
        return cls(np.concatenate([c.points for c in clouds]), np.concatenate([c.volume_mm3 for c in clouds]))


def curve(nodes: list[tuple[float, float, float]], *, spacing_mm: float = 0.7) -> Array:
    """A smooth line through `nodes`, as points (N, 3) about `spacing_mm` apart."""
    corners = np.asarray(nodes, float)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    at = np.linspace(0, along[-1], max(3, round(along[-1] / spacing_mm)))
    line: Array = PchipInterpolator(along, corners)(at).astype(np.float32)
    return line


def disc(rings: int) -> tuple[Array, Array]:
    """Points (M, 2) spread evenly over the unit disc, and the radius (M,) of each."""
    radii = [np.full(max(1, round(2 * np.pi * i)), (i + 0.25) / (rings - 0.5)) for i in range(rings)]
    angles = [np.arange(len(r)) * 2 * np.pi / len(r) + 0.5 * i for i, r in enumerate(radii)]
    radius, angle = np.concatenate(radii), np.concatenate(angles)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32), radius.astype(np.float32)


def tube(
    line: Array,
    *,
    high_mm: float | Array,
    wide_mm: float | Array,
    rings: int = 5,
    core: float = 1.0,
    shell_mm: float | Array = 0.0,
) -> Cloud:
    """A tube of elliptic section around `line` (N, 3).

    Args:
        high_mm: half-axis of the section in the upward direction; a number or (N,).
        wide_mm: half-axis across; a number or (N,).
        rings: how finely the section is filled.
        core: how dense the inside is.
        shell_mm: thickness of a wall of density 1 around the core (cortical bone); a number or (N,).
    """
    tangent = np.gradient(line, axis=0)
    step = np.linalg.norm(tangent, axis=1, keepdims=True)
    tangent = tangent / np.maximum(step, 1e-6)
    up = np.array([0.02, 0.05, 1.0], np.float32)
    high = up - (tangent @ up)[:, None] * tangent
    high /= np.linalg.norm(high, axis=1, keepdims=True)
    wide = np.cross(tangent, high)
    section, radius = disc(rings)  # (M, 2), (M,)
    # Each section is turned by the golden angle against the one before, so that no pattern of the points shows.
    turn = (np.arange(len(line)) * 2.39996)[:, None]
    p = section[:, 0] * np.cos(turn) - section[:, 1] * np.sin(turn)  # (N, M)
    q = section[:, 0] * np.sin(turn) + section[:, 1] * np.cos(turn)
    a = np.broadcast_to(np.asarray(high_mm, np.float32), len(line))[:, None]
    b = np.broadcast_to(np.asarray(wide_mm, np.float32), len(line))[:, None]
    points = line[:, None] + (a * p)[..., None] * high[:, None] + (b * q)[..., None] * wide[:, None]
    shell = np.broadcast_to(np.asarray(shell_mm, np.float32), len(line))[:, None] / np.minimum(a, b)
    wall = np.clip((radius - (1 - shell)) * rings + 0.5, 0, 1) * (shell > 0)
    density = core + (1 - core) * wall
    volume = density * (np.pi * a * b / len(section)) * step
    return Cloud(points.reshape(-1, 3).astype(np.float32), volume.ravel().astype(np.float32))
