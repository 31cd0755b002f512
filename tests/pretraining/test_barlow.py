"""Barlow Twins: the loss against eq. 1 and 2, what it must not depend on, and that it learns."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medtl.pretraining.objectives.barlow import barlow_twins, cross_correlation
from tests.pretraining.toy import learned


def slow_barlow(first: Tensor, second: Tensor, weight: float) -> tuple[float, float]:
    """Zbontar 2021, eq. 1 and 2, with views centred over the batch as the text says, in float64."""
    a, b = (z.double() - z.double().mean(dim=0) for z in (first, second))
    invariance = redundancy = 0.0
    for i in range(a.shape[1]):
        for j in range(a.shape[1]):
            top = sum(float(a[n, i] * b[n, j]) for n in range(len(a)))
            below = math.sqrt(sum(float(x) ** 2 for x in a[:, i])) * math.sqrt(sum(float(x) ** 2 for x in b[:, j]))
            if i == j:
                invariance += (1 - top / below) ** 2
            else:
                redundancy += weight * (top / below) ** 2
    return invariance, redundancy


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(4, 9), weight=st.sampled_from([0.005, 0.5]))
def test_equals_the_definition(seed: int, n: int, weight: float) -> None:
    g = torch.Generator().manual_seed(seed)
    first, second = torch.randn(n, 4, generator=g), torch.randn(n, 4, generator=g)
    found = barlow_twins(first, second, redundancy_weight=weight)
    # 1e-5 is added to variances of about 1, which may be as small as 0.05 in a batch of four.
    assert [float(term) for term in found] == pytest.approx(slow_barlow(first, second, weight), rel=1e-3, abs=1e-3)


def test_does_not_depend_on_order_scale_or_offset_of_features() -> None:
    g = torch.Generator().manual_seed(0)
    first = torch.randn(16, 4, generator=g)
    second = first + 0.3 * torch.randn(16, 4, generator=g)
    loss = sum(barlow_twins(first, second, redundancy_weight=0.1))
    scans, features = torch.randperm(16, generator=g), torch.randperm(4, generator=g)
    scale, offset = torch.tensor([2.0, 5.0, 9.0, 3.0]), torch.tensor([1.0, -4.0, 0.0, 9.0])
    for a, b in [(second, first), (first[scans], second[scans]), (first[:, features], second[:, features]),
                 (first * scale + offset, second)]:  # fmt: skip
        torch.testing.assert_close(sum(barlow_twins(a, b, redundancy_weight=0.1)), loss, atol=1e-4, rtol=1e-4)


def test_zero_where_features_agree_and_differ_from_each_other_and_finite_where_all_is_collapsed() -> None:
    distinct = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(sum(barlow_twins(distinct, distinct, redundancy_weight=1.0))) == pytest.approx(0, abs=1e-6)
    same = distinct[:, :1].repeat(1, 2)
    assert [float(term) for term in barlow_twins(same, same, redundancy_weight=1.0)] == pytest.approx([0, 2], abs=1e-4)
    collapsed = torch.ones(4, 3, requires_grad=True)
    invariance, redundancy = barlow_twins(collapsed, collapsed, redundancy_weight=1.0)
    assert (float(invariance), float(redundancy)) == (3, 0)
    assert torch.equal(cross_correlation(collapsed, collapsed), torch.zeros(3, 3))


def test_learns_what_views_share() -> None:
    _, before, after = learned("barlow", steps=300, projection_dim=32)
    assert before < 0.4 and after > 0.6, (before, after)
