"""Weights that were learned from colour images, for scans: gray or of several channels, images or volumes."""

from collections.abc import Mapping

from torch import Tensor


def adapted(weights: Mapping[str, Tensor], *, first: str, channels: int, dims: int) -> dict[str, Tensor]:
    """Weights for colour images as weights for scans.

    Args:
        first: the key of the layer that sees colours. For one gray channel it is summed over colour, which gives
            exactly what three equal channels would; three channels keep theirs; for two or more than three each gets
            the mean over colour times 3 / channels.
        dims: for volumes each kernel is repeated along depth and divided by it, so that a volume that does not change
            along depth is seen as its plane would be (Carreira & Zisserman 2017, arXiv 1705.07750, sec. 2.2).
    """
    stem = weights[first]  # (O, 3, K, K)
    if channels != 3:
        stem = stem.sum(dim=1, keepdim=True).repeat(1, channels, 1, 1) / channels
    return {key: _inflated(w) if dims == 3 else w for key, w in (dict(weights) | {first: stem}).items()}


def _inflated(weight: Tensor) -> Tensor:
    """A kernel (O, I, K, K) as (O, I, K, K, K) with the same sum; all else as it is."""
    if weight.ndim != 4:
        return weight
    depth = weight.shape[-1]
    return weight[:, :, None].repeat(1, 1, depth, 1, 1) / depth
