"""Windows: from values in a unit, such as Hounsfield units, to 0..1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medtl.config import closest
from medtl.data.values import Pixels
from medtl.errors import ConfigError

FULL_HU = (-1000.0, 1000.0)
"""Air to dense bone: everything that a CT without a window of its own may be about."""

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
"""VOI LUT Function, PS3.3 C.11.2.1.3."""
NAMED_HU = {
    "lung": (-600.0, 1500.0),
    "mediastinum": (40.0, 400.0),
    "bone": (400.0, 1800.0),
    "abdomen": (50.0, 400.0),
    "liver": (60.0, 160.0),
    "brain": (40.0, 80.0),
    "subdural": (75.0, 215.0),
    "stroke": (40.0, 40.0),
}
"""Centre and width in Hounsfield units, as they are usual at the workstation."""


def check_windows(names: Sequence[str]) -> None:
    """Refuse names of no window.

    Raises:
        ConfigError: with the one that may be meant, or the choices.
    """
    for name in names:
        if name not in NAMED_HU:
            raise ConfigError(f"--window: no window is called '{name}'{closest(name, list(NAMED_HU))}")


def windowed(values: npt.NDArray[Any], *, centre: float, width: float, function: str = "LINEAR") -> Pixels:
    """A window to 0..1: LINEAR (PS3.3 C.11.2.1.2.1), SIGMOID (C.11.2.1.3.1) or LINEAR_EXACT (C.11.2.1.3.2)."""
    x = values.astype(np.float64)
    if function == "SIGMOID":
        return (1 / (1 + np.exp(np.clip(-4 * (x - centre) / width, -700, 700)))).astype(np.float32)
    if function == "LINEAR_EXACT":
        y = (x - centre) / width + 0.5
    elif width == 1:
        y = np.where(x > centre - 0.5, 1.0, 0.0)
    else:
        y = (x - (centre - 0.5)) / (width - 1) + 0.5
    return np.clip(y, 0, 1).astype(np.float32)
