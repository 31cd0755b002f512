"""Every encoder of the table: shapes, sizes, Grad-CAM layer, gradients everywhere."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from medtl.encoders.table import TABLE, build_encoder, default_network, default_px
from medtl.errors import EncoderError


@pytest.mark.parametrize("name", TABLE)
def test_embeds_and_learns(name: str) -> None:
    torch.manual_seed(0)  # EfficientNet-B0 drops whole blocks at random
    side = TABLE[name].smallest_px
    encoder = build_encoder(name, input_px=side)
    layer = dict(encoder.named_modules())[encoder.cam_layer]
    seen: list[torch.Size] = []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    embedding = encoder(torch.randn(2, 1, side, side))
    assert embedding.shape == (2, encoder.embedding_dim)
    assert seen[0][0] == 2 and len(seen[0]) == 4, "Grad-CAM needs a feature map"
    embedding.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", TABLE)
def test_reads_all_its_levels(name: str, dims: int) -> None:
    """What stands before the embedding are the means of maps that become coarser."""
    torch.manual_seed(0)
    side = 64
    encoder = build_encoder(name, input_px=side, dims=dims).eval()
    scans, maps = torch.randn(2, 1, *[side] * dims), list[torch.Tensor]()
    for module in encoder.net.modules():
        module.register_forward_hook(lambda module, given, out: maps.append(out) if out.ndim == dims + 2 else None)
    with torch.no_grad():
        plain = encoder(scans)
        every = {tuple(each.flatten(2).mean(2).flatten().tolist()): each.shape[-1] for each in maps}
        encoder.multilevel = True
        read = encoder(scans)
    assert encoder.embedding_dim == sum(encoder.widths) == read.shape[1]
    *parts, last = read.split(encoder.widths, dim=1)
    assert torch.equal(last, plain)
    sides = [every[tuple(part.flatten().tolist())] for part in parts]
    assert sides == sorted(sides, reverse=True) and len(sides) >= (3 if name != "vit-tiny" else 0)


def test_threads_that_share_an_encoder_do_not_mix_their_scans() -> None:
    encoder = build_encoder("resnet10-half", input_px=32).eval()
    encoder.multilevel = True
    scans = torch.randn(8, 4, 1, 32, 32)

    def read(scan: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return encoder(scan)

    alone = [read(scan) for scan in scans]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(10):
            together = list(threads.map(read, scans))
            assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(alone, together, strict=True))


def test_half_width_has_a_quarter_of_the_weights() -> None:
    def size(name: str) -> int:
        return sum(p.numel() for p in build_encoder(name, input_px=64).parameters())

    assert size("resnet18") / size("resnet18-half") == pytest.approx(4, rel=0.02)


def test_resnet_stem_spares_small_inputs() -> None:
    """The first block of a 28 px scan sees 14 px, not the 7 px that the usual stem would leave."""
    sides = {}
    for side in (28, 64, 128):
        encoder = build_encoder("resnet18-half", input_px=side)
        dict(encoder.named_modules())["net.layer1"].register_forward_hook(
            lambda module, inputs, output, side=side: sides.update({side: output.shape[-1]})
        )
        encoder.eval()(torch.zeros(1, 1, side, side))
    assert sides == {28: 14, 64: 16, 128: 32}


def test_default_px_never_enlarges_without_need() -> None:
    assert default_px("resnet18-half", size_px=256) == 64
    assert default_px("resnet18-half", size_px=28) == 28
    assert default_px("efficientnet-lite0", size_px=28) == 64


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(EncoderError, match=r"unknown network 'resnet19'; did you mean 'resnet1\d'\?"):
        build_encoder("resnet19", input_px=64)


def test_too_small_an_input_is_refused() -> None:
    with pytest.raises(EncoderError, match="densenet121: needs input_px of at least 64, got 28"):
        build_encoder("densenet121", input_px=28)


@pytest.mark.parametrize(
    "name", ["resnet10-half", "resnet18-half", "efficientnet-lite0", "densenet121", "efficientnet-b0"]
)
def test_embeds_volumes_of_two_channels(name: str) -> None:
    side = TABLE[name].least_px(3)
    encoder = build_encoder(name, input_px=side, dims=3, channels=2).eval()
    layer = dict(encoder.named_modules())[encoder.cam_layer]
    seen: list[torch.Size] = []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    with torch.no_grad():
        embedding = encoder(torch.randn(1, 2, side, side, side))
    assert embedding.shape == (1, encoder.embedding_dim)
    assert len(seen[0]) == 5, "Grad-CAM needs a feature map"


def test_volumes_are_smaller() -> None:
    assert default_px(default_network(3), size_px=96, dims=3) == 48
    assert default_px(default_network(3), size_px=24, dims=3) == 24
    assert (
        default_px("efficientnet-lite0", size_px=96, dims=3)
        == 48
        == default_px("efficientnet-lite0", size_px=28, dims=3)
    )
