"""Occlusion: how much less a network believes in a finding when a part of the scan is covered.

Zeiler & Fergus 2014, "Visualizing and understanding convolutional networks", sec. 4.2. Departures: a part is not made
grey but blurred beyond recognition, because a grey square in a dark lung looks like a finding itself; and large parts
are covered everywhere first, small ones only where the large ones mattered, so that some 120 looks are enough.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRID = {2: 16, 3: 8}
"""Cells a side of the heatmap, by dimensions."""
LARGE = {2: (4, 2), 3: (2, 2)}
"""Side and step of the parts that are covered first, in cells."""
SMALL = {2: 3, 3: 1}
"""Side of the small parts in cells; odd, so that each has a cell in its middle."""
CELLS = 64
"""How many cells the small parts are centred on: those where the large parts mattered most."""
AT_ONCE = 16
BLUR = 4
"""What is put in place of a part keeps so many values a side of the whole scan."""


def drops(network: nn.Module, images: Tensor, index: int) -> Tensor:
    """By how much covering each cell lowers the logit: the mean of both sizes, each relative to its largest drop.

    Args:
        network: (B, C, S, S) or (B, C, S, S, S) -> logits (B, F), in evaluation mode.
        images: (1, C, S, S) or (1, C, S, S, S).
        index: which logit.

    Returns:
        (g, g) or (g, g, g) of `GRID`, 0 where nothing speaks for the finding.
    """
    dims = images.ndim - 2
    grid = GRID[dims]
    side, step = LARGE[dims]
    starts = range(0, grid - side + 1, step)
    large = [tuple(slice(start, start + side) for start in place) for place in product(starts, repeat=dims)]
    with torch.inference_mode():
        blurred = _blurred(images)
        whole = float(network(images)[0, index])
        coarse = _spread(large, _lowered(network, images, blurred, large, index, whole), grid, dims)
        hottest = coarse.flatten().argsort(descending=True, stable=True)[:CELLS].tolist()
        small = [_around(cell, grid, dims) for cell in hottest]
        fine = torch.zeros_like(coarse)
        fine.view(-1)[hottest] = _lowered(network, images, blurred, small, index, whole)
    heat: Tensor = (_relative(coarse) + _relative(fine)) / 2
    return heat


Part = tuple[slice, ...]


def _lowered(
    network: nn.Module, images: Tensor, blurred: Tensor, parts: list[Part], index: int, whole: float
) -> Tensor:
    """(P,) by how much each covered part lowers the logit."""
    found = []
    for first in range(0, len(parts), AT_ONCE):
        some = parts[first : first + AT_ONCE]
        covered = images.repeat(len(some), *[1] * (images.ndim - 1))
        for one, part in zip(covered, some, strict=True):
            inside = (slice(None), *_pixels(part, images.shape[2:]))
            one[inside] = blurred[0][inside]
        found.append(whole - network(covered)[:, index].float().cpu())
    return torch.cat(found)


def _pixels(part: Part, sides: torch.Size) -> Part:
    grid = GRID[len(sides)]
    return tuple(
        slice(cells.start * side // grid, -(-cells.stop * side // grid))
        for cells, side in zip(part, sides, strict=True)
    )


def _around(cell: int, grid: int, dims: int) -> Part:
    """The small part around a cell, as far as it lies within the scan."""
    place = [cell // grid**axis % grid for axis in reversed(range(dims))]
    half = SMALL[dims] // 2
    return tuple(slice(max(at - half, 0), min(at + half + 1, grid)) for at in place)


def _spread(parts: list[Part], lowered: Tensor, grid: int, dims: int) -> Tensor:
    """Each cell's mean over the parts that cover it."""
    total, count = torch.zeros([grid] * dims), torch.zeros([grid] * dims)
    for part, drop in zip(parts, lowered, strict=True):
        total[part] += drop
        count[part] += 1
    return total / count


def _blurred(images: Tensor) -> Tensor:
    """The scan without anything small."""
    few = F.adaptive_avg_pool2d(images, BLUR) if images.ndim == 4 else F.adaptive_avg_pool3d(images, BLUR)
    mode = "bilinear" if images.ndim == 4 else "trilinear"
    return F.interpolate(few, size=images.shape[2:], mode=mode, align_corners=False)


def _relative(heat: Tensor) -> Tensor:
    """Drops from 0 to 1; rises count as 0."""
    return heat.clamp(min=0.0) / heat.max().clamp(min=1e-8)
