"""Folds by patient: who is learned from, and who judges."""

import numpy as np
import numpy.typing as npt

from medtl.data.labels import LabelTable
from medtl.finetuning.parts import Fold, Rows, count_patients
from medtl.training.batches import rng

FOLDS = 3
FEWEST = 4
"""Fewer patients with or without a finding cannot be dealt to folds."""


def folds_of(
    labels: LabelTable, rows: Rows, patients: npt.NDArray[np.str_], *, seed: int, n_folds: int = FOLDS
) -> tuple[Fold, ...]:
    """Folds by patient, each with about as many of each pattern of findings.

    Args:
        rows: (N,) labeled rows.
        patients: the patient of each row of the manifest.

    Returns:
        `n_folds` of them; none where no finding has `FEWEST` patients with a positive scan and as many with a negative.
    """
    owners, of = np.unique(patients[rows], return_inverse=True)
    highest = np.full((len(owners), len(labels.findings)), -1.0)
    lowest = np.full_like(highest, 2.0)
    np.maximum.at(highest, of, np.nan_to_num(labels.values[rows], nan=-1.0))
    np.minimum.at(lowest, of, np.nan_to_num(labels.values[rows], nan=2.0))
    pattern = np.hstack([lowest, highest])  # a patient with scans of both kinds is a kind of patient
    if not any(min(count_patients(values, patients[rows])) >= FEWEST for values in labels.values[rows].T):
        return ()
    order = rng("folds", seed).permutation(len(owners))
    order = order[np.lexsort(pattern[order].T)]  # like patterns side by side, then dealt out in turn
    number = np.empty(len(owners), np.int64)
    number[order] = np.arange(len(owners)) % n_folds
    return tuple(Fold(fit=rows[number[of] != k], held=rows[number[of] == k]) for k in range(n_folds))
