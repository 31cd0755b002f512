"""Early stop: the best of the checks is kept, whatever came after, also after an interruption."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from medtl.data.dataset import Dataset
from medtl.encoders.store import start_from
from medtl.errors import ConfigError
from medtl.finetuning.config import FinetuneConfig, filled_in
from medtl.finetuning.fit import fit
from medtl.finetuning.losses import Supervised
from medtl.finetuning.parts import split_labeled
from medtl.finetuning.stopping import EarlyStop
from medtl.inference.bundle import Classifier

LOSSES = [0.9, 0.7, 0.8, 0.6, 0.65, 0.61, 0.7, 0.5]


@pytest.fixture
def stop(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EarlyStop:
    """Checks at every step, which find the losses above."""
    start = start_from("random", spec=dataset.spec, network="resnet10-half", input_px=16)
    module = Supervised(Classifier(start.encoder, 1), exclusive=False, label_smoothing=0.0)
    plan = FinetuneConfig(steps=20, patience=3)
    made = EarlyStop(module, dataset, dataset.labels(), np.arange(10), start.spec, plan, tmp_path)
    found = iter(LOSSES)
    monkeypatch.setattr(made, "_loss", lambda: next(found))
    return made


def run(stop: EarlyStop, first: int, last: int) -> int:
    """Steps, as the training loop makes them; the number of the last one."""
    for done in range(first, last + 1):
        if stop.stands_still(done - 1):
            return done - 1
        with torch.no_grad():
            stop.judged.classifier.head.bias.fill_(done)
        line = {"step": done} | stop.check(done, done / 20)
        with stop.metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")
    return last


def test_stops_after_patience_and_keeps_the_best(stop: EarlyStop) -> None:
    assert run(stop, 1, 8) == 7, "checks 5, 6 and 7 are no better than 4"
    stop.take_best()
    assert stop.judged.classifier.head.bias.item() == 4


def test_nothing_is_kept_in_memory(stop: EarlyStop) -> None:
    run(stop, 1, 5)
    other = object.__new__(EarlyStop)
    other.__dict__ = stop.__dict__ | {"patience": 3}
    assert run(other, 6, 8) == 7
    assert load_file(stop.best)["classifier.head.bias"].item() == 4


def test_the_loss_is_that_of_the_val_part(dataset: Dataset, tmp_path: Path) -> None:
    """In a whole run: the weights that are left have the least of the losses in the metrics."""
    torch.manual_seed(0)
    start = start_from("random", spec=dataset.spec, network="resnet10-half", input_px=16)
    labels = dataset.labels()
    parts = split_labeled(dataset, labels)
    plan = FinetuneConfig(strategy="full", steps=40, patience=2, batch_size=8, lr=0.02)
    plan = plan.model_copy(update=filled_in(plan, start, len(parts.fit)))
    classifier, _ = fit(dataset, labels, parts, start, plan, tmp_path, resume=False)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["val_loss"] for line in lines if "val_loss" in line]
    images = start.spec.network_input(torch.from_numpy(dataset.pixels(parts.calibrate)))
    with torch.no_grad():
        logits = classifier(images)[:, 0].double()
    truth = torch.from_numpy(labels.values[parts.calibrate, 0]).double()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
    assert float(loss) == pytest.approx(min(losses), rel=1e-3)
    assert losses.index(min(losses)) >= len(losses) - 3 or len(losses) == 20


def test_patience_needs_labels_to_judge_by(dataset: Dataset, tmp_path: Path) -> None:
    start = start_from("random", spec=dataset.spec, network="resnet10-half", input_px=16)
    labels = dataset.labels()
    parts = dataclasses.replace(split_labeled(dataset, labels), calibrate=np.empty(0, np.int64))
    plan = FinetuneConfig(strategy="full", steps=4, patience=2)
    plan = plan.model_copy(update=filled_in(plan, start, len(parts.fit)))
    with pytest.raises(ConfigError, match="patience: stopping early needs labels of both classes in the val part"):
        fit(dataset, labels, parts, start, plan, tmp_path, resume=False)
