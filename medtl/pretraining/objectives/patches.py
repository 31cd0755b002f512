"""What masked image modelling is made of: patches, which of them are hidden, and the loss on those."""

import torch.nn.functional as F
from torch import Tensor

from medtl.encoders.vit import padded
from medtl.pretraining.draws import Draws


def cut(images: Tensor, patch_px: int) -> Tensor:
    """(B, C, [D,] H, W) -> (B, N, C * patch_px ** dims): patches in the order of `Tensor.flatten`.

    Sides that are no multiple of the patch are padded at the end with black.
    """
    dims = images.ndim - 2
    whole = padded(images, patch_px)
    split = whole.reshape(*whole.shape[:2], *(n for side in whole.shape[2:] for n in (side // patch_px, patch_px)))
    places, inner = range(2, 2 + 2 * dims, 2), range(3, 3 + 2 * dims, 2)
    return split.permute(0, *places, 1, *inner).flatten(dims + 1).flatten(1, dims)


def hidden_patches(draws: Draws, patches: int, ratio: float) -> Tensor:
    """(B, patches) True where a patch is hidden: the same number in every scan, at least one, never all."""
    count = min(max(round(ratio * patches), 1), patches - 1)
    return draws.order(patches) < count


def normalised(patches: Tensor) -> Tensor:
    """Each patch (B, N, P) with mean 0 and variance 1 (He 2022, arXiv 2111.06377, sec. 3, "Reconstruction target").

    A patch of one colour becomes 0.
    """
    centred = patches - patches.mean(dim=2, keepdim=True)
    return centred / (centred.square().mean(dim=2, keepdim=True) + 1e-6).sqrt()


def hidden_loss(predicted: Tensor, images: Tensor, hidden: Tensor, patch_px: int) -> Tensor:
    """Mean squared error from the normalised patches (B, N, P), over hidden patches only.

    Every scan hides as many patches, so this is a mean over scans.
    """
    target = normalised(cut(images, patch_px))
    return F.mse_loss(predicted[hidden], target[hidden])
