"""The teacher in closed form, and agreement in a loop."""

import math

import pytest
import torch

from medtl.finetuning.semi.mean_teacher import MeanTeacher, MeanTeacherConfig, momentum_at
from medtl.finetuning.semi.ramp import linear, sigmoid_shaped
from tests.finetuning.semi.tiny import batch, supervised, table


def test_the_teacher_is_the_mean_at_first_and_a_moving_average_later() -> None:
    learner, labels = supervised(3), table()
    method = MeanTeacher(learner, MeanTeacherConfig(momentum=0.75), labels=labels)
    weight, seen = learner.classifier[1].weight, []
    for step in range(6):
        with torch.no_grad():
            weight.fill_(float(step * step))
        seen.append(float(step * step))
        method.after_step(step / 6)
    # Momenta are 1/2, 2/3, 3/4, 3/4, ...; from the start's own weights 1 / (step + 1) is left until then.
    first = supervised(3).classifier[1].weight.detach()
    expected = first.clone()
    for step, value in enumerate(seen, start=1):
        share = min(1 - 1 / (step + 1), 0.75)
        expected = share * expected + (1 - share) * value
    torch.testing.assert_close(method.teacher.copy[1].weight.detach(), expected)
    mean_of_three = (first + sum(seen[:2])) / 3
    again = MeanTeacher(supervised(3), MeanTeacherConfig(momentum=0.9), labels=labels)
    for value in seen[:2]:
        with torch.no_grad():
            again.supervised.classifier[1].weight.fill_(value)
        again.after_step(0.0)
    torch.testing.assert_close(again.teacher.copy[1].weight.detach(), mean_of_three)


def test_momentum() -> None:
    assert [momentum_at(step, most=0.7) for step in (1, 2, 9)] == pytest.approx([1 / 2, 2 / 3, 0.7])


@pytest.mark.parametrize("exclusive", [False, True])
def test_agreement_in_a_loop(exclusive: bool) -> None:
    learner, labels = supervised(3, exclusive=exclusive), table(exclusive=exclusive)
    method = MeanTeacher(learner, MeanTeacherConfig(weight=3.0, rampup=0.5), labels=labels)
    with torch.no_grad():
        learner.classifier[1].weight.mul_(3)
    method.done.set(0.25)
    images, truth, unlabeled = batch(labels, views=2)
    loss, _ = method(images, truth, unlabeled)
    apart = []
    for scan in unlabeled.views:
        taught, said = method.teacher.copy(scan[:1])[0], learner.classifier(scan[1:])[0]
        taught, said = (taught.softmax(0), said.softmax(0)) if exclusive else (taught.sigmoid(), said.sigmoid())
        apart.append(((taught - said) ** 2).mean())  # of absent and present the squares are the same
    expected = learner(images, truth)[0] + 3.0 * math.exp(-5 * 0.5**2) * torch.stack(apart).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(parameter.grad is None for parameter in method.teacher.parameters())


def test_ramps() -> None:
    assert [linear(done, over=0.4) for done in (0.0, 0.1, 0.4, 1.0)] == pytest.approx([0, 0.25, 1, 1])
    assert sigmoid_shaped(0.0, over=0.4) == pytest.approx(math.exp(-5))
    assert sigmoid_shaped(0.4, over=0.4) == sigmoid_shaped(1.0, over=0.4) == 1.0
