"""One loss from those of several tasks."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from medtl.data.tasks import Task
from medtl.finetuning.losses import Supervised, task_loss
from medtl.inference.bundle import Classifier

Balance = Literal["equal", "uncertainty"]
LOG_VARIANCE_LR = 0.02
"""Log-variances begin at 0 and end near the logarithm of their task's loss, some tenths away: the rate of the network's
weights would not get them there in a few hundred steps."""


class SeveralTasks(Supervised):
    """A classifier with a head for each task, and the mean of their losses, or one that is weighed by uncertainty.

    Kendall, Gal & Cipolla 2018, arXiv 1705.07115, eq. 7 with s = log of a task's variance, which is learned:
    sum over tasks of exp(-s) L / 2 + s / 2. The paper's eq. 10, for classes, differs by a constant in s only.

    Args:
        tasks: in the order of the classifier's outputs.
        balance: "equal" or "uncertainty".

    Raises:
        ConfigError: asymmetric loss where findings of a task exclude each other.
    """

    def __init__(
        self, classifier: Classifier, tasks: Sequence[Task], *, label_smoothing: float, loss: str, balance: Balance
    ) -> None:
        classes = any(task.exclusive for task in tasks)
        super().__init__(classifier, exclusive=classes, label_smoothing=label_smoothing, loss=loss)
        self.exclusive = False  # of all findings together
        self.tasks = tuple(tasks)
        self.log_variances = nn.Parameter(torch.zeros(len(self.tasks))) if balance == "uncertainty" else None

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """images (B, C, [D,] H, W) and labels (B, F) in 0..1 or NaN -> the loss, and each task's to log."""
        losses, there = self.losses(self.classifier(images), labels, self.label_smoothing, loss=self.loss)
        named = zip(self.tasks, losses.detach(), strict=True)
        said = {f"loss_{task.name}": round(float(each), 4) for task, each in named}
        if self.log_variances is None:
            return losses.sum() / there.sum().clamp(min=1), said
        weighed = torch.exp(-self.log_variances) * losses / 2 + self.log_variances / 2
        return (weighed * there).sum(), said

    def losses(self, logits: Tensor, labels: Tensor, label_smoothing: float, *, loss: str) -> tuple[Tensor, Tensor]:
        """(T,) the loss of each task on the labels (B, F) that are known of it, 0 where none is, and (T,) where some
        are: a task without labels in a batch says nothing of its uncertainty."""
        first, each, there = 0, list[Tensor](), list[Tensor]()
        for task in self.tasks:
            own = slice(first, first + len(task.findings))
            first, known = own.stop, labels[:, own]
            each.append(task_loss(logits[:, own], known, label_smoothing, exclusive=task.exclusive, loss=loss))
            there.append(~known.isnan().all())
        return torch.stack(each), torch.stack(there)

    def plain_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over tasks, whatever their weights are by now."""
        losses, there = self.losses(logits, labels, 0.0, loss="bce")
        return losses.sum() / there.sum().clamp(min=1)


def supervised(
    classifier: Classifier, tasks: Sequence[Task], *, label_smoothing: float, loss: str, balance: Balance
) -> Supervised:
    """The loss of one task, or of several."""
    if len(tasks) == 1:
        return Supervised(classifier, exclusive=tasks[0].exclusive, label_smoothing=label_smoothing, loss=loss)
    return SeveralTasks(classifier, tasks, label_smoothing=label_smoothing, loss=loss, balance=balance)


def extra_groups(module: Supervised) -> list[dict[str, object]]:
    """What the optimizer changes besides the classifier: the tasks' log-variances, where they are learned."""
    if isinstance(module, SeveralTasks) and module.log_variances is not None:
        return [{"params": [module.log_variances], "lr": LOG_VARIANCE_LR, "weight_decay": 0.0}]
    return []
