"""A linear classifier of small pictures, and a batch for it."""

import numpy as np
import torch
from torch import nn

from medtl.data.labels import LabelTable
from medtl.finetuning.losses import Supervised
from medtl.finetuning.semi.batch import Unlabeled
from medtl.pretraining.draws import Draws

PIXELS = 4


def supervised(findings: int, *, exclusive: bool = False) -> Supervised:
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS * PIXELS, findings))
    return Supervised(classifier, exclusive=exclusive, label_smoothing=0.0)  # type: ignore[arg-type]


def table(*, exclusive: bool = False) -> LabelTable:
    """Six labeled scans; where findings do not exclude each other, some are unknown."""
    values = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    if not exclusive:
        values[0] = [1, 1, np.nan]
        values[4, 0] = np.nan
    return LabelTable(findings=("a", "b", "c"), values=values)


def batch(labels: LabelTable, *, views: int, count: int = 10) -> tuple[torch.Tensor, torch.Tensor, Unlabeled]:
    """All labeled scans, their labels, and `count` scans without labels."""
    numbers = torch.Generator().manual_seed(1)
    images = torch.randn(len(labels.values), 1, PIXELS, PIXELS, generator=numbers)
    shown = torch.randn(count, views, 1, PIXELS, PIXELS, generator=numbers)
    soft = torch.rand(count, len(labels.findings), generator=numbers)
    if labels.exclusive:
        soft = soft / soft.sum(dim=1, keepdim=True)
    return (
        images,
        torch.from_numpy(labels.values),
        Unlabeled(views=shown, soft=soft, draws=Draws("test", total=count)),
    )
