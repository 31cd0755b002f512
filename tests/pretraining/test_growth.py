"""Small first, then larger, the full side in the end."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import medtl
from medtl.data.dataset import Dataset
from medtl.errors import ConfigError
from medtl.pretraining import batch
from medtl.pretraining.growth import GROWN, side_at, steps_gained


@given(side=st.integers(16, 300), grow_from=st.floats(0.25, 1.0), shares=st.lists(st.floats(0, 1), min_size=2))
def test_sides_never_shrink_and_end_full(side: int, grow_from: float, shares: list[float]) -> None:
    sides = [side_at(share, side_px=side, grow_from=grow_from) for share in sorted(shares)]
    assert sides == sorted(sides) and sides[-1] <= side
    assert all(each == side or each % 8 == 0 for each in sides)
    assert side_at(GROWN, side_px=side, grow_from=grow_from) == side_at(1.0, side_px=side, grow_from=grow_from) == side
    assert side_at(0.0, side_px=side, grow_from=1.0) == side


def test_a_run_sees_small_scans_first(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    draw = batch.random_views

    def noted(images, *args, **kwargs):  # type: ignore[no-untyped-def]
        seen.append(images.shape[-1])
        return draw(images, *args, **kwargs)

    monkeypatch.setattr(batch, "random_views", noted)
    settings = ["steps=10", "batch_size=8", "input_px=32", "network=resnet10-half", "precision=32", "grow_from=0.5"]
    run = medtl.pretrain(dataset.folder, out=tmp_path / "run", settings=settings)
    assert seen[::2] == [16, 16, 24, 24, 24, 32, 32, 32, 32, 32], "two views a step"
    assert json.loads((run / "encoder.json").read_text())["input_px"] == 32


def test_methods_whose_parts_have_a_size_do_not_grow(dataset: Dataset, tmp_path: Path) -> None:
    for method in ("mae", "spark", "simclr+genesis"):
        with pytest.raises(ConfigError, match=r"grow_from: (mae|spark|genesis) learns at one side; leave it out"):
            medtl.pretrain(dataset.folder, method=method, out=tmp_path / method, settings=["grow_from=0.5", "steps=1"])


def test_a_network_gets_no_less_than_it_takes() -> None:
    assert side_at(0.0, side_px=96, grow_from=0.25, least_px=64) == 64
    assert side_at(0.0, side_px=64, grow_from=0.25, least_px=64) == 64


@pytest.mark.parametrize("dims", [2, 3])
def test_steps_gained_are_those_of_a_run_by_the_clock(dims: int) -> None:
    assert steps_gained(1.0, dims=dims) == 1
    spent, steps = 0.0, 0
    while spent < 1000:
        spent += min(1.0, 0.5 + 0.5 * (spent / 1000) / GROWN) ** dims
        steps += 1
    assert steps_gained(0.5, dims=dims) == pytest.approx(steps / 1000, rel=0.01)  # 200 slices
