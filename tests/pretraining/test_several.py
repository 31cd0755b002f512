"""Two processes learn what one does from the same batches, stop together, and take over from one another."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from medtl.data.dataset import Dataset
from medtl.errors import Stopped
from medtl.pretraining.methods import METHODS
from tests.pretraining.several import EQUAL, SMALL, interrupt_at, learn, norm_case

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TORCHRUN = [
    sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
    "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1",
]  # fmt: skip
ALONE = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def several(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have done all that several.py does; what they said is in `stderr`."""
    folder = tmp_path_factory.mktemp("several")
    with pytest.raises(Stopped):
        learn(folder / "parts", "simclr", steps=6, adam=True, after=interrupt_at(2))
    began = time.monotonic()
    done = subprocess.run(
        [*TORCHRUN, "-m", "tests.pretraining.several", str(folder), str(dataset.folder)],
        env=ALONE, cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    (folder / "stderr").write_text(done.stderr)
    assert (folder / "broken").is_dir(), done.stderr
    print(f"two processes took {time.monotonic() - began:.0f} s")
    return folder


def differently_learned(first: Path, second: Path) -> float:
    """Of the way that the weights and buffers went in the first run, how far the second ended beside it."""
    one, other, start = load_file(first), load_file(second), load_file(first.parents[1] / "start.safetensors")
    assert one.keys() == other.keys()
    floats = [key for key in one if one[key].is_floating_point()]
    assert all(torch.equal(one[key], other[key]) for key in set(one) - set(floats))
    beside = sum(float((one[key].double() - other[key].double()).square().sum()) for key in floats)
    way = sum(float((one[key].double() - start[key].double()).square().sum()) for key in floats)
    return (beside / way) ** 0.5


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_norm_counts_the_scans_of_all_processes(several: Path, dims: int) -> None:
    """torch's own norm, given the whole batch, is the oracle."""
    own, x, weights = norm_case(dims)
    out = own(x.requires_grad_())
    (out * weights).sum().backward()
    expected = {"out": out.detach(), "x": x.grad} | own.state_dict()
    expected |= {f"grad.{name}": parameter.grad for name, parameter in own.named_parameters()}
    found = load_file(several / f"norm{dims}.safetensors")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5, msg=key)  # float32, sums in another order


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_learn_what_one_does(several: Path, tmp_path: Path, name: str) -> None:
    if reason := METHODS[name].several_differ:
        pytest.skip(reason)
    assert name in EQUAL
    one = learn(tmp_path, name)
    assert differently_learned(one, several / "two" / name / "checkpoint/module.safetensors") < TOLERANCE


TOLERANCE = 1e-2
"""float32 rounding, through two steps of a network with normalisation."""


def test_norms_that_are_not_synchronised_would_be_noticed(several: Path, tmp_path: Path) -> None:
    one = learn(tmp_path, "simclr")
    assert differently_learned(one, several / "two/unsynchronised/checkpoint/module.safetensors") > 5 * TOLERANCE


def test_parts_of_a_batch_are_those_of_all_processes(several: Path, tmp_path: Path) -> None:
    one = learn(tmp_path, "simclr", accumulate=2)
    assert differently_learned(one, several / "two/accumulated/checkpoint/module.safetensors") < TOLERANCE


def test_one_then_two_then_one_process_reach_the_weights_of_one(several: Path, tmp_path: Path) -> None:
    """The interruption in the second process, at step 4, stopped both."""
    for process in range(2):
        assert (several / f"stopped{process}.txt").read_text().startswith("simclr: stopped at step 4 of 6")
    whole = learn(tmp_path, "simclr", steps=6, adam=True)
    resumed = learn(several / "parts", "simclr", steps=6, adam=True, resume=True)
    # Adam turns rounding of a gradient near zero into a share of its step, six times.
    assert differently_learned(whole, resumed) < 5 * TOLERANCE
    steps = [json.loads(line)["step"] for line in (several / "parts/metrics.jsonl").read_text().splitlines()]
    assert steps == [6]


def test_the_command_leaves_one_run(several: Path) -> None:
    config = yaml.safe_load((several / "whole/config.yaml").read_text())
    assert (config["steps"], config["batch_size"], config["precision"]) == (4, 10, "32")
    assert (several / "whole/health.png").is_file() and (several / "whole/encoder.json").is_file()
    said = (several / "stderr").read_text()
    assert said.count("pretraining resnet10-half from random") == said.count("done in") == 2  # and the timed one
    for process in range(2):
        assert (several / f"uneven{process}.txt").read_text() == (
            "batch_size 11 cannot be divided equally among processes (2) and parts (accumulate: 1); take 10 or 12, or "
            "another number of processes"
        )
    assert not (several / "uneven/config.yaml").exists()


def test_a_run_by_the_clock_ends_for_all_at_the_same_step(several: Path) -> None:
    assert [(several / f"timed{process}.txt").read_text() for process in range(2)] == ["done", "done"]
    assert (several / "timed/encoder.json").is_file()


def test_an_error_in_one_process_is_said_once_and_ends_all(several: Path) -> None:
    assert (several / "stderr").read_text().count("medtl: process 1: scan 7 is broken") == 1


def test_sigterm_to_torchrun_saves_once_and_one_process_can_go_on(dataset: Dataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ["--set", "steps=100000", "--set", "batch_size=8", *(word for each in SMALL for word in ("--set", each))]
    command = ["-m", "medtl", "pretrain", str(dataset.folder), "--out", str(run), *settings]
    with (tmp_path / "stderr").open("w") as stderr:
        process = subprocess.Popen([*TORCHRUN, *command], env=ALONE, cwd=ROOT, stderr=stderr)
        try:
            deadline = time.monotonic() + 120
            metrics = run / "metrics.jsonl"
            while not (metrics.is_file() and metrics.stat().st_size) and time.monotonic() < deadline:
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
        finally:
            process.kill()
    said = (tmp_path / "stderr").read_text()
    done = json.loads((run / "checkpoint/state.json").read_text())["pace"]["done"]
    assert said.count("medtl: pretraining: stopped at step") == 1, said
    assert f"stopped at step {done:,} of 100,000; saved in {run}" in said
    assert "--resume, under torchrun with any number of processes" in said


@pytest.mark.parametrize("command", ["ingest", "finetune"])
def test_other_commands_run_in_one_process(command: str) -> None:
    env = {**ALONE, "WORLD_SIZE": "2", "RANK": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "medtl", command, "x", "--out", "y"], env=env, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"medtl: medtl {command} runs in one process and torchrun started 2; start it without torchrun\n"
    )
