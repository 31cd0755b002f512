"""Folds by patient, comparisons against a slow definition, and `auto` from a start to the card."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import medtl
from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.encoders.store import Start, save_encoder, start_from
from medtl.errors import LabelError, RunError
from medtl.finetuning import choose as module
from medtl.finetuning import finetune as finetune_module
from medtl.finetuning.choose import choose, compare
from medtl.finetuning.config import FinetuneConfig
from medtl.finetuning.crossfit import OutOfFold
from medtl.finetuning.folds import FEWEST, FOLDS, folds_of
from medtl.finetuning.parts import remarks, split_labeled
from medtl.inference.bundle import read_bundle

NAN = float("nan")


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(4, 12), st.integers(4, 12), st.integers(1, 3))
def test_folds_tear_no_patient_apart_and_are_alike(seed: int, ill: int, well: int, scans: int) -> None:
    patients = np.repeat([f"p{i}" for i in range(ill + well)], scans)
    values = np.repeat(np.arange(ill + well) < ill, scans).astype(np.float32)[:, None]
    rows = np.random.default_rng(seed).permutation(len(patients))
    folds = folds_of(LabelTable(findings=("x",), values=values), rows, patients, seed=seed)
    assert len(folds) == FOLDS
    assert sorted(np.concatenate([fold.held for fold in folds])) == sorted(rows)
    for fold in folds:
        assert not set(patients[fold.fit]) & set(patients[fold.held])
        assert len(fold.fit) + len(fold.held) == len(rows)
    counts = [(values[fold.held] == 1).sum() / scans for fold in folds]
    assert max(counts) - min(counts) <= 1, "as many ill patients in each as can be"


def test_too_few_patients_make_no_folds() -> None:
    values = np.array([1] * 9 + [0] * 9, np.float32)[:, None]
    patients = np.array([f"p{i % (FEWEST - 1)}" for i in range(9)] + [f"q{i}" for i in range(9)])
    table = LabelTable(findings=("x",), values=values)
    assert folds_of(table, np.arange(18), patients, seed=0) == ()
    patients[0] = "another"
    assert len(folds_of(table, np.arange(18), patients, seed=0)) == FOLDS


def test_patients_of_whom_each_has_scans_of_both_kinds_make_folds() -> None:
    """As slides whose tiles show the tumour or not."""
    values = np.tile(np.array([0, 1, 0], np.float32), 6)[:, None]
    patients = np.repeat([f"p{i}" for i in range(6)], 3)
    folds = folds_of(LabelTable(findings=("x",), values=values), np.arange(18), patients, seed=0)
    assert sorted(len(set(patients[fold.held])) for fold in folds) == [2, 2, 2]
    assert all(not set(patients[fold.fit]) & set(patients[fold.held]) for fold in folds)


def slow_auroc(y: np.ndarray, fold: np.ndarray, scores: np.ndarray) -> float:
    """The share of pairs within a fold that stand in the right order."""
    won = [
        1.0 if scores[p] > scores[n] else 0.5 if scores[p] == scores[n] else 0.0
        for p, n in itertools.product(np.flatnonzero(y == 1), np.flatnonzero(y == 0))
        if fold[p] == fold[n]
    ]
    return sum(won) / len(won)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_the_difference_is_that_of_pairs_within_folds(seed: int) -> None:
    random = np.random.default_rng(seed)
    y = random.choice([0.0, 1.0, NAN], size=(30, 2)).astype(np.float32)
    y[:6] = [[0, 1], [1, 0]] * 3
    fold, patients = np.arange(30) % 3, np.array([f"p{i // 2}" for i in range(30)])
    one, other = random.normal(size=(2, 30, 2)).round(1)
    gain, error = compare(y, fold, patients, one, other, seed=0)
    expected = np.mean([slow_auroc(y[:, i], fold, other[:, i]) - slow_auroc(y[:, i], fold, one[:, i]) for i in (0, 1)])
    assert gain == pytest.approx(expected, abs=1e-9)
    assert error > 0
    assert compare(y, fold, patients, one, other, seed=0) == (gain, error), "the same each time"
    assert compare(y, fold, patients, one, one, seed=0) == (0.0, 0.0)


def test_another_fold_s_scale_does_not_count() -> None:
    y = np.array([[1], [0]] * 6, np.float32)
    fold, patients = np.repeat([0, 1, 2], 4), np.array([f"p{i}" for i in range(12)])
    right = y.astype(np.float64)
    shifted = right + 10.0 * fold[:, None]
    assert compare(y, fold, patients, right, shifted, seed=0) == (0.0, 0.0)


@pytest.fixture
def start(dataset: Dataset) -> Start:
    """A start that says it has learned from scans."""
    torch.manual_seed(0)
    random = start_from("random", spec=dataset.spec, network="resnet10-half", input_px=16)
    return dataclasses.replace(random, history=("simclr on 120 scans",), origin="run")


def few(dataset: Dataset, *, patients: int, in_val: int = 0) -> LabelTable:
    """The dataset's labels of so many train patients of each kind, and of some of the val part."""
    values = np.full((len(dataset), 1), NAN, np.float32)
    truth = dataset.labels().values
    for part, count in (("train", patients), ("val", in_val)):
        for value in (0, 1):
            here = dataset.manifest[(dataset.manifest["split"] == part) & (truth[:, 0] == value)]
            chosen = here["patient_id"].unique()[:count]
            rows = here["row"][here["patient_id"].isin(chosen)]
            values[rows] = value
    return LabelTable(findings=("spot",), values=values)


