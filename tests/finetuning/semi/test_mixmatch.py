"""MixMatch against the paper's equations in a loop."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medtl.finetuning.semi.mixmatch import MixMatch, MixMatchConfig, brier, sharpened
from tests.finetuning.semi.tiny import batch, supervised, table


def test_sharpening_by_hand() -> None:
    found = sharpened(torch.tensor([[0.2, 0.8], [0.5, 0.5]]), temperature=0.5)
    expected = torch.tensor([[0.04 / 0.68, 0.64 / 0.68], [0.5, 0.5]])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(sharpened(found, temperature=1.0), found)


def test_brier_over_known_questions() -> None:
    p = torch.tensor([[[0.5, 0.5]], [[0.9, 0.1]]])
    targets = torch.tensor([[[1.0, 0.0]], [[np.nan, np.nan]]])
    assert float(brier(p, targets)) == pytest.approx(0.25)


@pytest.mark.parametrize("exclusive", [False, True])
def test_equals_the_papers_equations(exclusive: bool) -> None:
    learner, labels = supervised(3, exclusive=exclusive), table(exclusive=exclusive)
    config = MixMatchConfig(weight=5.0, rampup=0.5)
    method = MixMatch(learner, config, labels=labels)
    method.after_step(0.25)  # half of the weight
    images, truth, unlabeled = batch(labels, views=2)
    loss, _ = method(images, truth, unlabeled)

    classifier = learner.classifier

    def classes(of: torch.Tensor) -> torch.Tensor:  # (F,) -> (Q, K)
        return of[None] if exclusive else torch.stack([1 - of, of], dim=1)

    def says(scan: torch.Tensor) -> torch.Tensor:
        logits = classifier(scan[None])[0]
        return classes(logits.softmax(0) if exclusive else logits.sigmoid())

    scans, targets = list(images), [classes(row) for row in truth]
    for view in range(2):
        for scan in unlabeled.views:
            mean = ((says(scan[0]) + says(scan[1])) / 2).detach()
            powered = mean ** (1 / config.temperature)
            scans.append(scan[view])
            targets.append(powered / powered.sum(dim=1, keepdim=True))
    order, share = method._drawn(batch(labels, views=2)[2], len(scans))  # the same numbers again
    labeled, rest = [], []
    for i, (other, own) in enumerate(zip(order.tolist(), share.tolist(), strict=True)):
        assert own >= 0.5
        p = says(own * scans[i] + (1 - own) * scans[other])
        wanted = own * targets[i] + (1 - own) * targets[other]
        for q in range(len(p)):
            if wanted[q].isnan().any():
                continue
            if i < len(images):
                labeled.append(-(wanted[q] * p[q].log()).sum())
            else:
                rest.append(F.mse_loss(p[q], wanted[q]))
    expected = torch.stack(labeled).mean() + 0.5 * 5.0 * torch.stack(rest).mean()
    torch.testing.assert_close(loss, expected)


def test_shares_are_beta_distributed() -> None:
    method = MixMatch(supervised(3), MixMatchConfig(), labels=table())
    _, _, unlabeled = batch(table(), views=2)
    order, share = method._drawn(unlabeled, 20_000)
    assert sorted(order.tolist()) == list(range(20_000))
    drawn = np.random.default_rng(0).beta(0.75, 0.75, 20_000)
    expected = np.maximum(drawn, 1 - drawn)
    found = np.quantile(share.numpy(), [0.1, 0.5, 0.9])
    assert found == pytest.approx(np.quantile(expected, [0.1, 0.5, 0.9]), abs=0.01)  # 3 standard errors are 0.006


def test_the_loss_without_labels_comes_in_slowly() -> None:
    learner, labels = supervised(3), table()
    images, truth, unlabeled = batch(labels, views=2)
    method = MixMatch(learner, MixMatchConfig(), labels=labels)
    loss, figures = method(images, truth, unlabeled)
    assert loss.item() == pytest.approx(figures["labeled"])
    assert method.state_dict()["done.share"] == 0.0, "is kept in checkpoints"
