"""A light U-Net decoder on an encoder's scales: from feature maps back to pixels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medtl.encoders.table import Encoder, find


class Scales:
    """Reads the maps that an encoder makes on its way to the embedding; see `stages` of the encoder table.

    Hooks are on the encoder for the time of one call, also where that call fails.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.stages = find(encoder.name).stages

    def __call__(self, encoder: Encoder, x: Tensor) -> list[Tensor]:
        """The maps (B, C_i, [d_i,] h_i, w_i), from fine to coarse."""
        maps: dict[str, Tensor] = {}

        def keep(stage: str, output: Tensor) -> None:
            maps[stage] = output.float()  # the encoder may compute in bf16, the decoder does not

        hooks = [
            encoder.net.get_submodule(stage).register_forward_hook(
                lambda _, __, output, stage=stage: keep(stage, output)
            )
            for stage in self.stages
        ]
        try:
            encoder(x)
        finally:
            for hook in hooks:
                hook.remove()
        return [maps[stage] for stage in self.stages]

    @torch.no_grad()
    def blank(self, encoder: Encoder) -> list[Tensor]:
        """The maps of one blank scan, for their shapes; in evaluation mode, so that nothing is learned from it."""
        training, weight = encoder.training, next(encoder.parameters())
        encoder.eval()
        found = self(encoder, weight.new_zeros(1, encoder.channels, *[encoder.input_px] * encoder.dims))
        encoder.train(training)
        return found


class Block(nn.Sequential):
    """Two convolutions, the first with batch norm and ReLU6, the second with batch norm (Tian 2023, appendix A)."""

    def __init__(self, dims: int, width: int) -> None:
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        super().__init__(
            conv(width, width, 3, padding=1, bias=False), norm(width), nn.ReLU6(inplace=True),
            conv(width, width, 3, padding=1, bias=False), norm(width),
        )  # fmt: skip


class Decoder(nn.Module):
    """From coarse to fine, D_i = block(upsampled D_(i+1) + projected S_i) (Tian 2023, arXiv 2301.03580, eq. 5).

    The finest map's places each predict the pixels that they stand for, so that nothing is computed at full size.

    Args:
        maps: from fine to coarse, as the encoder makes them of one scan.
        width: channels at every scale.
    """

    def __init__(self, maps: Sequence[Tensor], encoder: Encoder, *, width: int) -> None:
        super().__init__()
        dims = encoder.dims
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.stretch = -(-encoder.input_px // maps[0].shape[-1])
        self.project = nn.ModuleList(conv(each.shape[1], width, 1) for each in maps)
        self.blocks = nn.ModuleList(Block(dims, width) for _ in maps)
        self.pixels = conv(width, encoder.channels * self.stretch**dims, 1)

    def forward(self, maps: Sequence[Tensor], sides: Sequence[int]) -> Tensor:
        """(B, C, *sides)."""
        out: Tensor = self.blocks[-1](self.project[-1](maps[-1]))
        for i in reversed(range(len(maps) - 1)):
            larger = F.interpolate(out, size=maps[i].shape[2:], mode="nearest")
            out = self.blocks[i](larger + self.project[i](maps[i]))
        image = shuffled(self.pixels(out), self.stretch)
        missing = [n for side, have in zip(sides[::-1], image.shape[:1:-1], strict=True) for n in (0, side - have)]
        return F.pad(image, missing) if any(missing) else image  # a negative pad cuts


def shuffled(maps: Tensor, stretch: int) -> Tensor:
    """(B, C * stretch ** dims, [d,] h, w) -> (B, C, [d * stretch,] h * stretch, w * stretch)."""
    dims = maps.ndim - 2
    batch, channels, *sides = maps.shape
    split = maps.reshape(batch, channels // stretch**dims, *[stretch] * dims, *sides)
    order = [axis for i in range(dims) for axis in (2 + dims + i, 2 + i)]
    return split.permute(0, 1, *order).reshape(batch, -1, *(side * stretch for side in sides))