class Spy:
    """Stands for training: the named strategies separate the classes, the others say nothing."""

    def __init__(self, labels: LabelTable, good: set[str]) -> None:
        self.labels, self.good, self.asked = labels, good, list[str]()

    def __call__(self, data, labels, folds, start, plan, work, *, resume) -> OutOfFold:
        self.asked.append(plan.strategy)
        rows = np.concatenate([fold.held for fold in folds])
        number = np.concatenate([np.full(len(fold.held), i) for i, fold in enumerate(folds)])
        assert "test" not in set(data.manifest["split"].to_numpy()[rows])
        logits = labels.values[rows].astype(np.float64) * (plan.strategy in self.good)
        return OutOfFold(rows=rows, fold=number, logits=logits)


@pytest.mark.parametrize(
    ("good", "chosen"),
    [({"linear"}, "linear"), ({"wise-ft"}, "wise-ft"), ({"wise-ft", "linear"}, "wise-ft"), (set(), "wise-ft")],
)
@pytest.mark.parametrize("in_val", [0, 5])
def test_the_default_stays_unless_another_is_better(
    dataset: Dataset, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good, chosen: str, in_val: int
) -> None:
    labels = few(dataset, patients=6, in_val=in_val)
    parts = split_labeled(dataset, labels)
    spy = Spy(labels, good)
    monkeypatch.setattr(module, "crossfit", spy)
    choice = choose(dataset, labels, parts, start, FinetuneConfig(), tmp_path, resume=False)
    assert choice.strategy == chosen and spy.asked == ["wise-ft", "linear"]
    assert "linear against wise-ft: AUROC" in choice.why
    assert (choice.out_of_fold is None) == (in_val > 0), "the val part calibrates where it can"
    kept = choose(dataset, labels, parts, start, FinetuneConfig(), tmp_path, resume=True)
    assert len(spy.asked) == 2, "what was chosen is kept for --resume"
    assert (kept.strategy, kept.why) == (choice.strategy, choice.why)
    if choice.out_of_fold is not None:
        assert kept.out_of_fold is not None
        for key in ("rows", "fold", "logits"):
            assert (getattr(kept.out_of_fold, key) == getattr(choice.out_of_fold, key)).all()


