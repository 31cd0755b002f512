"""Batch normalisation over the scans of all processes; torch's own SyncBatchNorm needs GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from medtl.training.together import gathered, processes


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps), with the gradient through mean and var of the whole batch (Ioffe & Szegedy 2015,
    arXiv 1502.03167, sec. 3)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, inverse: Tensor, count: float) -> Tensor:
        out = (x - mean) * inverse
        ctx.save_for_backward(out, inverse)
        ctx.count = count
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        out, inverse = ctx.saved_tensors
        gradient = gradients[0]
        axes = [0, *range(2, out.ndim)]
        sums = torch.stack([gradient.sum(axes), (gradient * out).sum(axes)])  # (2, C)
        dist.all_reduce(sums)
        plain, along = (sums / ctx.count).reshape(2, *inverse.shape)
        return (gradient - plain - out * along) * inverse, None, None, None


class Synchronised(_BatchNorm):
    """What a BatchNorm1d, 2d or 3d becomes while several processes train it: in training mode its statistics, and the
    running ones, are those of one process with the whole batch."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.to(self.running_mean.dtype if self.running_mean is not None else torch.float32)
        axes = [0, *range(2, x.ndim)]
        with torch.no_grad():
            var, mean = torch.var_mean(x, axes, correction=0)
            counted = mean.new_tensor([x.numel() / x.shape[1]])
            theirs = gathered(torch.cat([mean, var, counted])[None])  # (processes, 2C + 1)
            means, variances, counts = torch.split(theirs, [len(mean), len(mean), 1], dim=1)
            count = float(counts.sum())
            share = counts / count
            mean = (share * means).sum(dim=0)
            var = (share * (variances + (means - mean).square())).sum(dim=0)  # Chan 1979, eq. 2.1
            self._follow(mean, var * (count / (count - 1)))
        shape = [1, -1] + [1] * (x.ndim - 2)
        inverse = (var + self.eps).rsqrt()
        out: Tensor = _Normalise.apply(x, mean.reshape(shape), inverse.reshape(shape), count)  # type: ignore[no-untyped-call]
        if self.affine:
            out = torch.addcmul(self.bias.reshape(shape), out, self.weight.reshape(shape))
        return out.to(input.dtype)

    def _follow(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics, as BatchNorm does."""
        if not self.track_running_stats:
            return
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(var, weight)


@contextmanager
def synchronised(module: nn.Module) -> Iterator[None]:
    """Every BatchNorm of a module counts the scans of all processes, for the while.

    The norms stay the objects that they are, with their parameters, hooks and keys: optimizers and checkpoints notice
    nothing. Norms in evaluation mode (frozen ones) keep to themselves.
    """
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)] if processes() > 1 else []
    before = [norm.__class__ for norm in norms]
    try:
        for norm in norms:
            norm.__class__ = Synchronised
        yield
    finally:
        for norm, own in zip(norms, before, strict=True):
            norm.__class__ = own
