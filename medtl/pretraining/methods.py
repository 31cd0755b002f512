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
    network: str | None = None
    """The encoder that is taken when nobody chooses; None is the small default."""
    grows: bool = True
    """Whether it can learn from scans whose side grows over the run; parts made for one side cannot."""
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
    "moco": Method(
        title="MoCo v2",
        paper="He 2020, arXiv 1911.05722; Chen 2020, arXiv 2003.04297",
        where="moco:MoCo",
        family="contrast",
        cost=1.4,
        when="contrast where memory allows small batches only: its negatives come from a queue",
    ),
    "byol": Method(
        title="BYOL",
        paper="Grill 2020, arXiv 2006.07733",
        where="byol:BYOL",
        family="self-distillation",
        cost=1.45,
        when="no negatives, for scans that resemble each other; wants long runs",
    ),
    "simsiam": Method(
        title="SimSiam",
        paper="Chen & He 2021, arXiv 2011.10566",
        where="simsiam:SimSiam",
        family="self-distillation",
        cost=1.05,
        when="as BYOL with less memory and small batches; watch for collapse",
    ),
    "dino": Method(
        title="DINO",
        paper="Caron 2021, arXiv 2104.14294",
        where="dino:DINO",
        family="self-distillation",
        cost=2.1,
        when="many scans and long runs; slow to learn from some thousand scans in minutes",
    ),
    "barlow": Method(
        title="Barlow Twins",
        paper="Zbontar 2021, arXiv 2103.03230",
        where="barlow:BarlowTwins",
        family="redundancy reduction",
        cost=1.1,
        when="no negatives and no second network; wants long runs",
    ),
    "vicreg": Method(
        title="VICReg",
        paper="Bardes 2022, arXiv 2105.04906",
        where="vicreg:VICReg",
        family="redundancy reduction",
        cost=1.15,
        when="as Barlow Twins, with collapse ruled out term by term",
    ),
    "spark": Method(
        title="SparK",
        paper="Tian 2023, arXiv 2301.03580",
        grows=False,
        where="spark:SparK",
        family="masking",
        cost=1.0,
        when="convolutions: few labels, lesions that are small or local; any batch size",
    ),
    "mae": Method(
        title="MAE",
        paper="He 2022, arXiv 2111.06377",
        grows=False,
        where="mae:MAE",
        family="masking",
        cost=1.3,
        when="vision transformers; long runs on many scans; for convolutions there is spark",
        network="vit-tiny",
    ),
    "genesis": Method(
        title="Models Genesis",
        paper="Zhou 2021, arXiv 2004.07882",
        grows=False,
        where="genesis:Genesis",
        family="restoration",
        cost=0.8,
        when="volumes; any network and batch size; what a scan looks like, not which scan it is",
    ),
    "voco": Method(
        title="VoCo",
        paper="Wu 2024, arXiv 2402.17300",
        grows=False,
        where="voco:VoCo",
        family="position",
        when="volumes of one body region; images only where all show one part in one pose",
    ),
}


def methods() -> Mapping[str, Method]:
    """The table of pretraining methods, by the names that `pretrain` takes."""
    return METHODS


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
        ConfigError: an unknown name, one that is there twice, or none where one should be.
    """
    names = [name.strip() for name in text.split("+")]
    if "" in names:
        raise ConfigError(
            f"method '{text}' lacks a name{' beside +' * ('+' in text)}; choose from: {', '.join(METHODS)}"
        )
    if len(set(names)) < len(names):
        raise ConfigError(f"method '{text}' names one objective twice; use its weight instead")
    return {name: find_method(name) for name in names}


def network_for(text: str) -> str | None:
    """The encoder that `--method` wants where nobody chooses; None is the small default."""
    return next((row.network for row in methods_of(text).values() if row.network), None)
