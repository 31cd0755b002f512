"""Several processes that train one network: how they find each other, and what they must bring together."""

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from medtl import torchrun
from medtl.errors import ConfigError, MedtlError, RunError

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others; longer than whatever one does alone (a checkpoint, a health check)."""
_BUFFERS = (  # torch 2.13 renamed it
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)
T = TypeVar("T")


def connect() -> Fabric:
    """The GPU where there is one, else the CPU; with the other processes where torchrun started several.

    Raises:
        ConfigError: more processes on this machine than it has GPUs.
    """
    if torchrun.count() == 1:
        return Fabric(accelerator="auto", devices=1)
    from lightning_fabric.plugins.environments import TorchElasticEnvironment
    from lightning_fabric.strategies import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces each process
    here = torchrun.on_this_machine()
    if torch.cuda.is_available() and torch.cuda.device_count() < here:
        raise ConfigError(
            f"torchrun started {here} processes on this machine, which has {torch.cuda.device_count()} GPUs; "
            f"use --nproc-per-node {torch.cuda.device_count()}"
        )
    fabric = Fabric(
        accelerator="auto",
        devices=here,
        num_nodes=torchrun.count() // here,
        # Buffers are the same everywhere (norms are synchronised, queues gathered) and need not be sent each step.
        strategy=DDPStrategy(
            cluster_environment=TorchElasticEnvironment(),
            timeout=TIMEOUT,
            find_unused_parameters=True,
            **{_BUFFERS: False},
        ),
    )
    fabric.launch()
    return fabric


def processes() -> int:
    """How many processes share the work; 1 where training was not started by torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def part_of(batch: int) -> slice | None:
    """The scans of a batch that this process holds; None is all.

    Args:
        batch: scans in the whole batch, a multiple of the number of processes.
    """
    mine = batch // processes()
    return slice(rank() * mine, (rank() + 1) * mine) if processes() > 1 else None


def check_shares(batch_size: int, *, accumulate: int) -> None:
    """Losses that are means over scans need parts of one size.

    Raises:
        ConfigError: the batch cannot be divided so.
    """
    shares = processes() * accumulate
    if (rest := batch_size % shares) or not batch_size:
        near = " or ".join(str(size) for size in (batch_size - rest, batch_size - rest + shares) if size)
        raise ConfigError(
            f"batch_size {batch_size} cannot be divided equally among processes ({processes()}) and parts "
            f"(accumulate: {accumulate}); take {near}, or another number of processes"
        )


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        parts = [torch.empty_like(mine) for _ in range(processes())]
        dist.all_gather(parts, mine)
        ctx.rows = len(mine)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def gathered(mine: Tensor) -> Tensor:
    """The rows of all processes, in their order; gradients flow back to the process that a row came from.

    A loss computed from gathered rows is the same on every process. Its gradient, averaged over processes as DDP
    does, is that of one process with the whole batch.
    """
    if processes() == 1:
        return mine
    rows: Tensor = _Gather.apply(mine.contiguous())  # type: ignore[no-untyped-call]
    return rows


def mean_of(value: float, device: torch.device) -> float:
    """The mean of the processes' values."""
    if processes() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return float(total) / processes()


def any_of(*flags: bool, device: torch.device) -> tuple[bool, ...]:
    """For each flag whether it is set in any process."""
    if processes() == 1:
        return flags
    counts = torch.tensor(flags, dtype=torch.int64, device=device)
    dist.all_reduce(counts)
    return tuple(bool(count) for count in counts.tolist())


def from_first(make: Callable[[], T]) -> T:
    """What process 0 makes, for all of them; they wait for it, and its error is everyone's."""
    if processes() == 1:
        return make()
    box: list[Any] = [None, None]
    if rank() == 0:
        try:
            box[0] = make()
        except (MedtlError, OSError) as problem:
            box[1] = problem
    dist.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    made: T = box[0]
    return made


LOST = ("closed by peer", "reset by peer", "broken pipe", "timed out", "timeout", "connection refused", "socket")


@contextmanager
def naming_lost_processes() -> Iterator[None]:
    """Say it in one line where another process has ended or stopped answering.

    Raises:
        RunError: then.
    """
    try:
        yield
    except RuntimeError as problem:  # gloo raises no narrower one
        if processes() == 1 or not any(word in str(problem).lower() for word in LOST):
            raise
        raise RunError(
            "another process has ended or stopped answering; if it says why, that is the cause. The last checkpoint "
            "is kept: go on with --resume, with this or another number of processes"
        ) from problem
