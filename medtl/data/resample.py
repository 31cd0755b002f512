"""Images and volumes to another number of pixels."""

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


def _plane(values: Pixels, height: int, width: int) -> Pixels:
    if values.shape == (height, width):
        return values
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
