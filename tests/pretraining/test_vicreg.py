"""VICReg: each term against its equation, what they must not depend on, and that it learns."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medtl.pretraining.objectives.vicreg import VICReg, VICRegConfig, covariance, variance
from tests.pretraining.tiny import tiny_encoder, views_of
from tests.pretraining.toy import learned


def slow_terms(z: Tensor) -> tuple[float, float]:
    """Bardes 2022, eq. 1 to 4 with gamma = 1 and epsilon = 1e-4, term by term in float64."""
    rows = z.double().tolist()
    n, d = len(rows), len(rows[0])
    mean = [sum(row[j] for row in rows) / n for j in range(d)]
    matrix = [[sum((row[i] - mean[i]) * (row[j] - mean[j]) for row in rows) / (n - 1) for j in range(d)]
              for i in range(d)]  # fmt: skip
    v = sum(max(0.0, 1 - math.sqrt(matrix[j][j] + 1e-4)) for j in range(d)) / d
    c = sum(matrix[i][j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    return v, c


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(2, 8), scale=st.sampled_from([0.1, 1.0, 3.0]))
def test_terms_equal_the_definition(seed: int, n: int, scale: float) -> None:
    z = scale * torch.randn(n, 5, generator=torch.Generator().manual_seed(seed)) + 2
    # float32 against float64
    assert (float(variance(z)), float(covariance(z))) == pytest.approx(slow_terms(z), rel=1e-3, abs=1e-6)


def test_the_loss_is_eq_6() -> None:
    torch.manual_seed(0)
    config = VICRegConfig(projection_dim=8, invariance_weight=3, variance_weight=5, covariance_weight=7)
    objective = VICReg(tiny_encoder(), config)
    whole = torch.randn(6, 2, 1, 4, 4)
    loss, logs = objective(views_of(whole))
    with torch.no_grad():
        z, other = objective.projection(objective.encoder(torch.cat([whole[:, 0], whole[:, 1]]))).double().chunk(2)
    s = sum(float((a - b).norm()) ** 2 / 8 for a, b in zip(z, other, strict=True)) / 6
    (v, c), (v_other, c_other) = slow_terms(z), slow_terms(other)
    assert loss.item() == pytest.approx(3 * s + 5 * (v + v_other) + 7 * (c + c_other), rel=1e-4)
    assert logs["invariance"] == pytest.approx(s, abs=1e-4)
    swapped, _ = objective(views_of(whole.flip(1)))
    torch.testing.assert_close(swapped, loss, msg="the loss is symmetric in the views")


def test_does_not_depend_on_order_or_offset() -> None:
    g = torch.Generator().manual_seed(0)
    z = 0.7 * torch.randn(16, 4, generator=g)
    scans, features = torch.randperm(16, generator=g), torch.randperm(4, generator=g)
    for same in (z[scans], z[:, features], z + torch.tensor([1.0, -4.0, 0.0, 9.0]), -z):
        torch.testing.assert_close(variance(same), variance(z), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(covariance(same), covariance(z), atol=1e-5, rtol=1e-4)


def test_collapse_costs_the_most_and_has_a_gradient_out_of_it() -> None:
    collapsed = (
        torch.ones(8, 3) + 1e-3 * torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    ).requires_grad_()
    loss = variance(collapsed)
    assert float(loss.detach()) == pytest.approx(0.99, abs=1e-3)  # 1 - sqrt(1e-4)
    loss.backward()
    assert (collapsed.grad * (collapsed - collapsed.mean(dim=0)) < 0).all(), "scans are pushed apart"


def test_learns_what_views_share() -> None:
    _, before, after = learned("vicreg", steps=300, projection_dim=32)
    assert before < 0.4 and after > 0.6, (before, after)
