"""What fine-tuning minimises; unknown labels do not count."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medtl.errors import ConfigError
from medtl.inference.bundle import Classifier

FOCAL_GAMMA = 2.0
"""Lin 2017, arXiv 1708.02002, sec. 5.1."""
GAMMA_POSITIVE, GAMMA_NEGATIVE, MARGIN = 1.0, 4.0, 0.05
"""Ridnik 2021, arXiv 2009.14119, sec. 4: the settings of their code."""


class Supervised(nn.Module):
    """A classifier with its loss, in the form that the training loop takes.

    Args:
        loss: "bce", "focal" or "asymmetric".
        exclusive: whether exactly one finding holds for each scan.

    Raises:
        ConfigError: asymmetric loss for exclusive findings.
    """

    def __init__(self, classifier: Classifier, *, exclusive: bool, label_smoothing: float, loss: str = "bce") -> None:
        super().__init__()
        if exclusive and loss == "asymmetric":
            raise ConfigError(
                "loss 'asymmetric' is for findings that are judged each for itself, and of these exactly one holds for "
                "each scan; choose bce or focal"
            )
        self.classifier = classifier
        self.exclusive = exclusive
        self.label_smoothing = label_smoothing
        self.loss = loss

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """images (B, C, [D,] H, W) and labels (B, F) in 0..1 or NaN -> the loss and nothing more to log."""
        logits = self.classifier(images)
        return task_loss(logits, labels, self.label_smoothing, exclusive=self.exclusive, loss=self.loss), {}

    def plain_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy without smoothing, by which networks are compared: logits and labels (B, F) -> ()."""
        return task_loss(logits, labels, 0.0, exclusive=self.exclusive, loss="bce")


def task_loss(logits: Tensor, labels: Tensor, label_smoothing: float, *, exclusive: bool, loss: str) -> Tensor:
    """The loss of findings that are judged together: logits (B, F) and labels (B, F) in 0..1 or NaN -> ().

    Args:
        exclusive: whether exactly one of them holds for each scan.
        loss: "bce", "focal" or "asymmetric".
    """
    gamma = FOCAL_GAMMA if loss == "focal" else 0.0
    if exclusive:
        return cross_entropy(logits, labels, label_smoothing, gamma=gamma)
    if loss == "asymmetric":
        return asymmetric(logits, labels, label_smoothing)
    return masked_bce(logits, labels, label_smoothing, gamma=gamma)


def masked_bce(logits: Tensor, labels: Tensor, label_smoothing: float, *, gamma: float = 0.0) -> Tensor:
    """Binary cross entropy over known labels, targets drawn towards 0.5 (Szegedy 2016, arXiv 1512.00567, sec. 7).

    With `gamma` the focal loss (Lin 2017, arXiv 1708.02002, eq. 4): each class's part is weighed by the probability of
    the other to the power of gamma. Departure: no alpha, for which there is `sampling: class`.
    """
    return asymmetric(logits, labels, label_smoothing, gammas=(gamma, gamma), margin=0.0)


def asymmetric(
    logits: Tensor,
    labels: Tensor,
    label_smoothing: float,
    *,
    gammas: tuple[float, float] = (GAMMA_POSITIVE, GAMMA_NEGATIVE),
    margin: float = MARGIN,
) -> Tensor:
    """Asymmetric loss over known labels (Ridnik 2021, arXiv 2009.14119, eq. 7).

    Args:
        logits, labels: (B, F); a label between 0 and 1 counts in part as either.
        gammas: focusing of positives and of negatives.
        margin: the probability of negatives is lowered by this before it counts.
    """
    known = ~labels.isnan()
    targets = torch.where(known, labels, 0.5) * (1 - label_smoothing) + 0.5 * label_smoothing
    positive, negative = F.logsigmoid(logits), F.logsigmoid(-logits)  # log p, log(1 - p)
    shifted = negative if margin == 0 else (negative.exp() + margin).clamp(max=1).log()
    on_positive = _focus(1 - logits.sigmoid(), gammas[0])
    on_negative = _focus(1 - shifted.exp(), gammas[1])  # max(p - margin, 0)
    losses = -targets * on_positive * positive - (1 - targets) * on_negative * shifted
    return (losses * known).sum() / known.sum().clamp(min=1)


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float, *, gamma: float = 0.0) -> Tensor:
    """Softmax cross entropy for findings of which exactly one holds; known rows (B, F) sum to one. Focal with `gamma`.

    A row with something unknown does not count.
    """
    known = ~labels.isnan().any(dim=1)
    targets = torch.where(known[:, None], labels, 0.0) * (1 - label_smoothing) + label_smoothing / labels.shape[1]
    logs = logits.log_softmax(dim=1)
    each = -(targets * _focus(1 - logs.exp(), gamma) * logs).sum(dim=1)
    return (each * known).sum() / known.sum().clamp(min=1)


def _focus(wrong: Tensor, gamma: float) -> Tensor:
    """The weight of a class that is so much believed wrong. Kept above zero: the slope of a root is infinite there."""
    return wrong.clamp(min=1e-8) ** gamma
