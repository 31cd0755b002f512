"""The share of the work: exact by steps; by the clock as long as asked, however fast the machine is."""

import json
from pathlib import Path

import pytest
import torch

from medtl.training import pace as module
from medtl.training.loop import train
from medtl.training.pace import Pace
from medtl.training.schedules import warmup_cosine
from tests.training.test_loop import Regression, batch_at


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


def test_by_steps_the_share_is_exact() -> None:
    pace = Pace(steps=7)
    shares = [pace.share]
    while not pace.finished:
        pace.step()
        shares.append(pace.share)
    assert shares == [done / 7 for done in range(8)] and pace.expected == 7


@pytest.mark.parametrize("slower", [1.0, 3.0])
def test_a_machine_that_becomes_slower_makes_fewer_steps(slower: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pace = Pace(seconds=100)
    pace.begin()
    while not pace.finished:
        clock.now += 0.5 * (slower if pace.done >= 100 else 1)
        pace.step()
    assert clock.now - 100 == pytest.approx(100, abs=0.5 * slower), "within a step"
    assert pace.done == pytest.approx(100 + 50 / (0.5 * slower), abs=1)


def test_another_step_is_begun_only_where_most_of_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pace = Pace(seconds=25)
    pace.begin()
    for _ in range(3):
        assert not pace.finished
        clock.now += 9
        pace.step()
    assert pace.finished and pace.expected == 3


def test_time_between_stop_and_resume_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    first = Pace(seconds=50)
    first.begin()
    for _ in range(20):
        clock.now += 1
        first.step()
    clock.now += 1000
    second = Pace(seconds=50)
    second.load(json.loads(json.dumps(first.state())))
    assert second.share == first.share == 0.4
    second.begin()
    while not second.finished:
        clock.now += 1
        second.step()
    assert second.done == 50


def test_one_of_steps_and_seconds_is_given() -> None:
    for wrong in ({}, {"steps": 3, "seconds": 2.0}):
        with pytest.raises(ValueError, match="give steps or seconds"):
            Pace(**wrong)


def test_training_by_the_clock_takes_its_time_and_ends_its_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)

    def slowly(step: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        clock.now += 0.02
        return batch_at(step, device)

    regression = Regression()
    train(
        title="test", module=regression, optimizer=torch.optim.AdamW(regression.parameters(), lr=1e-2),
        batch_at=slowly, rate_at=warmup_cosine, pace=Pace(seconds=2), batch_size=16, folder=tmp_path,
        identity={}, resume=False,
    )  # fmt: skip
    assert clock.now - 100 == pytest.approx(2, abs=0.02), "within a step"
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["lr"] < 1e-4 and lines[-1]["step"] == pytest.approx(100, abs=1)
