"""Kappas against scikit-learn and against the worked examples of the papers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from medtl.review.agreement import cohen_kappa, fleiss_kappa

# Fleiss 1971, table 1: 30 patients, 6 psychiatrists, 5 diagnoses.
FLEISS_1971 = np.array([
    [0, 0, 0, 6, 0], [0, 3, 0, 0, 3], [0, 1, 4, 0, 1], [0, 0, 0, 0, 6], [0, 3, 0, 3, 0], [2, 0, 4, 0, 0],
    [0, 0, 4, 0, 2], [2, 0, 3, 1, 0], [2, 0, 0, 4, 0], [0, 0, 0, 0, 6], [1, 0, 0, 5, 0], [1, 1, 0, 4, 0],
    [0, 3, 3, 0, 0], [1, 0, 0, 5, 0], [0, 2, 0, 3, 1], [0, 0, 5, 0, 1], [3, 0, 0, 1, 2], [5, 1, 0, 0, 0],
    [0, 2, 0, 4, 0], [1, 0, 2, 0, 3], [0, 0, 0, 0, 6], [0, 1, 0, 5, 0], [0, 2, 0, 1, 3], [2, 0, 0, 4, 0],
    [1, 0, 0, 4, 1], [0, 5, 0, 1, 0], [4, 0, 0, 0, 2], [0, 2, 0, 4, 0], [1, 0, 5, 0, 0], [0, 0, 0, 0, 6],
])  # fmt: skip


def test_fleiss_own_example() -> None:
    assert FLEISS_1971.sum() == 180
    assert fleiss_kappa(FLEISS_1971) == pytest.approx(0.430, abs=5e-4), "as printed, to three decimals"


def test_cohen_by_hand() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed 0.7; expected 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa 0.4.
    first, second = np.array([1] * 25 + [0] * 25), np.array([1] * 20 + [0] * 5 + [1] * 10 + [0] * 15)
    assert cohen_kappa(first, second) == pytest.approx(0.4, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_cohen_as_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs).T
    expected = math.nan if len(set(first) | set(second)) == 1 else cohen_kappa_score(first, second)
    assert cohen_kappa(first, second) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_the_ends_of_the_scale() -> None:
    yes_no = np.array([0, 1, 0, 1])
    assert cohen_kappa(yes_no, yes_no) == 1
    assert cohen_kappa(yes_no, 1 - yes_no) == -1
    assert fleiss_kappa(np.array([[3, 0], [0, 3]])) == 1
    assert math.isnan(cohen_kappa(yes_no[:0], yes_no[:0])) and math.isnan(fleiss_kappa(FLEISS_1971[:0]))
    assert math.isnan(cohen_kappa(yes_no * 0, yes_no * 0)) and math.isnan(fleiss_kappa(np.array([[3, 0], [3, 0]])))


@pytest.mark.parametrize("counts", [[[3, 0], [1, 1]], [[1, 0], [0, 1]]])
def test_fleiss_needs_equally_many_readers(counts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="expected one number from 2 on"):
        fleiss_kappa(np.array(counts))
