"""FixMatch: what is said of a gentle view with confidence is the label of a strong view."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medtl.config import StrictModel
from medtl.data.labels import LabelTable
from medtl.finetuning.losses import Supervised
from medtl.finetuning.semi.alignment import Alignment, Prior, prior_of
from medtl.finetuning.semi.batch import Unlabeled
from medtl.finetuning.semi.classes import cross_entropy_to, log_probabilities


class FixMatchConfig(StrictModel):
    """The settings of the method."""

    weight: float = Field(default=1.0, ge=0)
    """What the loss on scans without labels counts."""
    threshold: float = Field(default=0.95, gt=0, le=1)
    """A guess counts from this confidence on."""
    prior: Prior = "running"
    """How frequent findings are among the scans without labels: the share of each finding, as {pneumonia: 0.1};
    "labels" for as frequent as among the labels, which is wrong where those were balanced on purpose; "running" for
    unknown, when nothing but the fall into one class is kept off."""


def pseudo_labels(guesses: Tensor, *, threshold: float) -> tuple[Tensor, Tensor]:
    """The likeliest class of each distribution, and whether it is likely enough (Sohn 2020, eq. 4).

    Args:
        guesses: (B, Q, K).

    Returns:
        (B, Q, K) one-hot, and (B, Q) True where it counts.
    """
    confidence, chosen = guesses.max(dim=2)
    return F.one_hot(chosen, guesses.shape[2]).to(guesses.dtype), confidence >= threshold


class FixMatch(nn.Module):
    """Sohn 2020, arXiv 2001.07685, eq. 3 and 4, with distribution alignment (there sec. 2.5).

    Departures: strong views are those of pretraining for the scans' modality, not RandAugment; labeled, gentle and
    strong views pass through the network one after another, the gentle without gradient.
    """

    views: tuple[str, ...] = ("gentle", "strong")

    def __init__(self, supervised: Supervised, config: FixMatchConfig, *, labels: LabelTable) -> None:
        super().__init__()
        self.supervised = supervised
        self.weight = config.weight
        self.threshold = config.threshold
        exclusive, findings = supervised.exclusive, len(labels.findings)
        prior = prior_of(config.prior, labels, exclusive=exclusive)
        self.align = Alignment(*((1, findings) if exclusive else (findings, 2)), prior=prior)

    def forward(self, images: Tensor, labels: Tensor, unlabeled: Unlabeled) -> tuple[Tensor, dict[str, float]]:
        """The loss, the two that it is made of, and the share of guesses that count."""
        labeled, figures = self.supervised(images, labels)
        classifier, exclusive = self.supervised.classifier, self.supervised.exclusive
        with torch.no_grad():
            guesses = log_probabilities(classifier(unlabeled.views[:, 0]), exclusive=exclusive).exp()
            targets, counts = pseudo_labels(self.align(guesses), threshold=self.threshold)
        log_p = log_probabilities(classifier(unlabeled.views[:, 1]), exclusive=exclusive)
        matched = cross_entropy_to(log_p, targets, counts)
        said = {"labeled": labeled.item(), "unlabeled": matched.item(), "confident": counts.float().mean().item()}
        return labeled + self.weight * matched, figures | said

    def after_step(self, done: float) -> None:
        """Nothing moves but parameters and the running frequencies."""
