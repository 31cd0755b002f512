"""Fine-tuning losses against torch's own on what is known, and unknown labels without influence."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl.encoders.table import build_encoder
from medtl.errors import ConfigError
from medtl.finetuning.losses import Supervised, asymmetric, cross_entropy, masked_bce
from medtl.inference.bundle import Classifier

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


def slowly(logits: list[float], labels: list[float], gammas: tuple[float, float], margin: float) -> float:
    """The asymmetric loss as the paper writes it, one label after another; focal is without margin."""
    total, count = 0.0, 0
    for z, y in zip(logits, labels, strict=True):
        if math.isnan(y):
            continue
        p = 1 / (1 + math.exp(-z))
        shifted = max(p - margin, 0)
        total -= y * (1 - p) ** gammas[0] * math.log(p) + (1 - y) * shifted ** gammas[1] * math.log(1 - shifted)
        count += 1
    return total / max(count, 1)


BATCHES = st.lists(st.tuples(st.floats(-6, 6), st.sampled_from([0.0, 1.0, 0.3, NAN])), min_size=1, max_size=8)


@settings(max_examples=60)
@given(
    BATCHES, st.sampled_from([0.5, 1.0, 2.0, 4.0]), st.sampled_from([0.0, 1.0, 4.0]), st.sampled_from([0.0, 0.05, 0.2])
)
def test_asymmetric_is_the_paper_s_formula(batch, negative: float, positive: float, margin: float) -> None:
    logits, labels = (list(column) for column in zip(*batch, strict=True))
    found = asymmetric(
        torch.tensor(logits, dtype=torch.float64)[:, None],
        torch.tensor(labels, dtype=torch.float64)[:, None],
        0.0,
        gammas=(positive, negative),
        margin=margin,
    )
    assert float(found) == pytest.approx(slowly(logits, labels, (positive, negative), margin), abs=1e-6)


@settings(max_examples=30)
@given(BATCHES, st.sampled_from([0.5, 2.0]))
def test_focal_is_the_paper_s_formula(batch, gamma: float) -> None:
    logits, labels = (torch.tensor(column, dtype=torch.float64)[:, None] for column in zip(*batch, strict=True))
    expected = slowly(logits[:, 0].tolist(), labels[:, 0].tolist(), (gamma, gamma), 0.0)
    assert float(masked_bce(logits, labels, 0.0, gamma=gamma)) == pytest.approx(expected, abs=1e-6)


def test_without_focus_both_are_cross_entropy() -> None:
    logits = torch.randn(6, 2, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([[1.0, NAN], [0.0, 1.0], [NAN, NAN], [1.0, 0.0], [0.0, 0.0], [0.4, 1.0]])
    known = ~labels.isnan()
    expected = F.binary_cross_entropy_with_logits(logits[known], labels[known])
    torch.testing.assert_close(masked_bce(logits, labels, 0.0, gamma=0.0), expected)
    torch.testing.assert_close(asymmetric(logits, labels, 0.0, gammas=(0.0, 0.0), margin=0.0), expected)


@pytest.mark.parametrize("loss", [masked_bce, lambda *a: masked_bce(*a, gamma=2.0), asymmetric])
def test_sure_answers_have_finite_slopes_and_unknown_ones_none(loss) -> None:
    logits = torch.tensor([[60.0], [-60.0], [60.0], [-60.0], [3.0]], requires_grad=True)
    loss(logits, torch.tensor([[1.0], [0.0], [0.0], [1.0], [NAN]]), 0.0).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert logits.grad[4] == 0 and logits.grad[2] > 0


def test_focal_softmax_weighs_by_what_is_missing() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 2, 1, 1, 0])
    p = logits.softmax(dim=1)[torch.arange(5), classes]
    expected = -((1 - p) ** 2 * p.log()).mean()
    torch.testing.assert_close(cross_entropy(logits, F.one_hot(classes, 3).float(), 0.0, gamma=2.0), expected)


def test_smoothed_and_mixed_softmax_is_torch_s_own() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(4))
    labels = torch.tensor([[1.0, 0, 0], [0.3, 0.7, 0], [0, 0, 1.0], [0.5, 0, 0.5]])
    torch.testing.assert_close(cross_entropy(logits, labels, 0.1), F.cross_entropy(logits, labels, label_smoothing=0.1))


def test_asymmetric_is_not_for_exclusive_findings() -> None:
    classifier = Classifier(build_encoder("resnet10-half", input_px=16), 3)
    with pytest.raises(ConfigError, match="of these exactly one holds for each scan; choose bce or focal"):
        Supervised(classifier, exclusive=True, label_smoothing=0.0, loss="asymmetric")
