"""The rays from the focus to the detector, and how matter on them is summed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

Array = npt.NDArray[np.floating[Any]]
STEP_MM = 4.5
DEPTH_MM = 300.0


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How the patient stood before the detector, and where the detector was."""

    rows: int
    columns: int
    pitch_mm: float
    """Pixel spacing at the detector."""
    frontal: bool
    """Whether the X-rays enter from the front (AP, the detector behind the back) or from the back (PA)."""
    source_mm: float
    """Distance from the focus to the detector."""
    yaw: float
    """Turn about the long axis in radians; positive brings the left side forward."""
    lean: float
    """Forward lean as the tangent of its angle; lordotic films are negative."""
    center_mm: tuple[float, float]
    """Patient x and z that the central ray hits."""


class Rays:
    """A grid of points along the ray of each pixel.

    `x`, `y` are (1, W, K) and `z` is (H, 1, K): patient coordinates in mm of K points on the ray of each of the H x W
    pixels; `step_mm` is what each point stands for along the ray.
    """

    def __init__(self, pose: Pose) -> None:
        self.pose = pose
        self.shape = (pose.rows, pose.columns)
        count = round(DEPTH_MM / STEP_MM)
        depth = ((np.arange(count) + 0.5) * STEP_MM - DEPTH_MM / 2).astype(np.float32)  # y before turning
        self.depth = depth
        shrink = self._shrink(depth)
        u = (np.arange(pose.columns) - (pose.columns - 1) / 2) * pose.pitch_mm
        v = ((pose.rows - 1) / 2 - np.arange(pose.rows)) * pose.pitch_mm
        across = u[:, None] * shrink  # (W, K)
        cos, sin = np.cos(pose.yaw), np.sin(pose.yaw)
        self.x: Array = (cos * across - sin * depth + pose.center_mm[0])[None].astype(np.float32)
        self.y: Array = (sin * across + cos * depth)[None].astype(np.float32)
        self.z: Array = (v[:, None] * shrink + pose.center_mm[1] + pose.lean * depth)[:, None].astype(np.float32)
        self.step_mm = STEP_MM

    def _shrink(self, depth: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Size in the patient over size on the detector, for points at `depth`."""
        to_detector = DEPTH_MM / 2 + depth if self.pose.frontal else DEPTH_MM / 2 - depth
        return 1.0 - to_detector / self.pose.source_mm

    def project(self, points: Array) -> tuple[Array, Array, Array]:
        """Rows, columns (in pixels) and depths (in steps) at which `points` (N, 3) are seen."""
        pose = self.pose
        cos, sin = np.cos(pose.yaw), np.sin(pose.yaw)
        x = points[:, 0] - pose.center_mm[0]
        across, depth = cos * x + sin * points[:, 1], cos * points[:, 1] - sin * x
        shrink = self._shrink(depth)
        up = (points[:, 2] - pose.center_mm[1] - pose.lean * depth) / shrink
        column = across / shrink / pose.pitch_mm + (pose.columns - 1) / 2
        row = (pose.rows - 1) / 2 - up / pose.pitch_mm
        return row, column, (depth + DEPTH_MM / 2) / STEP_MM - 0.5

    def integrate(self, density: Array) -> Array:
        """Line integral of a (H, W, K) density: (H, W), in density times mm."""
        total: Array = density.sum(axis=2, dtype=np.float32)
        return total * np.float32(self.step_mm)

    def at(self, density: Array, points: Array) -> Array:
        """A (H, W, K) density at each of `points` (N, 3), interpolated; 0 outside."""
        values: Array = map_coordinates(density, np.stack(self.project(points)), order=1, output=np.float32)
        return values

    def splat(self, points: Array, volume_mm3: Array) -> Array:
        """Line integral of a cloud of matter: each point spreads its volume over the four nearest pixels.

        Returns:
            (H, W), path length in mm; summed over the image it conserves the volume.
        """
        row, column, depth = self.project(points)
        shrink = self._shrink(depth * STEP_MM + STEP_MM / 2 - DEPTH_MM / 2)
        length = volume_mm3 / (self.pose.pitch_mm * shrink) ** 2
        height, width = self.shape
        # A border of one pixel takes what falls half outside.
        seen = (row > -1) & (row < height) & (column > -1) & (column < width)
        row, column, length = row[seen] + 1, column[seen] + 1, length[seen]
        top, left = row.astype(np.intp), column.astype(np.intp)
        down, right = row - top, column - left
        corner, size = top * (width + 2) + left, (height + 2) * (width + 2)
        lower, upper = down * length, (1 - down) * length
        image = np.bincount(corner, upper * (1 - right), size)
        image += np.bincount(corner + 1, upper * right, size)
        image += np.bincount(corner + width + 2, lower * (1 - right), size)
        image += np.bincount(corner + width + 3, lower * right, size)
        return image.reshape(height + 2, width + 2)[1:-1, 1:-1].astype(np.float32)
