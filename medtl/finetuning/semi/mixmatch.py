"""MixMatch: guesses are averaged over views and sharpened, then scans and labels of all kinds are mixed."""

import torch
from pydantic import Field
from scipy.special import betaincinv
from torch import Tensor, nn

from medtl.config import StrictModel
from medtl.data.labels import LabelTable
from medtl.finetuning.losses import Supervised
from medtl.finetuning.semi.batch import Unlabeled
from medtl.finetuning.semi.classes import cross_entropy_to, distributions, log_probabilities
from medtl.finetuning.semi.ramp import Done, linear


class MixMatchConfig(StrictModel):
    """The settings of the method."""

    weight: float = Field(default=10.0, ge=0)
    """What the loss on scans without labels counts."""
    temperature: float = Field(default=0.5, gt=0, le=1)
    """Guesses are raised to the power of its inverse."""
    alpha: float = Field(default=0.75, gt=0)
    """Both parameters of the beta distribution that shares are drawn from."""
    rampup: float = Field(default=0.4, gt=0, le=1)
    """Share of the run over which the loss without labels comes in."""


def sharpened(guesses: Tensor, *, temperature: float) -> Tensor:
    """Distributions over the last axis, p^(1/T) normalised (Berthelot 2019, eq. 7)."""
    powered = guesses ** (1 / temperature)
    return powered / powered.sum(dim=-1, keepdim=True)


def brier(p: Tensor, targets: Tensor) -> Tensor:
    """Mean squared difference of distributions (B, Q, K), over questions whose target is known (eq. 4)."""
    known = ~targets.isnan().any(dim=2)
    each = (torch.where(known[..., None], targets - p, 0.0)).square().mean(dim=2)
    return each.sum() / known.sum().clamp(min=1)


class MixMatch(nn.Module):
    """Berthelot 2019, arXiv 1905.02249: guesses by eq. 6 and 7, mixup by eq. 8 to 11, the loss by eq. 2 to 5.

    Departures: a mixture counts where both its scans' labels are known or guessed; the loss without labels counts 10,
    not 75, since fine-tuning is short and begins from good weights; label smoothing is not added to mixing.
    """

    views: tuple[str, ...] = ("gentle", "gentle")

    def __init__(self, supervised: Supervised, config: MixMatchConfig, *, labels: LabelTable) -> None:
        super().__init__()
        self.supervised = supervised
        self.weight = config.weight
        self.config = config
        self.done = Done()

    def forward(self, images: Tensor, labels: Tensor, unlabeled: Unlabeled) -> tuple[Tensor, dict[str, float]]:
        """The loss, and the two that it is made of."""
        classifier, exclusive = self.supervised.classifier, self.supervised.exclusive
        views = unlabeled.views.transpose(0, 1).flatten(0, 1)  # (V * U, C, ...)
        n_views = unlabeled.views.shape[1]
        with torch.no_grad():
            guesses = log_probabilities(classifier(views), exclusive=exclusive).exp()
            mean = guesses.reshape(n_views, -1, *guesses.shape[1:]).mean(dim=0)
            guessed = sharpened(mean, temperature=self.config.temperature).repeat(n_views, 1, 1)
        scans = torch.cat([images, views])
        targets = torch.cat([distributions(labels, exclusive=exclusive), guessed])  # (N, Q, K)
        order, share = self._drawn(unlabeled, len(scans))
        share = share.to(scans)
        order = order.to(scans.device)
        mixed = torch.lerp(scans[order], scans, share.reshape(-1, *[1] * (scans.ndim - 1)))
        wanted = torch.lerp(targets[order], targets, share.reshape(-1, 1, 1))
        log_p = log_probabilities(classifier(mixed), exclusive=exclusive)
        count = len(images)
        labeled = cross_entropy_to(log_p[:count], wanted[:count])
        rest = brier(log_p[count:].exp(), wanted[count:])
        weight = self.weight * linear(float(self.done.share), over=self.config.rampup)
        return labeled + weight * rest, {"labeled": labeled.item(), "unlabeled": rest.item()}

    def _drawn(self, unlabeled: Unlabeled, count: int) -> tuple[Tensor, Tensor]:
        """(N,) the partner of each scan, and its own share, at least a half (eq. 9)."""
        order = unlabeled.draws.once(count).argsort()
        share = torch.from_numpy(betaincinv(self.config.alpha, self.config.alpha, unlabeled.draws.once(count).numpy()))
        return order, torch.maximum(share, 1 - share)

    def after_step(self, done: float) -> None:
        """The loss without labels comes in."""
        self.done.set(done)
