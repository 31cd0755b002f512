"""What every method of the table promises, in images and in volumes."""

import copy
import math
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medtl.encoders.table import Encoder, _resnet, build_encoder
from medtl.pretraining.batch import Views
from medtl.pretraining.draws import Draws
from medtl.pretraining.methods import METHODS
from medtl.training.precision import computing

SIDES = {2: 32, 3: 16}
WIDTHS = ("hidden_dim", "projection_dim", "decoder_dim")
"""Settings that cost time and change nothing of what is promised."""
CASES = [(name, dims) for name, method in METHODS.items() for dims in method.dims]


def build(name: str, dims: int = 2, seed: int = 0, channels: int = 1) -> Any:
    torch.manual_seed(seed)
    side = SIDES[dims]
    cls = METHODS[name].load()
    config = cls.Config(**{key: 32 for key in WIDTHS if key in cls.Config.model_fields})
    if (own := METHODS[name].network) is not None:
        return cls(build_encoder(own, input_px=side, dims=dims, channels=channels), config)
    net, size, layer, _ = _resnet("basic", [1, 1, 1, 1], 4)(
        side, dims, channels
    )  # the table's networks, eight times narrower
    encoder = Encoder(
        net, name="resnet10-half", input_px=side, embedding_dim=size, cam_layer=layer, dims=dims, channels=channels
    )
    return cls(encoder, config)