def test_what_the_val_part_has_judged_is_not_trained_again(
    dataset: Dataset, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle holds the network of the trial, to the bit what is trained when one strategy is asked for."""
    run = tmp_path / "run"
    run.mkdir()
    save_encoder(run, start.encoder, spec=start.spec, about={"history": list(start.history)})
    csv = write_labels(dataset, few(dataset, patients=6, in_val=5), tmp_path / "few.csv")
    asked = {"labels": csv, "encoder": run, "settings": ["steps=4", "batch_size=4"]}
    chosen = read_bundle(medtl.finetune(dataset.folder, out=tmp_path / "chosen", **asked))[1]
    trained = list[str]()
    monkeypatch.setattr(finetune_module, "fit", lambda *args, **kwargs: trained.append("again"))
    about, again = read_bundle(medtl.finetune(dataset.folder, out=tmp_path / "again", **asked))
    assert trained == []
    monkeypatch.undo()
    named = about.training["strategy"]
    alone = read_bundle(medtl.finetune(dataset.folder, out=tmp_path / "alone", strategy=named, **asked))[1]
    for key, value in alone.state_dict().items():
        assert torch.equal(value, chosen.state_dict()[key]) and torch.equal(value, again.state_dict()[key]), key


def test_a_resumed_run_keeps_the_network_that_was_judged(
    dataset: Dataset, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = few(dataset, patients=6, in_val=5)
    given = dataset, labels, split_labeled(dataset, labels), start, FinetuneConfig(steps=4, batch_size=4), tmp_path
    first, second = (choose(*given, resume=resume) for resume in (False, True))
    assert first.fitted is not None and second.fitted is not None and first.strategy == second.strategy
    for one, other in zip(first.fitted[0].parameters(), second.fitted[0].parameters(), strict=True):
        assert torch.equal(one, other)
    saved = json.loads((tmp_path / "choice.json").read_text())
    del saved["heads"]
    (tmp_path / "choice.json").write_text(json.dumps(saved))
    with pytest.raises(RunError, match="was begun by an earlier medtl, whose heads read less; begin anew"):
        choose(*given, resume=True)


def test_of_many_scans_some_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the scans are drawn, and the gain is about that of all."""
    random, n = np.random.default_rng(0), 600
    truth = (np.arange(n) % 2).astype(np.float32)[:, None]
    better, worse = truth + random.normal(0, 0.8, (n, 1)), truth + random.normal(0, 2.0, (n, 1))
    given = truth, np.zeros(n, np.int64), np.arange(n).astype(str), worse, better
    whole = compare(*given, seed=0)
    monkeypatch.setattr(module, "MOST_PAIRED", 300)
    part = compare(*given, seed=0)
    assert part[0] == pytest.approx(whole[0], abs=4 * part[1]) and part[1] > 1.2 * whole[1]


def test_one_candidate_with_a_val_part_is_not_tried(
    dataset: Dataset, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = few(dataset, patients=6, in_val=5)
    spy = Spy(labels, set())
    monkeypatch.setattr(module, "crossfit", spy)
    parts = split_labeled(dataset, labels)
    choice = choose(dataset, labels, parts, start, FinetuneConfig(strategy="gradual"), tmp_path, resume=False)
    assert (choice.strategy, choice.why, spy.asked) == ("gradual", "asked for", [])


def test_too_few_patients_take_the_default_and_say_so(dataset: Dataset, start: Start, tmp_path: Path) -> None:
    labels = few(dataset, patients=3)
    parts = split_labeled(dataset, labels)
    choice = choose(dataset, labels, parts, start, FinetuneConfig(), tmp_path, resume=False)
    assert choice.strategy == "wise-ft" and choice.out_of_fold is None
    assert choice.why.endswith("nothing was compared: fewer than 4 patients with or without each finding")


def write_labels(dataset: Dataset, labels: LabelTable, file: Path) -> Path:
    known = dataset.manifest[~np.isnan(labels.values[:, 0])]
    lines = [f"{name},{int(v)}" for name, v in zip(known["scan_id"], labels.values[known["row"], 0], strict=True)]
    file.write_text("\n".join(["scan_id,spot", *lines]))
    return file


def test_few_labels_become_a_calibrated_bundle(
    dataset: Dataset, start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save_encoder(run, start.encoder, spec=start.spec, about={"history": list(start.history)})
    csv = write_labels(dataset, few(dataset, patients=5), tmp_path / "few.csv")
    settings = ["steps=6", "batch_size=4"]
    bundles = [
        medtl.finetune(dataset.folder, labels=csv, encoder=run, out=tmp_path / n, settings=settings) for n in "ab"
    ]
    found = [json.loads((bundle / "bundle.json").read_text()) for bundle in bundles]
    assert found[0]["training"]["choice"] == found[1]["training"]["choice"], "deterministic"
    assert found[0]["thresholds"] == found[1]["thresholds"] and found[0]["temperatures"] == found[1]["temperatures"]
    assert found[0]["calibration"] == (
        "spot on 10 positive and 10 negative scans to learn from, each judged by a network that had not seen its "
        "patient (out of fold)"
    )
    card = (bundles[0] / "card.md").read_text()
    assert "20 of 96 scans outside the test part have a label" in card and "in cross-validation" in card
    said = capsys.readouterr()
    assert "trying wise-ft, linear on 3 folds by patient" in said.out + said.err


def test_three_positives_are_learned_from_and_the_card_says_so(dataset: Dataset, tmp_path: Path) -> None:
    table = few(dataset, patients=6)
    values = table.values.copy()
    values[np.flatnonzero(values[:, 0] == 1)[3:]] = NAN
    csv = write_labels(dataset, LabelTable(findings=("spot",), values=values), tmp_path / "few.csv")
    settings = ["steps=2", "network=resnet10-half", "input_px=16"]
    bundle = medtl.finetune(dataset.folder, labels=csv, encoder="random", out=tmp_path / "bundle", settings=settings)
    card = (bundle / "card.md").read_text()
    assert "spot is learned from 3 positive and 12 negative scans only" in card
    assert "nothing was compared: fewer than 4 patients" in card
    assert "Its probabilities are not calibrated" in card


def test_labels_for_half_of_the_scans_are_fine(dataset: Dataset) -> None:
    values = dataset.labels().values.copy()
    values[::2] = NAN
    table = LabelTable(findings=("spot",), values=values)
    parts = split_labeled(dataset, table)
    assert remarks(dataset, table, parts) == ["48 of 96 scans outside the test part have a label"]
    assert remarks(dataset, dataset.labels(), split_labeled(dataset, dataset.labels())) == []


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda y, part: (y == 1) & (part != "test"), "have 48 positive and 0 negative scans; a detector needs both"),
        (lambda y, part: part == "test", "no labeled scan outside the test part; label scans of the train part"),
    ],
)
def test_labels_that_teach_nothing_are_refused(dataset: Dataset, keep, message: str) -> None:
    values = dataset.labels().values.copy()
    values[~keep(values[:, 0], dataset.manifest["split"].to_numpy())] = NAN
    with pytest.raises(LabelError, match=message):
        split_labeled(dataset, LabelTable(findings=("spot",), values=values))


def test_a_finding_without_a_label_to_learn_from_is_named(dataset: Dataset) -> None:
    first = dataset.labels().values
    second = np.where(dataset.manifest["split"].to_numpy()[:, None] == "test", first, NAN)
    table = LabelTable(findings=("spot", "rib"), values=np.concatenate([first, second], axis=1).astype(np.float32))
    with pytest.raises(
        LabelError, match="rib: no scan to train on has a label of it; label scans outside the test part"
    ):
        split_labeled(dataset, table)
