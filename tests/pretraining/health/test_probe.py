"""The probes against a slow definition, and that they keep patients and the test part apart."""

import math
from pathlib import Path

import numpy as np
import pytest

from medtl.data.dataset import Dataset
from medtl.errors import LabelError
from medtl.pretraining.health.probe import knn_scores, labeled_set, regression_scores


def write(path: Path, dataset: Dataset, columns: dict[str, list[str]]) -> str:
    lines = ["scan_id," + ",".join(columns)]
    lines += [f"{name},{','.join(cells)}" for name, *cells in zip(dataset.manifest["scan_id"], *columns.values())]  # noqa: B905
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def spots(dataset: Dataset) -> list[int]:
    return [int(path[8:10]) % 2 for path in dataset.manifest["path"]]


@pytest.mark.parametrize("n", [7, 60])
def test_knn_equals_the_definition(n: int) -> None:
    rng = np.random.default_rng(n)
    learn, y, judge = rng.normal(size=(n, 4)), rng.integers(0, 2, n), rng.normal(size=(9, 4))
    got = knn_scores(learn, y, judge)
    for scan, score in zip(judge, got, strict=True):
        pairs = [(float(scan @ other) / np.linalg.norm(scan) / np.linalg.norm(other), int(label))
                 for other, label in zip(learn, y, strict=True)]  # fmt: skip
        nearest = sorted(pairs, reverse=True)[: min(20, n)]
        votes = [math.exp(similarity / 0.07) for similarity, _ in nearest]
        expected = sum(v for v, (_, label) in zip(votes, nearest, strict=True) if label) / sum(votes)
        assert score == pytest.approx(expected, rel=1e-9)  # float64 in another order


def test_folds_keep_patients_and_the_test_part_apart(dataset: Dataset) -> None:
    found = labeled_set(dataset, str(dataset.folder / "labels.csv"))
    assert set(dataset.manifest["split"].to_numpy()[found.rows]) == {"train", "val"}
    patients = dataset.manifest["patient_id"].to_numpy()[found.rows]
    assert sorted(place for fold in found.folds for place in fold.judge) == list(range(len(found.rows)))
    for fold in found.folds:
        assert not set(patients[fold.learn]) & set(patients[fold.judge])
    assert np.isnan(found.everything[dataset.manifest["split"].to_numpy() == "test"]).all()


def test_embeddings_that_hold_the_label_win_and_noise_or_patients_do_not(dataset: Dataset) -> None:
    found = labeled_set(dataset, str(dataset.folder / "labels.csv"))
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(len(found.rows), 8))
    told = noise + 5 * found.values
    assert found.knn_auroc(told) > 0.98 and found.probe_auroc(told) > 0.98
    # Two images of one patient look the same: it helps nobody, because a patient is in one fold.
    by_patient = rng.normal(size=(60, 8))[[int(p[8:10]) for p in dataset.manifest["path"].to_numpy()[found.rows]]]
    for useless in (noise, by_patient):
        assert 0.25 < found.knn_auroc(useless) < 0.75 and 0.25 < found.probe_auroc(useless) < 0.75
    flat = np.ones_like(noise)
    assert found.knn_auroc(flat) == 0.5 and found.probe_auroc(flat) == 0.5


def test_several_findings_and_exclusive_classes(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spot = spots(dataset)
    several = write(
        tmp_path / "several.csv", dataset,
        {"spot": [str(s) if i % 3 else "" for i, s in enumerate(spot)], "never": ["0"] * len(spot)},
    )  # fmt: skip
    found = labeled_set(dataset, several)
    assert {fold.finding for fold in found.folds} == {0}
    assert "the probe leaves out never: not present in two patients" in capsys.readouterr().err
    assert all(not np.isnan(found.values[fold.learn, 0]).any() for fold in found.folds)
    kinds = [int(path[8:10]) % 3 for path in dataset.manifest["path"]]
    classes = write(
        tmp_path / "classes.csv", dataset, {f"c{k}": [str(int(kind == k)) for kind in kinds] for k in range(3)}
    )
    found = labeled_set(dataset, classes)
    told = found.values + 0.1 * np.random.default_rng(0).normal(size=found.values.shape)
    assert {fold.finding for fold in found.folds} == {0, 1, 2}
    assert found.knn_auroc(told) > 0.99 and found.probe_auroc(told) > 0.99


def test_one_class_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    file = write(tmp_path / "one.csv", dataset, {"spot": ["1"] * len(dataset)})
    with pytest.raises(
        LabelError, match="96 labeled scans outside the test part, no finding is present in two patients"
    ):
        labeled_set(dataset, file)


def test_regression_bears_dead_dimensions() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = np.column_stack([y + 0.1 * rng.normal(size=40), np.zeros(40)])
    scores = regression_scores(x, y, x)
    assert np.isfinite(scores).all() and scores[y == 1].min() > scores[y == 0].max()