def batch(objective: Any, step: int = 0, total: int = 6, part: slice | None = None) -> Views:
    """Random pictures, the second and third of one group; `part` of them for one of several processes."""
    dims, mine = objective.encoder.dims, part or slice(None)
    side, channels = SIDES[dims], objective.encoder.channels
    g = torch.Generator().manual_seed(step)
    whole = torch.rand(total, objective.n_views, channels, *[side] * dims, generator=g) * 2 - 1
    crops = torch.rand(total, objective.n_crops, channels, *[side // 2] * dims, generator=g) * 2 - 1
    group = torch.tensor([0, 1, 1, *range(3, total)]) + step
    draws = Draws("test", step, total=total, part=part)
    return Views(whole=whole[mine], crops=crops[mine] if objective.n_crops else None, group=group[mine], draws=draws)


def step_of(objective: Any, optimizer: torch.optim.Optimizer, step: int, done: float) -> None:
    loss, _ = objective(batch(objective, step))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    objective.after_step(done)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("name", [name for name, dims in CASES if dims == 2])
def test_learns_from_scans_in_colour_by_every_channel(name: str) -> None:
    objective = build(name, channels=3)
    loss, _ = objective(batch(objective))
    loss.backward()
    first = next(p for p in objective.encoder.parameters() if p.ndim == 4 and p.shape[1] == 3)
    assert math.isfinite(loss.item()) and (first.grad.abs().sum(dim=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize(("name", "dims"), CASES)
def test_gives_a_finite_loss_with_a_gradient_for_the_whole_encoder_and_moves_nothing_itself(
    name: str, dims: int
) -> None:
    objective = build(name, dims)
    before = state(objective.encoder)
    loss, figures = objective(batch(objective))
    assert loss.shape == () and math.isfinite(loss.item())
    assert all(type(value) is float and math.isfinite(value) for value in figures.values())
    again, repeated = objective(batch(objective))
    assert (again.item(), repeated) == (loss.item(), figures), "the same views give the same"
    loss.backward()
    for parameter, value in objective.encoder.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all() and value.grad.any(), parameter
    objective.after_step(0.5)
    for key, value in objective.encoder.state_dict().items():
        if "running" not in key and "num_batches" not in key:
            assert torch.equal(value, before[key]), f"{key} moves by the optimizer only"


@pytest.mark.parametrize("name", METHODS)
def test_learns_with_an_encoder_that_computes_in_half(name: str) -> None:
    objective = build(name)
    with computing(objective, "bf16"):
        loss, _ = objective(batch(objective))
    loss.backward()
    assert loss.dtype == torch.float32 and math.isfinite(loss.item())


@pytest.mark.parametrize("name", METHODS)
def test_goes_on_from_a_checkpoint_as_if_nothing_had_been(name: str) -> None:
    objective = build(name)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.01)
    for step in range(2):
        step_of(objective, optimizer, step, (step + 1) / 4)
    saved = save({key: value.contiguous() for key, value in objective.state_dict().items()})
    other = build(name, seed=1)
    other.load_state_dict(load(saved))
    copied = copy.deepcopy(objective)  # as the measurement of a step's time does
    for step in range(2, 4):
        for module in (objective, other, copied):
            step_of(module, torch.optim.SGD(module.parameters(), lr=0.01), step, (step + 1) / 4)
    losses = [module(batch(module, 4))[0].item() for module in (objective, other, copied)]
    assert losses[0] == losses[1] == losses[2]


class Together:
    """Two threads that stand for two processes: `gathered` waits for both and joins their rows."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=60)
        self.rows: list[Any] = [None, None]
        self.local = threading.local()

    def __deepcopy__(self, memo: object) -> "Together":
        return self

    def gathered(self, mine: Tensor) -> Tensor:
        if not hasattr(self.local, "rank"):
            return mine
        self.rows[self.local.rank] = mine
        self.barrier.wait()
        joined = torch.cat(self.rows)
        self.barrier.wait()
        return joined

    def run(self, objectives: list[Any], parts: list[Views]) -> list[Any]:
        results: list[Any] = [None, None]

        def work(rank: int) -> None:
            self.local.rank = rank
            try:
                results[rank] = objectives[rank](parts[rank])
            except BaseException:
                self.barrier.abort()
                raise

        threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


class Synchronised(nn.Module):
    """Batch normalisation over the rows of both."""

    def __init__(self, norm: _BatchNorm, together: Together) -> None:
        super().__init__()
        self.norm, self.together = norm, together

    def forward(self, x: Tensor) -> Tensor:
        rank = getattr(self.together.local, "rank", None)
        joined: Tensor = self.norm(self.together.gathered(x))
        return joined if rank is None else joined.chunk(2)[rank].clone()


def synchronise(module: nn.Module, together: Together) -> None:
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            child.track_running_stats = False
            setattr(module, name, Synchronised(child, together))
        else:
            synchronise(child, together)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Iterator[Together]:
    threads = Together()
    for method in METHODS.values():
        method.load()
    for name, module in list(sys.modules.items()):
        if name.startswith("medtl.pretraining.objectives.") and hasattr(module, "gathered"):
            monkeypatch.setattr(module, "gathered", threads.gathered)
    yield threads


GATHERING = [name for name, method in METHODS.items() if method.family not in ("masking", "restoration")]
"""Those whose loss is not a mean over scans, so that it could go wrong."""


@pytest.mark.parametrize("name", GATHERING)
def test_two_processes_learn_what_one_would(name: str, together: Together) -> None:
    """Gradients averaged over processes as DDP does, and what moves after the step, over two steps."""
    one = build(name).double()  # so that the order of sums leaves no trace
    synchronise(one, together)
    two = [copy.deepcopy(one), copy.deepcopy(one)]
    for step in range(2):
        whole = batch(one, step)
        parts = [batch(one, step, part=part) for part in (slice(0, 3), slice(3, 6))]
        for views in (whole, *parts):
            object.__setattr__(views, "whole", views.whole.double())
            object.__setattr__(views, "crops", None if views.crops is None else views.crops.double())
        loss, _ = one(whole)
        loss.backward()
        (first, _), (second, _) = together.run(two, parts)
        mean = (first + second) / 2
        mean.backward()
        assert mean.item() == pytest.approx(loss.item(), rel=1e-9)
        for (key, mine), a, b in zip(one.named_parameters(), *(o.parameters() for o in two), strict=True):
            if mine.grad is None:
                assert a.grad is None and b.grad is None
                continue
            torch.testing.assert_close(
                a.grad + b.grad, mine.grad, atol=1e-9, rtol=1e-6, msg=lambda m, k=key: f"{k}: {m}"
            )
            with torch.no_grad():
                for parameter in (mine, a, b):
                    parameter -= 0.01 * mine.grad
        for objective in (one, *two):
            objective.after_step(0.3 * (step + 1))
            objective.zero_grad()
        for other in two:
            for key, value in one.state_dict().items():
                torch.testing.assert_close(other.state_dict()[key], value, msg=lambda m, k=key: f"{k}: {m}")
