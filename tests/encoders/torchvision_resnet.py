"""Torchvision's ResNet written anew from He 2016, with its names: an oracle, as torchvision cannot be imported here."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class Basic(nn.Module):
    """Two 3x3 convolutions (He 2016, arXiv 1512.03385, fig. 5 left)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.downsample(x) + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 (He 2016, fig. 5 right); torchvision strides in the 3x3."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.downsample(x) + self.bn3(self.conv3(y)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class TorchvisionResNet(nn.Module):
    """(B, 3, H, W) -> (B, 512 or 2048): what torchvision's network gives before its classifier."""

    def __init__(self, name: str, *, seed: int = 0, classes: int = 10) -> None:
        super().__init__()
        torch.manual_seed(seed)
        block, factor = (Bottleneck, 4) if name == "resnet50" else (Basic, 1)
        self.conv1, self.bn1, inputs = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64), 64
        for i, count in enumerate(BLOCKS[name]):
            width, stage = 64 * 2**i, []
            for j in range(count):
                stage.append(block(inputs, width, 2 if i and j == 0 else 1))
                inputs = factor * width
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):  # as if it had learned: nothing is 0 or 1
                nn.init.uniform_(module.weight, 0.3, 0.9)
                for each in (module.bias, module.running_mean):
                    nn.init.normal_(each, std=0.1)
                nn.init.uniform_(module.running_var, 0.7, 1.5)

    def forward(self, x: Tensor, *, border: Tensor | None = None) -> Tensor:
        """Args: border: (1, 3, 1, 1) colour of what lies around the image; None is zero, as in torchvision."""
        if border is not None:
            around = border.expand(len(x), 3, x.shape[-2] + 6, x.shape[-1] + 6).clone()
            around[:, :, 3:-3, 3:-3] = x
            x = F.conv2d(around, self.conv1.weight, stride=2)
        else:
            x = self.conv1(x)
        x = F.max_pool2d(F.relu(self.bn1(x)), 3, stride=2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return x.mean(dim=(2, 3))


def normalised(gray: Tensor) -> Tensor:
    """(B, 1, H, W) in -1..1 as torchvision wants it: three equal colours in 0..1, normalised."""
    return ((gray + 1) / 2 - MEAN) / DEVIATION


def sequence(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that RadImageNet's `backbone = nn.Sequential(*children)` gives."""
    children = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool"]
    return {
        f"backbone.{children.index(key.partition('.')[0])}.{key.partition('.')[2]}": value
        for key, value in state.items()
        if not key.startswith("fc.")
    }
