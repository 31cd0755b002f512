"""The encoder of the last good check, `best/` in a run's folder, and what it is for when the run goes no further."""

from pathlib import Path

from medtl.encoders.store import BEST
from medtl.errors import RunError
from medtl.files import read_json

LARGE_LR = 1e-3
"""No larger learning rate is advised, however large the one was that failed."""


def best_step(folder: Path) -> int | None:
    """The step that a run's best encoder is of; None where it has none.

    Args:
        folder: the run's.
    """
    marker = folder / BEST / "encoder.json"
    return int(read_json(marker, error=RunError)["step"]) if marker.is_file() else None


def way_on(folder: Path, *, lr: float) -> str:
    """What to do with a run whose numbers are no longer finite, in words. Its checkpoint leads to the same end."""
    lower, step = f"--set lr={min(lr / 3, LARGE_LR):.1g} --out NEW", best_step(folder)
    if step is None:
        return f"start anew with {lower}"
    return f"the encoder of step {step:,} was still good, go on from it with --from {folder / BEST} {lower}"
