"""What test_several.py does once in its own process and once in two that torchrun starts."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medtl.data.preprocess import PreprocessSpec
from medtl.encoders.table import build_encoder
from medtl.errors import MedtlError, RunError, Stopped
from medtl.pretraining.batch import view_batches
from medtl.pretraining.methods import METHODS, network_for
from medtl.pretraining.objectives.weighted import build_weighted
from medtl.pretraining.sampling import Sampler
from medtl.pretraining.views_config import ViewsConfig
from medtl.training import loop, norm
from medtl.training.pace import Pace
from medtl.training.schedules import warmup_cosine
from medtl.training.together import connect, from_first, gathered, naming_lost_processes, part_of, processes, rank

SIDE, SCANS, BATCH = 16, 48, 16
LR = 1e-4
"""Small, so that two steps do not blow up what is only rounding."""
SMALL = ["precision=32", "input_px=16", "network=resnet10-half"]
EQUAL = [name for name, method in METHODS.items() if method.several_differ is None]


class Pixels:
    """Stored scans of noise, in place of a dataset."""

    def __init__(self, dims: int) -> None:
        shape = (SCANS, 1, *[SIDE] * dims)
        self._pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        return self._pixels[rows]


def learn(
    folder: Path, method: str, *, steps: int = 2, adam: bool = False, accumulate: int = 1, resume: bool = False,
    after: Callable[[int], None] = lambda done: None,
) -> Path:  # fmt: skip
    """Some steps of a method with a small real network; leaves its checkpoint in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    connect()
    dims = METHODS[method.split("+")[0]].dims[0]
    torch.manual_seed(0)
    module, _ = build_weighted(
        method, {}, {}, build_encoder(network_for(method) or "resnet10-half", input_px=SIDE, dims=dims)
    )
    spec = PreprocessSpec(dims=dims, size_px=SIDE, spacing_mm=1.0 if dims == 3 else None, input_px=SIDE)
    # Every second patient has two scans.
    manifest = pd.DataFrame({"patient_id": [f"p{i - (i % 4 == 1)}" for i in range(SCANS)]})
    size = BATCH // accumulate
    sampler = Sampler(
        manifest, np.arange(SCANS), copies=np.zeros((0, 2), np.int64), pairs="scan", batch_size=size, seed=0
    )
    batch_at = view_batches(
        Pixels(dims), sampler, spec, ViewsConfig(), n_views=module.n_views, n_crops=module.n_crops, seed=0,
        part=part_of(size),
    )  # fmt: skip

    def after_step(done: int, share: float) -> dict[str, float]:
        module.after_step(share)
        after(done)
        return {}

    # Plain SGD by default: Adam divides by the gradient's size, and so makes steps of the rounding where it is zero.
    optimizer = torch.optim.AdamW(module.parameters(), 1e-3) if adam else torch.optim.SGD(module.parameters(), LR)
    if not resume:
        start = {key: value.contiguous().clone() for key, value in module.state_dict().items()}
        save_file(start, folder / "start.safetensors")
    loop.train(
        title=method, module=module, optimizer=optimizer, batch_at=batch_at, rate_at=warmup_cosine,
        pace=Pace(steps=steps), batch_size=BATCH, folder=folder, identity={}, resume=resume,
        accumulate=accumulate, after_step=after_step,
    )  # fmt: skip
    return folder / "checkpoint/module.safetensors"


def interrupt_at(step: int, *, by: int = 0) -> Callable[[int], None]:
    """Ctrl-C in one of the processes, after a step."""

    def after(done: int) -> None:
        if done == step and rank() == by:
            os.kill(os.getpid(), signal.SIGINT)

    return after


def normalised(folder: Path) -> None:
    """A batch norm's output, gradients and buffers for this process's rows of a batch, brought together."""
    for dims in (1, 2, 3):
        own, x, weights = norm_case(dims)
        mine = x[part_of(len(x))].requires_grad_()
        with norm.synchronised(own):
            assert type(own) is norm.Synchronised
            out = own(mine)
            assert own.eval()(mine).grad_fn is not None  # in evaluation mode nothing is asked of the others
        assert type(own) is getattr(nn, f"BatchNorm{dims}d")
        (out * weights[part_of(len(x))]).sum().backward()
        found = {"out": gathered(out.detach()), "x": gathered(mine.grad)} | own.state_dict()
        found |= {f"grad.{name}": gathered(p.grad[None]).sum(dim=0) for name, p in own.named_parameters()}
        if rank() == 0:
            save_file({key: value.contiguous() for key, value in found.items()}, folder / f"norm{dims}.safetensors")


def norm_case(dims: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A batch norm, (8, 3, ...) values far from zero, and what to multiply its output by for a gradient."""
    g = torch.Generator().manual_seed(dims)
    own = getattr(nn, f"BatchNorm{dims}d")(3)
    nn.init.uniform_(own.weight, 0.5, 2, generator=g)
    nn.init.uniform_(own.bias, -1, 1, generator=g)
    shape = (8, 3, *([4] * dims if dims > 1 else []))
    return own, torch.randn(shape, generator=g) * 3 + 20, torch.randn(shape, generator=g)


def main(folder: Path, dataset: Path) -> None:
    """Everything that needs two processes."""
    import medtl

    connect()
    assert processes() == 2
    normalised(folder)
    for name in EQUAL:
        learn(folder / "two" / name, name)
    learn(folder / "two/accumulated", "simclr", accumulate=2)
    plain, loop.synchronised = loop.synchronised, lambda module: nullcontext()
    learn(folder / "two/unsynchronised", "simclr")
    loop.synchronised = plain
    try:
        learn(folder / "parts", "simclr", steps=6, adam=True, resume=True, after=interrupt_at(4, by=1))
    except Stopped as stopped:
        (folder / f"stopped{rank()}.txt").write_text(str(stopped))
    for asked, title in ([["batch_size=11"], "uneven"], [["steps=4", "batch_size=10", "minutes=1"], "whole"]):
        try:
            medtl.pretrain(dataset, out=folder / title, settings=[*SMALL, *asked])
        except MedtlError as problem:
            (folder / f"{title}{rank()}.txt").write_text(str(problem))
    assert from_first(rank) == 0
    # By the clock: the first process alone looks at health, and the others must not go on without it.
    medtl.pretrain(dataset, out=folder / "timed", minutes=0.05, settings=[*SMALL, "batch_size=8"])
    (folder / f"timed{rank()}.txt").write_text("done")

    def broken(done: int) -> None:
        if rank() == 1:
            raise RunError("scan 7 is broken")

    with naming_lost_processes():
        learn(folder / "broken", "simclr", after=broken)


if __name__ == "__main__":
    from medtl import cli

    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except MedtlError as problem:
        cli._end(str(problem), 2)
