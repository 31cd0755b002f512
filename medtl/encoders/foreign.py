"""ResNet checkpoints of other programs, as a start: torchvision's layout and RadImageNet's.

Files are read as tensors only; nothing in them is run.

Mei 2022, RadImageNet, doi:10.1148/ryai.210315.
"""

import hashlib
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from medtl.encoders.adapt import adapted
from medtl.encoders.table import build_encoder
from medtl.errors import EncoderError

MEANT_PX = 224
"""The input side that these weights were learned at; their stem is the table's for inputs of this side."""
PREFIXES = ("module.", "backbone.", "encoder.", "net.")
NESTED = ("state_dict", "model")
OURS = {"encoder.safetensors": "encoder.json", "model.safetensors": "bundle.json"}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, black is 0 and white is 1; torchvision's weights expect input normalised with them."""
NETWORKS: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
}
SEQUENTIAL = {0: "conv1", 1: "bn1", 4: "layer1", 5: "layer2", 6: "layer3", 7: "layer4"}
"""RadImageNet keeps the children of torchvision's ResNet in an `nn.Sequential`; 2 and 3 are ReLU and pooling."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A ResNet from a file.

    Args:
        path: the file.
        network: its row in the table of encoders.
        weights: by torchvision's names, for three colours, without the classifier.
        normalised: whether it expects input normalised by ImageNet's mean and deviation, or else in -1..1.
    """

    path: Path
    network: str
    weights: dict[str, Tensor]
    normalised: bool

    @property
    def origin(self) -> str:
        """What the weights are, for the history of those that come of them."""
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()[:12]
        return f"{self.network} of {self.path.name} (sha256 {digest})"

    def state(self, *, channels: int, dims: int) -> dict[str, Tensor]:
        """The weights for scans of so many channels in -1..1, for images or volumes.

        A gray value x in -1..1 is, to a network that expects normalised colours, (x / 2 + 1 / 2 - mean) / deviation.
        The factor goes into the first layer's weights, which are summed over colour; the constant part adds the same
        to a channel wherever its kernel sees no border, and is taken off the running mean of the normalisation that
        follows. At the border the padding then stands for mid gray, where torchvision pads with the colours' mean.

        Three channels keep their colours' weights; of two or more than three each gets the mean over colour times
        3 / channels. For volumes kernels are inflated. See `adapted`.
        """
        weights = dict(self.weights)
        stem = weights["conv1.weight"]  # (64, 3, 7, 7)
        if self.normalised:
            mean, deviation = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, DEVIATION))
            constant = (stem * (0.5 - mean) / deviation).sum(dim=(1, 2, 3))
            weights["bn1.running_mean"] = weights["bn1.running_mean"] - constant
            stem = stem / (2 * deviation)
        return adapted(weights | {"conv1.weight": stem}, first="conv1.weight", channels=channels, dims=dims)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a ResNet-18, 34 or 50 from a `.safetensors`, `.pth` or `.pt` file.

    Raises:
        EncoderError: the file is no checkpoint, is damaged, holds more than tensors, or holds another network.
    """
    if (path.parent / OURS.get(path.name, "?")).is_file():
        raise EncoderError(f"{path}: is part of what medtl left in its folder; give the folder, {path.parent}")
    weights = _without_prefix(_tensors(path))
    sequential = "0.weight" in weights and "4.0.conv1.weight" in weights
    if sequential:
        weights = {_named(key): value for key, value in weights.items()}
    weights = {k: w.float() if w.is_floating_point() else w for k, w in weights.items() if not k.startswith("fc.")}
    network = _network(path, weights)
    _check(path, network, weights)
    return Checkpoint(path=path, network=network, weights=weights, normalised=not sequential)


def _tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file by its name."""
    with path.open("rb") as file:
        start = file.read(2)
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as problem:
            raise EncoderError(f"{path}: is no checkpoint, or is damaged ({problem}); copy it again") from None
    if start != b"PK" and start[:1] != b"\x80":  # what torch.save writes: a zip archive, before torch 1.6 a pickle
        raise EncoderError(f"{path}: is no checkpoint; expected a .safetensors file, or a .pth or .pt that torch saved")
    if zipfile.is_zipfile(path) and any(name.endswith("/constants.pkl") for name in zipfile.ZipFile(path).namelist()):
        raise EncoderError(f"{path}: is a TorchScript program; save its state_dict")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # a damaged pickle raises almost anything
        if type(problem).__name__ == "UnpicklingError" and "Weights only load failed" in str(problem):
            raise EncoderError(f"{path}: holds more than tensors; save a state_dict") from None
        raise EncoderError(f"{path}: is no checkpoint, or is damaged; copy it again") from None
    while isinstance(content, Mapping) and (inner := [k for k in NESTED if isinstance(content.get(k), Mapping)]):
        content = content[inner[0]]
    kept = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not kept:
        raise EncoderError(f"{path}: holds no tensors by name; save a state_dict")
    return kept


