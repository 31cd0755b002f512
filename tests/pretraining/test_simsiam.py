"""SimSiam: the loss against eq. 4, where the gradient must not flow, and that it learns."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medtl.pretraining.objectives.simsiam import SimSiam, SimSiamConfig, negative_cosine
from tests.pretraining.tiny import tiny_encoder, views_of
from tests.pretraining.toy import learned

SMALL = SimSiamConfig(projection_dim=16, bottleneck_dim=4)


def slow_distance(p: Tensor, z: Tensor) -> float:
    """Chen & He 2021, eq. 1, term by term in float64, mean over scans."""
    rows = zip(p.detach().double(), z.double(), strict=True)
    return sum(-sum(float(x) * float(y) for x, y in zip(a, b, strict=True)) / float(a.norm() * b.norm())
               for a, b in rows) / len(p)  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 8))
def test_equals_the_definition(seed: int, n: int) -> None:
    g = torch.Generator().manual_seed(seed)
    p, z = torch.randn(n, 5, generator=g), torch.randn(n, 5, generator=g)
    # float32 against float64; abs where the cosines cancel
    assert float(negative_cosine(p, z)) == pytest.approx(slow_distance(p, z), rel=1e-4, abs=1e-6)


def test_depends_on_directions_only() -> None:
    g = torch.Generator().manual_seed(0)
    p, z = torch.randn(6, 4, generator=g), torch.randn(6, 4, generator=g)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=g))
    for a, b in [(3 * p, 0.1 * z), (p @ rotation, z @ rotation), (z, p)]:
        torch.testing.assert_close(negative_cosine(a, b), negative_cosine(p, z))
    assert float(negative_cosine(p, p)) == pytest.approx(-1)


def test_the_loss_is_the_mean_of_both_directions_and_no_gradient_flows_into_the_target() -> None:
    """The gradient is that of predictions of fixed numbers."""
    torch.manual_seed(0)
    objective = SimSiam(tiny_encoder(), SMALL)
    whole = torch.randn(6, 2, 1, 4, 4)
    loss, _ = objective(views_of(whole))
    loss.backward()
    found = {name: p.grad.clone() for name, p in objective.named_parameters()}  # type: ignore[union-attr]
    objective.zero_grad()
    z = objective.projection(objective.encoder(torch.cat([whole[:, 0], whole[:, 1]])))
    p1, p2 = objective.prediction(z).chunk(2)
    z1, z2 = torch.tensor(z.tolist()).chunk(2)
    again = -((F.normalize(p1, dim=1) * F.normalize(z2, dim=1)).sum(dim=1).mean()
              + (F.normalize(p2, dim=1) * F.normalize(z1, dim=1)).sum(dim=1).mean()) / 2  # fmt: skip
    torch.testing.assert_close(again, loss)
    assert loss.item() == pytest.approx((slow_distance(p1, z2) + slow_distance(p2, z1)) / 2, rel=1e-4)
    again.backward()
    for name, parameter in objective.named_parameters():
        torch.testing.assert_close(parameter.grad, found[name])
    swapped, _ = objective(views_of(whole.flip(1)))
    torch.testing.assert_close(swapped, loss, msg="the loss is symmetric in the views")


def test_learns_what_views_share() -> None:
    _, before, after = learned("simsiam", steps=400, lr=1e-2, projection_dim=64, bottleneck_dim=16)
    assert before < 0.4 and after > 0.6, (before, after)
