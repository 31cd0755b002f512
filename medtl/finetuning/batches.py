"""From a step's number to its scans and labels: which scans, how they differ from the originals, and what is mixed."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from medtl.config import closest
from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.data.preprocess import PreprocessSpec
from medtl.errors import ConfigError
from medtl.finetuning.config import FinetuneConfig
from medtl.pretraining.draws import Draws
from medtl.pretraining.views import random_views
from medtl.training.batches import Rows, balanced_rows, batch_rows, rng

UNKNOWN = "unknown"
"""The group of scans whose column is empty."""


def batches(
    data: Dataset, labels: LabelTable, rows: Rows, spec: PreprocessSpec, plan: FinetuneConfig
) -> Callable[[int, torch.device], tuple[Tensor, Tensor]]:
    """From a step's number to its scans (B, C, H, W) or (B, C, D, H, W) and labels (B, F).

    Raises:
        ConfigError: the manifest has no such column of groups.
    """
    batch_size = plan.batch_size
    assert batch_size is not None
    strata = strata_of(data, labels, rows, plan)

    def batch_at(step: int, device: torch.device) -> tuple[Tensor, Tensor]:
        if strata is None:
            chosen = batch_rows(rows, step=step, batch_size=batch_size, seed=plan.seed)
        else:
            chosen = balanced_rows(strata, step=step, batch_size=batch_size, seed=plan.seed)
        images, detail = spec.with_detail(torch.from_numpy(data.pixels(chosen)).to(device))
        draws = Draws("finetune", plan.seed, step, total=len(images), device=device)
        images = random_views(images, plan.views, draws, detail=detail, colour=spec.colour)
        known = torch.from_numpy(labels.values[chosen]).to(device)
        return mixed(images, known, alpha=plan.mixup, identity=(plan.seed, step)) if plan.mixup else (images, known)

    return batch_at


def strata_of(data: Dataset, labels: LabelTable, rows: Rows, plan: FinetuneConfig) -> list[Rows] | None:
    """What is drawn equally often; None where every scan is.

    Of several tasks the scans of each, so that every batch mixes them and a small one is not lost in a large one.
    Each class of each finding, or with groups each class in each group, so that a group tells nothing about a class
    (Idrissi 2022, arXiv 2110.14503, RWG). A scan with several findings known is in several strata.

    Raises:
        ConfigError: the manifest has no such column.
    """
    if plan.sampling == "uniform":
        if len(labels.tasks) == 1:
            return None
        known = [~np.isnan(labels.values[rows][:, labels.columns(task)]).all(axis=1) for task in labels.tasks]
        return [rows[here] for here in known]
    of = np.zeros(len(rows), np.int64)
    if plan.sampling == "group":
        if plan.groups not in data.manifest.columns:
            raise ConfigError(
                f"groups: {data.folder} has no column '{plan.groups}' in its manifest"
                f"{closest(plan.groups, [str(name) for name in data.manifest.columns])}"
            )
        column = data.manifest[plan.groups].astype("string").fillna(UNKNOWN)
        of = np.unique(column.to_numpy(dtype=str)[rows], return_inverse=True)[1]
    each = [
        rows[(of == group) & (known == value)]
        for known in labels.values[rows].T
        for group in range(of.max() + 1)
        for value in (0, 1)
    ]
    return [stratum for stratum in each if len(stratum)]


def mixed(images: Tensor, labels: Tensor, *, alpha: float, identity: tuple[object, ...]) -> tuple[Tensor, Tensor]:
    """Each scan with a share of another, and its labels likewise (Zhang 2017, arXiv 1710.09412, eq. 1).

    One share for the batch, as in the paper's code. What is unknown of one of a pair is unknown of the mixture.
    """
    draw = rng("mixup", *identity)
    share = float(draw.beta(alpha, alpha))
    other = torch.from_numpy(draw.permutation(len(images))).to(images.device)
    return share * images + (1 - share) * images[other], share * labels + (1 - share) * labels[other]
