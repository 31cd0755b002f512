"""What a step is made of: balanced draws counted, mixtures by hand, the same for the same step."""

import dataclasses

import numpy as np
import pytest
import torch

from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.errors import ConfigError
from medtl.finetuning.batches import mixed, strata_of
from medtl.finetuning.config import FinetuneConfig
from medtl.training.batches import balanced_rows

NAN = float("nan")


def test_strata_take_turns_whatever_their_size() -> None:
    strata = [np.arange(3), np.arange(10, 110), np.array([500])]
    drawn = np.concatenate([balanced_rows(strata, step=i, batch_size=8, seed=1) for i in range(75)])
    counts = [int(np.isin(drawn, stratum).sum()) for stratum in strata]
    assert counts == [200, 200, 200]
    assert set(np.bincount(drawn)[:3]) == {66, 67}, "within a stratum each row is drawn as often as any other"
    assert np.bincount(drawn)[10:110].tolist() == [2] * 100
    assert (balanced_rows(strata, step=5, batch_size=8, seed=1) == drawn[40:48]).all()


@pytest.fixture
def grouped(dataset: Dataset) -> Dataset:
    """The first third of the scans from another scanner, some of none that is known."""
    manifest = dataset.manifest.copy()
    scanner = np.where(np.arange(len(manifest)) < len(manifest) // 3, "A", "B").astype(object)
    scanner[-7:] = None
    manifest["scanner"] = scanner
    manifest["scanner"] = manifest["scanner"].astype("string")
    return dataclasses.replace(dataset, manifest=manifest)


def test_strata_are_classes_or_classes_in_groups(grouped: Dataset) -> None:
    labels = grouped.labels()
    rows = np.arange(len(grouped))
    assert strata_of(grouped, labels, rows, FinetuneConfig()) is None
    classes = strata_of(grouped, labels, rows, FinetuneConfig(sampling="class"))
    assert classes is not None
    assert [set(labels.values[stratum, 0]) for stratum in classes] == [{0.0}, {1.0}]
    groups = strata_of(grouped, labels, rows, FinetuneConfig(sampling="group"))
    assert groups is not None
    scanners = grouped.manifest["scanner"].fillna("unknown").to_numpy(dtype=str)
    kinds = [{(scanners[row], labels.values[row, 0]) for row in stratum} for stratum in groups]
    assert all(len(kind) == 1 for kind in kinds)
    assert {kind for each in kinds for kind in each} == {(s, v) for s in ("A", "B", "unknown") for v in (0.0, 1.0)}
    assert sum(map(len, groups)) == len(rows)


def test_unknown_labels_are_in_no_class(dataset: Dataset) -> None:
    values = np.full((len(dataset), 2), NAN, np.float32)
    values[:4] = [[1, NAN], [0, 1], [NAN, 1], [1, 0]]
    strata = strata_of(
        dataset, LabelTable(findings=("a", "b"), values=values), np.arange(5), FinetuneConfig(sampling="class")
    )
    assert strata is not None
    assert [stratum.tolist() for stratum in strata] == [[1], [0, 3], [3], [1, 2]]


def test_groups_are_a_column_of_the_manifest(dataset: Dataset) -> None:
    plan = FinetuneConfig(sampling="group", groups="scaner")
    with pytest.raises(ConfigError, match="has no column 'scaner' in its manifest; did you mean 'scanner'"):
        strata_of(dataset, dataset.labels(), np.arange(4), plan)


def test_mixup_mixes_scans_and_labels_by_one_share() -> None:
    images = torch.arange(6.0).reshape(6, 1, 1, 1)
    labels = torch.stack([torch.arange(6.0) / 10, torch.tensor([0, 1, NAN, 0, 1, 1])], dim=1)
    seen, unknown = [], 0
    for step in range(300):
        found, targets = mixed(images, labels, alpha=0.4, identity=(0, step))
        torch.testing.assert_close(found.flatten() / 10, targets[:, 0])
        torch.testing.assert_close(found.mean(), images.mean())  # a permutation keeps the batch's mean
        torch.testing.assert_close(targets[:, 0].mean(), labels[:, 0].mean())
        unknown += int(targets[:, 1].isnan().sum())
        seen.append(float(found[0] - images[0]))
        again = mixed(images, labels, alpha=0.4, identity=(0, step))
        assert torch.equal(again[0], found)
    assert 300 < unknown <= 600, "unknown of either is unknown of the mixture"
    assert len(set(np.round(seen, 6))) > 100
