"""VoCo: where in the body does a crop lie? Its likeness to crops from known places says so."""

import itertools

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medtl.config import StrictModel
from medtl.encoders.table import Encoder, find
from medtl.errors import ConfigError
from medtl.pretraining.batch import Views
from medtl.pretraining.draws import Draws
from medtl.pretraining.objectives.parts import projector

SMALLEST_CROP_PX = 32
"""Smaller crops are enlarged, ..."""
LEAST_CROP_PX = 4
"""... but in less than this there is nothing to see."""


class VoCoConfig(StrictModel):
    """The settings of the objective."""

    grid: int = Field(default=3, ge=2)
    """Base crops along each axis; a crop's side is the view's divided by this."""
    crops: int = Field(default=2, ge=1)
    """Random crops of each scan."""
    projection_dim: int = Field(default=128, ge=2)
    """Size of the space in which crops are compared."""
    regularization: float = Field(default=1.0, ge=0.0)
    """Weight of the term that pushes base crops apart."""


class VoCo(nn.Module):
    """Wu 2024, arXiv 2402.17300, eq. 1-6: a random crop's cosine similarity to each base crop of its scan should be the
    share of the crop that lies in it; no gradient flows into base crops from there, but base crops repel each other.

    It learns from the body having the same layout in every scan: volumes of one region, or images that all show the
    same part in the same pose, such as chest films; not photographs of tissue.

    Departures: base crops lie on a grid along all axes, where the paper's flat volumes have one layer; stop-gradient
    alone, as the paper has it, without the momentum copy of the published code; crops come from one random view, so
    that their intensities agree; crops smaller than the network bears are enlarged.
    """

    Config = VoCoConfig
    n_views = 1
    n_crops = 0

    def __init__(self, encoder: Encoder, config: VoCoConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = config
        crop_side(encoder.input_px, config.grid)
        self.smallest_px = min(SMALLEST_CROP_PX, find(encoder.name).least_px(encoder.dims))
        self.projection = projector(encoder.embedding_dim, encoder.embedding_dim, config.projection_dim)

    def forward(self, views: Views) -> tuple[Tensor, dict[str, float]]:
        """The loss, and the share of random crops that are most like the base crop they overlap most."""
        images, grid = views.whole[:, 0], self.config.grid
        side = images.shape[-1]
        crop = crop_side(side, grid)
        bases = base_corners(side, grid, images.ndim - 2).to(images.device)
        corners = random_corners(views.draws.named("voco"), self.config.crops, side - crop, images.ndim - 2)
        z = self._projected(crops_at(images, torch.cat([bases.expand(len(images), -1, -1), corners], dim=1), crop))
        based, free = z[:, : len(bases)], z[:, len(bases) :]
        share = overlaps(corners, bases, crop)
        loss = position_loss(free, based, share) + self.config.regularization * likeness(based)
        with torch.no_grad():
            found = (F.normalize(free, dim=2) @ F.normalize(based, dim=2).transpose(1, 2)).argmax(dim=2)
            best = share.gather(2, found[:, :, None])[:, :, 0] == share.amax(dim=2)
        return loss, {"located": round(float(best.float().mean()), 4)}

    def _projected(self, crops: Tensor) -> Tensor:
        """(B, M, C, ...) -> (B, M, D)."""
        flat = crops.flatten(0, 1)
        if flat.shape[-1] < self.smallest_px:
            mode = "bilinear" if flat.ndim == 4 else "trilinear"
            flat = F.interpolate(flat, size=[self.smallest_px] * (flat.ndim - 2), mode=mode, align_corners=False)
        projected: Tensor = self.projection(self.encoder(flat))
        return projected.reshape(*crops.shape[:2], -1)

    def after_step(self, done: float) -> None:
        """Nothing moves but parameters."""


def crop_side(side: int, grid: int) -> int:
    """A crop's side in pixels, of views of this side.

    Raises:
        ConfigError: the grid is too fine.
    """
    if (crop := side // grid) < LEAST_CROP_PX:
        raise ConfigError(
            f"objective.grid: {grid} crops along {side} px leave {crop} px to each, less than {LEAST_CROP_PX}; the "
            f"largest grid is {side // LEAST_CROP_PX}"
        )
    return crop


def base_corners(side: int, grid: int, dims: int) -> Tensor:
    """(grid ** dims, dims) first pixels of crops that tile the middle of a view; what the grid leaves over is cut."""
    crop = side // grid
    starts = [(side - grid * crop) // 2 + i * crop for i in range(grid)]
    return torch.tensor(list(itertools.product(starts, repeat=dims)))


def random_corners(draws: Draws, crops: int, last: int, dims: int) -> Tensor:
    """(B, crops, dims) whole numbers from 0 to `last`, both included."""
    return draws.uniform(0, last + 1, crops, dims).long().clamp(max=last)


def crops_at(images: Tensor, corners: Tensor, crop: int) -> Tensor:
    """(B, C, [D,] H, W) and (B, M, dims) -> (B, M, C, [crop,] crop, crop)."""
    dims = images.ndim - 2
    batch, count, _ = corners.shape
    scan = torch.arange(batch, device=images.device).reshape(-1, *[1] * (dims + 1))
    steps = torch.arange(crop, device=images.device)
    where = [
        (corners[:, :, axis, None] + steps).reshape(batch, count, *(crop if i == axis else 1 for i in range(dims)))
        for axis in range(dims)
    ]
    return images.movedim(1, -1)[(scan, *where)].movedim(-1, 2)


def overlaps(corners: Tensor, bases: Tensor, crop: int) -> Tensor:
    """(B, M, N) share of each crop at `corners` (B, M, dims) that lies in each at `bases` (N, dims); eq. 2."""
    apart = (corners[:, :, None] - bases).abs()  # (B, M, N, dims)
    return ((crop - apart).clamp(min=0) / crop).prod(dim=3)


def position_loss(crops: Tensor, bases: Tensor, share: Tensor) -> Tensor:
    """Mean of -log(1 - |y - l|) over crops and bases, l the cosine similarity (eq. 3-4).

    Args:
        crops: (B, M, D) projections.
        bases: (B, N, D) of the same scans; no gradient flows into them.
        share: (B, M, N) y; a distance of 1 and more is taken as 0.999.
    """
    similarity = F.normalize(crops, dim=2) @ F.normalize(bases.detach(), dim=2).transpose(1, 2)
    return -torch.log1p(-(share - similarity).abs().clamp(max=0.999)).mean()


def likeness(bases: Tensor) -> Tensor:
    """Mean absolute cosine similarity of different base crops (B, N, D) of one scan (eq. 5)."""
    unit = F.normalize(bases, dim=2)
    first, second = torch.triu_indices(bases.shape[1], bases.shape[1], offset=1)
    return (unit @ unit.transpose(1, 2))[:, first, second].abs().mean()
