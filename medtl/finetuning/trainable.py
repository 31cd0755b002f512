"""What a strategy lets gradients change, at which learning rates, and when."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from medtl.encoders.depth import keep_statistics, stages_of
from medtl.finetuning.adapters import Adapter, add_adapters
from medtl.finetuning.strategies import Strategy
from medtl.inference.bundle import Classifier

NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
ALL_JOINED = 0.5
"""Gradual unfreezing: the share of the run after which every stage takes part."""


def prepare(classifier: Classifier, strategy: Strategy, *, lr: float) -> list[dict[str, Any]]:
    """Set free what the strategy trains, and nothing else.

    Returns:
        The parameter groups for the optimizer: the encoder's stages from first to last, then the head.
    """
    encoder = classifier.encoder
    if strategy.head_first:
        freeze_norm(encoder)
    if strategy.trains == "adapters":
        add_adapters(encoder)
    free = None if strategy.trains == "all" else _small_parts(encoder, adapters=strategy.trains == "adapters")
    for parameter in encoder.parameters():
        parameter.requires_grad = free is None or id(parameter) in free
    head = {"params": list(classifier.head.parameters()), "lr": lr}
    if strategy.lowest_rate == 1:
        return [{"params": [p for p in encoder.parameters() if p.requires_grad], "lr": lr}, head]
    stages = stages_of(encoder)
    rates = layer_rates(len(stages), lowest=strategy.lowest_rate)
    return [*({"params": s.parameters, "lr": lr * rate} for s, rate in zip(stages, rates, strict=True)), head]


def layer_rates(n_stages: int, *, lowest: float) -> list[float]:
    """Each stage's learning rate as a share of the head's, first stage first (Bao 2021, arXiv 2106.08254, appendix A).

    A constant factor lies between neighbours, as in the paper; it is chosen so that the first stage has `lowest`,
    however many stages the network is made of.
    """
    return [lowest ** ((n_stages - i) / n_stages) for i in range(n_stages)]


def unfreezing(classifier: Classifier, strategy: Strategy) -> Callable[[float], None]:
    """What is to be called with the share of the run that is done, before each step.

    Gradual unfreezing (Howard & Ruder 2018, arXiv 1801.06146, sec. 3.3): the head and the last stage begin, the others
    join at even distances until `ALL_JOINED`.
    """
    if not strategy.gradual:
        return lambda share: None
    stages = stages_of(classifier.encoder)

    def until(share: float) -> None:
        for stage in stages[-joined(len(stages), share) :]:
            for parameter in stage.parameters:
                parameter.requires_grad = True

    for stage in stages:
        for parameter in stage.parameters:
            parameter.requires_grad = False
    return until


def joined(n_stages: int, share: float) -> int:
    """How many stages, counted from the last, take part when this share of the run is done."""
    return min(n_stages, 1 + int(share / ALL_JOINED * (n_stages - 1) + 1e-9))


def freeze_norm(encoder: nn.Module) -> None:
    """Keep the normalisation statistics of pretraining: few labels cannot estimate them anew."""
    for module in encoder.modules():
        keep_statistics(module)


def _small_parts(encoder: nn.Module, *, adapters: bool) -> set[int]:
    """Normalisation's scale and shift, and adapters or else all biases, by identity."""
    return {
        id(parameter)
        for module in encoder.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, (*NORMS, Adapter) if adapters else NORMS) or (name.endswith("bias") and not adapters)
    }
