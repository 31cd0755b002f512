"""Random views of a batch of scans: one resampling for all geometry, then intensity, all on whole batches.

The defaults keep the lesion in the picture and the patient's left on the left: no crop below 30 % of the
area, no flip, no colour tricks (see Azizi 2021, arXiv 2101.05224, sec. 3.2, for what helps on medical scans).

Volumes are stored in millimetres, so a structure's size means something, and a label may be about nothing else
(a small hippocampus). Where labels are learned they are therefore moved and turned, never scaled: `keep_scale`.
"""

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medtl.config import StrictModel
from medtl.pretraining.draws import Draws


class ViewsConfig(StrictModel):
    """How strongly views differ from the scan; every range is drawn uniformly, each scan for itself."""

    crop_area: tuple[float, float] = (0.3, 1.0)
    """Share of the scan's area that a view shows; of a volume, the share of each of its planes."""
    crop_aspect: float = Field(default=1.2, ge=1.0)
    """Width to height of the crop, at most this or its inverse; of a volume, any side to any other."""
    keep_scale: bool = False
    """Volumes: shift the view as far as the crop would lie from the centre, and enlarge nothing. Images have no scale
    to keep."""
    rotation_deg: float = Field(default=15.0, ge=0.0)
    """Rotation by up to this many degrees either way; of a volume, about an axis of any direction."""
    flip: float = Field(default=0.0, ge=0.0, le=1.0)
    """Probability of a left-right flip. Zero for chest films: the heart has a side."""
    brightness: float = Field(default=0.15, ge=0.0)
    """Added value up to this, on a scale where black is 0 and white is 1."""
    contrast: float = Field(default=0.3, ge=0.0, lt=1.0)
    """Contrast about the scan's mean changes by up to this share."""
    gamma: float = Field(default=0.4, ge=0.0)
    """Exponent between exp(-gamma) and exp(gamma)."""
    blur_px: float = Field(default=1.0, ge=0.0)
    """Standard deviation of a Gaussian blur, up to this many pixels; half the views stay sharp."""
    noise: float = Field(default=0.05, ge=0.0)
    """Standard deviation of added Gaussian noise, up to this; black is 0 and white is 1."""
    local_area: tuple[float, float] = (0.1, 0.3)
    """Share of the scan's area that a small crop shows, for objectives that want such."""
    local_side: float = Field(default=0.5, gt=0.0, le=1.0)
    """Side of a small crop as a share of a whole view's."""

    def local(self) -> "ViewsConfig":
        """The same for small crops."""
        return self.model_copy(update={"crop_area": self.local_area})


GENTLE = ViewsConfig(
    crop_area=(0.7, 1.0), crop_aspect=1.1, rotation_deg=10.0, brightness=0.1, contrast=0.2, gamma=0.2, blur_px=0.0,
    noise=0.02, keep_scale=True,
)  # fmt: skip
"""For fine-tuning: the label must stay true."""


def random_views(images: Tensor, config: ViewsConfig, draws: Draws, *, side_px: int | None = None) -> Tensor:
    """One random view of each scan.

    Args:
        images: (B, C, H, W), or (B, C, D, H, W) with sides of one length, in -1..1, black is -1.
        draws: the random numbers of this batch.
        side_px: of the views; None is that of `images`.

    Returns:
        (B, C, [S,] S, S) in -1..1, on the device of `images`.
    """
    dims = images.ndim - 2

    def draw(low: float, high: float) -> Tensor:  # (B, 1, 1, 1) or (B, 1, 1, 1, 1)
        return draws.uniform(low, high).reshape(-1, *[1] * (dims + 1))

    affine = _affine(config, draws) if dims == 2 else _affine_3d(config, draws)
    views = _resample((images + 1) / 2, affine, side_px or images.shape[-1])
    if config.gamma:
        views = views.clamp_(min=1e-4).pow_(draw(-config.gamma, config.gamma).exp_())
    if config.contrast:
        mean = views.mean(dim=tuple(range(2, images.ndim)), keepdim=True)
        views = (views - mean) * (1 + draw(-config.contrast, config.contrast)) + mean
    if config.brightness:
        views = views + draw(-config.brightness, config.brightness)
    if config.blur_px:
        views = _blur(views, draw(-config.blur_px, config.blur_px).clamp_(min=0.0).flatten(), most_px=config.blur_px)
    if config.noise:
        views = views + draws.normal(*views.shape[1:]) * draw(0.0, config.noise)
    return views.clamp_(0.0, 1.0).mul_(2).sub_(1)


def _affine(config: ViewsConfig, draws: Draws) -> Tensor:
    """Maps from view to scan in normalised coordinates (-1..1): crop, aspect, rotation and flip in one."""
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
    """The same for cubes: (B, 3, 4) in the order right, front, head."""
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


def _resample(images: Tensor, affine: Tensor, side_px: int) -> Tensor:
    shape = [*images.shape[:2], *[side_px] * (images.ndim - 2)]
    grid = F.affine_grid(affine, shape, align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _blur(images: Tensor, sigma_px: Tensor, *, most_px: float) -> Tensor:
    """Gaussian blur with a standard deviation (B,) for each scan; only scans with one above 0.1 px are touched.

    Kernels reach as far as `most_px` asks for, whatever the others of the batch drew: a view must not depend on them.
    """
    touched = (sigma_px > 0.1).nonzero().flatten()
    if len(touched) == 0:
        return images
    radius = max(1, math.ceil(2 * most_px))
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernels = torch.exp(-0.5 * (offsets / sigma_px[touched, None]) ** 2)
    kernels = kernels / kernels.sum(dim=1, keepdim=True)  # (T, K)
    chosen = images[touched]
    count, channels = chosen.shape[:2]
    flat = chosen.reshape(1, count * channels, *chosen.shape[2:])
    kernels = kernels.repeat_interleave(channels, dim=0)[:, None]  # (T*C, 1, K)
    dims = images.ndim - 2
    flat = F.pad(flat, [radius] * 2 * dims, mode="replicate")
    convolve = F.conv2d if dims == 2 else F.conv3d
    for axis in reversed(range(dims)):
        shape = [1] * dims
        shape[axis] = -1
        flat = convolve(flat, kernels.reshape(count * channels, 1, *shape), groups=count * channels)
    blurred = images.clone()
    blurred[touched] = flat.reshape(chosen.shape)
    return blurred
