"""BYOL: the loss against eq. 2, the target network against eq. 1 unrolled, and that it learns."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medtl.pretraining.objectives.byol import BYOL, BYOLConfig, prediction_error
from tests.pretraining.tiny import tiny_encoder, views_of
from tests.pretraining.toy import learned

SMALL = BYOLConfig(hidden_dim=16, projection_dim=8)


def slow_error(predicted: Tensor, target: Tensor) -> float:
    """Grill 2020, eq. 2: || q / |q| - z / |z| ||^2, term by term in float64."""
    total = 0.0
    for q, z in zip(predicted.double(), target.double(), strict=True):
        total += sum((float(a / q.norm()) - float(b / z.norm())) ** 2 for a, b in zip(q, z, strict=True))
    return total / len(predicted)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 8))
def test_equals_the_definition(seed: int, n: int) -> None:
    g = torch.Generator().manual_seed(seed)
    predicted, target = torch.randn(n, 5, generator=g), torch.randn(n, 5, generator=g)
    # float32 against float64
    assert float(prediction_error(predicted, target)) == pytest.approx(slow_error(predicted, target), rel=1e-4)


def test_depends_on_directions_only() -> None:
    g = torch.Generator().manual_seed(0)
    predicted, target = torch.randn(6, 4, generator=g), torch.randn(6, 4, generator=g)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=g))
    loss = prediction_error(predicted, target)
    order = [5, 2, 4, 0, 1, 3]
    for a, b in [(3 * predicted, 0.1 * target), (predicted @ rotation, target @ rotation),
                 (predicted[order], target[order])]:  # fmt: skip
        torch.testing.assert_close(prediction_error(a, b), loss)
    assert float(prediction_error(predicted, predicted)) == pytest.approx(0, abs=1e-6)
    assert float(prediction_error(predicted, -predicted)) == pytest.approx(4)


def test_each_view_predicts_the_target_of_the_other() -> None:
    torch.manual_seed(0)
    objective = BYOL(tiny_encoder(), SMALL)
    whole = torch.randn(6, 2, 1, 4, 4)
    loss, logs = objective(views_of(whole))
    with torch.no_grad():
        both = torch.cat([whole[:, 0], whole[:, 1]])
        q = objective.prediction(objective.projection(objective.encoder(both)))
        t = copy.deepcopy(objective.target)(both)
    assert loss.item() == pytest.approx(slow_error(q[:6], t[6:]) + slow_error(q[6:], t[:6]), rel=1e-4)
    assert set(logs) == {"top1", "std"}
    swapped, _ = objective(views_of(whole.flip(1)))
    torch.testing.assert_close(swapped, loss, msg="the loss is symmetric in the views")


def test_the_target_is_the_moving_average_and_gets_no_gradient() -> None:
    torch.manual_seed(0)
    objective = BYOL(tiny_encoder(), SMALL)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.5)
    expected = objective.encoder.net[1].weight.detach().double()  # type: ignore[index]
    for step in range(5):
        loss, _ = objective(views_of(torch.randn(6, 2, 1, 4, 4)))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is None for p in objective.target.parameters())
        optimizer.step()
        done = (step + 1) / 5
        objective.after_step(done)
        tau = 1 - (1 - 0.99) * (math.cos(math.pi * done) + 1) / 2
        expected = tau * expected + (1 - tau) * objective.encoder.net[1].weight.detach().double()  # type: ignore[index]
        target = dict(objective.target.named_parameters())["copy.0.net.1.weight"]
        torch.testing.assert_close(target.double(), expected, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(target, objective.encoder.net[1].weight)  # type: ignore[index]


def test_learns_what_views_share() -> None:
    _, before, after = learned("byol", steps=300, hidden_dim=64, projection_dim=16)
    assert before < 0.4 and after > 0.6, (before, after)
