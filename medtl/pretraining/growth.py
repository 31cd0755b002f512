"""Progressive resolution: small scans first, which cost little, the full side for the rest.

Tan & Le 2021, arXiv 2104.00298, sec. 4; here for the views of pretraining, strength of views unchanged.
"""

from medtl.errors import ConfigError
from medtl.pretraining.methods import methods_of

GROWN = 0.6
"""The share of the work after which the full side is reached."""
STEP_PX = 8


def side_at(share: float, *, side_px: int, grow_from: float, least_px: int = STEP_PX) -> int:
    """The input side at a share of the work, in pixels.

    Args:
        share: of the work that is done, 0..1.
        side_px: the full side.
        grow_from: the first side as a share of the full one; 1 does not grow.
        least_px: the smallest side that the network takes.
    """
    reached = min(1.0, grow_from + (1 - grow_from) * share / GROWN)
    return side_px if reached >= 1 else min(side_px, max(least_px, round(side_px * reached / STEP_PX) * STEP_PX))


def steps_gained(grow_from: float, *, dims: int) -> float:
    """How many times as many steps as at the full side fit into the same time, as the cost is that of the pixels."""
    shares = [i / 200 for i in range(200)]
    return sum(min(1.0, grow_from + (1 - grow_from) * share / GROWN) ** -dims for share in shares) / len(shares)


def check_growth(method: str, grow_from: float) -> None:
    """Make sure that a method can learn from scans that grow.

    Raises:
        ConfigError: it cannot.
    """
    fixed = [name for name, row in methods_of(method).items() if not row.grows]
    if grow_from < 1 and fixed:
        raise ConfigError(f"grow_from: {fixed[0]} learns at one side; leave it out")
