"""The ensemble: who is left out, what is averaged, and that finished members are not fitted again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.errors import RunError
from medtl.evaluation.calibration import fit_temperature
from medtl.finetuning.calibrate import SHARPEST
from medtl.finetuning.parts import Fold
from medtl.finetuning.semi.members import Member, ensemble, folds


class Brightness(nn.Module):
    """An encoder whose embedding is the mean brightness."""

    widths = (1,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).mean(dim=1, keepdim=True)


class Bright(nn.Module):
    """A classifier whose logit is the mean brightness, times a slope."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope, self.encoder = slope, Brightness()

    def head(self, brightness: torch.Tensor) -> torch.Tensor:
        return self.slope * (brightness + 0.26)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x))


@pytest.fixture
def labels(dataset: Dataset) -> LabelTable:
    return dataset.labels()


def train_rows(dataset: Dataset) -> np.ndarray:
    return np.flatnonzero(dataset.manifest["split"].to_numpy() == "train").astype(np.int64)


def test_folds_leave_each_patient_out_once(dataset: Dataset, labels: LabelTable) -> None:
    rows = train_rows(dataset)
    divided = folds(dataset, labels, rows, members=4, seed=0)
    patients = dataset.manifest["patient_id"].to_numpy()
    assert sorted(np.concatenate([fold.held for fold in divided])) == sorted(rows)
    for fold in divided:
        assert not set(patients[fold.fit]) & set(patients[fold.held])
        assert set(labels.values[fold.fit, 0]) == set(labels.values[fold.held, 0]) == {0.0, 1.0}


def test_a_member_is_not_left_with_one_class(dataset: Dataset, labels: LabelTable) -> None:
    rows = train_rows(dataset)
    positive = rows[labels.values[rows, 0] == 1]
    patients = dataset.manifest["patient_id"].to_numpy()
    of_one = positive[patients[positive] == patients[positive[0]]]
    few = np.concatenate([of_one, rows[labels.values[rows, 0] == 0]])
    divided = folds(dataset, labels, few, members=3, seed=0)
    assert len(divided) == 3
    assert all((labels.values[fold.fit, 0] == 1).any() for fold in divided)
    assert not set(of_one) & set(np.concatenate([fold.held for fold in divided]))


def test_one_patient_makes_members_that_saw_all(dataset: Dataset, labels: LabelTable) -> None:
    divided = folds(dataset, labels, train_rows(dataset)[:1], members=3, seed=0)
    assert [(len(fold.fit), len(fold.held)) for fold in divided] == [(1, 0)] * 3


def test_probabilities_are_calibrated_and_averaged_and_members_kept(
    dataset: Dataset, labels: LabelTable, tmp_path: Path
) -> None:
    rows = train_rows(dataset)
    known, rest = rows[:40], rows[40:]
    halves = [Fold(fit=known[:20], held=known[20:]), Fold(fit=known[20:], held=known[:20])]
    slopes, fitted = (30.0, 3.0), []

    def fit_member(number: int, fold: Fold, folder: Path) -> Member:
        fitted.append((number, folder.name))
        return Member(classifier=Bright(slopes[number]), spec=dataset.spec)  # type: ignore[arg-type]

    def run(identity: str = "same") -> np.ndarray:
        return ensemble(dataset, labels, halves, rest, tmp_path, identity=identity, fit_member=fit_member)

    soft = run()
    bright = dataset.pixels(np.arange(len(dataset))).reshape(len(dataset), -1).mean(axis=1) / 127.5 - 1 + 0.26
    unseen = np.concatenate([slopes[0] * bright[halves[0].held], slopes[1] * bright[halves[1].held]])
    truth = np.concatenate([labels.values[half.held, 0] for half in halves])
    temperature = max(SHARPEST, fit_temperature(unseen, truth))

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z / temperature))

    expected = (sigmoid(slopes[0] * bright[rest]) + sigmoid(slopes[1] * bright[rest])) / 2
    # float32 pixels and logits
    np.testing.assert_allclose(soft[rest, 0], expected, atol=1e-4)
    np.testing.assert_allclose(soft[halves[0].held, 0], sigmoid(slopes[0] * bright[halves[0].held]), atol=1e-4)
    others = np.setdiff1d(np.arange(len(dataset)), rows)
    assert np.isnan(soft[others]).all()

    assert fitted == [(0, "member-0"), (1, "member-1")]
    np.testing.assert_array_equal(run(), soft)
    assert len(fitted) == 2, "finished members are read"
    with pytest.raises(RunError, match=r"member-0.*is of another dataset or other labels; resume with"):
        run("other")
    (tmp_path / "member-1" / "logits.safetensors").write_bytes(b"cut")
    with pytest.raises(RunError, match=r"member-1.*is damaged .*delete it, its member is then fitted again"):
        run()
