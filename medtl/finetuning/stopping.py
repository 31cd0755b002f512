"""Early stop: the loss on patients who are not learned from, and the weights with which it was lowest."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.data.preprocess import PreprocessSpec
from medtl.errors import ConfigError
from medtl.files import atomic_file
from medtl.finetuning.config import FinetuneConfig
from medtl.finetuning.losses import Supervised
from medtl.finetuning.parts import Rows
from medtl.inference.runtime import logits_of_rows
from medtl.progress import say
from medtl.training.batches import rng

CHECKS = 20
MOST_SCANS = 512
"""A check judges so many scans at most, always the same."""


class EarlyStop:
    """Checks the network `CHECKS` times a run.

    What checks found is in `metrics.jsonl` and the best weights in `best.safetensors`: nothing is carried in memory, so
    that a resumed run stops at the same step with the same weights.

    Args:
        judged: what is kept in the end, the average where there is one.
        rows: the labeled scans of the val part.
        folder: the run's.

    Raises:
        ConfigError: the val part has too few labels.
    """

    def __init__(
        self,
        judged: Supervised,
        data: Dataset,
        labels: LabelTable,
        rows: Rows,
        spec: PreprocessSpec,
        plan: FinetuneConfig,
        folder: Path,
    ) -> None:
        if len(rows) == 0:
            raise ConfigError(
                "patience: stopping early needs labels of both classes in the val part, and there are too few; "
                "leave patience out, or label scans of the val part"
            )
        assert plan.steps is not None and plan.patience is not None
        if len(rows) > MOST_SCANS:
            rows = rows[rng("early stop", plan.seed).permutation(len(rows))[:MOST_SCANS]]
        self.judged, self.data, self.labels, self.rows, self.spec = judged, data, labels, rows, spec
        self.every, self.patience = max(1, plan.steps // CHECKS), plan.patience
        self.metrics, self.best = folder / "metrics.jsonl", folder / "best.safetensors"

    def check(self, done: int, share: float) -> dict[str, float]:
        """After a step: the loss where a check is due, and the weights kept if they are the best."""
        if done % self.every and share < 1:
            return {}
        loss = self._loss()
        if loss < min(self._found(before=done).values(), default=float("inf")):
            with atomic_file(self.best) as temporary:
                weights = {key: value.contiguous() for key, value in self.judged.state_dict().items()}
                save_file(weights, temporary)
        return {"val_loss": loss}

    def stands_still(self, done: int) -> bool:
        """Whether the last `patience` checks were no better than the best before them."""
        if done % self.every:
            return False
        losses = list(self._found(before=done + 1).values())
        return len(losses) - 1 - losses.index(min(losses)) >= self.patience if losses else False

    def take_best(self) -> None:
        """Put the best weights into the network."""
        found = self._found(before=None)
        self.judged.load_state_dict(load_file(self.best))
        step = min(found, key=lambda each: found[each])
        say(f"kept the weights of step {step:,} of {max(found):,}: loss {found[step]:.3f} on the val part")

    def _loss(self) -> float:
        """Cross entropy on the scans, without smoothing."""
        classifier = self.judged.classifier
        training = classifier.training
        classifier.eval()
        logits = logits_of_rows(classifier, self.data, self.rows, self.spec, flip_average=False)
        classifier.train(training)
        truth = torch.from_numpy(self.labels.values[self.rows]).double()
        return float(self.judged.plain_loss(logits, truth))

    def _found(self, *, before: int | None) -> dict[int, float]:
        """The checks so far, by step."""
        lines = self.metrics.read_text(encoding="utf-8").splitlines() if self.metrics.is_file() else []
        checks = [line for line in map(json.loads, lines) if "val_loss" in line]
        return {line["step"]: line["val_loss"] for line in checks if before is None or line["step"] < before}
