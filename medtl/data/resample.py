"""Images and volumes to another number of pixels."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.float32]


def resized(values: Pixels, shape: tuple[int, ...]) -> Pixels:
    """Resample to `shape` pixels over the same extent, averaging where it shrinks (Pillow's antialiased bilinear).

    Args:
        values: (H, W) or (D, H, W) float32.
        shape: as many sides.
    """
    if values.shape == shape:
        return values
    if values.ndim == 2:
        return _plane(values, shape[0], shape[1])
    planes = np.stack([_plane(plane, shape[1], shape[2]) for plane in values])
    # The filter is separable: depth is the rows of a picture whose columns are all the voxels of a plane.
    return _plane(planes.reshape(len(planes), -1), shape[0], shape[1] * shape[2]).reshape(shape)


def resized_coarse(values: Pixels, shape: tuple[int, ...], *, of: tuple[int, ...]) -> Pixels:
    """Resample an image that was decoded at 1/2, 1/4, ... of its sides, as `resized` would resample all of it.

    Value k of a wavelet's low band lies on the image's pixel k * step, not in the middle of the step pixels from there
    on (ITU-T T.800 F.3). Without the shift, edges would be off by as much as half a step.

    Args:
        values: (h, w) float32.
        shape: (H, W) of the result.
        of: sides of the whole image.
    """
    step = 2 ** round(math.log2(max(of) / max(values.shape)))
    first = (step - 1) / 2 / step  # where the whole image begins, in coarse pixels
    image = Image.fromarray(np.pad(values, ((0, 1), (0, 1)), mode="edge"))
    box = (first, first, first + of[1] / step, first + of[0] / step)
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=box), np.float32)


def _plane(values: Pixels, height: int, width: int) -> Pixels:
    if values.shape == (height, width):
        return values
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
