"""The order of an encoder's parts from its input to its embedding."""

from dataclasses import dataclass
from itertools import groupby

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from medtl.encoders.table import Encoder


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of an encoder.

    Args:
        name: what its modules have in common, such as `layer1`.
        modules: those that hold parameters, in the order in which a scan meets them.
    """

    name: str
    modules: tuple[nn.Module, ...]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that can be learned in it."""
        return [parameter for module in self.modules for parameter in module.parameters(recurse=False)]


def stages_of(encoder: Encoder) -> tuple[Stage, ...]:
    """The encoder in stages, the first the nearest to the scan.

    The order is that in which a forward pass meets the modules: not all networks define them in that order. A stage
    is a numbered block of the network (`layer1`, `_blocks.3`, `features.denseblock2`); what lies between two
    blocks, before the first and after the last is a stage of its own.
    """
    names = {module: name for name, module in encoder.net.named_modules() if [*module.parameters(recurse=False)]}
    met: dict[nn.Module, None] = {}
    hooks = [module.register_forward_pre_hook(lambda module, _: met.setdefault(module)) for module in names]
    training, like = encoder.training, next(encoder.parameters())
    encoder.eval()
    try:
        with torch.no_grad():
            encoder(like.new_zeros(1, encoder.channels, *[encoder.input_px] * encoder.dims))
    finally:
        for hook in hooks:
            hook.remove()
        encoder.train(training)
    parts = groupby(met, key=lambda module: _block(names[module]))
    blocks = [(block, tuple(modules)) for block, modules in parts]
    return tuple(Stage(name=block or names[modules[0]], modules=modules) for block, modules in blocks)


def freeze_first(encoder: Encoder, share: float) -> None:
    """Keep the weights and normalisation statistics of the first stages, a share of all, as they are."""
    stages = stages_of(encoder)
    for stage in stages[: int(share * len(stages))]:
        for parameter in stage.parameters:
            parameter.requires_grad = False
        for module in stage.modules:
            keep_statistics(module)


def keep_statistics(module: nn.Module) -> None:
    """Hold a batch normalisation in evaluation mode, whatever is called on the network around it."""
    if isinstance(module, _BatchNorm):
        module.eval()
        module.train = lambda mode=True, module=module: module  # type: ignore[method-assign,misc]


def _block(name: str) -> str:
    """Up to the first numbered part of a module's name that holds others; empty where there is none."""
    parts = name.split(".")
    ends = [i for i, part in enumerate(parts[:-1]) if part[-1].isdigit()]
    return ".".join(parts[: ends[0] + 1]) if ends else ""
