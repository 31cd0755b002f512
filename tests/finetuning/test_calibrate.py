"""Operating points and temperatures from the val part only, with a floor, and a note where labels are too few."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.finetuning.calibrate import SHARPEST, calibrate
from medtl.finetuning.parts import split_labeled
from medtl.inference.bundle import read_bundle


@pytest.fixture
def trained(bundle: Path):
    return read_bundle(bundle)


def test_separable_scans_do_not_make_certain(trained, dataset: Dataset) -> None:
    bundle, classifier = trained
    labels = dataset.labels()
    rows = np.flatnonzero(~np.isnan(labels.values[:, 0])).astype(np.int64)
    with torch.no_grad():
        classifier.head.weight.mul_(0.01)  # so timid that the best temperature would be tiny
        classifier.head.bias.mul_(0.01)
    chosen = calibrate(classifier, dataset, labels, rows, bundle.spec, flip_average=False)
    assert chosen.temperatures == {"spot": SHARPEST}
    assert chosen.note == "spot on 60 positive and 60 negative scans of the val part"


def test_too_few_labels_are_said(trained, dataset: Dataset) -> None:
    bundle, classifier = trained
    labels = dataset.labels()
    positive, negative = (np.flatnonzero(labels.values[:, 0] == value) for value in (1, 0))
    rows = np.concatenate([positive[:4], negative[:30]])
    chosen = calibrate(classifier, dataset, labels, rows, bundle.spec, flip_average=False)
    assert (chosen.temperatures, chosen.thresholds) == ({"spot": 1.0}, {"spot": 0.5})
    assert chosen.note == "none: operating points are 0.5; spot none (4 positive, 30 negative scans are too few)"


def test_parts_keep_test_and_calibration_out_of_fitting(dataset: Dataset) -> None:
    parts = split_labeled(dataset, dataset.labels())
    split, patients = dataset.manifest["split"].to_numpy(), dataset.manifest["patient_id"].to_numpy()
    assert set(split[parts.fit]) == {"train"} and set(split[parts.calibrate]) == {"val"}
    assert not set(patients[parts.fit]) & set(patients[parts.calibrate])


def test_few_val_labels_are_fitted_instead(dataset: Dataset) -> None:
    values = dataset.labels().values.copy()
    in_val = np.flatnonzero(dataset.manifest["split"].to_numpy() == "val")
    values[in_val[3:]] = np.nan
    parts = split_labeled(dataset, LabelTable(findings=("spot",), values=values))
    assert len(parts.calibrate) == 0 and set(in_val[:3]) <= set(parts.fit)
    assert "test" not in set(dataset.manifest["split"].to_numpy()[parts.fit])
