"""Operating points and temperatures from the val part only, with a floor, and a note where labels are too few."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.finetuning import parts as parts_module
from medtl.finetuning.calibrate import SHARPEST, calibrate
from medtl.finetuning.parts import Parts, remarks, split_labeled
from medtl.inference.bundle import read_bundle


@pytest.fixture
def trained(bundle: Path):
    return read_bundle(bundle)


def judged_by(rows: np.ndarray) -> Parts:
    return Parts(fit=np.empty(0, np.int64), calibrate=rows)


def test_separable_scans_do_not_make_certain(trained, dataset: Dataset) -> None:
    bundle, classifier = trained
    labels = dataset.labels()
    rows = np.flatnonzero(~np.isnan(labels.values[:, 0])).astype(np.int64)
    with torch.no_grad():
        classifier.head.weight.mul_(0.01)  # so timid that the best temperature would be tiny
        classifier.head.bias.mul_(0.01)
    chosen = calibrate(classifier, dataset, labels, judged_by(rows), bundle.spec, flip_average=False)
    assert chosen.temperatures == {"spot": SHARPEST}
    assert chosen.note == "spot on 60 positive and 60 negative scans of the val part"


def test_too_few_patients_are_said_and_the_operating_point_is_the_prevalence(trained, dataset: Dataset) -> None:
    """Eight positive scans are of four patients, two each."""
    bundle, classifier = trained
    labels = dataset.labels()
    positive, negative = (np.flatnonzero(labels.values[:, 0] == value) for value in (1, 0))
    rows = np.concatenate([positive[:8], negative[:32]])
    chosen = calibrate(classifier, dataset, labels, judged_by(rows), bundle.spec, flip_average=False)
    assert (chosen.temperatures, chosen.thresholds) == ({"spot": 1.0}, {"spot": pytest.approx(0.2)})
    assert chosen.note == (
        "none; spot none (8 positive and 32 negative scans, of 4 and 16 patients, are too few; its operating point is "
        "its share of positives among the labels)"
    )
    assert chosen.caveats == {
        "spot": [
            "its operating point is its share of positives among the labels, 0.200, and its probabilities are not "
            "calibrated, for want of labeled patients"
        ]
    }


def two_findings(dataset: Dataset, *, rare_in_val: int) -> LabelTable:
    """`spot`, and `mark`, which every fourth patient has, but only so many of the val part."""
    spot, owners = dataset.labels().values[:, 0], dataset.manifest["patient_id"].to_numpy(dtype=str)
    split, numbers = dataset.manifest["split"].to_numpy(), np.unique(owners, return_inverse=True)[1]
    mark = (numbers % 4 == 0).astype(np.float32)
    in_val = np.unique(owners[split == "val"])
    mark[split == "val"] = np.isin(owners[split == "val"], in_val[:rare_in_val])
    return LabelTable(findings=("spot", "mark"), values=np.stack([spot, mark], axis=1))


@pytest.mark.parametrize(("rare_in_val", "calibrates"), [(5, True), (4, False)])
def test_the_val_part_calibrates_where_it_can_for_every_finding(
    dataset: Dataset, rare_in_val: int, calibrates: bool
) -> None:
    labels = two_findings(dataset, rare_in_val=rare_in_val)
    parts, split = split_labeled(dataset, labels), dataset.manifest["split"].to_numpy()
    assert set(split[parts.fit]) == ({"train"} if calibrates else {"train", "val"})
    said = [each for each in remarks(dataset, labels, parts) if "val part" in each]
    assert said == (
        []
        if calibrates
        else [
            "the val part has fewer than 5 patients with or without mark, so its labels are learned from like those "
            "of the train part"
        ]
    )


def test_many_labels_keep_the_val_part(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folds would take too long; what the val part cannot calibrate has its prevalence."""
    labels = two_findings(dataset, rare_in_val=4)
    monkeypatch.setattr(parts_module, "MOST_LABELS", 95)
    assert set(dataset.manifest["split"].to_numpy()[split_labeled(dataset, labels).calibrate]) == {"val"}


def test_scans_of_one_patient_do_not_calibrate(dataset: Dataset) -> None:
    """All labels of the val part are of one patient, as the tiles of a slide may be."""
    values, owners = dataset.labels().values.copy(), dataset.manifest["patient_id"].to_numpy(dtype=str).copy()
    in_val = np.flatnonzero(dataset.manifest["split"].to_numpy() == "val")
    manifest = dataset.manifest.copy()
    manifest.loc[manifest.index[in_val], "patient_id"] = owners[in_val[0]]
    one = replace(dataset, manifest=manifest)
    parts = split_labeled(one, LabelTable(findings=("spot",), values=values))
    assert len(parts.calibrate) == 0 and set(in_val) <= set(parts.fit)


def test_parts_keep_test_and_calibration_out_of_fitting(dataset: Dataset) -> None:
    parts = split_labeled(dataset, dataset.labels())
    split, patients = dataset.manifest["split"].to_numpy(), dataset.manifest["patient_id"].to_numpy()
    assert set(split[parts.fit]) == {"train"} and set(split[parts.calibrate]) == {"val"}
    assert not set(patients[parts.fit]) & set(patients[parts.calibrate])


def test_few_val_labels_are_fitted_instead(dataset: Dataset) -> None:
    values = dataset.labels().values.copy()
    in_val = np.flatnonzero(dataset.manifest["split"].to_numpy() == "val")
    values[in_val[16:]] = np.nan  # 8 patients, 4 with a spot
    parts = split_labeled(dataset, LabelTable(findings=("spot",), values=values))
    assert len(parts.calibrate) == 0 and set(in_val[:16]) <= set(parts.fit)
    assert "test" not in set(dataset.manifest["split"].to_numpy()[parts.fit])
