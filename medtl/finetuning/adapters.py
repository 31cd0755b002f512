"""Parallel residual adapters: small layers beside the frozen ones, which become part of them after training."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

RANK = 8
"""Channels in the middle of an adapter."""
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


class Adapter(nn.Module):
    """Adds to a layer's weight that of a narrow layer beside it: y = W x + B A x.

    Rebuffi 2018, arXiv 1803.10082, sec. 3.1: beside a convolution stands one of a single place, which is the same as a
    change of the place in the middle of its kernel. Departure: it is of rank `RANK`, as in Hu 2021, arXiv 2106.09685,
    sec. 4.1, because most convolutions of small networks have a single place already. B begins at zero, so that the
    layer begins as it was.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        outputs, inputs = weight.shape[:2]
        self.down = nn.Parameter(weight.new_empty(RANK, inputs))
        self.up = nn.Parameter(weight.new_zeros(outputs, RANK))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """(O, I, ...) -> (O, I, ...)."""
        pads = [places for side in weight.shape[:1:-1] for places in (side // 2, side - side // 2 - 1)]
        added = (self.up @ self.down).reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
        return weight + torch.empty_like(weight).copy_(F.pad(added, pads))  # in the weight's memory layout


def add_adapters(encoder: nn.Module) -> None:
    """Put an adapter beside every linear layer and every convolution that mixes channels."""
    for module in list(encoder.modules()):
        mixes = isinstance(module, CONVOLUTIONS) and module.groups == 1
        if mixes or isinstance(module, nn.Linear):
            weight = module.weight
            assert isinstance(weight, Tensor)
            parametrize.register_parametrization(module, "weight", Adapter(weight))


def merge_adapters(encoder: nn.Module) -> None:
    """Make each adapter part of its layer's weight; what the network computes stays the same."""
    for module in list(encoder.modules()):
        if parametrize.is_parametrized(module, "weight"):
            # torch's own `remove_parametrizations` takes the weight from the class, which copies of the layer share.
            weight = module.weight
            assert isinstance(weight, Tensor)
            del module.parametrizations
            module.__class__ = type(module).__bases__[0]
            module.weight = nn.Parameter(weight.detach().clone())
