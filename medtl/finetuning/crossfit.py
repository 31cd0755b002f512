"""Logits of labeled scans from networks that have not seen their patients: to choose by, and to calibrate with."""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.encoders.store import Start
from medtl.finetuning.config import FinetuneConfig
from medtl.finetuning.fit import fit
from medtl.finetuning.parts import Fold, Parts, Rows
from medtl.inference.bundle import Classifier
from medtl.inference.runtime import logits_of_rows


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """What networks said of scans whose patients they had not seen.

    Args:
        rows: (N,) of the manifest.
        fold: (N,) which network said it: logits of different networks are not comparable.
        logits: (N, F) float64.
        fitted: of a single fold the classifier, and what `fit` says of it.
    """

    rows: Rows
    fold: Rows
    logits: npt.NDArray[np.float64]
    fitted: tuple[Classifier, dict[str, Any]] | None = None


def crossfit(
    data: Dataset,
    labels: LabelTable,
    folds: tuple[Fold, ...],
    start: Start,
    plan: FinetuneConfig,
    work: Path,
    *,
    resume: bool,
) -> OutOfFold:
    """Fine-tune a copy of the start on each fold, and judge the scans that it leaves out.

    Args:
        plan: complete; a fold makes fewer steps as it has fewer scans, so that each scan is seen as often.
        work: folds are trained in folders below it.
    """
    said: list[OutOfFold] = []
    for k, fold in enumerate(folds):
        folder = work / f"{plan.strategy}-{k + 1}"
        folder.mkdir(parents=True, exist_ok=True)
        assert plan.steps is not None
        share = len(fold.fit) / sum(len(each.held) for each in folds) if len(folds) > 1 else 1.0
        shorter = plan.model_copy(update={"steps": max(1, round(plan.steps * share)), "patience": None})
        parts = Parts(fit=fold.fit, calibrate=np.empty(0, np.int64))
        fresh = replace(start, encoder=deepcopy(start.encoder))
        title = f"fold {k + 1} of {len(folds)}" if len(folds) > 1 else "trial"
        classifier, words = fit(data, labels, parts, fresh, shorter, folder, resume=resume, title=title)
        logits = logits_of_rows(classifier, data, fold.held, start.spec, flip_average=plan.flip_average)
        where = np.full(len(fold.held), k)
        said.append(OutOfFold(rows=fold.held, fold=where, logits=logits.numpy()))
    return OutOfFold(
        rows=np.concatenate([each.rows for each in said]),
        fold=np.concatenate([each.fold for each in said]),
        logits=np.concatenate([each.logits for each in said]),
        fitted=(classifier, words) if len(folds) == 1 else None,
    )
