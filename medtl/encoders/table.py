"""The table of encoders: every network that medtl can pretrain and fine-tune, by name."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medtl.config import closest
from medtl.errors import EncoderError

IMAGENET_ENCODER = "efficientnet-lite0"
SMALL_ENCODER = "resnet18-half"
SMALL_VOLUME_ENCODER = "resnet10-half"
SMALL_TRANSFORMER = "vit-tiny"

CHANNELS_LAST: Mapping[int, torch.memory_format] = {4: torch.channels_last, 5: torch.channels_last_3d}

Built = tuple[nn.Module, int, str, dict[str, int]]
"""A network, the size of its embedding, the layer for Grad-CAM, and its levels: the submodules whose maps `multilevel`
reads, from fine to coarse, with their channels."""


class Encoder(nn.Module):
    """A network from scans to embeddings, with what is needed to build it again.

    With `multilevel` set, the means of the maps on the way stand before the embedding of the last: what a finding shows
    in, such as texture, may be plain half-way and lost at the end, which was made for what the encoder had to learn
    (Head2Toe: Evci 2022, arXiv 2201.03529, sec. 3).

    Args:
        net: (B, C, H, W) or (B, C, D, H, W) -> (B, embedding_dim).
        name: its row in the table.
        input_px: the side of the input it is meant for; ResNets choose their stem by it.
        dims: 2 for images, 3 for volumes.
        channels: C.
        cam_layer: the submodule whose output Grad-CAM weighs: the one that finds lesions best, see docs/decisions.md.
        levels: see `Built`.
    """

    multilevel = False

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        input_px: int,
        embedding_dim: int,
        cam_layer: str,
        dims: int = 2,
        channels: int = 1,
        levels: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        # Channels last is 17 to 60 % faster in training on a CPU (volumes: about 15 %), and no slower on a GPU. It goes
        # by weight, as networks for volumes may have layers for images.
        for weight in net.parameters():
            if layout := CHANNELS_LAST.get(weight.ndim):
                weight.data = weight.data.to(memory_format=layout)
        self.net = net
        self.name = name
        self.input_px = input_px
        self.dims = dims
        self.channels = channels
        self.cam_layer = cam_layer
        self._levels, self._last_dim = dict(levels or {}), embedding_dim

    @property
    def widths(self) -> tuple[int, ...]:
        """How many numbers of the embedding come from each level, from fine to coarse."""
        return (*(self._levels.values() if self.multilevel else ()), self._last_dim)

    @property
    def embedding_dim(self) -> int:
        """The length of the embedding."""
        return sum(self.widths)

    def forward(self, x: Tensor) -> Tensor:
        if not self.multilevel:
            embedding: Tensor = self.net(x)
            return embedding
        means, mine = dict[str, Tensor](), threading.get_ident()

        def keep(name: str, maps: Tensor) -> None:
            if threading.get_ident() == mine:  # another thread may be half-way through the same network
                means[name] = maps.mean(dim=tuple(range(2, maps.ndim)))

        hooks = [
            self.net.get_submodule(name).register_forward_hook(lambda module, given, maps, name=name: keep(name, maps))
            for name in self._levels
        ]
        try:
            last = self.net(x)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat([*(means[name] for name in self._levels), last], dim=1)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: how to build the network and what it suits."""

    build: Callable[[int, int, int], Built]
    """From the input side in pixels, the dimensions (2 or 3) and the channels."""
    default_px: int
    """The side of images in pixels that is used when nobody chooses; smaller scans keep their own side."""
    smallest_px: int
    """The smallest input side in pixels; smaller scans are enlarged to it."""
    volume_px: int
    """The side of volumes that is used when nobody chooses: the cost grows with its cube."""
    stages: tuple[str, ...]
    """The submodules whose outputs are its scales, from fine to coarse: what decoders read. The last is the map that
    the embedding is the mean of."""
    smallest_volume_px: int | None = None
    """The smallest side of volumes, where that is not the one of images."""

    def least_px(self, dims: int) -> int:
        """The smallest input side in pixels of images (2) or volumes (3)."""
        return self.smallest_volume_px if dims == 3 and self.smallest_volume_px else self.smallest_px


def _resnet(block: str, layers: list[int], width: int) -> Callable[[int, int, int], Built]:
    def build(input_px: int, dims: int, channels: int) -> Built:
        from monai.networks.nets import ResNet

        # The usual stem (7x7, stride 2, pooling) shrinks by 4 before the first block and costs more than a block on
        # a CPU; small inputs cannot afford either.
        if input_px <= 40:
            stem = {"conv1_t_size": 3, "conv1_t_stride": 2, "no_max_pool": True}
        elif input_px <= 96:
            stem = {"conv1_t_size": 3, "conv1_t_stride": 2, "no_max_pool": False}
        else:
            stem = {"conv1_t_size": 7, "conv1_t_stride": 2, "no_max_pool": False}
        net = ResNet(
            block=block,
            layers=layers,
            block_inplanes=[width, 2 * width, 4 * width, 8 * width],
            spatial_dims=dims,
            n_input_channels=channels,
            feed_forward=False,
            bias_downsample=False,
            **stem,
        )
        one, two, three, last = (width * times * (4 if block == "bottleneck" else 1) for times in (1, 2, 4, 8))
        levels = {"layer1": one, "layer2": two, "layer3": three}
        if dims == 2:
            return net, last, "net.layer3", levels
        # Volumes are small, and of a map with two places a side the hottest is a corner: 6 or more are kept.
        return net, last, "net.layer1" if input_px <= 40 else "net.layer2", levels

    return build


