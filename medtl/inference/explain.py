"""Heatmaps: which part of a scan speaks for a finding."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medtl.data.resample import resized
from medtl.data.scan import Scan
from medtl.inference.bundle import Bundle, Classifier


def grad_cam(classifier: Classifier, bundle: Bundle, scan: Scan, index: int) -> npt.NDArray[np.float32]:
    """Grad-CAM (Selvaraju 2017, arXiv 1610.02391, eq. 1-2) of one output, brought back onto the scan's own pixels.

    Args:
        index: which of the bundle's findings.

    Returns:
        (H, W) or (D, H, W) of the scan, 0..1; zero where a volume reaches over what the network sees.
    """
    stored = bundle.spec.stored(scan)
    images = bundle.spec.network_input(torch.from_numpy(stored[None]))
    layer = classifier.encoder.get_submodule(classifier.encoder.cam_layer)
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        with torch.enable_grad():
            logit = classifier(images)[0, index]
            (gradient,) = torch.autograd.grad(logit, seen[0])
    finally:
        hook.remove()
    weights = gradient.mean(dim=tuple(range(2, gradient.ndim)), keepdim=True)  # eq. 1
    raw = (weights * seen[0]).sum(dim=1)[0]  # eq. 2, before the ReLU
    heat: npt.NDArray[np.float32] = raw.detach().cpu().clamp(min=0.0).numpy()
    heat = heat / np.float32(max(float(heat.max()), 1e-8))
    block = resized(heat.astype(np.float32), bundle.spec.stored_shape[1:])
    shape = bundle.spec.scaled_shape(scan)
    take, put = bundle.spec.placement(shape)
    scaled = np.zeros(shape, np.float32)
    scaled[take] = block[put]
    return np.clip(resized(scaled, scan.pixels.shape), 0.0, 1.0)
