"""Models Genesis: scans are corrupted in four ways, and restored."""

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medtl.config import StrictModel
from medtl.encoders.table import Encoder
from medtl.pretraining.batch import Views
from medtl.pretraining.draws import Draws
from medtl.pretraining.objectives.decoder import Decoder, Scales

ORDERS = 32
LEVELS = 256
LARGEST_WINDOW_PX = 8


class GenesisConfig(StrictModel):
    """The settings of the objective; the defaults are the paper's."""

    shuffle: float = Field(default=0.5, ge=0.0, le=1.0)
    """Probability that pixels change places with near ones."""
    bend: float = Field(default=0.9, ge=0.0, le=1.0)
    """Probability that intensities are mapped along a random curve."""
    paint: float = Field(default=0.9, ge=0.0, le=1.0)
    """Probability that a part is painted over."""
    outer: float = Field(default=0.8, ge=0.0, le=1.0)
    """Where painted: probability that it is what lies outside of the windows, not inside."""
    decoder_dim: int = Field(default=64, ge=8)
    """Channels of the decoder."""


class Genesis(nn.Module):
    """Zhou 2021, arXiv 2004.07882, sec. 3.2 (first in 1908.06912): L2 between the restored and the original view.

    Departures: the decoder is light; the windows of one scan's pixel shuffling have one size, of 2 to a tenth of the
    side and at most 8 pixels, and tile it from a random corner, where the paper throws thousands that overlap; their
    orders are drawn from 32 random ones; 1 to 5 windows are painted; the view's own flips replace the paper's.
    """

    Config = GenesisConfig
    n_views = 1
    n_crops = 0

    def __init__(self, encoder: Encoder, config: GenesisConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = config
        self.scales = Scales(encoder)
        self.decoder = Decoder(self.scales.blank(encoder), encoder, width=config.decoder_dim)

    def forward(self, views: Views) -> tuple[Tensor, dict[str, float]]:
        """The mean squared error on a scale from 0, black, to 1, white; and the same without any restoring."""
        original = (views.whole[:, 0] + 1) / 2
        broken = corrupted(original, self.config, views.draws.named("genesis"))
        restored = self.decoder(self.scales(self.encoder, broken * 2 - 1), original.shape[2:])
        return F.mse_loss(restored, original), {"unrestored": round(float(F.mse_loss(broken, original)), 4)}

    def after_step(self, done: float) -> None:
        """Nothing moves but parameters."""


def corrupted(x: Tensor, config: GenesisConfig, draws: Draws) -> Tensor:
    """The four corruptions in the paper's order, each scan (B, C, [D,] H, W) in 0..1 with draws of its own."""
    sides, dims, device = x.shape[2:], x.ndim - 2, x.device

    def chosen(probability: float) -> Tensor:
        return draws.chance(probability).reshape(-1, *[1] * (dims + 1))

    largest = min(LARGEST_WINDOW_PX, max(2, min(sides) // 10))
    size = _whole(draws, 2, largest)
    corner = (draws.uniform(0, 1, dims) * size[:, None]).long().clamp(max=size[:, None] - 1)
    order = _whole(draws, 0, ORDERS - 1, math.prod(side // 2 + 2 for side in sides))
    orders = _orders(draws, largest, dims).to(device)
    x = torch.where(chosen(config.shuffle), shuffled_near(x, size, corner, order, orders), x)
    x = torch.where(chosen(config.bend), bent(x, draws.uniform(0, 1, 2, 2), draws.chance(0.5)), x)

    painted, outer = chosen(config.paint), draws.chance(config.outer)
    span = torch.tensor(sides, device=device)
    share = draws.uniform(0, 1, 5, dims)
    wide = torch.where(outer[:, None, None], (3 + share) / 7, (1 + share) / 6)
    length = (wide * span).long().clamp(min=1)
    start = (draws.uniform(0, 1, 5, dims) * (span - length + 1)).long().clamp(max=span - length)
    there = torch.arange(5, device=device) < _whole(draws, 1, 5)[:, None]
    return torch.where(painted, painted_over(x, start, length, there, draws.uniform(0, 1), outer), x)


def _whole(draws: Draws, low: int, high: int, *shape: int) -> Tensor:
    """(B, *shape) whole numbers from low to high, both included."""
    return draws.uniform(low, high + 1, *shape).long().clamp(max=high)


def _orders(draws: Draws, largest: int, dims: int) -> Tensor:
    """(largest + 1, ORDERS, largest ** dims): for windows of each size, random orders of its pixels, then zeros."""
    drawn = draws.once(ORDERS * largest**dims).reshape(ORDERS, -1)
    found = torch.zeros(largest + 1, ORDERS, largest**dims, dtype=torch.long)
    for size in range(2, largest + 1):
        found[size, :, : size**dims] = drawn[:, : size**dims].argsort(dim=1)
    return found


def shuffled_near(x: Tensor, size: Tensor, corner: Tensor, order: Tensor, orders: Tensor) -> Tensor:
    """Local pixel shuffling (Zhou 2021, eq. 3: V~ = P V P', here any order): pixels change places within windows.

    Args:
        size: (B,) side of the windows in pixels; those that reach over the border stay as they are.
        corner: (B, dims) where the first whole window starts, less than `size`.
        order: (B, W) which of `orders` each window takes, W at least the number of windows.
        orders: (sizes, K, pixels) of windows of each size.
    """
    batch, sides, device = len(x), x.shape[2:], x.device
    dims = len(sides)
    steps = [math.prod(sides[axis + 1 :]) for axis in range(dims)]
    within = torch.zeros(batch, *[1] * dims, dtype=torch.long, device=device)  # number of a pixel in its window
    window, whole = within, within == 0
    for axis, side in enumerate(sides):
        shape = (batch, *(side if i == axis else 1 for i in range(dims)))
        at = torch.arange(side, device=device) - corner[:, axis : axis + 1] + size[:, None]
        number = at // size[:, None]  # 0 is the window cut by the border
        inner = at - number * size[:, None]
        inside = (number > 0) & ((number - 1) * size[:, None] + corner[:, axis : axis + 1] + size[:, None] <= side)
        within = within * size.reshape(-1, *[1] * dims) + inner.reshape(shape)
        window = window * (side // 2 + 2) + number.reshape(shape)
        whole = whole & inside.reshape(shape)
    moves = _moves(orders, steps)
    flat = size[:, None] * moves[0].numel() + order.gather(1, window.flatten(1)) * moves.shape[2] + within.flatten(1)
    source = torch.arange(math.prod(sides), device=device) + moves.flatten()[flat] * whole.flatten(1)
    return x.flatten(2).gather(2, source[:, None].expand(-1, x.shape[1], -1)).reshape(x.shape)


def _moves(orders: Tensor, steps: list[int]) -> Tensor:
    """For each pixel of a window, how far away in memory the one lies that takes its place."""
    found = torch.zeros_like(orders)
    for size in range(2, len(orders)):
        count = size ** len(steps)
        far = torch.zeros(count, dtype=torch.long, device=orders.device)
        for axis, step in enumerate(steps):
            far += torch.arange(count, device=orders.device) // size ** (len(steps) - 1 - axis) % size * step
        found[size, :, :count] = far[orders[size, :, :count]] - far
    return found


def bent(x: Tensor, controls: Tensor, falling: Tensor) -> Tensor:
    """Non-linear intensity: a cubic Bezier curve from black to black and white to white (Zhou 2021, eq. 2).

    Args:
        controls: (B, 2, 2) the two points between the ends: each x, y in 0..1.
        falling: (B,) from black to white and white to black instead.
    """
    t = torch.linspace(0, 1, LEVELS, device=x.device)
    weights = torch.stack([(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3])  # (4, T)
    ends = torch.stack([falling.to(x.dtype), 1 - falling.to(x.dtype)], dim=1)  # (B, 2) of y
    across = controls[:, :, 0] @ weights[1:3] + weights[3]  # (B, T), rises for all control points in 0..1
    along = torch.cat([ends[:, :1], controls[:, :, 1], ends[:, 1:]], dim=1) @ weights
    level = torch.linspace(0, 1, LEVELS, device=x.device).expand(len(x), -1).contiguous()
    right = torch.searchsorted(across.contiguous(), level).clamp(1, LEVELS - 1)
    x0, x1 = across.gather(1, right - 1), across.gather(1, right)
    y0, y1 = along.gather(1, right - 1), along.gather(1, right)
    table = torch.lerp(y0, y1, ((level - x0) / (x1 - x0).clamp(min=1e-12)).clamp(0, 1))  # (B, LEVELS)
    at = x.flatten(1) * (LEVELS - 1)
    low = at.long().clamp(0, LEVELS - 2)
    return torch.lerp(table.gather(1, low), table.gather(1, low + 1), at - low).reshape(x.shape)


def painted_over(x: Tensor, start: Tensor, length: Tensor, there: Tensor, colour: Tensor, outer: Tensor) -> Tensor:
    """In- and out-painting: one random value inside of windows, or all around them (Zhou 2021, sec. 3.2).

    Args:
        start, length: (B, K, dims) of windows in pixels.
        there: (B, K) which of them count.
        colour: (B,).
        outer: (B,) paint what lies outside.
    """
    sides = x.shape[2:]
    inside = torch.zeros(len(x), *sides, dtype=torch.bool, device=x.device)
    for k in range(start.shape[1]):
        one = there[:, k].reshape(-1, *[1] * len(sides))
        for axis, side in enumerate(sides):
            at = torch.arange(side, device=x.device)
            first = start[:, k, axis, None]
            reach = (at >= first) & (at < first + length[:, k, axis, None])
            one = one & reach.reshape(-1, *(side if i == axis else 1 for i in range(len(sides))))
        inside |= one
    lone = [1] * (x.ndim - 1)
    return torch.where((inside != outer.reshape(-1, *lone[1:]))[:, None], colour.reshape(-1, *lone), x)
