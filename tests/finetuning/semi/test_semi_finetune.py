"""Fine-tuning with scans without labels, from dataset to bundle: all methods, no look at the test part, resuming."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import medtl
from medtl.data.dataset import Dataset, open_dataset
from medtl.encoders.store import start_from
from medtl.errors import ConfigError
from medtl.finetuning.config import SEMI_AUTO, FinetuneConfig, filled_in
from medtl.finetuning.parts import Parts
from medtl.finetuning.semi import TABLE, members
from medtl.finetuning.semi.batch import unlabeled_batches, unlabeled_rows
from medtl.inference.bundle import read_bundle
from medtl.pretraining.views import GENTLE
from tests.finetuning.semi.test_semi_members import train_rows
from tests.volumes import write_volumes

SMALL = [
    "network=resnet10-half", "input_px=16", "steps=3", "batch_size=4", "unlabeled.distil.members=2",
    "unlabeled.distil.member_steps=2",
]  # fmt: skip


def few_labels(dataset: Dataset, file: Path, columns: dict[str, list[int | str]], *, every: int = 6) -> Path:
    """A labels file of every sixth scan of the train part, with findings by the scans' own class 0 or 1."""
    spot = dataset.labels().values[:, 0]
    rows = np.concatenate([train_rows(dataset)[spot[train_rows(dataset)] == value][::every] for value in (0, 1)])
    with file.open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["scan_id", *columns])
        for number, row in enumerate(rows):
            values = [choices[(int(spot[row]) + number) % len(choices)] for choices in columns.values()]
            table.writerow([dataset.manifest["scan_id"][row], *values])
    return file


def training(bundle: Path) -> dict[str, object]:
    return read_bundle(bundle)[0].training


