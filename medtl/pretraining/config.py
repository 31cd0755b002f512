"""The settings of pretraining."""

from typing import Any

from pydantic import ConfigDict, Field, field_validator

from medtl.config import StrictModel
from medtl.data.label_rows import NamedFiles
from medtl.pretraining.sampling import Pairs
from medtl.pretraining.views import ViewsConfig
from medtl.training.precision import Precision

SMALLEST_BATCH = 8


class PretrainConfig(StrictModel):
    """Everything that decides what a pretraining run learns."""

    method: str = "simclr"
    """A name of the table of methods, or several joined by + that are learned together."""
    from_: str | None = Field(default=None, alias="from")
    """Where the weights start: "random", "imagenet", the folder of an earlier run or of a bundle, or a file with a
    ResNet's weights in torchvision's or RadImageNet's layout. None is "imagenet", or "random" where a network or a
    side is asked for that the start from ImageNet does not have."""
    frozen: float | None = Field(default=None, ge=0, lt=1)
    """The encoder's first stages that stay as they are, as a share of all: edges and textures need not be learned anew,
    and a step costs half. None is 0.4 for weights that learned elsewhere (ImageNet, a file), else 0."""
    network: str | None = None
    """A name of the encoder table; None takes what `from` brings, else the method's, else what suits the minutes."""
    input_px: int | None = Field(default=None, gt=0, le=2048)
    """Side of the network's input in pixels; None takes what suits the minutes, the encoder's default with `steps`."""
    grow_from: float = Field(default=1.0, ge=0.25, le=1.0)
    """The side of the first scans as a share of `input_px`; it grows to the full side over the first 60 % of the work.
    Small scans cost less. 1 does not grow."""
    minutes: float = Field(default=10.0, gt=0)
    """How long to train, everything included; network, resolution and batch that are not given are chosen for it."""
    steps: int | None = Field(default=None, ge=1)
    """How many steps to train; where given, `minutes` does not count."""
    batch_size: int | None = Field(default=None, ge=SMALLEST_BATCH)
    """Scans a step, of all processes together; None takes 128 images or 32 volumes, half as many for weights that
    learned elsewhere. Fewer where there are no more."""
    accumulate: int = Field(default=1, ge=1)
    """In how many parts a batch is computed, one after another, when memory is short. Normalisation then counts the
    scans of a part, and contrast finds its negatives in the part only."""
    precision: Precision = "auto"
    """What the encoder computes in, "32" or "bf16"; "auto" measures both at the start and takes bf16 only where it is
    clearly faster."""
    lr: float | None = Field(default=None, gt=0)
    """Top learning rate of AdamW; None is 1e-3 from random weights, 3e-4 from others."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Decoupled weight decay of AdamW."""
    views: ViewsConfig = ViewsConfig()
    """How the views differ from the scan: a preset by the scans' modality, and what is said here."""
    pairs: Pairs = "scan"
    """What the second view shows: the same "scan", or another of the same "study" or "patient" where there is one."""
    objective: dict[str, Any] = Field(default_factory=dict)
    """The settings of the objective; of several that are learned together, by their names."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Of several objectives: what each loss counts; 1 where not said."""
    labels: NamedFiles = ()
    """A labels file, or several of which a later one corrects the earlier, for a probe at every check of health, and to
    keep the encoder of the best one. Without any no label is looked at; the encoder never learns from them, and those
    of the test part are never looked at."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many checks without a better AUROC of the probes or, without labels, without a better RankMe or
    uniformity. None trains to the end: the learning rate falls to zero over the whole run, and the best weights
    come late."""
    check_every: int | None = Field(default=None, ge=10, multiple_of=10)
    """Steps between checks of health; None makes 4 to 20 checks, about 2 % of the work."""
    check_scans: int | None = Field(default=None, ge=8)
    """Scans that a check of health looks at; None takes up to 512, fewer in short runs."""
    seed: int = 0
    """Same seed, same data, same machine, same precision: same weights."""

    model_config = ConfigDict(populate_by_name=True)

    @field_validator("method")
    @classmethod
    def _in_lower_case(cls, value: str) -> str:
        """Papers write SimCLR and MAE."""
        return value.lower()

    @field_validator("precision", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return "32" if value == 32 else value