def _without_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as torchvision's ResNet or RadImageNet's sequence has them; a classifier beside the network stays."""
    while True:
        inside = [prefix for prefix in PREFIXES if any(key.startswith(prefix) for key in weights)]
        if not inside or "conv1.weight" in weights:
            return weights
        weights = {key.removeprefix(inside[0]): value for key, value in weights.items()}


def _named(key: str) -> str:
    """A key of the sequence by torchvision's names."""
    index, _, rest = key.partition(".")
    return f"{SEQUENTIAL[int(index)]}.{rest}" if index.isdigit() and int(index) in SEQUENTIAL else key


def _network(path: Path, weights: Mapping[str, Tensor]) -> str:
    """The row of the table that has these blocks."""
    if "conv1.weight" not in weights or "layer1.0.conv1.weight" not in weights:
        raise EncoderError(
            f"{path}: holds another architecture than a ResNet of torchvision's layout (its first tensor is "
            f"'{next(iter(weights), 'fc')}'); ResNet-18, 34 and 50 can be read"
        )
    stages = [{found[1] for key in weights if (found := re.match(rf"layer{i}\.(\d+)\.", key))} for i in range(1, 5)]
    blocks = tuple(len(stage) for stage in stages)
    block = "bottleneck" if "layer1.0.conv3.weight" in weights else "basic"
    if (block, blocks) not in NETWORKS:
        raise EncoderError(
            f"{path}: holds a ResNet of {'-'.join(map(str, blocks))} {block} blocks; ResNet-18 (2-2-2-2 basic), "
            "34 (3-4-6-3 basic) and 50 (3-4-6-3 bottleneck) can be read"
        )
    return NETWORKS[block, blocks]


def _check(path: Path, network: str, weights: dict[str, Tensor]) -> None:
    """Every tensor of the network is there, of its shape and finite, and no other."""
    with torch.device("meta"):
        expected = build_encoder(network, input_px=MEANT_PX, channels=3).net.state_dict()
    for key, tensor in expected.items():
        if key.endswith("num_batches_tracked"):  # not in files from before torch 0.4.1
            weights.setdefault(key, torch.zeros((), dtype=torch.long))
        if key not in weights:
            raise EncoderError(f"{path}: lacks '{key}' of a {network}; the checkpoint is incomplete")
        if weights[key].shape != tensor.shape:
            raise EncoderError(
                f"{path}: '{key}' has the shape {tuple(weights[key].shape)}, that of a {network} has "
                f"{tuple(tensor.shape)}; it belongs to another network"
            )
        if not weights[key].isfinite().all():
            raise EncoderError(f"{path}: '{key}' holds values that are not finite; the checkpoint is damaged")
    if unexpected := [key for key in weights if key not in expected]:
        raise EncoderError(
            f"{path}: holds '{unexpected[0]}', which a {network} has not; save the state_dict of the encoder alone"
        )