@pytest.fixture
def guarded(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A dataset whose test part raises when it is read."""
    forbidden = set(np.flatnonzero(dataset.manifest["split"].to_numpy() == "test"))
    read = Dataset.pixels

    def pixels(self: Dataset, rows: np.ndarray) -> np.ndarray:
        assert not forbidden & set(np.asarray(rows)), "the test part was read"
        return read(self, rows)

    monkeypatch.setattr(Dataset, "pixels", pixels)
    with pytest.raises(AssertionError, match="the test part was read"):
        dataset.pixels(np.array(sorted(forbidden)[:1]))
    return dataset


@pytest.mark.parametrize("semi", TABLE)
def test_every_method_ends_in_a_bundle_and_never_reads_the_test_part(
    semi: str, guarded: Dataset, tmp_path: Path
) -> None:
    labels = few_labels(guarded, tmp_path / "labels.csv", {"spot": [0, 1], "other": [0, 1, ""]})
    out = medtl.finetune(
        guarded.folder, labels=labels, encoder="random", semi=semi, out=tmp_path / "bundle", settings=SMALL
    )
    said, split = training(out), guarded.manifest["split"].to_numpy()
    # The val part has no labels here, so nothing is calibrated on it and it is free to learn from.
    assert said["semi"] == semi
    assert said["unlabeled_scans"] == (split != "test").sum() - said["labeled_scans"]


@pytest.mark.parametrize("semi", TABLE)
def test_findings_that_exclude_each_other(semi: str, dataset: Dataset, tmp_path: Path) -> None:
    labels = few_labels(dataset, tmp_path / "labels.csv", {"a": [1, 0, 0], "b": [0, 1, 0], "c": [0, 0, 1]})
    out = medtl.finetune(
        dataset.folder, labels=labels, encoder="random", semi=semi, out=tmp_path / "bundle", settings=SMALL
    )
    assert read_bundle(out)[0].exclusive and training(out)["semi"] == semi


@pytest.mark.parametrize("semi", TABLE)
def test_volumes(semi: str, once, tmp_path: Path) -> None:
    volumes = open_dataset(once("semi-volumes", lambda folder: write_volumes(folder, count=40)))
    lines = (volumes.folder / "labels.csv").read_text().splitlines()
    (tmp_path / "few.csv").write_text("\n".join(lines[:1] + lines[-12:]) + "\n")
    out = medtl.finetune(
        volumes.folder, labels=tmp_path / "few.csv", encoder="random", semi=semi, out=tmp_path / "out", settings=SMALL
    )
    assert read_bundle(out)[0].spec.dims == 3 and training(out)["semi"] == semi


def test_auto_becomes_what_helped(dataset: Dataset) -> None:
    start = start_from("random", spec=dataset.spec)
    assert filled_in(FinetuneConfig(semi="auto"), start, 20)["semi"] == SEMI_AUTO
    assert filled_in(FinetuneConfig(semi="distil"), start, 20)["semi"] == "distil"


def test_scans_that_calibrate_are_no_scans_to_learn_from(dataset: Dataset) -> None:
    split = dataset.manifest["split"].to_numpy()
    fit = train_rows(dataset)[::5]
    some = unlabeled_rows(dataset, Parts(fit=fit, calibrate=np.flatnonzero(split == "val")), at_most=9999, seed=0)
    assert set(some) == set(train_rows(dataset)) - set(fit)
    free = unlabeled_rows(dataset, Parts(fit=fit, calibrate=fit[:0]), at_most=9999, seed=0)
    assert set(free) == set(np.flatnonzero(split != "test")) - set(fit)
    drawn = unlabeled_rows(dataset, Parts(fit=fit, calibrate=fit[:0]), at_most=10, seed=0)
    assert len(drawn) == 10 and set(drawn) <= set(free)
    assert set(drawn) == set(unlabeled_rows(dataset, Parts(fit=fit, calibrate=fit[:0]), at_most=10, seed=0))


def test_nothing_to_learn_from_without_labels_is_said(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = medtl.finetune(dataset.folder, encoder="random", semi="fixmatch", out=tmp_path / "bundle", settings=SMALL)
    assert "fixmatch: no scan without labels outside the test part and what calibrates" in capsys.readouterr().err
    assert training(out)["semi"] == "none, for want of scans without labels (fixmatch was asked for)"


def test_distillation_goes_on_where_it_was_stopped(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = few_labels(dataset, tmp_path / "labels.csv", {"spot": [0, 1]})

    def run(out: Path, *, resume: bool = False) -> dict[str, torch.Tensor]:
        medtl.finetune(
            dataset.folder, labels=labels, encoder="random", semi="distil", out=out, resume=resume, settings=SMALL
        )
        return load_file(out / "model.safetensors")

    whole = run(tmp_path / "whole")
    judge, asked = members.logits_of_rows, []

    def stopped(*args: object, **named: object) -> torch.Tensor:
        asked.append(args)
        if len(asked) > 1:
            raise KeyboardInterrupt
        return judge(*args, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(members, "logits_of_rows", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut")
    work = tmp_path / ".cut.run"
    assert (work / "member-0" / "logits.safetensors").is_file()
    assert not (work / "member-1" / "logits.safetensors").exists()
    again = run(tmp_path / "cut", resume=True)
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())


def test_batches_depend_on_seed_and_step_only(dataset: Dataset) -> None:
    rows = train_rows(dataset)
    batch_at = unlabeled_batches(
        dataset, rows, dataset.spec, [GENTLE, GENTLE], batch_size=6, seed=3, soft=dataset.labels().values
    )
    cpu = torch.device("cpu")
    first, again, next_ = batch_at(7, cpu), batch_at(7, cpu), batch_at(8, cpu)
    assert torch.equal(first.views, again.views) and torch.equal(first.draws.once(3), again.draws.once(3))
    assert not torch.equal(first.views, next_.views)
    assert not torch.equal(first.views[:, 0], first.views[:, 1]), "each view is drawn anew"
    assert first.soft is not None and first.soft.shape == (6, 1)


def test_what_cannot_be_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"encoder: 'random,imagenet' is not one start; several, .* --semi distil"):
        medtl.finetune(dataset.folder, encoder="random,imagenet", out=tmp_path / "a")
    with pytest.raises(ConfigError, match="strategy 'linear' changes the head only, and semi 'fixmatch' learns"):
        medtl.finetune(
            dataset.folder, encoder="imagenet", strategy="linear", semi="fixmatch", out=tmp_path / "b",
            settings=["input_px=64"],
        )  # fmt: skip