def _densenet121(input_px: int, dims: int, channels: int) -> Built:
    from monai.networks.nets import DenseNet121

    net = DenseNet121(spatial_dims=dims, in_channels=channels, out_channels=1)
    net.class_layers.out = nn.Identity()
    levels = {f"features.denseblock{block}": channels for block, channels in ((1, 256), (2, 512), (3, 1024))}
    return net, 1024, "net.class_layers.relu", levels


def _efficientnet_b0(input_px: int, dims: int, channels: int) -> Built:
    from monai.networks.nets import EfficientNetBN

    net = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=dims, in_channels=channels)
    net._fc = nn.Identity()
    levels = {f"_blocks.{stage}": channels for stage, channels in enumerate((24, 40, 80, 112, 192, 320), start=1)}
    return net, 1280, "net._bn1", levels


def _lite0(input_px: int, dims: int, channels: int) -> Built:
    from medtl.encoders.lite0 import EMBEDDING_DIM, LEVELS, EfficientNetLite0

    # Volumes are small: of a 64 px cube block 14 has 2 x 2 x 2 places, block 10 has 4 x 4 x 4; of 48 px block 4 has 6.
    layer = "net._blocks.14" if dims == 2 else "net._blocks.10" if input_px >= 64 else "net._blocks.4"
    return EfficientNetLite0(in_channels=channels, dims=dims), EMBEDDING_DIM, layer, LEVELS


def _vit_tiny(input_px: int, dims: int, channels: int) -> Built:
    from medtl.encoders.vit import VisionTransformer

    # 49 to 400 tokens, whatever the side: attention grows with their square.
    patch = 4 if input_px <= (40 if dims == 2 else 24) else 8 if input_px <= (160 if dims == 2 else 56) else 16
    net = VisionTransformer(dims=dims, channels=channels, patch_px=patch, reference=input_px / patch)
    return net, net.width, "net.map", {}


_RESNET_STAGES = ("layer1", "layer2", "layer3", "layer4")

TABLE: dict[str, Row] = {
    SMALL_ENCODER: Row(
        build=_resnet("basic", [2, 2, 2, 2], 32),
        default_px=64,
        smallest_px=16,
        volume_px=48,
        stages=_RESNET_STAGES,
    ),
    SMALL_VOLUME_ENCODER: Row(
        build=_resnet("basic", [1, 1, 1, 1], 32),
        default_px=64,
        smallest_px=16,
        volume_px=48,
        stages=_RESNET_STAGES,
    ),
    IMAGENET_ENCODER: Row(
        build=_lite0,
        default_px=128,
        smallest_px=64,
        smallest_volume_px=48,
        volume_px=48,
        stages=("_blocks.0", "_blocks.2", "_blocks.4", "_blocks.10", "_act"),
    ),
    "resnet10": Row(
        build=_resnet("basic", [1, 1, 1, 1], 64),
        default_px=128,
        smallest_px=16,
        volume_px=48,
        stages=_RESNET_STAGES,
    ),
    "resnet18": Row(
        build=_resnet("basic", [2, 2, 2, 2], 64),
        default_px=128,
        smallest_px=16,
        volume_px=48,
        stages=_RESNET_STAGES,
    ),
    "resnet34": Row(
        build=_resnet("basic", [3, 4, 6, 3], 64),
        default_px=224,
        smallest_px=16,
        volume_px=64,
        stages=_RESNET_STAGES,
    ),
    "resnet50": Row(
        build=_resnet("bottleneck", [3, 4, 6, 3], 64),
        default_px=224,
        smallest_px=16,
        volume_px=64,
        stages=_RESNET_STAGES,
    ),
    "densenet121": Row(
        build=_densenet121,
        default_px=224,
        smallest_px=64,
        volume_px=64,
        stages=("features.denseblock1", "features.denseblock2", "features.denseblock3", "class_layers.relu"),
    ),
    "efficientnet-b0": Row(
        build=_efficientnet_b0,
        default_px=224,
        smallest_px=64,
        volume_px=64,
        stages=("_blocks.0", "_blocks.1", "_blocks.2", "_blocks.4", "_bn1"),
    ),
    SMALL_TRANSFORMER: Row(build=_vit_tiny, default_px=64, smallest_px=16, volume_px=48, stages=("map",)),
}


def build_encoder(name: str, *, input_px: int, dims: int = 2, channels: int = 1) -> Encoder:
    """A randomly initialised encoder.

    Args:
        name: a row of the table.
        input_px: the side of the square or cube that it sees.
        dims: 2 for images, 3 for volumes.
        channels: of its input.

    Raises:
        EncoderError: no such name in the table, or an input side below the network's smallest.
    """
    row = find(name)
    if input_px < row.least_px(dims):
        raise EncoderError(f"{name}: needs input_px of at least {row.least_px(dims)}, got {input_px}")
    net, size, cam_layer, levels = row.build(input_px, dims, channels)
    return Encoder(
        net,
        name=name,
        input_px=input_px,
        embedding_dim=size,
        cam_layer=cam_layer,
        dims=dims,
        channels=channels,
        levels=levels,
    )


def default_network(dims: int) -> str:
    """The small network that is taken when nobody chooses: fast enough to learn on a CPU."""
    return SMALL_ENCODER if dims == 2 else SMALL_VOLUME_ENCODER


def default_px(name: str, *, size_px: int, dims: int = 2) -> int:
    """The input side for scans stored at `size_px`: the encoder's default, or less for smaller scans."""
    row = find(name)
    return max(row.least_px(dims), min(row.default_px if dims == 2 else row.volume_px, size_px))


def find(name: str) -> Row:
    """The table's row of that name.

    Raises:
        EncoderError: with the nearest name or the list.
    """
    if name not in TABLE:
        raise EncoderError(f"unknown network '{name}'{closest(name, list(TABLE))}")
    return TABLE[name]
