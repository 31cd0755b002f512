"""A linear head fitted to frozen embeddings: the first half of head first, then all."""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

PENALTY_C = 0.1
"""Inverse strength of the L2 penalty, on standardised embeddings."""


def fit_head(head: nn.Linear, embeddings: Tensor, labels: npt.NDArray[np.float32], *, exclusive: bool) -> None:
    """Set a linear layer to the logistic regression from embeddings to labels (Kumar 2022, arXiv 2202.10054, LP step).

    Args:
        head: (D -> F), changed in place.
        embeddings: (N, D).
        labels: (N, F) of 0, 1 or NaN, each finding with both classes.
        exclusive: one softmax regression in place of a logistic one for each finding.
    """
    x = embeddings.double().numpy()
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation = np.maximum(deviation, 0.1 * deviation.mean() + 1e-6)  # nearly dead dimensions are not blown up
    x = (x - mean) / deviation

    def regress(rows: Any, y: npt.NDArray[np.int64]) -> LogisticRegression:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=PENALTY_C, max_iter=1000).fit(x[rows], y)

    if exclusive:
        known = ~np.isnan(labels).any(axis=1)
        fitted = regress(known, labels[known].argmax(axis=1))
        coefficients, intercepts = fitted.coef_, fitted.intercept_
    else:
        each = [regress(~np.isnan(y), y[~np.isnan(y)].astype(np.int64)) for y in labels.T]
        coefficients = np.concatenate([one.coef_ for one in each])
        intercepts = np.concatenate([one.intercept_ for one in each])
    weight = coefficients / deviation
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(intercepts - weight @ mean))
