"""bfloat16 only where it is measured to pay, and only inside of encoders."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from medtl.encoders.table import build_encoder
from medtl.training import precision
from medtl.training.precision import choose_precision, computing


class Fake(nn.Module):
    """A step that takes so many seconds in float32 and in bf16, with these losses."""

    half = False
    now = 0.0

    def __init__(self, seconds: tuple[float, float], losses: tuple[float, float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seconds, self.losses, self.calls = seconds, losses, [0, 0]

    def __deepcopy__(self, memo: object) -> "Fake":
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, float]]:
        self.calls[Fake.half] += 1
        Fake.now += self.seconds[Fake.half]
        return self.weight * self.losses[Fake.half], {}


@pytest.fixture(autouse=True)
def told_by_the_context_and_on_its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def noted(module: nn.Module, wanted: str) -> Iterator[None]:
        Fake.half = wanted == "bf16"
        yield
        Fake.half = False

    monkeypatch.setattr(precision, "computing", noted)
    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=lambda: Fake.now))


def choose(module: Fake, *, asked: str = "auto", steps: int | None = None, seconds: float = 600.0) -> str:
    return choose_precision(asked, module, lambda step, device: (torch.zeros(1),), steps=steps, seconds=seconds)


@pytest.mark.parametrize(
    ("seconds", "losses", "expected"),
    [
        ((0.03, 0.01), (2.0, 2.01), "bf16"),
        ((0.03, 0.01), (2.0, 2.2), "32"),  # the losses disagree
        ((0.02, 0.02), (2.0, 2.0), "32"),  # nothing is gained
        ((0.01, 0.03), (2.0, 2.0), "32"),
    ],
)
def test_the_measurement_decides(
    seconds: tuple[float, float], losses: tuple[float, float], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert choose(Fake(seconds, losses)) == expected
    assert f"precision: {expected}; a step in bf16 is" in capsys.readouterr().err


def test_what_was_asked_for_is_not_measured() -> None:
    module = Fake((0.0, 0.0), (1.0, 1.0))
    assert (choose(module, asked="bf16"), choose(module, asked="32"), module.calls) == ("bf16", "32", [0, 0])


def test_a_short_run_is_not_worth_a_measurement_whose_noise_would_change_its_weights() -> None:
    module = Fake((0.03, 0.0), (1.0, 1.0))
    assert choose(module, seconds=30) == "32" and module.calls == [0, 0]
    assert choose(module, steps=100) == "32" and module.calls == [1, 0], "one step tells how long a hundred last"


def test_emulated_bf16_costs_one_step_to_find_out() -> None:
    module = Fake((0.02, 1.0), (1.0, 1.0))
    assert choose(module, seconds=90) == "32" and module.calls[1] == 1


def test_encoders_compute_in_half_and_heads_do_not() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("resnet10-half", input_px=16).eval()
    module = nn.Sequential(encoder, head := nn.Linear(256, 3))
    x, inputs = torch.randn(4, 1, 16, 16), []
    head.register_forward_hook(lambda _, given, out: inputs.append((given[0].dtype, out.dtype)))
    plain = encoder(x)
    with computing(module, "bf16"):
        module(x)
        half = encoder(x)
    assert inputs == [(torch.float32, torch.float32)] and half.dtype == torch.float32
    assert not torch.equal(half, plain)
    torch.testing.assert_close(half, plain, rtol=0.1, atol=0.05)  # 8 bits of mantissa
    assert torch.equal(encoder(x), plain), "as it was afterwards"
