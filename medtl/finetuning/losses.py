"""What fine-tuning minimises; unknown labels do not count."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medtl.inference.bundle import Classifier


class Supervised(nn.Module):
    """A classifier with its loss, in the form that the training loop takes."""

    def __init__(self, classifier: Classifier, *, exclusive: bool, label_smoothing: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.exclusive = exclusive
        self.label_smoothing = label_smoothing

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """images (B, C, [D,] H, W) and labels (B, F) of 0, 1 or NaN -> the loss and nothing more to log."""
        logits = self.classifier(images)
        if self.exclusive:
            return cross_entropy(logits, labels, self.label_smoothing), {}
        return masked_bce(logits, labels, self.label_smoothing), {}


def masked_bce(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Binary cross entropy over known labels, targets drawn towards 0.5 (Szegedy 2016, arXiv 1512.00567, sec. 7)."""
    known = ~labels.isnan()
    targets = torch.where(known, labels, 0.5) * (1 - label_smoothing) + 0.5 * label_smoothing
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Softmax cross entropy for findings of which exactly one holds; rows (B, F) are one-hot."""
    return F.cross_entropy(logits, labels.argmax(dim=1), label_smoothing=label_smoothing)
