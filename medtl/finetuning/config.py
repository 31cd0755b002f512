"""What decides what fine-tuning learns, and what is chosen where nobody says."""

from typing import Any

from pydantic import Field

from medtl.config import StrictModel
from medtl.encoders.store import Start
from medtl.pretraining.presets import GENTLE
from medtl.pretraining.views import ViewsConfig


class FinetuneConfig(StrictModel):
    """Everything that decides what fine-tuning learns."""

    encoder: str = "random"
    """Where the encoder's weights start: "random", "imagenet", the folder of a pretraining run or of a bundle, or a
    file with a ResNet's weights in torchvision's or RadImageNet's layout."""
    network: str | None = None
    """A name of the encoder table; None takes the small default, or what `encoder` brings."""
    input_px: int | None = None
    """Side of the network's input in pixels; None takes the encoder's default."""
    steps: int | None = Field(default=None, ge=1)
    """How many steps to train; None chooses by the number of labels."""
    batch_size: int | None = Field(default=None, ge=2)
    """Scans a step; None takes 32 images or 16 volumes."""
    lr: float | None = Field(default=None, gt=0)
    """Top learning rate of AdamW; None is 1e-3 from random weights, 3e-4 from pretrained ones."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Decoupled weight decay of AdamW."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Targets are drawn this far towards even odds."""
    views: ViewsConfig = GENTLE
    """How training images differ from the scan: the preset "gentle", and what is said here."""
    flip_average: bool = False
    """Average the logits over the scan and its mirror image. Only where left and right may change places."""
    seed: int = 0
    """Same seed, same data, same machine: same weights."""


def filled_in(plan: FinetuneConfig, start: Start, n_labels: int) -> dict[str, Any]:
    """What is left open in the config, chosen by the start and the number of labels."""
    batch_size = plan.batch_size or (32 if start.spec.dims == 2 else 16)
    if start.pretrained:
        steps, lr = min(max(100, 8 * n_labels // batch_size), 2000), 3e-4
    else:
        steps, lr = min(max(600, 12 * n_labels // batch_size), 3000), 1e-3
    return {
        "batch_size": batch_size,
        "steps": plan.steps or steps,
        "lr": plan.lr or lr,
        "network": start.encoder.name,
        "input_px": start.spec.input_px,
    }
