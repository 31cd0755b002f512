"""A linear head fitted to frozen embeddings: the first half of head first, then all."""

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from medtl.inference.reference import spread

Floats = npt.NDArray[np.float64]
PENALTY_C = 10.0
"""Inverse strength of the L2 penalty, on embeddings that are scaled to a length of 1 in the mean square."""


def fit_head(
    head: nn.Linear,
    embeddings: Tensor,
    labels: npt.NDArray[np.float32],
    *,
    exclusive: bool,
    widths: Sequence[int] = (),
) -> None:
    """Set a linear layer to the logistic regression from embeddings to labels (Kumar 2022, arXiv 2202.10054, LP step).

    Args:
        head: (D -> F), changed in place.
        embeddings: (N, D).
        labels: (N, F) of 0, 1 or NaN. A class that is not there, as in a part of few labels, counts as half a scan of
            which nothing is known: the head then says how rare it is.
        exclusive: one softmax regression in place of a logistic one for each finding.
        widths: how many of the D come from each level of the network, see `Encoder.widths`. Each level counts the same:
            were each number to count the same, the last levels, which have most, would drown the others.
    """
    x = embeddings.double().numpy()
    mean, deviation = x.mean(axis=0), spread(x, widths)
    x = (x - mean) / deviation

    if exclusive:
        known = ~np.isnan(labels).any(axis=1)
        coefficients, intercepts = _softmax(x[known], labels[known].argmax(axis=1), labels.shape[1])
    else:
        each = [_logistic(x[~np.isnan(y)], y[~np.isnan(y)].astype(np.int64)) for y in labels.T]
        coefficients, intercepts = (np.concatenate(parts) for parts in zip(*each, strict=True))
    weight = coefficients / deviation
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(intercepts - weight @ mean))


def _regression(x: Floats, y: npt.NDArray[np.int64]) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=PENALTY_C / x.shape[1], max_iter=1000).fit(x, y)


def _logistic(x: Floats, y: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Coefficients (1, D) and intercept (1,) of a finding."""
    positives, negatives = int((y == 1).sum()), int((y == 0).sum())
    if positives == 0 or negatives == 0:
        return np.zeros((1, x.shape[1])), np.log([(positives + 0.5) / (negatives + 0.5)])
    fitted = _regression(x, y)
    return fitted.coef_, fitted.intercept_


def _softmax(x: Floats, y: npt.NDArray[np.int64], n_classes: int) -> tuple[Floats, Floats]:
    """Coefficients (F, D) and intercepts (F,) of classes of which one holds."""
    counts = np.bincount(y, minlength=n_classes)
    here = np.flatnonzero(counts)
    coefficients, intercepts = np.zeros((n_classes, x.shape[1])), np.log((counts + 0.5) / (counts.max() + 0.5))
    if len(here) == 2:  # scikit-learn then fits the difference of the two
        fitted = _regression(x, y)
        coefficients[here] = np.concatenate([-fitted.coef_, fitted.coef_]) / 2
        intercepts[here] = np.concatenate([-fitted.intercept_, fitted.intercept_]) / 2
    elif len(here) > 2:
        fitted = _regression(x, y)
        coefficients[here], intercepts[here] = fitted.coef_, fitted.intercept_
    return coefficients, intercepts
