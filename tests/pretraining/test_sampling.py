"""Batches: each scan once an epoch, copies counted once, partners of one patient, groups by patient and picture."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl.pretraining.sampling import Sampler

NONE = np.empty((0, 2), np.int64)


def manifest(patients: list[int | None]) -> pd.DataFrame:
    ids = pd.array([None if p is None else f"p{p}" for p in patients], dtype="string")
    return pd.DataFrame({"patient_id": ids, "study_id": ids})


@settings(max_examples=30, deadline=None)
@given(patients=st.lists(st.integers(0, 5) | st.none(), min_size=8, max_size=30), seed=st.integers(0, 99))
def test_an_epoch_draws_each_scan_once(patients: list[int | None], seed: int) -> None:
    rows = np.arange(0, len(patients), 2)
    sampler = Sampler(manifest(patients), rows, copies=NONE, pairs="scan", batch_size=len(rows), seed=seed)
    drawn = sampler.at(0).scans
    assert sorted(drawn[:, 0]) == rows.tolist() and np.array_equal(drawn[:, 0], drawn[:, 1])


def test_one_of_near_duplicates_is_drawn_and_they_share_a_group() -> None:
    copies = np.array([[0, 4], [0, 6], [2, 3]])
    sampler = Sampler(
        manifest([0, 1, 2, 3, 4, 5, 6, 7]), np.arange(8), copies=copies, pairs="scan", batch_size=5, seed=0
    )
    assert sampler.rows.tolist() == [0, 1, 2, 5, 7]
    sampler = Sampler(manifest([0, 1, 2, 3, 4, 5, 6, 7]), np.arange(4, 8), copies=copies, pairs="scan", batch_size=3,
                      seed=0)  # fmt: skip
    assert sampler.rows.tolist() == [4, 5, 7], "one stays where the original is in another part"


@settings(max_examples=30, deadline=None)
@given(patients=st.lists(st.integers(0, 4) | st.none(), min_size=8, max_size=24), step=st.integers(0, 50))
def test_partners_are_other_scans_of_the_patient(patients: list[int | None], step: int) -> None:
    rows = np.arange(len(patients))
    sampler = Sampler(manifest(patients), rows, copies=NONE, pairs="patient", batch_size=8, seed=1)
    batch = sampler.at(step)
    for (first, second), group in zip(batch.scans, batch.group, strict=True):
        alone = patients[first] is None or patients.count(patients[first]) == 1
        assert (first == second) == alone
        assert patients[first] == patients[second]
        others = [g for (row, _), g in zip(batch.scans, batch.group, strict=True) if row != first]
        mates = [row for row, _ in batch.scans if row != first]
        for mate, other in zip(mates, others, strict=True):
            assert (other == group) == (patients[first] is not None and patients[mate] == patients[first])
    assert np.array_equal(batch.scans, sampler.at(step).scans)


def test_a_process_holds_its_part() -> None:
    sampler = Sampler(manifest(list(range(12))), np.arange(12), copies=NONE, pairs="scan", batch_size=6, seed=0)
    whole = sampler.at(3)
    halves = [whole.part(slice(0, 3)), whole.part(slice(3, 6))]
    assert np.array_equal(np.concatenate([half.scans for half in halves]), whole.scans)
    assert np.array_equal(np.concatenate([half.group for half in halves]), whole.group)


def test_what_may_be_a_pair_by_study_is_no_negative() -> None:
    """Studies whose patients nobody knows."""
    table = pd.DataFrame({
        "patient_id": pd.array(["a", "b", "c", "d"], dtype="string"),
        "study_id": pd.array(["s", "s", "t", None], dtype="string"),
    })  # fmt: skip
    groups = Sampler(table, np.arange(4), copies=NONE, pairs="study", batch_size=4, seed=0).at(0)
    group = dict(zip(groups.scans[:, 0].tolist(), groups.group.tolist(), strict=True))
    assert group[0] == group[1] and len({group[0], group[2], group[3]}) == 3
    apart = Sampler(table, np.arange(4), copies=NONE, pairs="scan", batch_size=4, seed=0).at(0)
    assert len(set(apart.group.tolist())) == 4
