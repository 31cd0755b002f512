"""How well do frozen embeddings tell findings apart? Two probes on a small labeled set, by patient.

The folds keep a patient in one of them, are the same at every check, and never hold a scan of the test part.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from medtl.data.dataset import Dataset
from medtl.data.label_rows import LabelFiles, files_of
from medtl.errors import LabelError
from medtl.evaluation.metrics import auroc as area
from medtl.evaluation.metrics import both_classes
from medtl.progress import say
from medtl.training.batches import Rows

FOLDS = 5
NEIGHBOURS = 20
TEMPERATURE = 0.07
"""Divides the cosine similarity in a neighbour's vote (Wu 2018, arXiv 1805.01978, sec. 3.4)."""
PENALTY_C = 0.1
"""Inverse strength of the logistic regression's L2 penalty, on standardised embeddings."""
MOST_SCANS = 512
Floats = npt.NDArray[np.float64]
Score = Callable[[Floats, npt.NDArray[np.int64], Floats], Floats]
"""From embeddings and labels to learn from, and embeddings to judge, to a score of each of the latter."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Places in the labeled set: which to learn from and which to judge, for one finding."""

    finding: int
    learn: Rows
    judge: Rows


@dataclass(frozen=True, kw_only=True)
class LabeledSet:
    """The labeled scans that a probe looks at.

    Args:
        rows: (N,) rows of the manifest.
        findings: their names.
        values: (N, F) 0, 1 or NaN. Exclusive classes are each told from the rest, as a macro AUROC does.
        folds: of every finding that has both classes in two patients or more.
    """

    rows: Rows
    findings: tuple[str, ...]
    values: npt.NDArray[np.float32]
    folds: tuple[Fold, ...]
    everything: npt.NDArray[np.float32]
    """(M, F) likewise for every scan of the manifest, all NaN in the test part: what colours a picture."""

    @property
    def digest(self) -> str:
        """Changes with any label, so that a run is not resumed with others."""
        content = hashlib.sha256(",".join(self.findings).encode())
        content.update(self.rows.tobytes() + self.values.tobytes())
        return content.hexdigest()[:16]

    def knn_auroc(self, embeddings: Floats) -> float:
        """Mean AUROC over findings of a vote of the nearest neighbours (N, D)."""
        return self._auroc(embeddings, knn_scores)

    def probe_auroc(self, embeddings: Floats) -> float:
        """Mean AUROC over findings of a logistic regression on (N, D)."""
        return self._auroc(embeddings, regression_scores)

    def _auroc(self, embeddings: Floats, score: Score) -> float:
        """Mean over findings of the mean over folds, so that scores of different folds are never compared."""
        areas: dict[int, list[float]] = {}
        for fold in self.folds:
            y = self.values[:, fold.finding]
            scores = score(embeddings[fold.learn], y[fold.learn].astype(np.int64), embeddings[fold.judge])
            areas.setdefault(fold.finding, []).append(area(y[fold.judge], scores))
        return float(np.mean([np.mean(each) for each in areas.values()]))


def labeled_set(data: Dataset, csv: LabelFiles) -> LabeledSet:
    """The labeled scans of the train and val parts, and their folds; those of the test part are not looked at.

    Raises:
        LabelError: the file cannot be joined, or no finding has both classes.
    """
    table = data.labels(csv)
    known = ~np.isnan(table.values).all(axis=1) & (data.manifest["split"].to_numpy() != "test")
    rows = np.flatnonzero(known).astype(np.int64)
    if len(rows) > MOST_SCANS:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_SCANS).astype(np.int64)]
    values = table.values[rows]
    everything = np.where((data.manifest["split"].to_numpy() != "test")[:, None], table.values, np.nan)
    patients = patients_of(data.manifest)[rows]
    folds = tuple(fold for i in range(len(table.findings)) for fold in _folds(i, values[:, i], patients))
    if not folds:
        files = ", ".join(map(str, files_of(csv)))
        raise LabelError(
            f"{files}: of the {len(rows)} labeled scans outside the test part, no finding is present in two patients "
            "and absent in two others, as a probe needs; label scans of the other kind, or leave --labels out"
        )
    told = {fold.finding for fold in folds}
    if left := [name for i, name in enumerate(table.findings) if i not in told]:
        say(f"the probe leaves out {', '.join(left)}: not present in two patients and absent in two others")
    return LabeledSet(rows=rows, findings=table.findings, values=values, folds=folds, everything=everything)


def patients_of(manifest: pd.DataFrame) -> Rows:
    """(N,) a number for each patient; a scan of nobody known is a patient of its own."""
    names = manifest["patient_id"].fillna("scan " + manifest["scan_id"])
    return pd.factorize(names)[0].astype(np.int64)


def _folds(finding: int, y: npt.NDArray[np.float32], patients: Rows) -> Iterator[Fold]:
    known = np.flatnonzero(~np.isnan(y))
    fewest = min(len(np.unique(patients[y == value])) for value in (0, 1))
    if fewest < 2:
        return
    split = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=0)
    for learn, judge in split.split(known, y[known], patients[known]):
        if both_classes(y[known[learn]]) and both_classes(y[known[judge]]):
            yield Fold(finding=finding, learn=known[learn], judge=known[judge])


def knn_scores(learn: Floats, y: npt.NDArray[np.int64], judge: Floats) -> Floats:
    """Share of the votes for the finding among the nearest by cosine, each weighing exp(similarity / 0.07)."""
    similarity = _unit(judge) @ _unit(learn).T
    k = min(NEIGHBOURS, len(learn))
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    near = np.take_along_axis(similarity, nearest, axis=1)
    votes = np.exp((near - near[:, :1]) / TEMPERATURE)
    shares: Floats = (votes * y[nearest]).sum(axis=1) / votes.sum(axis=1)
    return shares


def regression_scores(learn: Floats, y: npt.NDArray[np.int64], judge: Floats) -> Floats:
    """Logits of a logistic regression on standardised embeddings."""
    mean, deviation = learn.mean(axis=0), learn.std(axis=0)
    deviation = np.maximum(deviation, 0.1 * deviation.mean() + 1e-6)  # nearly dead dimensions are not blown up
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(C=PENALTY_C, tol=1e-3, max_iter=200).fit((learn - mean) / deviation, y)
    logits: Floats = fitted.decision_function((judge - mean) / deviation)
    return logits


def _unit(x: Floats) -> Floats:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
