"""A run of some minutes leaves time for what comes last: a check, and a picture as thorough as the time allows."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

import medtl
from medtl.data.dataset import Dataset
from medtl.pretraining import pretrain as pretraining
from medtl.pretraining.health import watch as watching

QUICK = ["precision=32", "input_px=16", "network=resnet10-half", "batch_size=8", "check_every=10"]


def test_steps_get_what_the_end_leaves(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """10 seconds have passed: the end takes 3 % of the minutes, or as long as a check and a picture took."""

    def seconds(budget: float, drawing: float | None) -> float:
        watch: Any = drawing and SimpleNamespace(draw_first=lambda: drawing)
        return pretraining._for_steps(budget, watch, began=100.0)

    monkeypatch.setattr(pretraining, "time", SimpleNamespace(monotonic=lambda: 110.0))
    assert seconds(600, 4) == pytest.approx(600 - 10 - 18)
    assert seconds(600, 40) == pytest.approx(600 - 10 - 40)
    assert seconds(60, None) == pytest.approx(60 - 10 - 1.8), "another process, which does not draw"
    assert capsys.readouterr().err == ""
    assert seconds(12, 4) == 1.0
    assert (
        "getting ready took 10 s and the end takes about 4 s, of 12 s: little more than a step can be learned, and the "
        "time will not be kept; give more --minutes"
    ) in capsys.readouterr().err


def test_the_last_picture_is_quick_where_time_is_up(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures: list[tuple[int, bool]] = []

    def draw(path: Path, lines: list[Any], *_: object, thorough: bool, **__: object) -> None:
        pictures.append((lines[-1]["step"], thorough))
        Image.new("L", (1, 1)).save(path)

    monkeypatch.setattr(watching, "draw_health", draw)
    medtl.pretrain(dataset.folder, out=tmp_path / "short", minutes=0.02, settings=QUICK)
    assert pictures[0] == (0, False), "the start, to see how long a picture takes"
    assert pictures[-1][0] > 0 and not any(thorough for _, thorough in pictures)
    assert "give more --minutes" in capsys.readouterr().err
    pictures.clear()
    medtl.pretrain(dataset.folder, out=tmp_path / "steps", settings=[*QUICK, "steps=2"])
    assert pictures[-1] == (2, True) and "give more --minutes" not in capsys.readouterr().err
