"""Logits of labeled scans from networks that have not seen their patients: to choose by, and to calibrate with."""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.encoders.store import Start
from medtl.finetuning.config import FinetuneConfig
from medtl.finetuning.fit import fit
from medtl.finetuning.parts import Fold, Parts, Rows
from medtl.inference.runtime import logits_of_rows
from medtl.training.batches import rng

FOLDS = 3
FEWEST = 4
"""Fewer patients with or without a finding cannot be dealt to folds."""


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """What networks said of scans whose patients they had not seen.

    Args:
        rows: (N,) of the manifest.
        fold: (N,) which network said it: logits of different networks are not comparable.
        logits: (N, F) float64.
    """

    rows: Rows
    fold: Rows
    logits: npt.NDArray[np.float64]


def folds_of(
    labels: LabelTable, rows: Rows, patients: npt.NDArray[np.str_], *, seed: int, n_folds: int = FOLDS
) -> tuple[Fold, ...]:
    """Folds by patient, each with about as many of each pattern of findings.

    Args:
        rows: (N,) labeled rows.
        patients: the patient of each row of the manifest.

    Returns:
        `n_folds` of them; none where no finding has `FEWEST` patients with it and as many without.
    """
    owners, of = np.unique(patients[rows], return_inverse=True)
    pattern = np.full((len(owners), len(labels.findings)), -1.0)
    np.maximum.at(pattern, of, np.nan_to_num(labels.values[rows], nan=-1.0))
    if not (np.minimum((pattern == 1).sum(axis=0), (pattern == 0).sum(axis=0)) >= FEWEST).any():
        return ()
    order = rng("folds", seed).permutation(len(owners))
    order = order[np.lexsort(pattern[order].T)]  # like patterns side by side, then dealt out in turn
    number = np.empty(len(owners), np.int64)
    number[order] = np.arange(len(owners)) % n_folds
    return tuple(Fold(fit=rows[number[of] != k], held=rows[number[of] == k]) for k in range(n_folds))


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
        classifier, _ = fit(data, labels, parts, fresh, shorter, folder, resume=resume, title=title)
        logits = logits_of_rows(classifier, data, fold.held, start.spec, flip_average=plan.flip_average)
        where = np.full(len(fold.held), k)
        said.append(OutOfFold(rows=fold.held, fold=where, logits=logits.numpy()))
    return OutOfFold(
        rows=np.concatenate([each.rows for each in said]),
        fold=np.concatenate([each.fold for each in said]),
        logits=np.concatenate([each.logits for each in said]),
    )
