"""Do readers agree beyond chance? Kappa of two readers, and of many."""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.int64]


def cohen_kappa(first: Array, second: Array) -> float:
    """Cohen's kappa of two readers (Cohen 1960, doi 10.1177/001316446002000104, eq. 1).

    Args:
        first, second: (N,) what each said of the same cases, as numbers of categories.

    Returns:
        1 for complete agreement, 0 for what chance gives; nan without cases, or where both say the same one category
        throughout: chance then explains all, and kappa is not defined.
    """
    if len(first) == 0:
        return math.nan
    categories = np.unique(np.concatenate([first, second]))
    observed = float(np.mean(first == second))
    expected = sum(float(np.mean(first == each)) * float(np.mean(second == each)) for each in categories)
    return (observed - expected) / (1 - expected) if expected < 1 else math.nan


def fleiss_kappa(counts: Array) -> float:
    """Fleiss' kappa of many readers (Fleiss 1971, doi 10.1037/h0031619).

    Args:
        counts: (N, K) how many readers put each case into each category. Every case needs as many readers; which
            readers they are may differ from case to case.

    Returns:
        As `cohen_kappa`.

    Raises:
        ValueError: cases with different numbers of readers, or with fewer than two.
    """
    if len(counts) == 0:
        return math.nan
    readers = int(counts[0].sum())
    if readers < 2 or (counts.sum(axis=1) != readers).any():
        raise ValueError(f"readers a case: {sorted(set(counts.sum(axis=1).tolist()))}; expected one number from 2 on")
    agreeing = (counts * (counts - 1)).sum(axis=1) / (readers * (readers - 1))
    share = counts.sum(axis=0) / counts.sum()
    observed, expected = float(agreeing.mean()), float((share**2).sum())
    return (observed - expected) / (1 - expected) if expected < 1 else math.nan
