"""The four corruptions of Models Genesis, each against a slow one written from the paper."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from medtl.encoders.table import build_encoder
from medtl.pretraining.draws import Draws
from medtl.pretraining.objectives import genesis
from medtl.pretraining.objectives.genesis import Genesis, GenesisConfig, bent, corrupted, painted_over, shuffled_near
from tests.pretraining.toys import batch, blobs, losses, mean

NONE = {"shuffle": 0.0, "bend": 0.0, "paint": 0.0}


def scans(count: int, side: int, dims: int, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, *[side] * dims, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(("side", "dims", "sizes"), [(23, 2, [2, 3, 5, 4]), (12, 3, [2, 3, 4, 2])])
def test_shuffling_is_that_of_windows_one_by_one(side: int, dims: int, sizes: list[int]) -> None:
    x = scans(4, side, dims, channels=2)
    draws = Draws("t", 0, total=4)
    size = torch.tensor(sizes)
    corner = torch.tensor([[1, 0, 1], [2, 1, 0], [0, 4, 3], [1, 1, 1]])[:, :dims].remainder(size[:, None])
    orders = genesis._orders(draws, 5, dims)
    order = genesis._whole(draws, 0, genesis.ORDERS - 1, (side // 2 + 2) ** dims)
    found = shuffled_near(x, size, corner, order, orders)
    for b, w in enumerate(sizes):
        slow, touched = x[b].clone(), 0
        starts = [range(int(corner[b, axis]), side - w + 1, w) for axis in range(dims)]
        for place in itertools.product(*starts):
            box = (slice(None), *[slice(at, at + w) for at in place])
            numbers = [(at - int(corner[b, axis])) // w + 1 for axis, at in enumerate(place)]
            which = int(order[b, np.ravel_multi_index(numbers, [side // 2 + 2] * dims)])
            turn = orders[w, which, : w**dims]
            assert sorted(turn.tolist()) == list(range(w**dims))
            slow[box] = x[b][box].flatten(1)[:, turn].reshape(2, *[w] * dims)
            touched += 1
        assert touched > 4 and torch.equal(found[b], slow) and not torch.equal(found[b], x[b])


def test_curves_are_the_paper_s() -> None:
    """The curve from 100,000 points, as published, on images of 300 grays; ours has 256 points and 256 levels."""
    g = torch.Generator().manual_seed(0)
    controls, falling = torch.rand(20, 2, 2, generator=g), torch.arange(20) % 2 == 1
    controls[0], controls[1] = torch.tensor([[1 / 3, 1 / 3], [2 / 3, 2 / 3]]), torch.tensor([[0.9, 0.0], [0.9, 0.1]])
    x = torch.linspace(0, 1, 300).reshape(1, 1, 15, 20).repeat(20, 1, 1, 1)
    found = bent(x, controls, falling).reshape(20, -1).numpy()
    t = np.linspace(0, 1, 100_000)
    for b in range(20):
        (x1, y1), (x2, y2) = controls[b].double().tolist()
        first, last = (1.0, 0.0) if falling[b] else (0.0, 1.0)
        xs = 3 * (1 - t) ** 2 * t * x1 + 3 * (1 - t) * t**2 * x2 + t**3
        ys = (1 - t) ** 3 * first + 3 * (1 - t) ** 2 * t * y1 + 3 * (1 - t) * t**2 * y2 + t**3 * last
        assert np.all(np.diff(xs) > -1e-12) and np.all(np.diff(ys) * (last - first) > -1e-12), "monotone"
        at = x[b].flatten().double().numpy()
        # Between two levels the curve may be steep: ours lies within what it does from one level to the next.
        around = [np.interp(np.clip(at + d / 255, 0, 1), xs, ys) for d in (-1, 0, 1)]
        assert np.all(found[b] >= np.min(around, axis=0) - 0.01) and np.all(found[b] <= np.max(around, axis=0) + 0.01)
        assert np.median(np.abs(found[b] - around[1])) < 1e-3
        assert found[b][0] == pytest.approx(first, abs=1e-6) and found[b][-1] == pytest.approx(last, abs=1e-6)
    torch.testing.assert_close(torch.from_numpy(found[0]), x[0].flatten(), atol=1e-5, rtol=0)  # a straight line


@pytest.mark.parametrize("dims", [2, 3])
def test_painting_covers_the_windows_or_all_else(dims: int) -> None:
    x = scans(3, 9, dims, channels=2)
    g = torch.Generator().manual_seed(1)
    start, length = torch.randint(0, 5, (3, 4, dims), generator=g), torch.randint(2, 5, (3, 4, dims), generator=g)
    there = torch.tensor([[True, True, False, True], [True, False, False, False], [True] * 4])
    colour, outer = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([False, True, True])
    found = painted_over(x, start, length, there, colour, outer)
    for b in range(3):
        for place in itertools.product(range(9), repeat=dims):
            inside = any(
                there[b, k]
                and all(start[b, k, i] <= at < start[b, k, i] + length[b, k, i] for i, at in enumerate(place))
                for k in range(4)
            )
            for c in range(2):
                expected = colour[b] if inside != bool(outer[b]) else x[(b, c, *place)]
                assert found[(b, c, *place)] == expected


@pytest.mark.parametrize(("side", "dims"), [(64, 2), (48, 3)])
def test_each_corruption_does_what_it_is_for(side: int, dims: int) -> None:
    x = scans(6, side, dims)
    assert torch.equal(corrupted(x, GenesisConfig(**NONE), Draws("t", 0, total=6)), x)
    shuffled = corrupted(x, GenesisConfig(**NONE | {"shuffle": 1.0}), Draws("t", 0, total=6))
    assert torch.equal(shuffled.flatten(1).sort().values, x.flatten(1).sort().values)
    assert float((shuffled != x).float().mean()) > 0.4
    for outer, low, high in ((0.0, 0.005, 0.5), (1.0, 0.2, 0.93)):
        painted = corrupted(x, GenesisConfig(**NONE | {"paint": 1.0, "outer": outer}), Draws("t", 0, total=6))
        for one, before in zip(painted, x, strict=True):
            changed = one != before
            assert low < float(changed.float().mean()) < high and len(one[changed].unique()) == 1
    bent_ = corrupted(x, GenesisConfig(**NONE | {"bend": 1.0}), Draws("t", 0, total=6))
    for one, before in zip(bent_.flatten(1), x.flatten(1), strict=True):
        rising = one[before.argsort()].diff()
        assert bool((rising >= -1e-6).all()) or bool((rising <= 1e-6).all())


def test_all_together_stay_in_range_differ_and_repeat() -> None:
    x = scans(16, 64, 2)
    config = GenesisConfig()
    found = corrupted(x, config, Draws("t", 0, total=16))
    assert found.min() >= 0 and found.max() <= 1
    assert torch.equal(found, corrupted(x, config, Draws("t", 0, total=16)))
    assert not torch.equal(found, corrupted(x, config, Draws("t", 1, total=16)))
    # A process that holds a part of the batch does the same to it.
    assert torch.equal(found[4:9], corrupted(x[4:9], config, Draws("t", 0, total=16, part=slice(4, 9))))
    same = corrupted(x[:1].repeat(16, 1, 1, 1), config, Draws("t", 0, total=16))
    assert len({tuple(one.flatten().tolist()) for one in same}) > 12


@pytest.mark.parametrize(
    ("network", "side", "dims"), [("resnet10-half", 32, 2), ("vit-tiny", 32, 2), ("resnet10-half", 20, 3)]
)
def test_the_loss_is_the_distance_from_the_original(network: str, side: int, dims: int) -> None:
    torch.manual_seed(0)
    objective = Genesis(build_encoder(network, input_px=side, dims=dims), GenesisConfig())
    kept: list[Tensor] = []
    objective.decoder.register_forward_hook(lambda module, inputs, output: kept.append(output))
    images = blobs(4, side, dims=dims)
    loss, said = objective(batch(images))
    distance = ((kept[0].double() - (images.double() + 1) / 2) ** 2).mean()
    assert loss.item() == pytest.approx(distance.item(), rel=1e-5) and said["unrestored"] > 0  # float32, float64
    assert torch.equal(loss, objective(batch(images))[0])
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.encoder.parameters())
    assert not any(module._forward_hooks for module in objective.encoder.modules())


@pytest.mark.slow
@pytest.mark.parametrize(("side", "dims", "steps"), [(32, 2, 25), (16, 3, 16)])
def test_learns(side: int, dims: int, steps: int) -> None:
    torch.manual_seed(0)
    objective = Genesis(build_encoder("resnet10-half", input_px=side, dims=dims), GenesisConfig())
    found = losses(objective, side=side, dims=dims, steps=steps, size=8)
    assert mean(found[-5:]) < 0.3 * mean(found[:3])
