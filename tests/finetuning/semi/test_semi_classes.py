"""Findings as classes: torch's own losses as oracles, unknown answers without influence."""

import torch
import torch.nn.functional as F

from medtl.finetuning.semi.classes import cross_entropy_to, distributions, log_probabilities

NAN = float("nan")


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_present_or_absent_equals_binary_cross_entropy_with_soft_targets() -> None:
    z, soft = logits(5, 3), torch.rand(5, 3, generator=torch.Generator().manual_seed(1))
    found = cross_entropy_to(log_probabilities(z, exclusive=False), distributions(soft, exclusive=False))
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(z, soft))


def test_exclusive_equals_softmax_cross_entropy_with_soft_targets() -> None:
    z, soft = logits(5, 4), logits(5, 4, seed=1).softmax(dim=1)
    found = cross_entropy_to(log_probabilities(z, exclusive=True), distributions(soft, exclusive=True))
    torch.testing.assert_close(found, F.cross_entropy(z, soft))


def test_unknown_answers_do_not_count() -> None:
    z = logits(3, 2).requires_grad_()
    soft = torch.tensor([[0.2, NAN], [NAN, NAN], [0.9, 0.4]])
    known = ~soft.isnan()
    loss = cross_entropy_to(log_probabilities(z, exclusive=False), distributions(soft, exclusive=False))
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(z[known], soft[known]))
    loss.backward()
    assert z.grad is not None and z.grad.isfinite().all()
    assert (z.grad[~known] == 0).all() and (z.grad[known] != 0).all()


def test_nothing_known_is_no_loss() -> None:
    targets = distributions(torch.full((2, 2), NAN), exclusive=False)
    assert float(cross_entropy_to(log_probabilities(logits(2, 2), exclusive=False), targets)) == 0.0
