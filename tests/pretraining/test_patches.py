"""Patches, which are hidden, and the loss on those, against definitions written out."""

import itertools

import pytest
import torch

from medtl.pretraining.draws import Draws
from medtl.pretraining.objectives.patches import cut, hidden_loss, hidden_patches, normalised


@pytest.mark.parametrize(("dims", "side", "patch"), [(2, 8, 4), (2, 10, 4), (3, 6, 2), (3, 5, 3)])
def test_patches_hold_what_lies_there(dims: int, side: int, patch: int) -> None:
    images = torch.randn(2, 2, *[side] * dims, generator=torch.Generator().manual_seed(0))
    cells = -(-side // patch)
    big = torch.full((2, 2, *[cells * patch] * dims), -1.0)
    big[(..., *[slice(side)] * dims)] = images
    found = cut(images, patch)
    assert found.shape == (2, cells**dims, 2 * patch**dims)
    for n, place in enumerate(itertools.product(range(cells), repeat=dims)):
        window = big[(..., *[slice(i * patch, (i + 1) * patch) for i in place])]
        assert torch.equal(found[:, n], window.flatten(1))


@pytest.mark.parametrize(("ratio", "hidden"), [(0.6, 38), (0.75, 48), (0.001, 1), (0.999, 63)])
def test_every_scan_hides_exactly_the_asked_share_and_another_one(ratio: float, hidden: int) -> None:
    found = hidden_patches(Draws("test", 0, total=32), 64, ratio)
    assert found.sum(dim=1).tolist() == [hidden] * 32
    assert len({tuple(row.tolist()) for row in found}) > 16


def test_processes_hide_what_one_would() -> None:
    whole = hidden_patches(Draws("test", 3, total=6), 16, 0.6)
    parts = [hidden_patches(Draws("test", 3, total=6, part=part), 16, 0.6) for part in (slice(0, 2), slice(2, 6))]
    assert torch.equal(whole, torch.cat(parts))


def test_one_colour_becomes_zero() -> None:
    assert torch.equal(normalised(torch.full((1, 2, 9), 0.25)), torch.zeros(1, 2, 9))


@pytest.mark.parametrize("dims", [2, 3])
def test_loss_is_the_definition_in_float64(dims: int) -> None:
    g = torch.Generator().manual_seed(1)
    images = torch.rand(3, 1, *[8] * dims, generator=g) * 2 - 1
    predicted = torch.randn(3, 2**dims, 4**dims, generator=g)
    hidden = hidden_patches(Draws("test", 0, total=3), 2**dims, 0.5)
    total, count = 0.0, 0
    for b in range(3):
        for n, place in enumerate(itertools.product(range(2), repeat=dims)):
            if not hidden[b, n]:
                continue
            window = images[(b, 0, *[slice(4 * i, 4 * i + 4) for i in place])].double().flatten()
            target = (window - window.mean()) / (window.var(correction=0) + 1e-6).sqrt()
            total += float((predicted[b, n].double() - target).square().mean())
            count += 1
    # float32 against float64
    assert float(hidden_loss(predicted, images, hidden, 4)) == pytest.approx(total / count, rel=1e-5)
