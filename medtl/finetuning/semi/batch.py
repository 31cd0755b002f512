"""The scans without labels: which they are, and their batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medtl.data.dataset import Dataset
from medtl.data.label_rows import Values
from medtl.data.preprocess import PreprocessSpec
from medtl.finetuning.parts import Parts
from medtl.pretraining.draws import Draws
from medtl.pretraining.views import ViewsConfig, random_views
from medtl.training.batches import Rows, batch_rows, rng


@dataclass(frozen=True, kw_only=True)
class Unlabeled:
    """Scans of a step whose labels nobody has asked for.

    Args:
        views: (B, V, C, [D,] H, W) random views in -1..1, of the kinds that the method wants.
        soft: (B, F) what an ensemble says of them, NaN where it may not say; None where there is none.
        draws: random numbers for what the method itself draws.
    """

    views: Tensor
    soft: Tensor | None
    draws: Draws


def unlabeled_rows(data: Dataset, parts: Parts, *, at_most: int, seed: int) -> Rows:
    """Rows to learn from without labels: of the train part, and of the val part where nothing is calibrated on it.

    Never of the test part. Of more than `at_most` so many are drawn.
    """
    split = data.manifest["split"].to_numpy()
    open_to = (split == "train") | ((split == "val") & (len(parts.calibrate) == 0))
    open_to[parts.fit] = False
    rows = np.flatnonzero(open_to).astype(np.int64)
    if len(rows) > at_most:
        rows = np.sort(rng("unlabeled", seed).choice(rows, at_most, replace=False))
    return rows


def unlabeled_batches(
    data: Dataset,
    rows: Rows,
    spec: PreprocessSpec,
    kinds: Sequence[ViewsConfig],
    *,
    batch_size: int,
    seed: int,
    soft: Values | None,
) -> Callable[[int, torch.device], Unlabeled]:
    """From a step's number to its scans without labels.

    Args:
        kinds: how strongly each of the views differs from the scan.
        soft: (N, F) aligned with the manifest.
    """

    def batch_at(step: int, device: torch.device) -> Unlabeled:
        chosen = batch_rows(rows, step=step, batch_size=batch_size, seed=seed)
        images, detail = spec.with_detail(torch.from_numpy(data.pixels(chosen)).to(device))
        draws = Draws("unlabeled", seed, step, total=len(chosen), device=device)
        views = [
            random_views(images, kind, draws.named(f"view {i}"), detail=detail, colour=spec.colour)
            for i, kind in enumerate(kinds)
        ]
        return Unlabeled(
            views=torch.stack(views, dim=1),
            soft=None if soft is None else torch.from_numpy(soft[chosen]).to(device),
            draws=draws.named("method"),
        )

    return batch_at
