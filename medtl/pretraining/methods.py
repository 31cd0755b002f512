"""The table of pretraining methods. It loads no torch, so that `medtl methods` and errors answer at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from medtl.config import closest
from medtl.errors import ConfigError

if TYPE_CHECKING:
    from medtl.pretraining.objectives import Objective


@dataclass(frozen=True, kw_only=True)
class Method:
    """One line of the table."""

    title: str
    """The objective's name in the field."""
    paper: str
    """Where it was published."""
    where: str
    """`module:Class` below `medtl.pretraining.objectives`."""
    family: str
    """What it learns from: contrast, self-distillation, redundancy reduction, masking, restoration, position."""
    dims: tuple[int, ...] = (2, 3)
    """2 for images, 3 for volumes."""
    cost: float = 1.0
    """Time of a step as a multiple of SimCLR's; measured by benchmarks/pretrain.py."""
    when: str
    """When to choose it, in a few words."""
    several_differ: str | None = None
    """Why several processes do not learn from a batch what one does; None where they do, which a test then holds it
    to."""

    def load(self) -> "type[Objective]":
        """The objective's class."""
        module, _, name = self.where.partition(":")
        found: type[Objective] = getattr(import_module(f"medtl.pretraining.objectives.{module}"), name)
        return found


METHODS: Mapping[str, Method] = {
    "simclr": Method(
        title="SimCLR",
        paper="Chen 2020, arXiv 2002.05709",
        where="simclr:SimCLR",
        family="contrast",
        when="the default for classification; wants batches of 128 and more",
    ),
}


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigError: with the nearest name or the list.
    """
    if name not in METHODS:
        raise ConfigError(f"unknown method '{name}'{closest(name, list(METHODS))}")
    return METHODS[name]


def methods_of(text: str) -> dict[str, Method]:
    """The methods that `--method` names: one, or several joined by + that are learned together.

    Raises:
        ConfigError: an unknown name, or one that is there twice.
    """
    names = [name.strip() for name in text.split("+")]
    if len(set(names)) < len(names):
        raise ConfigError(f"method '{text}' names one objective twice; use its weight instead")
    return {name: find_method(name) for name in names}
