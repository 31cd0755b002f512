"""Fine-tuning losses against torch's own on what is known, and unknown labels without influence."""

import torch
import torch.nn.functional as F

from medtl.finetuning.losses import cross_entropy, masked_bce

NAN = float("nan")


def test_masked_bce_counts_known_labels_only() -> None:
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([[1.0, NAN], [0.0, 1.0], [NAN, NAN], [1.0, 0.0]])
    known = ~labels.isnan()
    loss = masked_bce(logits, labels, 0.0)
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits[known], labels[known]))
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[~known] == 0).all() and (logits.grad[known] != 0).all()


def test_masked_bce_without_any_label_is_zero() -> None:
    assert float(masked_bce(torch.randn(3, 1), torch.full((3, 1), NAN), 0.1)) == 0.0


def test_smoothing_draws_targets_towards_even_odds() -> None:
    logits = torch.tensor([[0.7]])
    expected = F.binary_cross_entropy_with_logits(logits, torch.tensor([[0.95]]))
    torch.testing.assert_close(masked_bce(logits, torch.tensor([[1.0]]), 0.1), expected)


def test_cross_entropy_takes_one_hot_rows() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 2, 1, 1, 0])
    labels = F.one_hot(classes, 3).float()
    torch.testing.assert_close(cross_entropy(logits, labels, 0.0), F.cross_entropy(logits, classes))
