"""The vision transformer: sides, places, heatmaps."""

import numpy as np
import pytest
import torch

from medtl.data.preprocess import PreprocessSpec
from medtl.data.scan import Scan
from medtl.encoders.table import build_encoder
from medtl.encoders.vit import VisionTransformer, padded, positions
from medtl.inference.bundle import Bundle, Classifier
from medtl.inference.explain import explain


@pytest.mark.parametrize(("dims", "side", "patch"), [(2, 28, 4), (2, 64, 8), (2, 128, 8), (2, 224, 16), (3, 48, 8)])
def test_tokens_stay_few(dims: int, side: int, patch: int) -> None:
    net = build_encoder("vit-tiny", input_px=side, dims=dims).net
    assert isinstance(net, VisionTransformer) and net.patch_px == patch
    with torch.no_grad():
        tokens, grid = net.tokens(torch.zeros(1, 1, *[side] * dims))
    assert tokens.shape == (1, (side // patch) ** dims, 192) and grid == (side // patch,) * dims


def test_another_side_covers_the_same_range() -> None:
    coarse, fine = positions((4, 4), 96, reference=4), positions((8, 8), 96, reference=4)
    assert fine.shape == (64, 96)
    # A coarse place lies between four fine ones: the slow waves agree, up to the curve between.
    middle = fine.reshape(4, 2, 4, 2, 96).mean(dim=(1, 3)).reshape(16, 96)
    torch.testing.assert_close(coarse, middle, atol=0.05, rtol=0)
    assert len({tuple(row.tolist()) for row in fine}) == 64


def test_sides_that_no_patch_divides_are_padded_with_black() -> None:
    x = torch.randn(1, 1, 5, 8)
    full = padded(x, 4)
    assert full.shape == (1, 1, 8, 8) and torch.equal(full[:, :, :5], x) and bool((full[:, :, 5:] == -1).all())
    encoder = build_encoder("vit-tiny", input_px=30).eval()
    with torch.no_grad():
        assert torch.equal(encoder(torch.full((1, 1, 30, 30), -1.0)), encoder(torch.full((1, 1, 32, 32), -1.0)))


@pytest.mark.parametrize("dims", [2, 3])
def test_heatmaps_show_the_token_that_speaks(dims: int) -> None:
    """With a head that reads one token's direction, the heatmap is hottest at its place."""
    torch.manual_seed(0)
    side, patch = (32, 4) if dims == 2 else (16, 4)
    spec = PreprocessSpec(size_px=side, dims=dims, spacing_mm=1.0 if dims == 3 else None).at(side)
    encoder = build_encoder("vit-tiny", input_px=side, dims=dims).eval()
    classifier = Classifier(encoder, 1).eval()
    pixels = np.zeros([side] * dims, np.float32)
    place = (slice(2 * patch, 3 * patch), *[slice(patch, 2 * patch)] * (dims - 1))
    pixels[place] = 1.0
    scan = Scan(pixels=pixels, spacing_mm=(1.0,) * dims if dims == 3 else None, source="", sha256="")
    with torch.no_grad():
        bright = encoder.net.encode(
            encoder.net.tokens(spec.network_input(torch.from_numpy(spec.stored(scan)[None])))[0]
        )
        number = np.ravel_multi_index((2, *[1] * (dims - 1)), [side // patch] * dims)
        classifier.head.weight.copy_(bright[0, number] - bright[0].mean(dim=0))
    bundle = Bundle(
        name="t", findings=("f",), exclusive=False, thresholds={"f": 0.5}, temperatures={"f": 1.0}, flip_average=False,
        spec=spec, network="vit-tiny", input_px=side, training={}, calibration="",
    )  # fmt: skip
    heat = explain(classifier, bundle, scan, 0, method="grad-cam")
    assert heat.shape == pixels.shape
    hottest = np.unravel_index(heat.argmax(), heat.shape)
    assert all(part.start <= at < part.stop for part, at in zip(place, hottest, strict=True))
