"""DINO: the loss against eq. 3, centre, teacher and schedules against their closed forms, and that it learns."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medtl.encoders.table import Encoder
from medtl.pretraining.objectives.dino import DINO, DINOConfig, distillation
from tests.pretraining.tiny import tiny_encoder, views_of
from tests.pretraining.toy import learned

SMALL = DINOConfig(local_crops=2, prototypes=10, hidden_dim=16, bottleneck_dim=6)


def crops_and_views(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, 1, 4, 4, generator=g), torch.randn(count, 2, 1, 4, 4, generator=g)


def slow_distillation(student: Tensor, teacher: Tensor, center: Tensor, hot: float, cold: float) -> float:
    """Caron 2021, eq. 1, 3 and 4's centring, term by term in float64: from outputs (V, B, K) and (2, B, K)."""

    def softmax(values: list[float]) -> list[float]:
        exponentials = [math.exp(v) for v in values]
        return [e / sum(exponentials) for e in exponentials]

    terms = []
    for g, rows in enumerate(teacher.double()):
        for v, others in enumerate(student.double()):
            if g == v:
                continue
            for row, other in zip(rows, others, strict=True):
                p = softmax([(float(x) - float(c)) / cold for x, c in zip(row, center, strict=True)])
                q = softmax([float(x) / hot for x in other])
                terms.append(-sum(a * math.log(b) for a, b in zip(p, q, strict=True)))
    return sum(terms) / len(terms)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), views=st.integers(2, 5), n=st.integers(1, 4))
def test_equals_the_definition(seed: int, views: int, n: int) -> None:
    g = torch.Generator().manual_seed(seed)
    student, teacher = torch.rand(views, n, 6, generator=g), torch.rand(2, n, 6, generator=g)
    center = torch.rand(6, generator=g)
    found = distillation((student / 0.1).log_softmax(dim=2), ((teacher - center) / 0.05).softmax(dim=2))
    assert float(found) == pytest.approx(slow_distillation(student, teacher, center, 0.1, 0.05), rel=1e-4)


def test_module_gives_views_and_crops_their_places() -> None:
    torch.manual_seed(0)
    objective = DINO(tiny_encoder(), SMALL)
    objective.center.normal_(std=0.1)
    objective.done.fill_(0.15)
    whole, crops = crops_and_views(5)
    with torch.no_grad():
        outputs = [objective.head(objective.encoder(part.transpose(0, 1).flatten(0, 1))) for part in (whole, crops)]
        teacher = objective.teacher(whole.transpose(0, 1).flatten(0, 1)).reshape(2, 5, 10)
    loss, logs = objective(views_of(whole, crops=crops))
    # Half of the warm-up from 0.04 to the end is over.
    cold = (SMALL.teacher_temperature_start + SMALL.teacher_temperature) / 2
    student = torch.cat(outputs).reshape(4, 5, 10)
    assert loss.item() == pytest.approx(slow_distillation(student, teacher, objective.center, 0.1, cold), rel=1e-4)
    assert 0 <= logs["entropy"] <= math.log(10) and 1 <= logs["used"] <= 10
    swapped, _ = objective(views_of(whole.flip(1), crops=crops.flip(1)))
    torch.testing.assert_close(swapped, loss, msg="the order of views and of crops says nothing")


def test_works_without_crops() -> None:
    torch.manual_seed(0)
    objective = DINO(tiny_encoder(), SMALL.model_copy(update={"local_crops": 0}))
    assert objective.n_crops == 0
    loss, _ = objective(views_of(crops_and_views(5)[0]))
    loss.backward()
    assert math.isfinite(float(loss))


def test_teacher_and_centre_follow_once_a_step() -> None:
    torch.manual_seed(0)
    objective = DINO(tiny_encoder(), SMALL)
    optimizer = torch.optim.SGD(objective.parameters(), lr=5.0)
    weight = objective.encoder.net[1].weight  # type: ignore[index]
    teacher = weight.detach().double().clone()
    center = torch.zeros(10, dtype=torch.double)
    for step in range(4):
        outputs = []
        for part in range(2 if step == 2 else 1):  # the third step accumulates two batches
            whole, crops = crops_and_views(5, seed=10 * step + part)
            outputs.append(objective.teacher(whole.transpose(0, 1).flatten(0, 1)))
            loss, _ = objective(views_of(whole, crops=crops))
            loss.backward()
            torch.testing.assert_close(objective.center.double(), center, atol=1e-6, rtol=1e-5)
        assert all(p.grad is None for p in objective.teacher.parameters())
        optimizer.step()
        optimizer.zero_grad()
        done = (step + 1) / 4
        objective.after_step(done)
        momentum = 1 - (1 - 0.99) * (math.cos(math.pi * done) + 1) / 2
        teacher = momentum * teacher + (1 - momentum) * weight.detach().double()
        found = dict(objective.teacher.named_parameters())["copy.0.net.1.weight"]
        torch.testing.assert_close(found.double(), teacher, atol=1e-6, rtol=1e-5)
        center = 0.9 * center + 0.1 * torch.cat(outputs).double().mean(dim=0)  # eq. 4
        torch.testing.assert_close(objective.center.double(), center, atol=1e-6, rtol=1e-5)


def test_prototypes_are_frozen_at_first_and_have_unit_length() -> None:
    torch.manual_seed(0)
    objective = DINO(tiny_encoder(), SMALL)
    whole, crops = crops_and_views(5)
    views = views_of(whole, crops=crops)
    loss, _ = objective(views)
    loss.backward()
    assert objective.head.prototypes.grad is not None and not objective.head.prototypes.grad.any()
    assert all(p.grad.any() for p in objective.encoder.parameters())  # type: ignore[union-attr]
    with torch.no_grad():
        objective.head.prototypes.mul_(3)
    torch.testing.assert_close(objective(views)[0], loss)
    objective.after_step(0.5)
    objective(views)[0].backward()
    assert objective.head.prototypes.grad.any()


def test_running_statistics_are_those_of_whole_scans() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 2), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    objective = DINO(Encoder(net, name="tiny", input_px=4, embedding_dim=6, cam_layer="net.0"), SMALL)
    whole, crops = torch.randn(5, 2, 1, 4, 4), torch.full((5, 2, 1, 3, 3), 7.0)
    objective(views_of(whole, crops=crops))
    seen = net[0](whole.flatten(0, 1)).mean(dim=(0, 2, 3))
    torch.testing.assert_close(net[1].running_mean, 0.1 * seen)
    assert int(net[1].num_batches_tracked) == 1 and net[1].track_running_stats


def test_learns_what_views_share() -> None:
    _, before, after = learned("dino", steps=300, prototypes=128, hidden_dim=64, bottleneck_dim=32, local_crops=2)
    assert before < 0.4 and after > 0.6, (before, after)
