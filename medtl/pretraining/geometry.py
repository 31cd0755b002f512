"""Where each pixel of a view lies in the scan: crop, aspect, rotation, flip and elastic deformation in one grid."""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from medtl.pretraining.draws import Draws
from medtl.pretraining.views_config import ViewsConfig

INTERVALS = 4
"""Of the control grid of elastic deformation, a side: smooth enough that no lesion is torn."""
KNOTS = INTERVALS + 3


def affine(config: ViewsConfig, draws: Draws, dims: int) -> Tensor:
    """(B, 2, 3) or (B, 3, 4) maps from view to scan in normalised coordinates (-1..1)."""
    return _affine_2d(config, draws) if dims == 2 else _affine_3d(config, draws)


def _affine_2d(config: ViewsConfig, draws: Draws) -> Tensor:
    draw = draws.uniform  # (B,)
    side = draw(*config.crop_area).sqrt()
    stretch = draw(-math.log(config.crop_aspect), math.log(config.crop_aspect)).mul(0.5).exp()
    wide, high = (side * stretch).clamp(max=1.0), (side / stretch).clamp(max=1.0)
    angle = draw(-config.rotation_deg, config.rotation_deg).deg2rad()
    mirror = 1 - 2 * draws.chance(config.flip).float()
    shift_x, shift_y = draw(-1, 1) * (1 - wide), draw(-1, 1) * (1 - high)
    cos, sin = angle.cos(), angle.sin()
    row_x = torch.stack([mirror * wide * cos, -high * sin, shift_x], dim=1)
    row_y = torch.stack([mirror * wide * sin, high * cos, shift_y], dim=1)
    return torch.stack([row_x, row_y], dim=1)  # (B, 2, 3)


def _affine_3d(config: ViewsConfig, draws: Draws) -> Tensor:
    """For cubes: (B, 3, 4) in the order right, front, head."""
    draw = draws.uniform  # (B, count)
    side = draw(*config.crop_area, 1).sqrt()
    half = math.log(config.crop_aspect) / 2
    sides = (side * draw(-half, half, 3).exp()).clamp(max=1.0)  # (B, 3)
    shift = draw(-1, 1, 3) * (1 - sides)
    if config.keep_scale:
        sides = torch.ones_like(sides)
    mirror = torch.ones_like(sides)
    mirror[draws.chance(config.flip), 0] = -1
    axis = F.normalize(draws.normal(3), dim=1)
    angle = draw(-config.rotation_deg, config.rotation_deg, 1).deg2rad()
    turn = _turn(axis, angle) * (mirror * sides)[:, None, :]
    return torch.cat([turn, shift[:, :, None]], dim=2)


def _turn(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotations (B, 3, 3) by angles (B, 1) about unit axes (B, 3): Rodrigues' formula."""
    x, y, z = axis.unbind(dim=1)
    none = torch.zeros_like(x)
    cross = torch.stack([none, -z, y, z, none, -x, -y, x, none], dim=1).reshape(-1, 3, 3)
    sin, cos = angle.sin()[:, :, None], angle.cos()[:, :, None]
    return torch.eye(3, device=axis.device) + sin * cross + (1 - cos) * (cross @ cross)


def elastic(config: ViewsConfig, draws: Draws, dims: int) -> Tensor | None:
    """(B, K, .., K, dims) displacements of the control points in the view's normalised coordinates; None: nothing."""
    if not config.elastic:
        return None
    reach = 2 * config.elastic  # the side is 2 long
    return draws.uniform(-reach, reach, *[KNOTS] * dims, dims)


def sampling_grid(maps: Tensor, bends: Tensor | None, side_px: int) -> Tensor:
    """(B, S, .., S, dims) places in the scan, as `grid_sample` takes them.

    Uniform cubic B-splines (Rueckert 1999, doi 10.1109/42.796284, eq. 3). They reproduce straight lines, so a spline
    through control points that the affine map has moved is the affine map: one product gives the whole grid.

    Args:
        maps: (B, dims, dims + 1) from `affine`.
        bends: (B, K, .., K, dims) from `elastic`; a weighted mean of them is added to each place of the view.
        side_px: S.
    """
    dims = maps.shape[1]
    basis = spline_basis(side_px).to(maps)
    line = (torch.arange(KNOTS, device=maps.device) - 1) * (2 / INTERVALS) - 1
    points = torch.stack(torch.meshgrid(*[line] * dims, indexing="ij")[::-1], dim=-1).expand(
        len(maps), *[-1] * dims, -1
    )
    if bends is not None:
        points = points + bends
    moved = points.flatten(1, dims) @ maps[:, :, :dims].mT + maps[:, None, :, dims]  # (B, K**dims, dims)
    return spread(moved.reshape(points.shape), basis, dims)


@lru_cache(maxsize=8)
def spline_basis(side_px: int) -> Tensor:
    """(S, K) weights of the control points at the centre of each pixel; each row sums to 1."""
    at = (torch.arange(side_px, dtype=torch.float64) + 0.5) / side_px * INTERVALS  # in control intervals
    distance = (at[:, None] - (torch.arange(KNOTS, dtype=torch.float64) - 1)).abs()
    near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far)


def spread(control: Tensor, basis: Tensor, dims: int) -> Tensor:
    """A field from its coefficients, separably: (B, K, .., K, C) with a basis (S, K) becomes (B, S, .., S, C)."""
    count, knots, channels = len(control), control.shape[1], control.shape[-1]
    field = control
    for done in range(dims):
        field = basis @ field.reshape(count, *[knots] * (dims - done), -1)
    return field.reshape(count, *[len(basis)] * dims, channels)
