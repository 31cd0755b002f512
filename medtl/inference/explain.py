"""Heatmaps: which part of a scan speaks for a finding."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medtl.config import closest
from medtl.data.resample import resized
from medtl.data.scan import Scan
from medtl.errors import ConfigError
from medtl.inference.bundle import Bundle, Classifier
from medtl.inference.occlusion import drops

Heat = npt.NDArray[np.float32]


def explain(classifier: Classifier, bundle: Bundle, scan: Scan, index: int, *, method: str) -> Heat:
    """A heatmap of one output, brought back onto the scan's own pixels.

    Args:
        index: which of the bundle's findings.
        method: a name of `METHODS`.

    Returns:
        (H, W) or (D, H, W) of the scan, 0..1; zero where a volume reaches over what the network sees, and everywhere
        where nothing speaks for the finding.

    Raises:
        ConfigError: no such method.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown heatmap '{method}'{closest(method, list(METHODS))}")
    stored = bundle.spec.stored(scan)
    images = bundle.spec.network_input(torch.from_numpy(stored[None]))
    heat = METHODS[method](classifier, images, index).clamp(min=0.0).numpy()
    heat = heat / np.float32(max(float(heat.max()), 1e-8))
    block = resized(heat.astype(np.float32), bundle.spec.stored_shape[1:])
    shape = bundle.spec.scaled_shape(scan)
    take, put = bundle.spec.placement(shape)
    scaled = np.zeros(shape, np.float32)
    scaled[take] = block[put]
    return np.clip(resized(scaled, scan.pixels.shape), 0.0, 1.0)


def grad_cam(classifier: Classifier, images: Tensor, index: int) -> Tensor:
    """Grad-CAM (Selvaraju 2017, arXiv 1610.02391, eq. 1-2, before the ReLU), at the sides of the encoder's `cam_layer`.

    Args:
        images: (1, C, S, S) or (1, C, S, S, S).

    Returns:
        (h, w) or (d, h, w).
    """
    maps, gradient = _layer(classifier, images, index)
    return _weighed(maps, gradient.flatten(2).mean(dim=2))


def grad_cam_plus_plus(classifier: Classifier, images: Tensor, index: int) -> Tensor:
    """Grad-CAM++ (Chattopadhay 2018, arXiv 1710.11063, eq. 5 and 19), for several places that speak for the finding.

    As in the paper the class score is exp(logit), whose higher derivatives are powers of the gradient; its common
    factor exp(logit) is left out, because heatmaps are scaled to 1. The paper's maps come after a ReLU; of a layer
    that has none, what lies below zero is left out, or the weights have no meaning.
    """
    maps, gradient = _layer(classifier, images, index)
    maps = maps.clamp(min=0.0)
    square, cube = gradient**2, gradient**3
    spread = maps.flatten(2).sum(dim=2)[(..., *[None] * (maps.ndim - 2))] * cube
    below = 2 * square + spread
    alpha = torch.where(below != 0, square / torch.where(below != 0, below, 1.0), 0.0)  # eq. 19
    return _weighed(maps, (alpha * gradient.clamp(min=0.0)).flatten(2).sum(dim=2))  # eq. 5


METHODS: dict[str, Callable[[Classifier, Tensor, int], Tensor]] = {
    "grad-cam": grad_cam,
    "grad-cam++": grad_cam_plus_plus,
    "occlusion": drops,
}
DEFAULT = "grad-cam"
"""What points best at lesions whose place is known: docs/results.md."""


def _layer(classifier: Classifier, images: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """The output (1, K, h, w) or (1, K, d, h, w) of the encoder's `cam_layer`, and the logit's gradient by it."""
    layer = classifier.encoder.get_submodule(classifier.encoder.cam_layer)
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        with torch.enable_grad():
            logit = classifier(images)[0, index]
            (gradient,) = torch.autograd.grad(logit, seen[0])
    finally:
        hook.remove()
    return seen[0].detach(), gradient


def _weighed(maps: Tensor, weights: Tensor) -> Tensor:
    """Maps (1, K, ...) added up with weights (1, K)."""
    return (weights[(..., *[None] * (maps.ndim - 2))] * maps).sum(dim=1)[0].cpu()
