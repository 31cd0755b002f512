"""VoCo: overlaps voxel by voxel, losses from the definition."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from medtl.encoders.table import build_encoder
from medtl.errors import ConfigError
from medtl.pretraining.draws import Draws
from medtl.pretraining.objectives.voco import (
    VoCo,
    VoCoConfig,
    base_corners,
    crops_at,
    likeness,
    overlaps,
    position_loss,
    random_corners,
)
from tests.pretraining.toys import batch, blobs, losses, mean


def voco(side: int, dims: int, network: str = "resnet10-half", **settings: int) -> VoCo:
    torch.manual_seed(0)
    return VoCo(build_encoder(network, input_px=side, dims=dims), VoCoConfig(**settings))


@pytest.mark.parametrize(("side", "grid", "dims"), [(12, 3, 2), (14, 4, 2), (9, 2, 3)])
def test_overlaps_are_those_counted_voxel_by_voxel(side: int, grid: int, dims: int) -> None:
    crop = side // grid
    bases = base_corners(side, grid, dims)
    corners = random_corners(Draws("t", 0, total=3), 4, side - crop, dims)
    share = overlaps(corners, bases, crop)
    owner = torch.full([side] * dims, -1)
    for n, base in enumerate(bases.tolist()):
        box = tuple(slice(at, at + crop) for at in base)
        assert bool((owner[box] == -1).all()), "base crops do not overlap"
        owner[box] = n
    for b, m in itertools.product(range(3), range(4)):
        inside = owner[tuple(slice(at, at + crop) for at in corners[b, m].tolist())].flatten()
        assert inside.numel() == crop**dims
        counted = [int((inside == n).sum()) / crop**dims for n in range(grid**dims)]
        torch.testing.assert_close(share[b, m], torch.tensor(counted))
    if side % grid == 0:
        torch.testing.assert_close(share.sum(dim=2), torch.ones(3, 4))


@pytest.mark.parametrize("dims", [2, 3])
def test_crops_hold_what_lies_there(dims: int) -> None:
    images = torch.randn(2, 3, *[10] * dims, generator=torch.Generator().manual_seed(0))
    corners = random_corners(Draws("t", 1, total=2), 5, 6, dims)
    found = crops_at(images, corners, 4)
    for b, m in itertools.product(range(2), range(5)):
        assert torch.equal(found[b, m], images[(b, slice(None), *[slice(at, at + 4) for at in corners[b, m].tolist()])])


def test_random_corners_reach_every_place() -> None:
    corners = random_corners(Draws("t", 0, total=64), 4, 3, 2)
    assert {tuple(place) for place in corners.reshape(-1, 2).tolist()} == set(itertools.product(range(4), repeat=2))


def test_losses_are_the_definitions() -> None:
    g = torch.Generator().manual_seed(0)
    crops, bases = torch.randn(3, 2, 8, generator=g, requires_grad=True), torch.randn(3, 5, 8, generator=g)
    bases.requires_grad_()
    share = torch.rand(3, 2, 5, generator=g) * 0.6

    def cosine(a: Tensor, b: Tensor) -> float:
        return float((a.double() @ b.double() / a.double().norm() / b.double().norm()).detach())

    terms = [
        -math.log(1 - min(abs(float(share[b, m, n]) - cosine(crops[b, m], bases[b, n])), 0.999))
        for b, m, n in itertools.product(range(3), range(2), range(5))
    ]
    loss = position_loss(crops, bases, share)
    assert loss.item() == pytest.approx(mean(terms), rel=1e-5)  # float32 against float64
    loss.backward()
    assert crops.grad is not None and bases.grad is None, "stop-gradient"
    pairs = [
        2 / (5 * 4) * abs(cosine(bases[b, i], bases[b, j])) for b in range(3) for i in range(5) for j in range(i + 1, 5)
    ]
    assert likeness(bases).item() == pytest.approx(sum(pairs) / 3, rel=1e-5)
    likeness(bases).backward()
    assert bases.grad is not None


def test_base_crops_that_are_alike_are_pushed_apart() -> None:
    assert likeness(torch.ones(2, 4, 3)).item() == pytest.approx(1.0)
    assert likeness(torch.eye(4)[None]).item() == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("network", "side", "dims"), [("resnet10-half", 50, 2), ("densenet121", 64, 2), ("resnet10-half", 32, 3)]
)
def test_reaches_every_weight_and_repeats(network: str, side: int, dims: int) -> None:
    objective = voco(side, dims, network, grid=2 if dims == 3 else 3)
    images = blobs(4, side, dims=dims)
    loss, said = objective(batch(images))
    assert 0 <= said["located"] <= 1
    assert torch.equal(loss, objective(batch(images))[0]) and not torch.equal(loss, objective(batch(images, seed=1))[0])
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.encoder.parameters())


def test_a_grid_that_leaves_nothing_to_see_is_refused() -> None:
    said = "objective.grid: 100 crops along 32 px leave 0 px to each, less than 4; the largest grid is 8"
    with pytest.raises(ConfigError, match=said):
        voco(32, 2, grid=100)
    objective = voco(32, 2, grid=8)
    assert torch.isfinite(objective(batch(blobs(4, 32)))[0])
    with pytest.raises(ConfigError, match="8 crops along 16 px leave 2 px"):
        objective(batch(blobs(4, 16)))  # a run may see scans at another side than its start did


@pytest.mark.slow
def test_learns() -> None:
    found = losses(voco(32, 2, grid=2), side=32, steps=60, lr=1e-3)
    # Base crops at right angles and every similarity 0 would give -log(1 - y) on average.
    corners = random_corners(Draws("t", 0, total=500), 2, 16, 2)
    blind = -(1 - overlaps(corners, base_corners(32, 2, 2), 16).clamp(max=0.999)).log().mean()
    assert mean(found[-10:]) < 0.85 * float(blind)


@pytest.mark.slow
def test_learns_from_volumes() -> None:
    found = losses(voco(32, 3, grid=2), side=32, dims=3, steps=25, size=6, lr=1e-3)
    assert mean(found[-5:]) < 0.85 * mean(found[:5])
