"""Several processes that train one network: what they must bring together."""

import torch
from torch import Tensor
from torch import distributed as dist


def processes() -> int:
    """How many processes share the work; 1 where training was not started by torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def gathered(mine: Tensor) -> Tensor:
    """The rows of all processes, in their order; gradients flow back to the process that a row came from.

    A loss computed from gathered rows is the same on every process. Its gradient, averaged over processes as DDP
    does, is that of one process with the whole batch.
    """
    if processes() == 1:
        return mine
    if not mine.requires_grad:
        parts = [torch.empty_like(mine) for _ in range(processes())]
        dist.all_gather(parts, mine.contiguous())
        return torch.cat(parts)
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(mine.contiguous()))  # type: ignore[no-untyped-call]


def from_first(value: float) -> float:
    """The first process's number, on all of them."""
    if processes() == 1:
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(shared, src=0)
    return float(shared)
