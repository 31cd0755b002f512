"""The one training loop. It reads top to bottom; what varies comes in as arguments."""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from medtl.errors import RunError, Stopped
from medtl.progress import progress, say
from medtl.training.checkpoint import load_checkpoint, save_checkpoint
from medtl.training.norm import synchronised
from medtl.training.pace import Pace
from medtl.training.precision import Precision, computing
from medtl.training.together import any_of, connect, from_first, mean_of, rank

CHECKPOINT = "checkpoint"
CHECKPOINT_EVERY_S = 30.0
METRICS_EVERY = 10
TWICE_S = 1.0
"""A signal that comes again within this time is the same one: torchrun passes on what the terminal sent already."""

BatchAt = Callable[[int, torch.device], tuple[Any, ...]]


def train(
    *,
    title: str,
    module: nn.Module,
    optimizer: Optimizer,
    batch_at: BatchAt,
    rate_at: Callable[[float], float],
    pace: Pace,
    batch_size: int,
    folder: Path,
    identity: Mapping[str, Any],
    resume: bool,
    accumulate: int = 1,
    precision: Precision = "32",
    averaged: AveragedModel | None = None,
    after_step: Callable[[int, float], dict[str, float]] | None = None,
    enough: Callable[[int, float], bool] | None = None,
    way_on: Callable[[], str] = lambda: "start anew with a lower --set lr=",
) -> None:
    """Train `module` until `pace` is finished, leaving `metrics.jsonl` and `checkpoint/` in `folder`.

    Args:
        title: what the progress line calls the work.
        module: takes a batch, returns the loss and figures to log; holds everything that is trained.
        batch_at: from the batch's number and the device to the module's arguments: this process's part of the batch. A
            step takes `accumulate` batches.
        rate_at: from the share of the work that is done to a factor of each parameter group's learning rate.
        pace: by steps or by the clock.
        batch_size: scans a step, for images per second.
        identity: what must not change between the call that started the run and the one that resumes it.
        resume: go on from `folder/checkpoint` where there is one, with any number of processes.
        accumulate: how many batches are computed one after another for one step, when memory is short.
        precision: what encoders compute in.
        averaged: running average of the module's weights, updated after every step.
        after_step: called with the number of steps and the share of the work that are done; may return figures to log.
        enough: called with the number of steps and the share that are done once they are logged, also before the first
            step and after the last; True ends the training, and what it raises stops it without another checkpoint.
        way_on: what to do where the loss or its gradient is not finite, in words.

    Raises:
        RunError: the loss or its gradient is not finite; the last checkpoint before it is kept, if there is one.
        Stopped: the user interrupted; everything is saved.
    """
    fabric = connect()
    wrapped, wrapped_optimizer = fabric.setup(module, optimizer)
    kept = {"module": module} | ({"averaged": averaged} if averaged is not None else {})
    top_rates = [group["lr"] for group in optimizer.param_groups]
    checkpoint = folder / CHECKPOINT
    if resume and _is_everywhere(checkpoint, fabric.device):
        pace.load(load_checkpoint(checkpoint, modules=kept, optimizer=optimizer, identity=identity))
        say(f"{title}: going on after step {pace.done:,} of {pace.expected:,}")
    first = pace.done
    metrics = _cut_metrics(folder / "metrics.jsonl", after=first) if rank() == 0 else Path(os.devnull)

    def save() -> None:
        state = pace.state()
        from_first(
            lambda: save_checkpoint(checkpoint, modules=kept, optimizer=optimizer, pace=state, identity=identity)
        )

    pace.begin()
    began = saved_at = time.monotonic()
    with (
        progress(title, pace.expected, unit="steps", start=first) as update,
        metrics.open("a", encoding="utf-8") as log,
        _interruptible() as interrupted,
        synchronised(module),
        computing(module, precision),
    ):
        while not pace.finished and not (enough is not None and enough(pace.done, pace.share)):
            step = pace.done
            factor = rate_at(pace.share)
            for group, top in zip(optimizer.param_groups, top_rates, strict=True):
                group["lr"] = top * factor
            wrapped_optimizer.zero_grad()
            value, figures = _gradients(fabric, wrapped, batch_at, step=step, accumulate=accumulate)
            norm = gradient_norm(module)
            _check_finite(folder, step, way_on, loss=value, gradient=norm)
            wrapped_optimizer.step()
            if averaged is not None:
                averaged.update_parameters(module)
            pace.step()
            done = pace.done
            checked = after_step(done, pace.share) if after_step else {}
            figures = {"loss": value, "grad_norm": float(f"{norm:.4g}")} | figures | checked
            speed = (done - first) * batch_size / (time.monotonic() - began)
            if done % METRICS_EVERY == 0 or checked or pace.finished:
                line = {"step": done, "lr": optimizer.param_groups[0]["lr"], "images_per_s": round(speed, 1)}
                log.write(json.dumps(line | figures) + "\n")
                log.flush()
            update(done, total=pace.expected, loss=f"{value:.3f}", **{"images/s": f"{speed:.0f}"})
            late = time.monotonic() - saved_at > CHECKPOINT_EVERY_S
            stop, due = any_of(interrupted.is_set(), late, device=fabric.device)
            if stop and not pace.finished:
                save()
                raise Stopped(
                    f"{title}: stopped at step {done:,} of {pace.expected:,}; saved in {folder}", again=("--resume",)
                )
            if due:
                save()
                saved_at = time.monotonic()
        if enough is not None and pace.finished:
            enough(pace.done, pace.share)
    save()


