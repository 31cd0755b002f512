"""From a time budget to a network, a resolution and a batch that this machine can do something with in that time."""

import copy
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from medtl.data.dataset import Dataset
from medtl.encoders.depth import freeze_first
from medtl.encoders.store import default_start, learned_elsewhere
from medtl.encoders.table import IMAGENET_ENCODER, SMALL_ENCODER, SMALL_VOLUME_ENCODER, build_encoder, find
from medtl.pretraining.batch import Views, view_batches
from medtl.pretraining.config import PretrainConfig
from medtl.pretraining.methods import network_for
from medtl.pretraining.objectives.weighted import build_weighted
from medtl.pretraining.sampling import Sampler
from medtl.progress import clock, say
from medtl.training.batches import Rows
from medtl.training.precision import Precision, computing
from medtl.training.together import check_shares, connect, from_first, processes

DEFAULT_BATCH = {2: 128, 3: 32}
"""Scans a step, of images and of volumes."""
PASSES = 200
"""How often a run should see each scan, if there are few of them, ..."""
FEWEST, MOST = 40_000, 1_500_000
"""... but no fewer and no more scans than this in all."""
CONTINUED_PASSES, CONTINUED_FEWEST = 40, 10_000
"""The same for weights that learned elsewhere, which have less to learn."""
FROZEN = 0.4
"""The share of the stages that such weights keep as they are."""
TRIED = 32
"""Scans in a step that is timed."""
TIMED = 3
"""Steps that are timed, after a first one, which is slow."""
TRY_SHARE = 0.04
"""Of the budget, what measuring may cost."""

