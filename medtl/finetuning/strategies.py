"""The table of ways to adapt an encoder to labels. It loads no torch, so that `medtl strategies` answers at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from medtl.config import closest
from medtl.errors import ConfigError

AUTO = "auto"
Kind = Literal["random", "elsewhere", "scans"]


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """One line of the table."""

    title: str
    """Its name in the field."""
    paper: str
    """Where it was published."""
    trains: Literal["head", "all", "norm-bias", "adapters"]
    """What gradients change besides the head; "head" is a logistic regression and needs no gradients."""
    head_first: bool = True
    """The head reads all levels of the encoder (`Encoder.multilevel`) and begins as a logistic regression on them, and
    the start's normalisation statistics stay as they are: few labels cannot estimate them anew. Training on from there
    is only of use to a start that has learned something."""
    lr: float = 3e-4
    """Top learning rate where nobody chooses."""
    lowest_rate: float = 1.0
    """Learning rate of the encoder's first stage as a share of the head's; those between lie on a geometric row."""
    gradual: bool = False
    """Stages join one after another, from the last to the first."""
    keeps: float = 0.0
    """The share of the weights from before training in the mean with those from after it."""
    when: str
    """When to choose it, in a few words."""

    @property
    def keeps_learned(self) -> bool:
        """Whether it is for a start that has learned something only. A head on random features needs no such start."""
        return self.head_first and self.trains != "head"


STRATEGIES: Mapping[str, Strategy] = {
    "linear": Strategy(
        title="linear probe",
        paper="Alain & Bengio 2016, arXiv 1610.01644",
        trains="head",
        when="seconds; few labels, few volumes; the default for random weights with up to 100 images",
    ),
    "lp-ft": Strategy(
        title="head first, then all",
        paper="Kumar 2022, arXiv 2202.10054",
        trains="all",
        when="the default for a start that has learned something, with more than 100 labels",
    ),
    "wise-ft": Strategy(
        title="mean of the linear probe and LP-FT",
        paper="Wortsman 2022, arXiv 2109.01903, eq. 1",
        trains="all",
        keeps=0.5,
        when="the default for a start that has learned something, with up to 100 labels",
    ),
    "llrd": Strategy(
        title="layer-wise learning-rate decay",
        paper="Howard & Ruder 2018, arXiv 1801.06146; Bao 2021, arXiv 2106.08254",
        trains="all",
        lowest_rate=0.05,
        when="as lp-ft, for a start near to the task, whose first stages should hardly change",
    ),
    "gradual": Strategy(
        title="gradual unfreezing",
        paper="Howard & Ruder 2018, arXiv 1801.06146",
        trains="all",
        gradual=True,
        when="as lp-ft, where training all at once forgets; steps are cheaper at first",
    ),
    "norm-bias": Strategy(
        title="normalisation and biases only",
        paper="Ben Zaken 2021, arXiv 2106.10199; Cai 2020, arXiv 2007.11622",
        trains="norm-bias",
        lr=1e-3,
        when="few labels and a large network: a hundredth of the weights can overfit",
    ),
    "adapters": Strategy(
        title="parallel residual adapters",
        paper="Rebuffi 2018, arXiv 1803.10082; Hu 2021, arXiv 2106.09685",
        trains="adapters",
        lr=1e-3,
        when="as norm-bias, where the scans differ much from what the start has learned from",
    ),
    "full": Strategy(
        title="all at one rate",
        paper="",
        trains="all",
        head_first=False,
        when="the default for random weights with more than 100 labels, and for volumes",
    ),
}


FEW_VOLUMES = 100
"""With so many labeled volumes or fewer the start is ImageNet, when nobody chooses, and pretrained weights stay as they
are; with more labels random weights learn more."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What `auto` considers.

    Args:
        start: for random weights, for those that learned elsewhere (ImageNet, a file), or for those that have learned
            from scans in medtl; None is any.
        dims: for images (2) or volumes (3); None is both.
        most_labels: for so many labeled scans at most; None is any number.
        candidates: the first is taken unless cross-validation shows another to be better.
    """

    start: Kind | None
    dims: int | None = None
    most_labels: int | None = None
    candidates: tuple[str, ...]

    def applies(self, start: Kind, dims: int, n_labels: int) -> bool:
        """Whether it is for this start and so many labels."""
        suits = self.start in (None, start) and self.dims in (None, dims)
        return suits and (self.most_labels is None or n_labels <= self.most_labels)


RULES: tuple[Rule, ...] = (
    Rule(start="random", dims=2, most_labels=100, candidates=("linear", "full")),
    Rule(start="random", candidates=("full", "linear")),
    Rule(start=None, dims=3, most_labels=FEW_VOLUMES, candidates=("linear",)),
    Rule(start=None, most_labels=100, candidates=("wise-ft", "linear")),
    Rule(start=None, candidates=("lp-ft", "linear")),
)
"""The first that applies is taken; docs/decisions.md says why these."""


def strategies() -> Mapping[str, Strategy]:
    """The table of adaptation strategies, by the names that `finetune` takes."""
    return STRATEGIES


def find_strategy(name: str, *, pretrained: bool) -> Strategy:
    """The strategy of that name.

    Raises:
        ConfigError: no such strategy, with the nearest name or the list; or one that keeps what a start has learned,
            for a start that has learned nothing.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"unknown strategy '{name}'{closest(name, [AUTO, *STRATEGIES])}")
    strategy = STRATEGIES[name]
    if strategy.keeps_learned and not pretrained:
        raise ConfigError(
            f"strategy '{name}' keeps what an encoder has learned, and random weights have learned nothing; "
            "choose full or auto, or another --encoder"
        )
    return strategy


def candidates(name: str, *, start: Kind, dims: int, n_labels: int) -> tuple[str, ...]:
    """The strategies that a name stands for: itself, or what the rules give for `auto`; the first is the default.

    Raises:
        ConfigError: as `find_strategy`.
    """
    if name == AUTO:
        return next(rule.candidates for rule in RULES if rule.applies(start, dims, n_labels))
    find_strategy(name, pretrained=start != "random")
    return (name,)
