"""Heatmaps: which part of a scan speaks for a finding."""

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from medtl.data.scan import Scan
from medtl.inference.bundle import Bundle, Classifier


def grad_cam(classifier: Classifier, bundle: Bundle, scan: Scan, index: int) -> npt.NDArray[np.float32]:
    """Grad-CAM of one output, brought back onto the scan's own pixels.

    Args:
        index: which of the bundle's findings.

    Returns:
        (H, W) of the scan, 0..1.
    """
    from monai.visualize import GradCAM

    stored = bundle.spec.stored(scan)
    images = bundle.spec.network_input(torch.from_numpy(stored[None]))
    layer = f"encoder.{classifier.encoder.cam_layer}"
    # MONAI's default post-processing stretches every map to 0..1, also one with nothing in it.
    cam = GradCAM(classifier, target_layers=layer, postprocessing=lambda raw: raw)
    with torch.enable_grad():
        raw = cam(images, class_idx=index)[0, 0]
    heat = np.maximum(np.asarray(raw.detach().cpu(), np.float32), 0.0)
    heat = heat / max(float(heat.max()), 1e-8)
    side = bundle.spec.size_px
    square = np.asarray(Image.fromarray(heat).resize((side, side), Image.Resampling.BILINEAR))
    height, width = scan.pixels.shape
    top, left = bundle.spec.margins((height, width))
    inside = square[top : side - top or None, left : side - left or None]
    resized = np.asarray(Image.fromarray(inside).resize((width, height), Image.Resampling.BILINEAR))
    return np.asarray(np.clip(resized, 0.0, 1.0), np.float32)
