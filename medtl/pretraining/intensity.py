"""Brightness, contrast, sharpness and noise of views, on chunks of scans with values in 0..1."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from medtl.pretraining.geometry import spread
from medtl.training.batches import generator

DARKEST = 1e-4
"""What counts as black in gamma: its logarithm is taken."""
ORDER = 3
"""Of the bias field: polynomials of degree below this along each axis."""
POOL = 1 << 20


def windowed(views: Tensor, centre: Tensor, width: Tensor) -> Tensor:
    """Values as another window shows them, in place.

    Args:
        views: (T, C, ...) in 0..1, as the window shows them now.
        centre, width: (T, C), or (T, 1) for all channels, of the new window, in widths of the one now from its lower
            edge; 0.5 and 1 change nothing.
    """
    return views.sub_(_wide(centre - width / 2, views)).div_(_wide(width, views)).clamp_(0, 1)


def toned(views: Tensor, exponent: Tensor | None, bias: Tensor | None) -> Tensor:
    """Gamma and a smooth multiplicative field, in place: exp(exponent * log v + field).

    Args:
        exponent: (T,) or None.
        bias: (T, 3, .., 3) coefficients of the field's logarithm, or None; see `bias_log`.
    """
    views = views.clamp_(min=DARKEST).log2_()
    if exponent is not None:
        views.mul_(_wide(exponent, views))
    if bias is not None:
        views.add_(bias_log(bias, views.shape[-1])[:, None], alpha=math.log2(math.e))
    return views.exp2_()


def bias_log(bias: Tensor, side_px: int) -> Tensor:
    """(T, S, .., S) sum of products of Legendre polynomials, as in MONAI's and Sudre's models of a coil's field.

    Args:
        bias: (T, 3, .., 3) coefficients; with a sum of magnitudes of b the field stays in -b..b.
    """
    dims = bias.ndim - 1
    x = ((torch.arange(side_px) + 0.5) / side_px * 2 - 1).to(bias)
    basis = torch.stack([torch.ones_like(x), x, 1.5 * x**2 - 0.5], dim=1)  # (S, 3), each within -1..1
    return spread(bias[..., None], basis, dims)[..., 0]


def contrasted(views: Tensor, factor: Tensor | None, added: Tensor | None, *, together: bool = False) -> Tensor:
    """Contrast about the mean of each channel and brightness, in place.

    Args:
        factor, added: (T,) or None.
        together: about the mean of all channels, so that each value changes by the same line and hues stay.
    """
    if factor is not None:
        mean = views.flatten(2).mean(dim=2)  # (T, C)
        mean = mean.mean(dim=1, keepdim=True) if together else mean
        offset = mean * (1 - factor[:, None])
        views.mul_(_wide(factor, views)).add_(_wide(offset if added is None else offset + added[:, None], views))
    elif added is not None:
        views.add_(_wide(added, views))
    return views


def blurred(views: Tensor, sigma_px: Tensor, radius: int) -> Tensor:
    """Gaussian blur, in place, with a standard deviation (T,) for each scan; below 0.1 px a scan stays as it is.

    Args:
        radius: where the kernel is cut. It must not depend on the scans at hand, so that a scan's view does not
            depend on its company.
    """
    touched = (sigma_px > 0.1).nonzero().flatten()
    if len(touched) == 0:
        return views
    chosen = views[touched]
    offsets = torch.arange(radius + 1, device=views.device)
    weights = torch.exp(-0.5 * (offsets / sigma_px[touched, None]) ** 2)
    weights = weights / (2 * weights.sum(dim=1, keepdim=True) - weights[:, :1])  # (T, R + 1)
    for axis in range(2, views.ndim):
        side = views.shape[axis]
        edges = [chosen.narrow(axis, at, 1).expand(*_like(chosen, axis, radius)) for at in (0, side - 1)]
        padded = torch.cat([edges[0], chosen, edges[1]], dim=axis)
        chosen = chosen.mul_(_wide(weights[:, 0], chosen))
        for k in range(1, radius + 1):
            both = padded.narrow(axis, radius - k, side) + padded.narrow(axis, radius + k, side)
            chosen.addcmul_(both, _wide(weights[:, k], chosen))
    views[touched] = chosen
    return views


def _like(views: Tensor, axis: int, length: int) -> list[int]:
    shape = list(views.shape)
    shape[axis] = length
    return shape


def noised(views: Tensor, sigma: Tensor, place: Tensor) -> Tensor:
    """Gaussian noise with a standard deviation (T,), in place.

    Drawing a normal number costs several times what reading one does, and must be done for scans of other processes as
    well. So each scan takes a stretch from a pool that holds as many normal numbers as 256 views of 64 px.

    Args:
        place: (T,) uniform in 0..1: where the stretch begins.
    """
    size = views[0].numel()
    pool = noise_pool(max(POOL, 1 << (4 * size).bit_length()), views.device)
    first = (place.double() * (len(pool) - size)).long()
    return views.addcmul_(pool.unfold(0, size, 1)[first].reshape(views.shape), _wide(sigma, views))


@lru_cache(maxsize=2)
def noise_pool(count: int, device: torch.device) -> Tensor:
    """(count,) standard normal numbers, always the same."""
    return torch.randn(count, generator=generator("noise pool", count)).to(device)


def _wide(values: Tensor, views: Tensor) -> Tensor:
    """(T,) or (T, C) beside (T, C, ...)."""
    return values.reshape(*values.shape, *[1] * (views.ndim - values.ndim))
