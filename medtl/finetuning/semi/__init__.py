"""Semi-supervised fine-tuning: the scans without labels stay in play. One file per paper.

A method is a plain module around the supervised loss: labeled scans, their labels and unlabeled scans in, the loss and
figures to log out. To add one, write its file, its line in `TABLE`, and its settings in `config.py`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from medtl.data.labels import LabelTable
from medtl.finetuning.losses import Supervised
from medtl.finetuning.semi.batch import Unlabeled
from medtl.finetuning.semi.distil import Distil
from medtl.finetuning.semi.fixmatch import FixMatch
from medtl.finetuning.semi.mean_teacher import MeanTeacher
from medtl.finetuning.semi.mixmatch import MixMatch


class Method(Protocol):
    """What fine-tuning asks of a semi-supervised method."""

    views: tuple[str, ...]
    """The random views that it wants of each scan without labels: "gentle" or "strong"."""
    supervised: Supervised
    """The loss on labeled scans, and the classifier."""

    def __init__(self, supervised: Supervised, config: Any, *, labels: LabelTable) -> None:
        """Everything that is trained is in `supervised`; `labels` are those of the scans that are fitted."""

    def __call__(self, images: Tensor, labels: Tensor, unlabeled: Unlabeled) -> tuple[Tensor, dict[str, float]]:
        """The scalar loss, and figures to log."""
        ...

    def after_step(self, done: float) -> None:
        """Called after each step with the share of the work that is done: moves what is no parameter."""


TABLE: Mapping[str, type[Method]] = {
    "fixmatch": FixMatch,
    "mixmatch": MixMatch,
    "mean-teacher": MeanTeacher,
    "distil": Distil,
}
