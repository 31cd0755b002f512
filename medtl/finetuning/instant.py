"""A head for one finding, from embeddings: fitted, calibrated out of fold, and said what it is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medtl.data.labels import LabelTable
from medtl.errors import LabelError
from medtl.evaluation.intervals import binary_intervals
from medtl.finetuning.calibrate import Calibration, calibrated_from, uncalibrated
from medtl.finetuning.folds import FEWEST, folds_of
from medtl.finetuning.heads import fit_head
from medtl.finetuning.parts import FEW, Rows, count, prevalences

FOLDS = 5
"""A head takes milliseconds, so that more folds than those of a whole fine-tuning can be had."""
SURE = 30
"""With fewer positives or negatives one scan moves sensitivity or specificity by more than 3 points."""
OUT_OF_FOLD = "examples, each judged by a head that had not seen its patient (out of fold)"


@dataclass(frozen=True, kw_only=True)
class Taught:
    """A finding that was taught.

    Args:
        finding: its name.
        head: (D -> 1).
        calibration: its temperature and operating point.
        said: how it was made, for people.
        caveats: what must be known of it, a sentence each.
    """

    finding: str
    head: nn.Linear
    calibration: Calibration
    said: str
    caveats: list[str]


def teach_finding(
    finding: str,
    embeddings: Tensor,
    values: npt.NDArray[np.float32],
    patients: npt.NDArray[np.str_],
    *,
    seen: int,
    widths: Sequence[int] = (),
) -> Taught:
    """Fit a linear head (Alain & Bengio 2016, arXiv 1610.01644) and judge it on patients that it has not seen.

    Args:
        embeddings: (N, D) float32.
        values: (N,) 0 or 1.
        patients: (N,).
        seen: how many of the scans the encoder was trained on.
        widths: how many of the D come from each level, as `fit_head` takes it.

    Raises:
        LabelError: fewer than 4 positive or negative scans.
    """
    positives, negatives = count(values)
    if min(positives, negatives) < FEW:
        raise LabelError(
            f"{finding}: has {positives} positive and {negatives} negative examples; at least {FEW} of each are "
            "needed, so label more scans outside the test part"
        )
    head = _fitted(embeddings, values, widths)
    table = LabelTable(findings=(finding,), values=values[:, None])
    rows, logits = _out_of_fold(table, embeddings, patients, widths)
    shares = prevalences(table, np.arange(len(values)))
    if len(rows) == 0:
        chosen = uncalibrated(shares, why=f"for fewer than {FEWEST} patients with or without it")
        judged, chance = "not judged: too few patients", []
    else:
        chosen = calibrated_from(logits, table, rows, patients=patients, shares=shares, where=OUT_OF_FOLD)
        y, scores = values[rows].astype(np.int64), logits[:, 0].numpy()
        auroc = binary_intervals(y, scores, patients[rows], threshold=0.0).auroc
        judged = f"AUROC out of fold {auroc.value:.2f} (95 % CI {auroc.low:.2f} to {auroc.high:.2f})"
        within = "chance level (AUROC 0.5) lies within its interval, so it is not shown to work at all"
        chance = [within] if auroc.low <= 0.5 else []
    return Taught(
        finding=finding,
        head=head,
        calibration=chosen,
        said=f"{positives} positive and {negatives} negative scans of {len(np.unique(patients))} patients; {judged}",
        caveats=[*chance, *_caveats(positives, negatives, seen=seen), *chosen.caveats.get(finding, [])],
    )


def _fitted(embeddings: Tensor, values: npt.NDArray[np.float32], widths: Sequence[int]) -> nn.Linear:
    head = nn.Linear(embeddings.shape[1], 1)
    fit_head(head, embeddings, values[:, None], exclusive=False, widths=widths)
    return head.eval()


def _out_of_fold(
    table: LabelTable, embeddings: Tensor, patients: npt.NDArray[np.str_], widths: Sequence[int]
) -> tuple[Rows, Tensor]:
    """Rows (N,) and their logits (N, 1) from heads fitted to other patients; none where patients are too few."""
    everything = np.arange(len(table.values))
    folds = folds_of(table, everything, patients, seed=0, n_folds=FOLDS)
    rows, logits = [np.empty(0, np.int64)], [torch.empty(0, 1, dtype=torch.float64)]
    for fold in folds:
        head = _fitted(embeddings[fold.fit], table.values[fold.fit, 0], widths)
        with torch.no_grad():
            rows.append(fold.held)
            logits.append(head(embeddings[fold.held]).double())
    return np.concatenate(rows), torch.cat(logits)


def _caveats(positives: int, negatives: int, *, seen: int) -> list[str]:
    found = []
    if min(positives, negatives) < SURE:
        found.append(
            f"taught from {positives} positive and {negatives} negative scans only: its AUROC and operating point may "
            "be far off; judge it with medtl evaluate before it is relied on"
        )
    share = 100 * positives / (positives + negatives)
    found.append(
        f"{share:.0f} % of its examples have it, and its probabilities assume that of all scans; where it is rarer "
        "they are too high"
    )
    if seen:
        found.append(
            f"the encoder was trained on {seen} of the examples, with labels of other findings, so that it may be "
            "worse on new scans than out of fold"
        )
    return found
