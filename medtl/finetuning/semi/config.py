"""How the scans without labels take part in fine-tuning."""

from typing import Literal

from pydantic import Field

from medtl.config import StrictModel
from medtl.finetuning.semi.distil import DistilConfig
from medtl.finetuning.semi.fixmatch import FixMatchConfig
from medtl.finetuning.semi.mean_teacher import MeanTeacherConfig
from medtl.finetuning.semi.mixmatch import MixMatchConfig
from medtl.pretraining.views import ViewsConfig

Semi = Literal["none", "fixmatch", "mixmatch", "mean-teacher", "distil", "auto"]


class UnlabeledConfig(StrictModel):
    """What the semi-supervised methods share, and the settings of each."""

    ratio: int = Field(default=2, ge=1)
    """Scans without labels in a step for each with labels (mu in the papers)."""
    at_most: int = Field(default=5000, ge=1)
    """Of more scans without labels so many are drawn: some hundred steps see no more, and all need predictions."""
    views: ViewsConfig = ViewsConfig()
    """Strong views: a preset by the scans' modality, as in pretraining, and what is said here."""
    fixmatch: FixMatchConfig = FixMatchConfig()
    mixmatch: MixMatchConfig = MixMatchConfig()
    mean_teacher: MeanTeacherConfig = MeanTeacherConfig()
    distil: DistilConfig = DistilConfig()
    """The settings of each method."""
