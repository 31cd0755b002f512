"""FixMatch against the paper's equation in a loop; only confident guesses count, and no gradient reaches them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medtl.data.labels import LabelTable
from medtl.finetuning.semi.fixmatch import FixMatch, FixMatchConfig, pseudo_labels
from tests.finetuning.semi.tiny import batch, supervised, table


def test_pseudo_labels_count_from_the_threshold_on() -> None:
    guesses = torch.tensor([[[0.96, 0.04]], [[0.5, 0.5]], [[0.05, 0.95]], [[0.3, 0.7]]])
    targets, counts = pseudo_labels(guesses, threshold=0.95)
    assert counts.squeeze(1).tolist() == [True, False, True, False]
    assert targets.squeeze(1)[[0, 2]].tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("exclusive", [False, True])
def test_equals_the_papers_equation(exclusive: bool) -> None:
    learner, labels = supervised(3, exclusive=exclusive), table(exclusive=exclusive)
    threshold = 0.55
    method = FixMatch(learner, FixMatchConfig(threshold=threshold, weight=2.0, prior="running"), labels=labels)
    method.align = torch.nn.Identity()  # on its own it is tested elsewhere
    images, truth, unlabeled = batch(labels, views=2)
    loss, figures = method(images, truth, unlabeled)

    classifier, total, counted = learner.classifier, 0.0, 0
    gentle, strong = classifier(unlabeled.views[:, 0]), classifier(unlabeled.views[:, 1])
    for of_gentle, of_strong in zip(gentle, strong, strict=True):
        questions = (
            [(of_gentle.softmax(0), of_strong.log_softmax(0))]
            if exclusive
            else [
                (torch.stack([1 - a.sigmoid(), a.sigmoid()]), torch.stack([F.logsigmoid(-b), F.logsigmoid(b)]))
                for a, b in zip(of_gentle, of_strong, strict=True)
            ]
        )
        for q, log_p in questions:
            if q.max() >= threshold:
                total = total - log_p[q.argmax()]
                counted += 1
    asked = len(gentle) * (1 if exclusive else 3)
    assert 0 < counted < asked, "the threshold must divide"
    expected = learner(images, truth)[0] + 2.0 * total / asked
    torch.testing.assert_close(loss, expected)
    assert figures["confident"] == pytest.approx(counted / asked)


def test_unsure_guesses_leave_the_network_to_the_labels() -> None:
    learner, labels = supervised(3), table()
    images, truth, unlabeled = batch(labels, views=2)
    method = FixMatch(learner, FixMatchConfig(threshold=1.0), labels=labels)
    loss, figures = method(images, truth, unlabeled)
    assert figures["confident"] == 0.0
    torch.testing.assert_close(loss, learner(images, truth)[0])


def test_guesses_are_not_trained() -> None:
    learner, labels = supervised(3), table()
    images, _, unlabeled = batch(labels, views=2)
    unlabeled.views.requires_grad_()
    method = FixMatch(learner, FixMatchConfig(threshold=0.5), labels=labels)
    unknown = torch.full((len(images), 3), np.nan)
    method(images, unknown, unlabeled)[0].backward()
    assert unlabeled.views.grad is not None
    assert (unlabeled.views.grad[:, 0] == 0).all() and (unlabeled.views.grad[:, 1] != 0).any()


def test_exclusive_findings_are_one_question() -> None:
    labels = LabelTable(findings=("a", "b", "c"), values=np.eye(3, dtype=np.float32))
    method = FixMatch(supervised(3, exclusive=True), FixMatchConfig(prior="labels"), labels=labels)
    assert method.align.marginal.shape == (1, 3)
