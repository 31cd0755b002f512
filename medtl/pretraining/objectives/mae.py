"""MAE: a vision transformer sees a quarter of the patches, a light decoder restores the rest."""

import torch
from pydantic import Field
from torch import Tensor, nn

from medtl.config import StrictModel
from medtl.encoders.table import SMALL_TRANSFORMER, Encoder
from medtl.encoders.vit import VisionTransformer, initialise, positions, transformer
from medtl.errors import ConfigError
from medtl.pretraining.batch import Views
from medtl.pretraining.objectives.patches import hidden_loss, hidden_patches


class MAEConfig(StrictModel):
    """The settings of the objective."""

    mask_ratio: float = Field(default=0.75, gt=0.0, lt=1.0)
    """Share of the patches that is hidden."""
    decoder_dim: int = Field(default=96, ge=16, multiple_of=16)
    """Width of the decoder's tokens."""
    decoder_depth: int = Field(default=2, ge=1)
    """Transformer blocks of the decoder."""


class MAE(nn.Module):
    """He 2022, arXiv 2111.06377, sec. 3.

    Departures: no class token; the decoder is smaller (96 wide, 2 blocks) since the encoder is.
    """

    Config = MAEConfig
    n_views = 1
    n_crops = 0

    def __init__(self, encoder: Encoder, config: MAEConfig) -> None:
        super().__init__()
        if not isinstance(encoder.net, VisionTransformer):
            raise ConfigError(
                f"method 'mae' shows a transformer some of the patches, and {encoder.name} is no transformer; "
                f"--method spark does the same for convolutions, or start anew with --set network={SMALL_TRANSFORMER}"
            )
        self.encoder = encoder
        self.mask_ratio = config.mask_ratio
        width, vit = config.decoder_dim, encoder.net
        self.narrow = nn.Linear(vit.width, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.decoder = transformer(width, config.decoder_depth, heads=max(1, width // 32))
        self.norm = nn.LayerNorm(width)
        self.pixels = nn.Linear(width, encoder.channels * vit.patch_px**encoder.dims)
        nn.init.normal_(self.mask_token, std=0.02)
        for part in (self.narrow, self.decoder, self.pixels):
            part.apply(initialise)

    def forward(self, views: Views) -> tuple[Tensor, dict[str, float]]:
        """The loss; 1 is what predicting each patch's mean gives."""
        images = views.whole[:, 0]
        predicted, hidden = self.restored(images, views)
        assert isinstance(self.encoder.net, VisionTransformer)
        return hidden_loss(predicted, images, hidden, self.encoder.net.patch_px), {}

    def restored(self, images: Tensor, views: Views) -> tuple[Tensor, Tensor]:
        """Predicted patches (B, N, P), and which were hidden (B, N)."""
        assert isinstance(self.encoder.net, VisionTransformer)
        tokens, grid = self.encoder.net.tokens(images)
        batch, count, _ = tokens.shape
        hidden = hidden_patches(views.draws.named("mae"), count, self.mask_ratio)
        seen = self.encoder.net.encode(tokens[~hidden].reshape(batch, -1, tokens.shape[2]))
        narrow = self.narrow(seen)
        full = self.mask_token.to(narrow.dtype).expand(batch, count, -1).clone()
        full[~hidden] = narrow.flatten(0, 1)
        where = positions(grid, full.shape[2], reference=self.encoder.net.reference).to(full)
        return self.pixels(self.norm(self.decoder(full + where))), hidden

    def after_step(self, done: float) -> None:
        """Nothing moves but parameters."""
