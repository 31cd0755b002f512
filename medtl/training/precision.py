"""Which precision to compute in: bfloat16 where it is measured to pay, float32 elsewhere."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medtl.encoders.table import Encoder
from medtl.progress import say
from medtl.training.together import connect, from_first

Precision = Literal["auto", "32", "bf16"]
PAYS = 1.2
"""bfloat16 is taken when a step is this many times as fast; less is not worth its rounding."""
ROUNDS = 4
LOSS_AGREES = 0.02
"""The two losses of one batch may differ by this share."""
WORTH_S = 60.0
"""Runs that are shorter compute in float32: little is to be gained, and the same run should give the same weights."""
PROBE_S = 2.0
PROBE_SHARE = 0.01
"""Measuring takes no longer than PROBE_S seconds or this share of the run, whichever is more."""


@contextmanager
def computing(module: nn.Module, precision: Precision) -> Iterator[None]:
    """In bf16, the encoders in a module compute so for the while.

    Heads and losses, which cost little and where rounding hurts (similarities, covariances), stay in float32, as do
    weights, optimizer and normalisation statistics.
    """
    nets = [encoder.net for encoder in module.modules() if isinstance(encoder, Encoder)] if precision == "bf16" else []
    for net in nets:
        net.forward = _half(net.forward)
    try:
        yield
    finally:
        for net in nets:
            del net.forward


def _half(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def computed(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            out = forward(x)
        return out.float()

    return computed


def choose_precision(
    asked: Precision,
    module: nn.Module,
    batch_at: Callable[[int, torch.device], tuple[Any, ...]],
    *,
    steps: int | None,
    seconds: float,
) -> Precision:
    """What was asked for; of "auto", the better of the two by measurement with this module and batch on this machine.

    Args:
        steps: how many steps the run has, where that is known.
        seconds: how long it lasts, where it is not.
    """
    if asked != "auto":
        return asked
    if steps is None and seconds < WORTH_S:
        return "32"
    device = connect().device
    trial = copy.deepcopy(module).to(device)

    def step(precision: Precision) -> tuple[float, float]:
        """Seconds and loss of one forward and backward pass. Process 0's count: all must decide alike."""
        batch = batch_at(0, device)  # anew, as an objective uses up its random numbers
        torch.manual_seed(0)
        began = time.perf_counter()
        with computing(trial, precision):
            loss, _ = trial(*batch)
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took = time.perf_counter() - began
        trial.zero_grad()
        value = loss.item()
        return from_first(lambda: (took, value))

    first, plain_loss = step("32")  # the first of each warms up
    lasts = steps * first if steps else seconds
    if lasts < WORTH_S:
        return "32"
    allowed = max(PROBE_S, PROBE_SHARE * lasts)
    if 2 * (1 + ROUNDS) * first > allowed:
        say("precision: 32; measuring bf16 would take too long, ask for it with --set precision=bf16")
        return "32"
    other, half_loss = step("bf16")
    if first + other + ROUNDS * (first + other) > allowed:  # bf16 is emulated
        return _said("32", first / other)
    times = [(step("32")[0], step("bf16")[0]) for _ in range(ROUNDS)]
    ratio = min(plain for plain, _ in times) / min(half for _, half in times)
    agrees = math.isclose(plain_loss, half_loss, rel_tol=LOSS_AGREES, abs_tol=1e-3)
    return _said("bf16" if ratio >= PAYS and agrees else "32", ratio)


def _said(chosen: Precision, ratio: float) -> Precision:
    say(f"precision: {chosen}; a step in bf16 is {ratio:.2f} times as fast as in float32 here")
    return chosen
