"""What decides what fine-tuning learns, and what is chosen where nobody says."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medtl.config import StrictModel
from medtl.data.label_rows import NamedFiles
from medtl.encoders.store import Start, default_start
from medtl.errors import ConfigError
from medtl.finetuning.semi.config import Semi, UnlabeledConfig
from medtl.finetuning.strategies import AUTO, FEW_VOLUMES, STRATEGIES, Kind, candidates, find_strategy
from medtl.pretraining.presets import GENTLE
from medtl.pretraining.views import ViewsConfig


class TaskConfig(StrictModel):
    """One of several tasks that share an encoder."""

    labels: NamedFiles = ()
    """A labels file, seen from the current folder, or several of which a later one corrects the earlier; without any
    the one in the dataset."""
    findings: tuple[str, ...] | None = None
    """Which of its columns; None takes all."""
    kind: Literal["multi-label", "exclusive"] | None = None
    """Whether each finding is judged for itself, or exactly one holds for each scan; None takes classes where there are
    at least three columns, of which each labeled scan has exactly one."""


class FinetuneConfig(StrictModel):
    """Everything that decides what fine-tuning learns."""

    encoder: str | None = None
    """Where the encoder's weights start: "random", "imagenet", the folder of a pretraining run or of a bundle, or a
    file with a ResNet's weights in torchvision's or RadImageNet's layout. None is "imagenet" for images, for up to 100
    labeled volumes and for a strategy that keeps what was learned, "random" for more volumes and where a network or a
    side is asked for that ImageNet does not have. For `semi: distil` several, joined by commas: the members take turns,
    the detector starts from the first."""
    strategy: str = AUTO
    """How the encoder is adapted: a name of the table that `medtl strategies` prints, or "auto"."""
    network: str | None = None
    """A name of the encoder table; None takes the small default, or what `encoder` brings."""
    input_px: int | None = Field(default=None, gt=0, le=2048)
    """Side of the network's input in pixels; None takes the encoder's default."""
    steps: int | None = Field(default=None, ge=1)
    """How many steps to train; None chooses by the number of labels."""
    batch_size: int | None = Field(default=None, ge=2)
    """Scans a step; None takes 32 images or 16 volumes."""
    lr: float | None = Field(default=None, gt=0)
    """Top learning rate of AdamW; None is 1e-3 from random weights, else that of the strategy."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Decoupled weight decay of AdamW."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Targets are drawn this far towards even odds."""
    loss: Literal["bce", "focal", "asymmetric"] = "bce"
    """Cross entropy; focal loss, which attends to what is still wrong; asymmetric loss, which attends to positives."""
    sampling: Literal["uniform", "class", "group"] = "uniform"
    """Each scan as often as any other; each class of each finding as often; each class in each group as often."""
    groups: str = "scanner"
    """The column of the manifest whose values are the groups of `sampling: group`, such as scanner, sex or view."""
    mixup: float = Field(default=0.0, ge=0)
    """Pairs of scans are mixed with a share from Beta(mixup, mixup); 0 mixes none."""
    average: Literal["ema", "swa", "none"] = "ema"
    """Which weights are kept: the exponential moving average, the plain average over the last quarter, the last."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many of 20 checks without a lower loss on the val part, and keep the best; None trains to the end.
    The val part must have labels enough."""
    views: ViewsConfig = GENTLE
    """How training images differ from the scan: the preset "gentle", and what is said here; mirrored where the
    modality has no side (mammograms, ultrasound, slides), as in pretraining."""
    flip_average: bool = False
    """Average the logits over the scan and its mirror image. Only where left and right may change places."""
    semi: Semi = "none"
    """How the scans without labels take part: "none", or a semi-supervised method; "auto" takes what helped where it
    was measured, so far none."""
    unlabeled: UnlabeledConfig = UnlabeledConfig()
    """Its settings."""
    tasks: dict[str, TaskConfig] = Field(default_factory=dict)
    """Several tasks by name, each with a head of its own on the encoder that they share; without any, the labels file's
    findings are the only one."""
    balance: Literal["equal", "uncertainty"] = "equal"
    """Of several tasks: the mean of their losses, or weights that are learned, less for a task that is uncertain."""
    thumbnails: bool = True
    """Keep small pictures of the labeled scans in the bundle, to show them as similar cases. They are pictures of
    patients: false where the bundle leaves the hospital."""
    seed: int = 0
    """Same seed, same data, same machine: same weights."""


RANDOM_LR = 1e-3
SEMI_STEPS = 200
"""The least number of steps with scans without labels, which there are more of to see."""
SEMI_AUTO: Semi = "none"
"""What "auto" is: no method was better than fine-tuning without scans without labels on both tasks that were measured;
see docs/decisions.md."""


def origins(encoder: str) -> list[str]:
    """The starts that `FinetuneConfig.encoder` names, one or several joined by commas."""
    if Path(encoder).exists():  # a comma may be part of a name
        return [encoder]
    return [name.strip() for name in encoder.split(",") if name.strip()]


def usual_start(plan: FinetuneConfig, *, dims: int, n_labels: int) -> str:
    """The start where nobody names one: ImageNet where it suits, but for many volumes that `auto` trains whole.

    Raises:
        ConfigError: no such strategy.
    """
    if plan.strategy == AUTO:
        pays = dims == 2 or (n_labels <= FEW_VOLUMES and semi_of(plan) == "none")
    else:
        pays = dims == 2 or find_strategy(plan.strategy, pretrained=True).head_first
    return default_start(dims=dims, network=plan.network, input_px=plan.input_px) if pays else "random"


def semi_of(plan: FinetuneConfig) -> Semi:
    """How scans without labels take part; "auto" becomes its default."""
    return SEMI_AUTO if plan.semi == "auto" else plan.semi


def strategies_for(plan: FinetuneConfig, start: Start, n_labels: int) -> tuple[str, ...]:
    """The strategies that come into question, the default first.

    Raises:
        ConfigError: no such strategy, one that does not suit the start, or one without gradients where scans without
            labels take part.
    """
    names = candidates(plan.strategy, start=kind_of(start), dims=start.spec.dims, n_labels=n_labels)
    semi = semi_of(plan)
    if semi == "none":
        return names
    by_gradients = tuple(name for name in names if STRATEGIES[name].trains != "head")
    if not by_gradients and plan.strategy == AUTO:
        return ("lp-ft",)
    if not by_gradients:
        raise ConfigError(
            f"strategy '{plan.strategy}' changes the head only, and semi '{semi}' learns from scans without labels "
            "by changing the encoder; choose lp-ft or auto, or --semi none"
        )
    return by_gradients


def filled_in(plan: FinetuneConfig, start: Start, n_labels: int) -> dict[str, Any]:
    """What is left open in the config, chosen by the start and the number of labels; "auto" becomes its default.

    Raises:
        ConfigError: no such strategy, or one that does not suit the start.
    """
    semi = semi_of(plan)
    name = strategies_for(plan, start, n_labels)[0]
    strategy = find_strategy(name, pretrained=start.pretrained)
    batch_size = plan.batch_size or (32 if start.spec.dims == 2 else 16)
    if start.pretrained:
        steps, lr = min(max(100, 8 * n_labels // batch_size), 2000), strategy.lr
    else:
        steps, lr = min(max(600, 12 * n_labels // batch_size), 3000), RANDOM_LR
    if semi != "none":
        steps = max(steps, SEMI_STEPS)
    return {
        "strategy": name,
        "semi": semi,
        "batch_size": batch_size,
        "steps": plan.steps or steps,
        "lr": plan.lr or lr,
        "network": start.encoder.name,
        "input_px": start.spec.input_px,
    }


def kind_of(start: Start) -> Kind:
    """What a start has learned from, as the table of strategies tells starts apart."""
    return "scans" if start.own else "elsewhere" if start.pretrained else "random"
