"""The student's loss against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from medtl.finetuning.semi.distil import Distil, DistilConfig
from tests.finetuning.semi.tiny import batch, supervised, table


@pytest.mark.parametrize("exclusive", [False, True])
def test_hard_and_soft_labels_are_added(exclusive: bool) -> None:
    learner, labels = supervised(3, exclusive=exclusive), table(exclusive=exclusive)
    images, truth, unlabeled = batch(labels, views=1)
    loss, figures = Distil(learner, DistilConfig(weight=0.5), labels=labels)(images, truth, unlabeled)
    hard, logits = learner(images, truth)[0], learner.classifier(unlabeled.views[:, 0])
    assert unlabeled.soft is not None
    soft = (
        F.cross_entropy(logits, unlabeled.soft)
        if exclusive
        else F.binary_cross_entropy_with_logits(logits, unlabeled.soft)
    )
    torch.testing.assert_close(loss, hard + 0.5 * soft)
    assert (figures["labeled"], figures["unlabeled"]) == pytest.approx((hard.item(), soft.item()))
