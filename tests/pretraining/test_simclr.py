"""NT-Xent against the definition, and what it must not depend on."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medtl.pretraining.objectives.simclr import SimCLR, SimCLRConfig, nt_xent
from tests.pretraining.tiny import tiny_encoder, views_of


def slow_nt_xent(first: Tensor, second: Tensor, temperature: float) -> float:
    """Chen 2020, eq. 1, term by term, in float64."""
    z = [v.double() / v.double().norm() for v in [*first, *second]]
    n, total = len(first), 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        bottom = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in range(2 * n) if k != i)
        total += -math.log(math.exp(float(z[i] @ z[j]) / temperature) / bottom)
    return total / (2 * n)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(2, 8), temperature=st.sampled_from([0.1, 0.2, 0.5]))
def test_equals_the_definition(seed: int, n: int, temperature: float) -> None:
    g = torch.Generator().manual_seed(seed)
    first, second = torch.randn(n, 5, generator=g), torch.randn(n, 5, generator=g)
    # float32 against float64
    assert float(nt_xent(first, second, temperature=temperature)) == pytest.approx(
        slow_nt_xent(first, second, temperature), rel=1e-4
    )


def test_collapsed_projections_give_log_of_the_number_of_others() -> None:
    same = torch.ones(8, 4)
    assert float(nt_xent(same, same, temperature=0.2)) == pytest.approx(math.log(15), rel=1e-5)


def test_does_not_depend_on_order_length_or_rotation() -> None:
    g = torch.Generator().manual_seed(0)
    first, second = torch.randn(6, 4, generator=g), torch.randn(6, 4, generator=g)
    loss = nt_xent(first, second, temperature=0.2)
    order = torch.randperm(6, generator=g)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=g))
    for a, b in [(first[order], second[order]), (second, first), (3 * first, 0.1 * second),
                 (first @ rotation, second @ rotation)]:  # fmt: skip
        torch.testing.assert_close(nt_xent(a, b, temperature=0.2), loss)


def test_members_of_one_group_are_no_negatives() -> None:
    """Leaving them out of the sum is the same as moving them infinitely far away."""
    g = torch.Generator().manual_seed(0)
    first, second = torch.randn(5, 4, generator=g), torch.randn(5, 4, generator=g)
    group = torch.tensor([0, 1, 1, 2, 3])
    z = [v.double() / v.double().norm() for v in [*first, *second]]
    both, total = [*group.tolist()] * 2, 0.0
    for i in range(10):
        j = (i + 5) % 10
        bottom = sum(math.exp(float(z[i] @ z[k]) / 0.2) for k in range(10) if k == j or both[k] != both[i])
        total += -math.log(math.exp(float(z[i] @ z[j]) / 0.2) / bottom)
    assert float(nt_xent(first, second, temperature=0.2, group=group)) == pytest.approx(total / 10, rel=1e-4)


def test_module_pairs_the_views_of_one_scan() -> None:
    torch.manual_seed(0)
    objective = SimCLR(tiny_encoder(), SimCLRConfig())
    scans = torch.randn(32, 1, 1, 4, 4)
    same = scans.expand(-1, 2, -1, -1, -1)
    loss, logs = objective(views_of(same))
    assert logs["top1"] == 1.0
    shuffled = torch.cat([scans, scans.roll(1, dims=0)], dim=1)
    worse, logs = objective(views_of(shuffled))
    assert logs["top1"] < 0.2 and worse > loss
