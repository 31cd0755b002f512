"""SparK: a convolutional network sees some patches of a scan as if the rest did not exist, and restores the rest."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AvgPoolNd, _MaxPoolNd

from medtl.config import StrictModel
from medtl.encoders.table import Encoder
from medtl.encoders.vit import VisionTransformer
from medtl.errors import ConfigError
from medtl.pretraining.batch import Views
from medtl.pretraining.objectives.decoder import Decoder, Scales
from medtl.pretraining.objectives.patches import cut, hidden_loss, hidden_patches

CELLS = 8
LARGEST_CELL_PX = 32


class SparKConfig(StrictModel):
    """The settings of the objective."""

    mask_ratio: float = Field(default=0.6, gt=0.0, lt=1.0)
    """Share of the patches that is hidden."""
    cell_px: int | None = Field(default=None, ge=1)
    """Side of a patch in pixels; None takes the largest power of two that leaves 8 patches a side, at most 32."""
    decoder_dim: int = Field(default=64, ge=8)
    """Channels of the decoder."""


class SparK(nn.Module):
    """Tian 2023, arXiv 2301.03580.

    Sparse convolutions are simulated on dense tensors, which gives the same numbers (`seen_only`).

    Departures: patches are smaller than the network's stride, since scans here are small (8 px at 64 px, where the
    paper has 32 at 224), so that a place of a deep map exists where any patch below it is seen; the decoder has one
    width, and each place of the finest map predicts all the pixels that it stands for.
    """

    Config = SparKConfig
    n_views = 1
    n_crops = 0

    def __init__(self, encoder: Encoder, config: SparKConfig) -> None:
        super().__init__()
        if isinstance(encoder.net, VisionTransformer):
            raise ConfigError(
                f"method 'spark' hides patches from convolutions, and {encoder.name} is a transformer; "
                "--method mae does the same for transformers, or choose a convolutional network"
            )
        self.encoder = encoder
        self.mask_ratio = config.mask_ratio
        self.cell_px = config.cell_px or cell_px(encoder.input_px)
        self.scales = Scales(encoder)
        maps = self.scales.blank(encoder)
        self.embeddings = nn.ParameterList(nn.Parameter(torch.zeros(each.shape[1])) for each in maps)
        self.decoder = Decoder(maps, encoder, width=config.decoder_dim)
        for embedding in self.embeddings:
            nn.init.normal_(embedding, std=0.02)

    def forward(self, views: Views) -> tuple[Tensor, dict[str, float]]:
        """The loss; 1 is what predicting each patch's mean gives."""
        images = views.whole[:, 0]
        grid = [-(-side // self.cell_px) for side in images.shape[2:]]
        hidden = hidden_patches(views.draws.named("spark"), math.prod(grid), self.mask_ratio)
        seen = ~hidden.reshape(-1, 1, *grid)
        filled = []
        for each, embedding in zip(self.features(images, seen), self.embeddings, strict=True):
            there = _at(self._pixels(seen, images), tuple(each.shape[2:])).bool()
            filled.append(torch.where(there, each, embedding.to(each.dtype).reshape(-1, *[1] * (each.ndim - 2))))
        restored = self.decoder(filled, images.shape[2:])
        return hidden_loss(cut(restored, self.cell_px), images, hidden, self.cell_px), {}

    def features(self, images: Tensor, seen: Tensor) -> list[Tensor]:
        """The encoder's maps, from fine to coarse, of the seen patches (B, 1, *grid) alone; 0 where nothing is seen."""
        mask = self._pixels(seen, images)
        with seen_only(self.encoder, mask):
            return self.scales(self.encoder, images * mask)

    def _pixels(self, seen: Tensor, images: Tensor) -> Tensor:
        """(B, 1, *sides) 1 where a pixel is seen."""
        mask = seen.to(images.dtype)
        for axis in range(2, images.ndim):
            mask = mask.repeat_interleave(self.cell_px, dim=axis).narrow(axis, 0, images.shape[axis])
        return mask

    def after_step(self, done: float) -> None:
        """Nothing moves but parameters."""


def cell_px(input_px: int) -> int:
    """The largest power of two that leaves 8 patches a side, at most 32."""
    return min(LARGEST_CELL_PX, 1 << (max(1, input_px // CELLS).bit_length() - 1))


def _at(mask: Tensor, sides: tuple[int, ...]) -> Tensor:
    """The mask (B, 1, *pixels) for a map with these sides: a place exists where any of its pixels is seen."""
    pool = F.adaptive_max_pool2d if len(sides) == 2 else F.adaptive_max_pool3d
    return pool(mask, sides)


@contextmanager
def seen_only(encoder: nn.Module, mask: Tensor) -> Iterator[None]:
    """Within, the module computes as if only the seen pixels existed (Tian 2023, sec. 3.1).

    After every convolution and pooling, places that do not exist are 0, so that what is seen does not spread. Batch
    norm takes its statistics, running ones too, over places that exist and leaves the others 0. A pooling to a single
    place is a mean over those that exist. The methods of the layers are covered for the while, and uncovered also
    where the work within fails.

    Args:
        mask: (B, 1, [D,] H, W) 1 where a pixel is seen.
    """
    known: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def places(x: Tensor) -> tuple[Tensor, Tensor]:
        """The mask for a map, and the numbers of the places that exist, in the order of its rows."""
        sides = tuple(x.shape[2:])
        if sides not in known:
            at = _at(mask, sides)
            known[sides] = at, at.flatten().nonzero().flatten()
        return known[sides]

    def emptied(layer: nn.Module) -> None:
        usual = layer.forward
        layer.forward = lambda x: (out := usual(x)) * places(out)[0]

    def of_the_seen(layer: nn.Module) -> None:
        usual = layer.forward

        def forward(x: Tensor) -> Tensor:
            rows = x.movedim(1, -1)  # in memory already so, where channels are last
            flat = rows.reshape(-1, x.shape[1])
            _, index = places(x)
            out = usual(flat[index].reshape(len(index), x.shape[1], *[1] * (x.ndim - 2))).flatten(1)
            return torch.zeros_like(flat).index_copy(0, index, out).reshape(rows.shape).movedim(-1, 1)

        layer.forward = forward

    def mean_of_the_seen(layer: nn.Module) -> None:
        usual = layer.forward

        def forward(x: Tensor) -> Tensor:
            out: Tensor = usual(x)
            if math.prod(out.shape[2:]) > 1:
                return out * places(out)[0]
            share: Tensor = usual(places(x)[0])
            return out / share.clamp(min=1e-6)

        layer.forward = forward

    covered: list[nn.Module] = []
    try:
        for layer in encoder.modules():
            if isinstance(layer, _BatchNorm):
                of_the_seen(layer)
            elif isinstance(layer, _AdaptiveAvgPoolNd):
                mean_of_the_seen(layer)
            elif isinstance(layer, nn.Conv2d | nn.Conv3d | _MaxPoolNd | _AvgPoolNd):
                emptied(layer)
            else:
                continue
            covered.append(layer)
        yield
    finally:
        for layer in covered:
            del layer.forward
