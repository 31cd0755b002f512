"""Whether values that carry no unit are Hounsfield units, as those of a CT in a NIfTI file are."""

from typing import Any

import numpy as np
import numpy.typing as npt

from medtl.data.volume_display import drawn_from
from medtl.data.windows import FULL_HU

Values = npt.NDArray[np.float32]
TAKEN_AS_CT = "values like Hounsfield units: taken as CT"
PADDING_HU = -1500.0
"""Below is what scanners write outside of their field of view: -2000, -2048, -3024."""
AIR_HU = (-1200.0, -500.0)
"""Where the darkest values of a CT lie, noise and partial volumes included; below the second is air or lung."""
DENSE_HU = 50.0
TISSUE_HU = (-200.0, 300.0)
BETWEEN_HU = (-500.0, -250.0)
"""Lighter than fat and denser than lung: in a CT only borders are, so that there is less of it than of air."""
LEAST_AIR, LEAST_TISSUE = 0.01, 0.02
"""Shares of the scan."""


def hounsfield_units(values: npt.NDArray[Any]) -> Values | None:
    """The values as Hounsfield units, where they look like those of a CT, else None.

    Beside padding they begin where air is, go beyond water, and hold both air or lung and soft tissue, with little
    between. Maps of phases or of a field, which have negative values too, do not; a CT that was cut off above -500 HU
    cannot be told.

    Args:
        values: of any shape; what is not finite becomes air.
    """
    drawn = drawn_from(values)
    known = drawn[np.isfinite(drawn) & (drawn > PADDING_HU)]
    if not known.size:
        return None
    darkest, brightest = (float(value) for value in np.quantile(known, (0.001, 0.999)))
    air = float(np.mean(known <= AIR_HU[1]))
    tissue = float(np.mean((known >= TISSUE_HU[0]) & (known <= TISSUE_HU[1])))
    between = float(np.mean((known > BETWEEN_HU[0]) & (known < BETWEEN_HU[1])))
    reaches = AIR_HU[0] <= darkest <= AIR_HU[1] and brightest >= DENSE_HU
    if not (reaches and air >= max(LEAST_AIR, between) and tissue >= LEAST_TISSUE):
        return None
    return np.where(np.isfinite(values), values, FULL_HU[0]).clip(FULL_HU[0]).astype(np.float32)