# From the quickest to the dearest; each costs two to five times the one before.
IMAGES = ((SMALL_ENCODER, 64), (SMALL_ENCODER, 96), ("resnet18", 128), ("resnet50", 224))
VOLUMES = ((SMALL_VOLUME_ENCODER, 48), (SMALL_ENCODER, 48), ("resnet18", 64), ("resnet18", 96))
FROM_IMAGENET = {2: ((IMAGENET_ENCODER, 96), (IMAGENET_ENCODER, 128), (IMAGENET_ENCODER, 224)),
                 3: ((IMAGENET_ENCODER, 48), (IMAGENET_ENCODER, 64))}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a step of training costs.

    Args:
        network: a name of the encoder table.
        input_px: side of its input in pixels.
        scans_per_s: how fast this machine trains it.
    """

    network: str
    input_px: int
    scans_per_s: float


def candidates(
    origin: str, *, dims: int, size_px: int, network: str | None, input_px: int | None
) -> list[tuple[str, int]]:
    """Networks and input sides to choose from, the quickest first; what the user has said is kept.

    Args:
        size_px: side of the stored scans: more pixels than that are not offered.
    """
    offered: Sequence[tuple[str, int]] = (
        FROM_IMAGENET[dims] if origin == "imagenet" else IMAGES if dims == 2 else VOLUMES
    )
    if network is not None:
        offered = [(network, side) for _, side in offered]
    if input_px is not None:
        return list(dict.fromkeys((name, input_px) for name, _ in offered))
    fitting = [(name, max(min(side, size_px), find(name).least_px(dims))) for name, side in offered]
    return list(dict.fromkeys(fitting))


def with_start(plan: PretrainConfig, *, dims: int) -> PretrainConfig:
    """Fill in the start and what depends on it, where the user has left it open."""
    origin = plan.from_ or default_start(
        dims=dims, network=plan.network or network_for(plan.method), input_px=plan.input_px
    )
    elsewhere = learned_elsewhere(origin)
    chosen = {
        "from_": origin,
        "lr": plan.lr or (1e-3 if origin == "random" else 3e-4),
        "frozen": plan.frozen if plan.frozen is not None else FROZEN * elsewhere,
        "batch_size": plan.batch_size or DEFAULT_BATCH[dims] // (2 if elsewhere else 1),
    }
    return plan.model_copy(update=chosen)


def scans_wanted(scans: int, *, elsewhere: bool) -> int:
    """How many scans a run should see, each counted as often as it is seen."""
    passes, fewest = (CONTINUED_PASSES, CONTINUED_FEWEST) if elsewhere else (PASSES, FEWEST)
    return min(max(passes * scans, fewest), MOST)


def choose(sizes: Sequence[Size], *, wanted: int, seconds: float) -> Size:
    """The dearest that still sees as many scans as wanted in the time; else the quickest.

    Args:
        sizes: from the quickest to the dearest.
        wanted: scans to see, each counted as often as it is seen.
    """
    enough = [size for size in sizes if size.scans_per_s * seconds >= wanted]
    return enough[-1] if enough else sizes[0]


def planned(plan: PretrainConfig, data: Dataset, *, scans: int) -> PretrainConfig:
    """Fill in what the user has left open: network, resolution and batch, so that the time is well spent.

    Where nothing is open, or a number of steps is given, nothing is measured.

    Args:
        plan: with its start.
        scans: that there are to learn from.
    """
    origin = plan.from_
    assert origin is not None, "with its start"
    plan = plan.model_copy(update={"network": wanted_network(plan)})
    starts_from_file = origin not in ("random", "imagenet")
    if plan.steps or starts_from_file or (plan.network and plan.input_px):
        return plan
    seconds = 60 * plan.minutes
    offered = candidates(
        origin, dims=data.spec.dims, size_px=data.spec.size_px, network=plan.network, input_px=plan.input_px
    )
    wanted = scans_wanted(scans, elsewhere=learned_elsewhere(origin))
    sizes = measured(plan, data, offered, scans=scans, wanted=wanted, seconds=seconds)
    size = choose(sizes, wanted=wanted, seconds=seconds)
    seen = size.scans_per_s * seconds
    often = f"each of {scans:,} scans about {seen / scans:,.0f} times" if seen >= scans else "too few to see each once"
    say(
        f"plan for {clock(seconds)}: {size.network} at {size.input_px} px, "
        f"{size.scans_per_s:.0f} scans a second: {often}"
        + ("" if len(sizes) == 1 else f" (measured: {'; '.join(map(_words, sizes))})")
    )
    if seen < wanted / 4:
        say("this is little time for so many scans; more minutes will give a better encoder")
    return plan.model_copy(update={"network": size.network, "input_px": size.input_px})


def wanted_network(plan: PretrainConfig) -> str | None:
    """The network that the user or the method asks for; None leaves it to the start or to the time."""
    return plan.network or (network_for(plan.method) if plan.from_ == "random" else None)


def batch_size_of(plan: PretrainConfig, *, scans: int) -> int:
    """Scans a step: what is asked for, or fewer where there are no more; then a multiple of the parts.

    Raises:
        ConfigError: what is asked for cannot be divided among processes and parts.
    """
    asked = plan.batch_size
    assert asked is not None, "planned"
    if asked <= scans:
        check_shares(asked, accumulate=plan.accumulate)
        return asked
    batch_size = scans - scans % (processes() * plan.accumulate)
    say(f"{scans:,} scans to learn from: {batch_size} a step instead of {asked}")
    check_shares(batch_size, accumulate=plan.accumulate)
    return batch_size


def _words(size: Size) -> str:
    return f"{size.network} at {size.input_px} px {size.scans_per_s:.0f}/s"


def measured(
    plan: PretrainConfig,
    data: Dataset,
    offered: Sequence[tuple[str, int]],
    *,
    scans: int,
    wanted: int,
    seconds: float,
) -> list[Size]:
    """Time a few steps of each candidate on the user's own scans, until one is too dear or the time is up.

    Returns:
        At least the first.
    """
    found: list[Size] = []
    spent, rows = 0.0, np.arange(min(TRIED, scans))
    for network, side in offered:
        step = _trial(plan, data, network, side, rows)
        first, each = _seconds(step, times=1), _seconds(step, times=TIMED)
        spent += first + TIMED * each
        found.append(Size(network=network, input_px=side, scans_per_s=processes() * len(rows) / each))
        if choose(found, wanted=wanted, seconds=seconds) is not found[-1] or spent > TRY_SHARE * seconds:
            break
    return found


def _seconds(step: Callable[[], None], *, times: int) -> float:
    """What a step takes on average, by the first process's clock: all must decide alike."""
    _wait_for_gpu()
    began = time.monotonic()
    for _ in range(times):
        step()
    _wait_for_gpu()
    return from_first(lambda: (time.monotonic() - began) / times)


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def steps_in(
    seconds: float,
    module: nn.Module,
    batch_at: Callable[[int, torch.device], tuple[Views]],
    precision: Precision,
) -> int:
    """About how many steps fit; a copy of the module is timed, so that the run itself is untouched."""
    device = connect().device
    trial = copy.deepcopy(module).to(device)
    with computing(trial, precision):
        step = _step_of(trial, batch_at, device)
        step()  # the first is slow
        return max(1, int(seconds / _seconds(step, times=1)))


def _trial(plan: PretrainConfig, data: Dataset, network: str, side: int, rows: Rows) -> Callable[[], None]:
    """A step of training that is thrown away."""
    device = connect().device
    encoder = build_encoder(network, input_px=side, dims=data.spec.dims, channels=data.spec.channels)
    freeze_first(encoder, plan.frozen or 0)
    module, _ = build_weighted(plan.method, plan.objective, plan.weights, encoder)
    module.to(device)
    none = np.empty((0, 2), np.int64)
    sampler = Sampler(data.manifest, rows, copies=none, pairs="scan", batch_size=len(rows), seed=0)
    batch_at = view_batches(
        data, sampler, data.spec.at(side), plan.views, n_views=module.n_views, n_crops=module.n_crops, seed=0
    )
    return _step_of(module, batch_at, device)


def _step_of(
    module: nn.Module, batch_at: Callable[[int, torch.device], tuple[Views]], device: torch.device
) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(module.parameters())
    steps = itertools.count()

    def step() -> None:
        loss, _ = module(*batch_at(next(steps), device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step
