"""Random views of a batch of scans: one resampling for all geometry, then intensity, all on whole batches.

The defaults keep the lesion in the picture and the patient's left on the left: no crop below 30 % of the
area, no flip, no change of hue (see Azizi 2021, arXiv 2101.05224, sec. 3.2, for what helps on medical scans).

Volumes are stored in millimetres, so a structure's size means something, and a label may be about nothing else
(a small hippocampus). Where labels are learned they are therefore moved and turned, never scaled: `keep_scale`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medtl.pretraining.draws import Draws
from medtl.pretraining.geometry import affine, elastic, sampling_grid
from medtl.pretraining.intensity import ORDER, blurred, contrasted, noised, toned, windowed
from medtl.pretraining.presets import GENTLE
from medtl.pretraining.views_config import ViewsConfig

__all__ = ["GENTLE", "ViewsConfig", "random_views"]

SHARP_STEP = 1.9
"""Detail is used where a pixel of the view is at most this many of its pixels wide. Up to 2.2 it is nearer to the scan
as it was stored than the network's input is (measured); below 2, so that the whole scan is always the network's
input."""
CHUNK_PX = 1 << 17
"""Scans are taken through all steps in chunks of so many pixels, which stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """What was drawn for each scan; None where nothing changes."""

    maps: Tensor  # (B, dims, dims + 1)
    bends: Tensor | None  # (B, K, .., K, dims)
    centre: Tensor | None  # (B, C), or (B, 1) for all channels
    width: Tensor | None  # (B, C) or (B, 1)
    exponent: Tensor | None  # this and the following: (B,)
    bias: Tensor | None  # (B, 3, .., 3)
    factor: Tensor | None
    added: Tensor | None
    sigma_px: Tensor | None
    noise: Tensor | None
    place: Tensor | None

    def of(self, rows: Tensor) -> "_Drawn":
        """The same of some of the scans."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        kept: dict[str, Any] = {name: None if value is None else value[rows] for name, value in values}
        return _Drawn(**kept)


def random_views(
    images: Tensor,
    config: ViewsConfig,
    draws: Draws,
    *,
    side_px: int | None = None,
    detail: Tensor | None = None,
    colour: bool = False,
) -> Tensor:
    """One random view of each scan.

    Args:
        images: (B, C, H, W), or (B, C, D, H, W) with sides of one length, in -1..1, black is -1.
        draws: the random numbers of this batch.
        side_px: of the views; None is that of `images`.
        detail: the same scans with more pixels (`PreprocessSpec.with_detail`). A view that shows a small part of the
            scan is taken from it, so that it is sharp, not magnified; one that shows nearly the whole is not, because
            it would skip pixels that `images` has averaged.
        colour: the channels are red, green and blue: window and contrast change them together, so that hues stay.

    Returns:
        (B, C, [S,] S, S) in -1..1, on the device of `images`.
    """
    dims, side = images.ndim - 2, side_px or images.shape[-1]
    drawn = _draw(config, draws, dims, 1 if colour else images.shape[1])
    views = images.new_empty((*images.shape[:2], *[side] * dims))
    for source, rows in _sources(images, detail, drawn.maps, side):
        chunk = max(1, CHUNK_PX // (images.shape[1] * side**dims)) if images.device.type == "cpu" else len(rows)
        for first in range(0, len(rows), chunk):
            some = rows[first : first + chunk]
            views[some] = _view(source[some], config, drawn.of(some), side, colour)
    return views


def _draw(config: ViewsConfig, draws: Draws, dims: int, channels: int) -> _Drawn:
    def within(reach: float, *shape: int) -> Tensor | None:
        return draws.uniform(-reach, reach, *shape) if reach else None

    maps, bends = affine(config, draws, dims), elastic(config, draws, dims)
    shift, wider = within(config.window / 2, channels), within(config.window, channels)
    gamma = within(config.gamma)
    bias = within(config.bias_field, *[ORDER] * dims)
    if bias is not None:  # the sum of magnitudes is at most bias_field: the field keeps its promise
        bias.view(len(bias), -1)[:, 0] = 0  # a constant would be brightness
        bias = bias / (ORDER**dims - 1) ** 0.5
        total = bias.flatten(1).abs().sum(dim=1).clamp(min=config.bias_field) / config.bias_field
        bias = bias / total.reshape(-1, *[1] * dims)
    contrast = within(config.contrast)
    return _Drawn(
        maps=maps,
        bends=bends,
        centre=None if shift is None else 0.5 + shift,
        width=None if wider is None else 1 + wider,
        exponent=None if gamma is None else gamma.exp(),
        bias=bias,
        factor=None if contrast is None else 1 + contrast,
        added=within(config.brightness),
        sigma_px=within(config.blur_px),  # half of them are negative: those stay sharp
        noise=draws.uniform(0.0, config.noise) if config.noise else None,
        place=draws.uniform(0.0, 1.0) if config.noise else None,
    )


def _sources(images: Tensor, detail: Tensor | None, maps: Tensor, side_px: int) -> Iterator[tuple[Tensor, Tensor]]:
    """What each scan's view is taken from: pairs of pixels and rows (T,)."""
    rows = torch.arange(len(images), device=images.device)
    if detail is None:
        yield images, rows
        return
    shown = maps[:, :, :-1].norm(dim=1).amax(dim=1)  # (B,) share of the scan's side, the longest
    sharp = shown * (detail.shape[-1] / side_px) <= SHARP_STEP
    yield from ((source, some) for source, some in ((images, rows[~sharp]), (detail, rows[sharp])) if len(some))


def _view(source: Tensor, config: ViewsConfig, drawn: _Drawn, side_px: int, colour: bool) -> Tensor:
    grid = sampling_grid(drawn.maps, drawn.bends, side_px)
    # Black is 0 here, which is also what lies outside the scan.
    views = F.grid_sample(source + 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False).mul_(0.5)
    if drawn.centre is not None and drawn.width is not None:
        views = windowed(views, drawn.centre, drawn.width)
    if drawn.exponent is not None or drawn.bias is not None:
        views = toned(views, drawn.exponent, drawn.bias)
    views = contrasted(views, drawn.factor, drawn.added, together=colour)
    if drawn.sigma_px is not None:
        views = blurred(views, drawn.sigma_px, max(1, math.ceil(2 * config.blur_px)))
    if drawn.noise is not None and drawn.place is not None:
        views = noised(views, drawn.noise, drawn.place)
    return views.mul_(2).sub_(1).clamp_(-1, 1)
