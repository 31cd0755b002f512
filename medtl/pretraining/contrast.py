"""Methods that compare scans need some that may be told apart: of several patients, and several at a time."""

from medtl.data.dataset import Dataset
from medtl.errors import ConfigError, RunError
from medtl.pretraining.config import SMALLEST_BATCH, PretrainConfig
from medtl.pretraining.methods import methods_of
from medtl.pretraining.sampling import Sampler
from medtl.progress import say
from medtl.training.batches import Rows

CONTRAST = "contrast"
COMPARING = (CONTRAST, "self-distillation", "redundancy reduction")
"""Families whose loss or norms in the head are worth nothing with few scans at a time."""
INSTEAD = "vicreg"
"""What is taken for scans of one patient where nobody has chosen: its negatives are dimensions, not patients."""


def check_parts(plan: PretrainConfig, *, batch_size: int) -> None:
    """Make sure that scans are compared with enough others: with those of the same part of a batch.

    Raises:
        ConfigError: the parts are too small.
    """
    part = batch_size // plan.accumulate
    names = _of_families(plan, COMPARING)
    if names and part < SMALLEST_BATCH:
        raise ConfigError(
            f"accumulate: {names[0]} compares scans within a part of the batch, where {part} of {batch_size} are too "
            f"few; lower accumulate to {max(1, batch_size // SMALLEST_BATCH)}, or raise batch_size to "
            f"{SMALLEST_BATCH * plan.accumulate} if there are as many scans"
        )


def with_contrast(plan: PretrainConfig, data: Dataset, rows: Rows, sampler: Sampler) -> PretrainConfig:
    """The plan, with another method where contrast has nothing to learn from and nobody has asked for it.

    Args:
        rows: (N,) the rows to learn from.
        sampler: of these rows.

    Raises:
        RunError: contrast was asked for, and no scan may be told apart from another.
    """
    names = _of_families(plan, (CONTRAST,))
    if not names or sampler.groups > 1:
        return plan
    patients = data.manifest["patient_id"].iloc[rows].nunique(dropna=False)
    belong = "belong to one patient" if patients == 1 else "are copies of each other or of one patient"
    why = f"all {len(rows):,} scans {belong}, so there is nothing to contrast"
    if {"method", "objective", "weights"} & plan.model_fields_set:
        raise RunError(f"{data.folder}: {why} with {names[0]}; use --method {INSTEAD}, or correct patient_id")
    say(f"{why}: the method is {INSTEAD} instead of {names[0]}; if they are of several patients, correct patient_id")
    return plan.model_copy(update={"method": INSTEAD})


def _of_families(plan: PretrainConfig, families: tuple[str, ...]) -> list[str]:
    """The methods of these families that count in the loss."""
    rows = methods_of(plan.method)
    return [name for name, row in rows.items() if row.family in families and plan.weights.get(name, 1.0)]
