"""SparK: what is hidden cannot be felt, at any scale, and statistics are those of what is seen."""

import pytest
import torch
from torch import Tensor, nn

from medtl.encoders.table import Encoder, build_encoder
from medtl.errors import ConfigError
from medtl.pretraining.objectives.decoder import shuffled
from medtl.pretraining.objectives.patches import cut
from medtl.pretraining.objectives.spark import SparK, SparKConfig, _at, cell_px, seen_only
from tests.pretraining.toys import batch, blobs, losses, mean

NETWORKS = [
    ("resnet18-half", 64, 2), ("resnet18-half", 28, 2), ("resnet50", 32, 2), ("efficientnet-lite0", 64, 2),
    ("densenet121", 64, 2), ("efficientnet-b0", 64, 2), ("resnet10-half", 24, 3), ("efficientnet-lite0", 64, 3),
]  # fmt: skip


def spark(network: str = "resnet10-half", side: int = 32, dims: int = 2) -> SparK:
    torch.manual_seed(0)
    return SparK(build_encoder(network, input_px=side, dims=dims), SparKConfig())


def hidden_cells(objective: SparK, count: int) -> Tensor:
    """(count, 1, *cells) True where seen; about half."""
    cells = -(-objective.encoder.input_px // objective.cell_px)
    g = torch.Generator().manual_seed(3)
    return torch.rand(count, 1, *[cells] * objective.encoder.dims, generator=g) < 0.4


def untouched(encoder: Encoder) -> bool:
    return all(
        "forward" not in vars(module) and not module._forward_hooks and not module._forward_pre_hooks
        for module in encoder.modules()
    )


@pytest.mark.parametrize(("network", "side", "dims"), NETWORKS)
def test_what_is_hidden_cannot_be_felt_at_any_scale(network: str, side: int, dims: int) -> None:
    objective = spark(network, side, dims).train()
    images = blobs(2, side, dims=dims)
    seen = hidden_cells(objective, 2)
    pixels = objective._pixels(seen, images)
    assert 0.2 < float(pixels.mean()) < 0.6
    other = torch.where(pixels.bool(), images, torch.rand_like(images))
    with torch.no_grad():
        torch.manual_seed(1)  # EfficientNet-B0 drops whole blocks at random
        maps = objective.features(images, seen)
        torch.manual_seed(1)
        for one, two in zip(maps, objective.features(other, seen), strict=True):
            assert torch.equal(one, two)
            there = _at(pixels, tuple(one.shape[2:])).bool()
            assert not one.masked_select(~there).any(), "a place where nothing is seen stays empty"
            assert one.masked_select(there).any()
    assert untouched(objective.encoder)


def test_blank_surroundings_do_not_pull_the_statistics() -> None:
    """An image alone and the same image beside hidden ones have the same statistics, in output and running."""
    encoder = build_encoder("resnet10-half", input_px=32).train()
    norm = encoder.net.bn1
    before: list[Tensor] = []
    hook = encoder.net.conv1.register_forward_hook(lambda module, inputs, output: before.append(output))
    after: list[Tensor] = []
    second = norm.register_forward_hook(lambda module, inputs, output: after.append(output.clone()))
    images = blobs(3, 32)
    mask = torch.zeros(3, 1, 32, 32)
    mask[0, :, :16], mask[1, :, 8:16, 24:], mask[2, :, :, 4:8] = 1, 1, 1
    with seen_only(encoder, mask):
        encoder(images * mask)
    hook.remove()
    second.remove()
    at = _at(mask, (16, 16))
    values = [[] for _ in range(32)]
    for b in range(3):
        for i in range(16):
            for j in range(16):
                if mask[b, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].any():
                    for c in range(32):
                        values[c].append(float(before[0][b, c, i, j].detach()))
    x = torch.tensor(values, dtype=torch.float64)
    assert x.shape[1] == int(at.sum()) < 3 * 256
    middle, width = x.mean(1)[:, None, None], (x.var(1, correction=0) + norm.eps).sqrt()[:, None, None]
    expected = (before[0].double() - middle) / width
    torch.testing.assert_close(after[0].double(), expected * at, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.running_mean.double(), norm.momentum * x.mean(1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(norm.running_var.double(), 0.9 + norm.momentum * x.var(1), rtol=1e-4, atol=1e-6)
    assert int(norm.num_batches_tracked) == 1


@pytest.mark.parametrize("network", ["resnet18-half", "efficientnet-lite0", "densenet121", "efficientnet-b0"])
def test_with_everything_seen_it_is_the_usual_network(network: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(network, input_px=64).eval()
    images = blobs(2, 64)
    with torch.no_grad():
        usual = encoder(images)
        with seen_only(encoder, torch.ones(2, 1, 64, 64)):
            seen = encoder(images)
    torch.testing.assert_close(usual, seen, rtol=1e-4, atol=1e-5)


def test_nothing_stays_on_the_network_when_the_work_fails() -> None:
    objective = spark()
    with pytest.raises(RuntimeError):
        objective.features(torch.zeros(2, 3, 32, 32), hidden_cells(objective, 2))
    assert untouched(objective.encoder)


def test_patches_leave_eight_or_more_a_side() -> None:
    assert {side: cell_px(side) for side in (16, 28, 48, 64, 96, 128, 224, 512)} == {
        16: 2, 28: 2, 48: 4, 64: 8, 96: 8, 128: 16, 224: 16, 512: 32,
    }  # fmt: skip


def test_a_deep_place_is_seen_where_any_patch_below_it_is() -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[:, :, 40:48, 8:16] = 1
    assert _at(mask, (2, 2)).tolist() == [[[[0, 0], [1, 0]]]]
    assert _at(mask, (8, 8)).nonzero().tolist() == [[0, 0, 5, 1]]
    assert _at(mask, (32, 32)).sum() == 16


@pytest.mark.parametrize(("network", "side", "dims"), [("resnet10-half", 32, 2), ("resnet10-half", 20, 3)])
def test_the_loss_is_that_of_hidden_patches_and_reaches_every_weight(network: str, side: int, dims: int) -> None:
    objective = spark(network, side, dims)
    kept: list[Tensor] = []
    objective.decoder.register_forward_hook(lambda module, inputs, output: kept.append(output))
    images = blobs(4, side, dims=dims)
    loss, _ = objective(batch(images))
    assert kept[0].shape == images.shape
    cells = (-(-side // objective.cell_px)) ** dims
    order = batch(images).draws.named("spark").order(cells)
    target, found = cut(images, objective.cell_px).double(), cut(kept[0], objective.cell_px).double()
    errors = []
    for b in range(4):
        for n in range(cells):
            if order[b, n] < round(0.6 * cells):
                t = (target[b, n] - target[b, n].mean()) / (target[b, n].var(correction=0) + 1e-6).sqrt()
                errors.append(float((found[b, n] - t).square().mean().detach()))
    assert len(errors) == 4 * round(0.6 * cells)
    assert float(loss.detach()) == pytest.approx(mean(errors), rel=1e-4)  # float32 against float64
    assert torch.equal(loss, objective(batch(images))[0]) and not torch.equal(loss, objective(batch(images, seed=1))[0])
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.encoder.parameters())
    assert untouched(objective.encoder)


@pytest.mark.slow
@pytest.mark.parametrize(("side", "dims", "steps"), [(32, 2, 25), (16, 3, 30)])
def test_learns(side: int, dims: int, steps: int) -> None:
    found = losses(spark(side=side, dims=dims), side=side, dims=dims, steps=steps, size=8)
    assert mean(found[-5:]) < 0.9, "1 is what each patch's mean gives"


def test_transformers_are_sent_to_mae() -> None:
    with pytest.raises(ConfigError, match="vit-tiny is a transformer; --method mae does the same"):
        spark("vit-tiny")


@pytest.mark.parametrize("dims", [2, 3])
def test_shuffled_puts_channels_side_by_side(dims: int) -> None:
    image = torch.randn(2, 3, *[6] * dims)
    maps = cut(image, 2).transpose(1, 2).reshape(2, -1, *[3] * dims)
    assert torch.equal(shuffled(maps, 2), image)


def test_norm_and_masks_on_a_bare_module() -> None:
    """Any module with convolutions: one layer by hand."""
    conv = nn.Conv2d(1, 1, 3, padding=1)
    nn.init.ones_(conv.weight)
    nn.init.constant_(conv.bias, 5.0)
    mask = torch.zeros(1, 1, 4, 4)
    mask[0, 0, 1, 1] = 1
    with seen_only(conv, mask), torch.no_grad():
        assert torch.equal(conv(mask), 6 * mask)
