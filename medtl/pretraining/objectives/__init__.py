"""Self-supervised objectives, one file per paper.

An objective is a plain module: views of a batch in, the loss and figures to log out. To add one, write its
file and its line in the table.
"""

from medtl.config import closest
from medtl.errors import ConfigError
from medtl.pretraining.objectives.simclr import SimCLR

OBJECTIVES: dict[str, type[SimCLR]] = {"simclr": SimCLR}


def find_objective(name: str) -> type[SimCLR]:
    """The objective of that name.

    Raises:
        ConfigError: with the nearest name or the list.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"unknown method '{name}'{closest(name, list(OBJECTIVES))}")
    return OBJECTIVES[name]
