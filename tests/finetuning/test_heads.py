"""The fitted head against scikit-learn's own probabilities."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from medtl.finetuning.heads import PENALTY_C, fit_head


def embeddings(n: int = 60) -> torch.Tensor:
    scale = torch.tensor([1.0, 3.0, 0.7, 5.0])
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(0)) * scale + 3


def test_equals_logistic_regression_on_standardised_embeddings() -> None:
    x = embeddings()
    y = ((x[:, 0] > 3).float() + (torch.arange(60) % 7 == 0).float() > 0.5).float()
    labels = torch.stack([y, 1 - y], dim=1).numpy()
    labels[:10, 1] = np.nan
    head = nn.Linear(4, 2)
    fit_head(head, x, labels, exclusive=False)
    scaled = StandardScaler().fit_transform(x.numpy().astype(np.float64))
    for i in range(2):
        known = ~np.isnan(labels[:, i])
        reference = LogisticRegression(C=PENALTY_C / 4, max_iter=1000).fit(scaled[known], labels[known, i])
        expected = reference.predict_proba(scaled)[:, 1]
        with torch.no_grad():
            found = head(x).sigmoid()[:, i].numpy()
        assert found == pytest.approx(expected, abs=1e-4)  # float32 weights on badly scaled columns


def test_levels_count_the_same_however_many_numbers_they_have() -> None:
    """Three columns of one level and one of another: the lone column is drawn together as little as the three."""
    x = embeddings()
    labels = (x[:, 3] + x[:, 0] > 6).float()[:, None].numpy()
    head = nn.Linear(4, 1)
    fit_head(head, x, labels, exclusive=False, widths=(3, 1))
    scaled = StandardScaler().fit_transform(x.numpy().astype(np.float64)) / np.sqrt([6, 6, 6, 2])  # total variance 1
    expected = LogisticRegression(C=PENALTY_C, max_iter=1000, tol=1e-8).fit(scaled, labels[:, 0])
    with torch.no_grad():
        found = head(x)[:, 0].numpy()
    assert found == pytest.approx(expected.decision_function(scaled), abs=2e-3)


def test_exclusive_findings_get_one_softmax_regression() -> None:
    x = embeddings(90)
    classes = np.arange(90) % 3
    x[:, 0] += torch.from_numpy(classes * 2.0)
    head = nn.Linear(4, 3)
    fit_head(head, x, np.eye(3, dtype=np.float32)[classes], exclusive=True)
    with torch.no_grad():
        predicted = head(x).argmax(dim=1).numpy()
    reference = LogisticRegression(C=PENALTY_C / 4, max_iter=1000)
    scaled = StandardScaler().fit_transform(x.numpy().astype(np.float64))
    assert (predicted == reference.fit(scaled, classes).predict(scaled)).all()


def test_a_class_that_is_not_there_is_rare() -> None:
    """As in a fold of few labels: the head says the share of positives, counting half a scan of either class more."""
    head = nn.Linear(4, 2)
    labels = np.zeros((9, 2), np.float32)
    labels[:4, 1] = 1
    fit_head(head, embeddings(9), labels, exclusive=False)
    with torch.no_grad():
        found = head(embeddings(9)).sigmoid()
    torch.testing.assert_close(found[:, 0], torch.full((9,), 0.05))
    assert found[:4, 1].mean() > found[4:, 1].mean()


@pytest.mark.parametrize("here", [[0, 1], [0, 2], [1]])
def test_exclusive_classes_that_are_not_there(here: list[int]) -> None:
    x = embeddings(60)
    classes = np.resize(here, 60)
    x[:, 0] += torch.from_numpy(classes * 2.0)
    head = nn.Linear(4, 3)
    fit_head(head, x, np.eye(3, dtype=np.float32)[classes], exclusive=True)
    with torch.no_grad():
        found = head(x).softmax(dim=1).numpy()
    missing = [c for c in range(3) if c not in here]
    assert found[:, missing].max() < 0.1
    if len(here) == 2:
        scaled = StandardScaler().fit_transform(x.numpy().astype(np.float64))
        expected = LogisticRegression(C=PENALTY_C / 4, max_iter=1000).fit(scaled, classes).predict_proba(scaled)[:, 1]
        both = found[:, here[1]] / found[:, here].sum(axis=1)
        assert both == pytest.approx(expected, abs=1e-4)
