"""Distribution alignment: guesses are, on the whole, as frequent as the classes are."""

from typing import Literal

import torch
from torch import Tensor, nn

from medtl.data.labels import LabelTable
from medtl.errors import ConfigError
from medtl.finetuning.semi.classes import distributions

Prior = Literal["running", "labels"] | dict[str, float]
MOMENTUM = 0.95
"""Share of the running frequencies that stays in a step; the paper averages over 128 batches, of some 100,000."""
TO_UNIFORM = 0.1
"""How far "running" draws frequencies towards even ones."""


def prior_of(asked: Prior, labels: LabelTable, *, exclusive: bool) -> Tensor | None:
    """How frequent classes are, (Q, K); None where only what the network says is known.

    Args:
        asked: "running", "labels", or the share of scans with each finding.
        labels: of the scans that are fitted. Their frequencies are drawn to even ones, as by one more scan of each
            class.
        exclusive: whether findings are classes of which each scan has one.

    Raises:
        ConfigError: a share is missing, too much or impossible.
    """
    if asked == "running":
        return None
    if asked == "labels":
        found = distributions(torch.from_numpy(labels.values), exclusive=exclusive)
        counts = found.nansum(dim=0) + 1
        return counts / counts.sum(dim=1, keepdim=True)
    assert isinstance(asked, dict)
    if set(asked) != set(labels.findings):
        raise ConfigError(
            f"prior: names {', '.join(sorted(asked)) or 'nothing'}; expected the share of scans with each of "
            f"{', '.join(labels.findings)}"
        )
    shares = [asked[finding] for finding in labels.findings]
    if not all(0 < share < 1 for share in shares):
        raise ConfigError(f"prior: found {asked}; expected shares of scans, between 0 and 1")
    if exclusive and abs(sum(shares) - 1) > 0.01:
        raise ConfigError(f"prior: the shares add up to {sum(shares):g}; each scan has one of these findings, so to 1")
    return distributions(torch.tensor([shares]), exclusive=exclusive)[0]


class Alignment(nn.Module):
    """q <- normalise(q * prior / running mean of q) (Berthelot 2020, arXiv 1911.09785, sec. 3.1).

    Without a prior, the running mean drawn a little to even odds takes its place: the labels may be balanced on
    purpose, so they are not asked, and all that is kept off is a network that says one class of everything.
    """

    marginal: Tensor

    def __init__(self, questions: int, classes: int, *, prior: Tensor | None) -> None:
        super().__init__()
        self.prior = prior
        self.register_buffer("marginal", torch.full((questions, classes), 1 / classes))

    @torch.no_grad()
    def forward(self, guesses: Tensor) -> Tensor:
        """(B, Q, K) distributions -> aligned ones; the running mean takes note of them first."""
        self.marginal.lerp_(guesses.mean(dim=0), 1 - MOMENTUM)
        even = 1 / self.marginal.shape[1]
        wanted = self.marginal.lerp(torch.full_like(self.marginal, even), TO_UNIFORM)
        if self.prior is not None:
            wanted = self.prior.to(guesses.device)
        aligned = guesses * (wanted / self.marginal.clamp(min=1e-6))
        return aligned / aligned.sum(dim=2, keepdim=True).clamp(min=1e-12)
