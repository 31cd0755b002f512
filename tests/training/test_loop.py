"""The training loop: resuming reaches the same weights, NaN stops, interruption saves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from medtl.errors import RunError, Stopped
from medtl.training.batches import generator
from medtl.training.loop import train
from medtl.training.pace import Pace
from medtl.training.schedules import one_cycle


class Regression(nn.Module):
    """A small network with batch normalisation, whose running statistics must survive a resume too."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        return (self.net(x) - y).square().mean(), {"extra": 1.0}


def batch_at(step: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(16, 4, generator=generator("x", step))
    return x, x.sum(dim=1, keepdim=True)


def run(folder: Path, *, steps: int = 40, resume: bool = False, identity: str = "a", stop_at: int | None = None,
        batches=batch_at) -> dict[str, torch.Tensor]:  # fmt: skip
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    module = Regression()
    averaged = AveragedModel(module, use_buffers=True)

    def interrupt(done: int, share: float) -> dict[str, float]:
        if done == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    train(
        title="test", module=module, optimizer=torch.optim.AdamW(module.parameters(), lr=1e-2), batch_at=batches,
        rate_at=one_cycle, pace=Pace(steps=steps), batch_size=16, folder=folder, identity={"config": identity},
        resume=resume, averaged=averaged, after_step=interrupt,
    )  # fmt: skip
    return module.state_dict() | {f"averaged.{k}": v for k, v in averaged.state_dict().items()}


def test_learns(tmp_path: Path) -> None:
    run(tmp_path, steps=600)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("stop_at", [1, 17, 39])
def test_ctrl_c_saves_and_resume_reaches_the_same_weights(tmp_path: Path, stop_at: int) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(Stopped, match=f"stopped at step {stop_at} of 40; saved in"):
        run(tmp_path / "parts", stop_at=stop_at)
    resumed = run(tmp_path / "parts", resume=True)
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    lines = [(tmp_path / part / "metrics.jsonl").read_text().splitlines() for part in ("whole", "parts")]
    steps = [[json.loads(line)["step"] for line in part] for part in lines]
    assert steps[0] == steps[1] == [10, 20, 30, 40]


def test_nan_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(tmp_path, stop_at=5)

    def poisoned(step: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = batch_at(step, device)
        return x, y * (float("nan") if step == 8 else 1)

    with pytest.raises(RunError, match="the loss became nan at step 8; the checkpoint before it is kept"):
        run(tmp_path, resume=True, batches=poisoned)
    resumed, whole = run(tmp_path, resume=True), run(tmp_path / "whole")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_another_config_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(tmp_path, stop_at=5)
    with pytest.raises(RunError, match="was started with config a, now it is b; resume with what it was started with"):
        run(tmp_path, resume=True, identity="b")


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(tmp_path, stop_at=5)
    weights = tmp_path / "checkpoint/module.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20])
    with pytest.raises(RunError, match="the checkpoint is damaged"):
        run(tmp_path, resume=True)


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from medtl.training import loop
loop.CHECKPOINT_EVERY_S = 0.0
import test_loop
# Step 150 never ends, so that a busy machine cannot be too late to kill it.
slow = lambda step, device: (time.sleep(0.02 if step < 150 else 600), test_loop.batch_at(step, device))[1]
test_loop.run(Path({folder!r}), steps=200, batches=slow)
"""


@pytest.mark.slow
def test_kill_9_then_resume_reaches_the_same_weights(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (folder / "checkpoint/state.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.kill()
    process.wait(timeout=30)
    done = json.loads((folder / "checkpoint/state.json").read_text())["pace"]["done"]
    assert 0 < done < 200, "the test must kill it while it works"
    resumed, whole = run(folder, steps=200, resume=True), run(tmp_path / "whole", steps=200)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_a_module_that_has_one_layer_under_two_names_comes_back(tmp_path: Path) -> None:
    from medtl.training.checkpoint import load_checkpoint, save_checkpoint

    def twins() -> nn.ModuleDict:
        shared = nn.Linear(3, 3)
        return nn.ModuleDict({"a": nn.Sequential(shared, nn.Linear(3, 1)), "b": nn.Sequential(shared)})

    first, second = twins(), twins()
    for module in (first, second):
        optimizer = torch.optim.AdamW(module.parameters())
        if module is first:
            save_checkpoint(
                tmp_path / "c", modules={"module": module}, optimizer=optimizer, pace={"done": 3}, identity={}
            )
        else:
            assert (
                load_checkpoint(tmp_path / "c", modules={"module": module}, optimizer=optimizer, identity={})["done"]
                == 3
            )
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key
    assert second["a"][0] is second["b"][0]
