"""Draws of labels: by patient, with every class, the same for every start."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtl.data.labels import LabelTable
from medtl.errors import LabelError
from medtl.studying.draws import Amount, Pool, draw, pool_of


def pool(seed: int, *, scans: int, each: int, findings: int) -> Pool:
    """Scans of patients with `each` scans, with unknown labels among them, and every class in four scans or more."""
    random = np.random.default_rng(seed)
    values = random.choice([0.0, 1.0, np.nan], size=(scans, findings), p=[0.5, 0.3, 0.2]).astype(np.float32)
    values[:4], values[4:8] = 0, 1
    table = LabelTable(findings=tuple(f"f{i}" for i in range(findings)), values=values)
    train = random.random(scans) < 0.9
    train[:8] = True
    return pool_of(table, train=train, patients=random.permutation(scans) // each)


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(0, 9))
def test_draws_have_every_class_and_repeat_only_patients_who_must_be(
    seed, each, findings, per_class, draw_seed
) -> None:
    there = pool(seed, scans=60, each=each, findings=findings)
    found = draw(there, Amount(per_class), seed=draw_seed)
    place = {row: i for i, row in enumerate(there.rows.tolist())}
    chosen = [place[row] for row in found.rows.tolist()]
    assert len(set(chosen)) == len(chosen)
    values = there.values[chosen]
    for value in (0, 1):
        counts = (values == value).sum(axis=0)
        assert (counts >= per_class).all()
        assert findings > 1 or counts[0] == per_class
    assert found.repeated == len(chosen) - len(set(there.patients[chosen]))
    if each == 1:
        assert found.repeated == 0
    np.testing.assert_array_equal(draw(there, Amount(per_class), seed=draw_seed).rows, found.rows)
    if per_class > 1:
        fewer = draw(there, Amount(per_class - 1), seed=draw_seed)
        assert set(fewer.rows.tolist()) <= set(found.rows.tolist()), "more labels hold fewer"


def test_another_patient_as_long_as_there_are_enough() -> None:
    """Ten patients with three scans each, half of them sick: five a class need nobody twice, six need one twice."""
    values = np.repeat(np.arange(10) % 2, 3).astype(np.float32)[:, None]
    table = LabelTable(findings=("x",), values=values)
    there = pool_of(table, train=np.ones(30, bool), patients=np.repeat(np.arange(10), 3))
    for seed in range(20):
        assert draw(there, Amount(5), seed=seed).repeated == 0
        assert draw(there, Amount(6), seed=seed).repeated == 2
    assert len({tuple(draw(there, Amount(3), seed=seed).rows) for seed in range(20)}) > 10


@given(st.integers(0, 10**6), st.floats(0.05, 1.0))
def test_a_fraction_is_that_share_with_every_class(seed: int, fraction: float) -> None:
    there = pool(seed, scans=80, each=2, findings=2)
    found = draw(there, Amount(1, fraction), seed=0)
    assert len(found.rows) == max(round(fraction * len(there.rows)), len(draw(there, Amount(1), seed=0).rows))
    values = there.values[np.isin(there.rows, found.rows)]
    assert ((values == 1).any(axis=0) & (values == 0).any(axis=0)).all()


def test_exclusive_findings_are_drawn_class_by_class() -> None:
    values = np.eye(3, dtype=np.float32)[np.arange(90) % 3]
    there = pool_of(
        LabelTable(findings=("a", "b", "c"), values=values), train=np.ones(90, bool), patients=np.arange(90)
    )
    rows = draw(there, Amount(4), seed=1).rows
    assert values[rows].sum(axis=0).tolist() == [4, 4, 4] and len(rows) == 12


def test_too_many_a_class_says_what_works() -> None:
    values = np.array([[1.0]] * 3 + [[0.0]] * 9, np.float32)
    there = pool_of(LabelTable(findings=("x",), values=values), train=np.ones(12, bool), patients=np.arange(12))
    there.check([Amount(3)])
    with pytest.raises(
        LabelError,
        match=r"^x: the train part has 3 labeled scans with it, --labels-per-class asks for 10; at most "
        r"--labels-per-class 3 works$",
    ):
        there.check([Amount(2), Amount(10)])
    healthy = pool_of(LabelTable(findings=("x",), values=values), train=values[:, 0] == 0, patients=np.arange(12))
    with pytest.raises(LabelError, match=r"^x: no labeled scan of the train part is with it; a study needs both"):
        healthy.check([Amount(1)])
