"""From a budget to a plan: what is offered, what is chosen, and a run that keeps to its time."""

import json
import time
from pathlib import Path

import pytest

import medtl
from medtl.data.dataset import Dataset
from medtl.pretraining import plan as module
from medtl.pretraining.config import PretrainConfig
from medtl.pretraining.plan import FEWEST, PASSES, Size, candidates, choose, scans_wanted, with_start

SIZES = [
    Size(network="small", input_px=64, scans_per_s=400),
    Size(network="middle", input_px=96, scans_per_s=100),
    Size(network="large", input_px=128, scans_per_s=20),
]


def test_more_time_buys_a_larger_network() -> None:
    needed = PASSES * 1000
    for seconds, expected in [(10, "small"), (needed / 400, "small"), (needed / 100 + 1, "middle"), (1e6, "large")]:
        assert choose(SIZES, wanted=scans_wanted(1000, elsewhere=False), seconds=seconds).network == expected


def test_few_scans_are_not_seen_for_ever_and_many_not_often() -> None:
    assert choose(SIZES, wanted=scans_wanted(20, elsewhere=False), seconds=FEWEST / 20 + 1).network == "large"
    assert choose(SIZES, wanted=scans_wanted(20, elsewhere=False), seconds=FEWEST / 100 + 1).network == "middle"
    assert (
        choose(SIZES, wanted=scans_wanted(1_000_000, elsewhere=False), seconds=1_500_000 / 100 + 1).network == "middle"
    )


def test_what_the_user_said_is_kept() -> None:
    assert candidates("random", dims=2, size_px=256, network=None, input_px=None)[0] == ("resnet18-half", 64)
    assert candidates("random", dims=2, size_px=28, network=None, input_px=None)[0] == ("resnet18-half", 28)
    assert candidates("random", dims=3, size_px=56, network=None, input_px=None)[0] == ("resnet10-half", 48)
    offered = candidates("random", dims=2, size_px=256, network="resnet34", input_px=None)
    assert {name for name, _ in offered} == {"resnet34"} and len(offered) == len(set(offered)) > 1
    offered = candidates("random", dims=2, size_px=256, network=None, input_px=80)
    assert {side for _, side in offered} == {80} and len(offered) == len(set(offered)) > 1
    assert {name for name, _ in candidates("imagenet", dims=2, size_px=256, network=None, input_px=None)} == {
        "efficientnet-lite0"
    }
    assert candidates("imagenet", dims=2, size_px=28, network=None, input_px=None) == [("efficientnet-lite0", 64)]


def test_a_side_that_is_asked_for_is_kept_above_that_of_the_scans() -> None:
    assert {side for _, side in candidates("random", dims=2, size_px=28, network=None, input_px=64)} == {64}


def test_the_command_that_started_a_run_resumes_it_where_scans_are_fewer_than_a_batch(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["steps=2", "batch_size=500", "input_px=16", "network=resnet10-half", "precision=32"]
    run = medtl.pretrain(dataset.folder, out=tmp_path / "run", settings=settings)
    (run / "encoder.json").unlink()
    assert "96 scans to learn from: 96 a step instead of 500" in capsys.readouterr().err
    medtl.pretrain(dataset.folder, out=run, settings=settings, resume=True)
    assert json.loads((run / "encoder.json").read_text())["history"] == ["simclr on 96 scans, 2 steps of 96"]


def test_views_can_be_shown_of_a_method_with_its_own_network(dataset: Dataset, tmp_path: Path) -> None:
    picture = medtl.pretrain(dataset.folder, method="mae", out=tmp_path / "run", show_views=True)
    assert picture.stat().st_size > 10_000 and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("scans_per_s", "said"),
    [
        (3, "3 scans a second: too few to see each once"),
        (160, "160 scans a second: each of 96 scans about 10 times"),
    ],
)
def test_the_plan_says_how_often_scans_are_seen(
    scans_per_s: float, said: str, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = Size(network="resnet18-half", input_px=40, scans_per_s=scans_per_s)
    monkeypatch.setattr(module, "measured", lambda *_, **__: [size])
    config = with_start(PretrainConfig(**{"from": "random", "minutes": 0.1}), dims=2)
    assert module.planned(config, dataset, scans=96).input_px == 40
    printed = capsys.readouterr().err
    assert f"plan for 6 s: resnet18-half at 40 px, {said}" in printed
    assert "this is little time for so many scans" in printed


@pytest.mark.slow
def test_a_run_keeps_to_its_time(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # On the processor's clock, which stands still while other work on the machine has its turn.
    monkeypatch.setattr(time, "monotonic", time.process_time)
    medtl.pretrain(dataset.folder, out=tmp_path / "warm", settings=["steps=1", "batch_size=16"])  # imports take seconds
    began = time.monotonic()
    run = medtl.pretrain(dataset.folder, out=tmp_path / "run", minutes=0.1, settings=["batch_size=16"])
    # 10 % at rest (docs/results.md); work beside it slows a step down, also the last and what is written after it.
    assert time.monotonic() - began == pytest.approx(6, rel=0.35)
    about = json.loads((run / "encoder.json").read_text())
    said = capsys.readouterr().err
    assert "plan for 6 s: " in said and f"{about['network']} at {about['input_px']} px" in said
