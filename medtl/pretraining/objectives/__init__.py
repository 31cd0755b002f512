"""Self-supervised objectives, one file per paper.

An objective is a plain module: views of a batch in, the loss and figures to log out. To add one, write its file and
its line in `medtl/pretraining/methods.py`; docs/guide/new-objective.md shows how.
"""

from typing import Any, Protocol

from torch import Tensor

from medtl.config import StrictModel
from medtl.encoders.table import Encoder
from medtl.pretraining.batch import Views


class Objective(Protocol):
    """What the training of an encoder asks of an objective.

    The loss is that of the whole batch: where several processes share it, projections are brought together first
    with `medtl.training.together.gathered`; a loss that is a mean over scans needs nothing.
    """

    Config: type[StrictModel]
    """Its settings."""
    n_views: int
    """How many random views it wants of each scan."""
    n_crops: int
    """How many small crops it wants of each scan besides."""

    def __init__(self, encoder: Encoder, config: Any) -> None:
        """Everything that is trained becomes a submodule; the encoder is `self.encoder`."""

    def __call__(self, views: Views) -> tuple[Tensor, dict[str, float]]:
        """The scalar loss, and figures to log."""
        ...

    def after_step(self, done: float) -> None:
        """Called after each step of the optimizer with the share of the work that is done: moves what is no
        parameter (momentum encoders, queues)."""
