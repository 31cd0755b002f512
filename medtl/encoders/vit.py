"""A small vision transformer from MONAI's blocks, for images and volumes of any side."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLACK = -1.0
TEMPERATURE = 20.0
"""The slowest wave of the positions is 2 pi times as long, in places. Grids have 4 to 28 places a side; 10,000,
as for sentences, leaves most of the waves constant: a small MAE then needed more steps to learn the same."""


class VisionTransformer(nn.Module):
    """(B, C, [D,] H, W) -> (B, width): Dosovitskiy 2021, arXiv 2010.11929.

    Departures: no class token, the embedding is the mean of the tokens, which Grad-CAM can follow back to places; the
    positions are fixed sines over the share of the side (`positions`), so that another side needs no other weights.

    Args:
        patch_px: side of a token's patch; inputs are padded at the end with black to a multiple of it.
        reference: how many tokens a side of the usual input has.
    """

    def __init__(
        self,
        *,
        dims: int,
        channels: int,
        patch_px: int,
        reference: float,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
    ) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.patch_px, self.reference, self.width = patch_px, reference, width
        self.patches = conv(channels, width, patch_px, stride=patch_px)
        self.blocks = transformer(width, depth, heads)
        self.norm = nn.LayerNorm(width)
        self.map = nn.Identity()
        """Sees the tokens as a map (B, width, [d,] h, w): what Grad-CAM and decoders look at."""
        self.apply(initialise)

    def tokens(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """The input of the blocks (B, N, width), each token with its position, and the sides of their grid."""
        embedded: Tensor = self.patches(padded(x, self.patch_px))
        grid = tuple(embedded.shape[2:])
        where = positions(grid, self.width, reference=self.reference).to(embedded)
        return embedded.flatten(2).transpose(1, 2) + where, grid

    def encode(self, tokens: Tensor) -> Tensor:
        """(B, N, width), any N of the tokens -> (B, N, width)."""
        encoded: Tensor = self.norm(self.blocks(tokens))
        return encoded

    def forward(self, x: Tensor) -> Tensor:
        tokens, grid = self.tokens(x)
        places: Tensor = self.map(self.encode(tokens).transpose(1, 2).reshape(len(x), self.width, *grid))
        return places.flatten(2).mean(dim=2)


def transformer(width: int, depth: int, heads: int) -> nn.Sequential:
    """Pre-norm transformer blocks (B, N, width) -> (B, N, width)."""
    from monai.networks.blocks import TransformerBlock

    blocks = [TransformerBlock(width, 4 * width, heads, qkv_bias=True, use_flash_attention=True) for _ in range(depth)]
    for block in blocks:  # MONAI's block holds parts for cross attention that are never used
        block.norm_cross_attn = block.cross_attn = nn.Identity()
    return nn.Sequential(*blocks)


def initialise(module: nn.Module) -> None:
    """Start of linear layers as in He 2022, arXiv 2111.06377, appendix A.1."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def padded(x: Tensor, patch_px: int) -> Tensor:
    """Black at the end of each axis, up to a multiple of the patch."""
    missing = [-side % patch_px for side in x.shape[:1:-1]]
    return F.pad(x, [n for each in missing for n in (0, each)], value=BLACK) if any(missing) else x


def positions(grid: tuple[int, ...], width: int, *, reference: float) -> Tensor:
    """Sines and cosines of each place's coordinates (Vaswani 2017, arXiv 1706.03762, sec. 3.5), axis by axis.

    A coordinate is the share of the side, times `reference`: a grid of another size covers the same range.

    Returns:
        (N, width) float32, N places in the order of `Tensor.flatten`; what the axes cannot share evenly stays 0.
    """
    count = width // (2 * len(grid))
    rates = TEMPERATURE ** (-torch.arange(count) / count)
    axes = [(torch.arange(side) + 0.5) * (reference / side) for side in grid]
    where = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)  # (N, dims)
    angles = (where[:, :, None] * rates).flatten(1)  # (N, dims * count)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    return F.pad(waves, (0, width - waves.shape[1]))