def gradient_norm(module: nn.Module) -> float:
    """Euclidean length of the gradient of all parameters together."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def _gradients(
    fabric: Fabric, wrapped: nn.Module, batch_at: BatchAt, *, step: int, accumulate: int
) -> tuple[float, dict[str, float]]:
    """Compute the parts of a step's batch one after another; the mean loss over all processes, and mean figures."""
    value, said = 0.0, list[dict[str, float]]()
    for part in range(step * accumulate, (step + 1) * accumulate):
        batch = batch_at(part, fabric.device)
        torch.manual_seed(part + (rank() << 40))  # for dropout, so that a resumed run draws the same
        with fabric.no_backward_sync(wrapped, enabled=part + 1 < (step + 1) * accumulate):
            loss, figures = wrapped(*batch)
            fabric.backward(loss / accumulate)
        value += loss.item() / accumulate
        said.append(figures)
    return mean_of(value, fabric.device), {key: sum(each[key] for each in said) / len(said) for key in said[0]}


def _is_everywhere(checkpoint: Path, device: torch.device) -> bool:
    """Whether there is a checkpoint to go on from.

    Raises:
        RunError: some processes see it and others do not.
    """
    there = checkpoint.is_dir()
    if all(any_of(there, not there, device=device)):
        raise RunError(f"{checkpoint}: is not on every machine; --out must be on a disk that all of them share")
    return there


def _check_finite(folder: Path, step: int, way_on: Callable[[], str], **numbers: float) -> None:
    for name, number in numbers.items():
        if not math.isfinite(number):
            kept = "; the checkpoint before it is kept" if (folder / CHECKPOINT).is_dir() else ""
            raise RunError(
                f"{folder}: the {name} became {number} at step {step:,}{kept}; {way_on()}, and look for blank scans in "
                "the dataset's report"
            )


def _cut_metrics(path: Path, *, after: int) -> Path:
    """Drop the lines that a resumed run will write again, and a last line cut short by a kill."""
    kept: list[str] = []
    if path.is_file() and after:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= after:
                    kept.append(line)
            except ValueError:
                break
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    return path


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into a flag, so that a step is finished before saving; twice stops at once."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    first = 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if flag.is_set() and time.monotonic() - first > TWICE_S:
            for each, handler in before.items():
                signal.signal(each, handler)
            signal.raise_signal(number)
        elif not flag.is_set():
            first = time.monotonic()
            flag.set()

    try:
        for number in before:
            signal.signal(number, note)
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
