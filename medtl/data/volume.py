"""From modality values with a place in space to a volume."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medtl.data.geometry import Affine, upright
from medtl.data.scan import Header, Scan
from medtl.data.values import spread
from medtl.data.windows import FULL_HU


def volume_scan(
    values: npt.NDArray[np.float32],
    affine: Affine,
    *,
    name: str,
    sha256: str,
    header: Header,
    steps: Sequence[str] = (),
    hounsfield: bool = False,
    inverted: bool = False,
) -> Scan:
    """Turn a volume upright and choose its display values, the same for all slices.

    Args:
        values: (I, J, K) modality values; NaN where there is none.
        affine: from (i, j, k) to mm, RAS.
        hounsfield: whether they are Hounsfield units, which are then kept.
        inverted: whether small values are to be shown bright (MONOCHROME1).
    """
    turned, spacing, turn = upright(values, affine)
    turned = np.ascontiguousarray(turned, np.float32)
    if hounsfield:
        low, high = FULL_HU
        turned = np.nan_to_num(turned, nan=low).clip(low)
        pixels, step = np.clip((turned - low) / (high - low), 0, 1), f"{low:g} to {high:g} HU"
    else:
        pixels, step = spread(turned)
    if inverted:
        pixels, step = np.float32(1) - pixels, f"{step}; inverted (MONOCHROME1)"
    return Scan(
        pixels=pixels.astype(np.float32, copy=False),
        spacing_mm=spacing,
        hu=turned if hounsfield else None,
        header=header,
        source=name,
        sha256=sha256,
        steps=(*steps, turn, step),
    )
