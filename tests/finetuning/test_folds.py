"""Folds by patient."""

import numpy as np
import pytest

from medtl.data.labels import LabelTable
from medtl.finetuning.folds import folds_of


@pytest.mark.parametrize("rest", [0, 1])
def test_patients_with_scans_of_both_kinds_are_dealt_to_all_folds(rest: int) -> None:
    """Four patients have both kinds, ten only one: in each fold both kinds are judged, and both learned from."""
    patients = np.array([name for i in range(4) for name in (f"both{i}", f"both{i}")] + [f"one{i}" for i in range(10)])
    y = np.array([1, 0] * 4 + [rest] * 10, np.float32)
    table = LabelTable(findings=("it",), values=y[:, None])
    for seed in range(100):
        folds = folds_of(table, np.arange(len(y)), patients, seed=seed)
        assert len(folds) == 3
        for fold in folds:
            assert set(y[fold.fit]) == set(y[fold.held]) == {0, 1}
            assert not set(patients[fold.fit]) & set(patients[fold.held])
