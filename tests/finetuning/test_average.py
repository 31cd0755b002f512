"""Averages of weights against the definitions."""

import pytest
import torch
from torch import nn

from medtl.finetuning.average import SWA_FROM, averaged, mix_with, schedule
from medtl.training.schedules import one_cycle


def averages(how: str, steps: int) -> tuple[list[float], float]:
    """The weight after each step, and the average in the end."""
    module = nn.Linear(1, 1, bias=False)
    average = averaged(module, how, steps=steps)
    assert average is not None
    seen: list[float] = []
    for step in range(steps):
        with torch.no_grad():
            module.weight.fill_(float((step + 1) ** 2))
        average.update_parameters(module)
        seen.append(module.weight.item())
    return seen, average.module.weight.item()


def test_swa_is_the_mean_of_the_last_quarter() -> None:
    seen, found = averages("swa", 40)
    last = seen[30:]
    assert found == pytest.approx(sum(last) / len(last), rel=1e-6)


def test_ema_is_the_recursion() -> None:
    seen, found = averages("ema", 40)
    expected = seen[0]
    for value in seen[1:]:
        expected = 0.75 * expected + 0.25 * value
    assert found == pytest.approx(expected, rel=1e-5)


def test_none_keeps_the_last_weights() -> None:
    assert averaged(nn.Linear(1, 1), "none", steps=10) is None


def test_swa_keeps_the_rate_where_averaging_begins() -> None:
    assert [schedule("swa")(share) for share in (0.2, 0.8, 1.0)] == [one_cycle(s) for s in (0.2, SWA_FROM, SWA_FROM)]
    assert schedule("ema") is one_cycle


def test_weights_are_mixed_with_those_from_before_and_counters_are_kept() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        network[0].weight.add_(4.0)
        network[1].running_mean.fill_(8.0)
        network[1].num_batches_tracked.fill_(3)
    mix_with(network, before, keeps=0.25)
    torch.testing.assert_close(network[0].weight, before["0.weight"] + 3)
    assert network[1].running_mean.tolist() == [6.0, 6.0] and int(network[1].num_batches_tracked) == 3
