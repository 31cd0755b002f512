"""The picture of a run: what a person has to read on it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medtl.pretraining.health.picture import Scene, _finish, _mosaic, draw_health


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (2, ["0", "1", "2"]),
        (40, ["0", "10", "20", "30", "40"]),
        (3125, ["0", "1,000", "2,000", "3,000"]),
        (120_000, ["0", "50,000", "100,000"]),
    ],
)
def test_steps_are_few_and_whole_numbers(steps: int, said: list[str]) -> None:
    figure = Figure()
    canvas, axis = FigureCanvasAgg(figure), figure.subplots()
    axis.set_xlim(0, steps)
    _finish(axis, "")
    canvas.draw()
    shown = [label.get_text() for label, at in zip(axis.get_xticklabels(), axis.get_xticks(), strict=True)
             if 0 <= at <= steps]  # fmt: skip
    assert shown == said


@pytest.mark.parametrize("colour", [False, True])
def test_scans_are_framed_and_keep_their_colours(colour: bool) -> None:
    shape = (2, 48, 48, 3) if colour else (2, 48, 48)
    pictures = np.random.default_rng(0).integers(0, 200, shape, np.uint8)
    scene = Scene(
        patients=np.arange(2), thumbnails=lambda places: pictures[places], groups=["spot", ""], grouped_by="label",
        start=torch.zeros(2, 1),
    )  # fmt: skip
    shown = _mosaic(np.array([[1, 0]]), scene, {"spot": "red"})
    left, right = shown[3:99, 3:99], shown[3:99, 111:207]  # frames of 3 px, 6 px between, twice as large
    for found, picture in ((left, pictures[1]), (right, pictures[0])):
        assert np.array_equal(found[::2, ::2], picture if colour else np.dstack([picture] * 3))
    assert (shown[0, 110] == [255, 0, 0]).all() and (shown[0, 0] == 255).all()


def test_all_points_lie_within_their_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spread of the method's outputs is larger than that of the embeddings, whose axis it shares."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **said: (figures.append(self), save(self, *args, **said))
    )
    lines = [
        {
            "step": 10 * i,
            "rankme": 20.0 + i,
            "spread": 0.1 + 0.03 * i,
            "alignment": 1.0 - 0.1 * i,
            "uniformity": -0.2 * i,
        }
        | ({"loss": 3.0 - 0.2 * i, "grad_norm": 1.0 + i, "std": 0.8 + 0.03 * i} if i else {})
        for i in range(6)
    ]
    x = torch.randn(24, 8, generator=torch.Generator().manual_seed(0))
    scene = Scene(
        patients=np.arange(24), thumbnails=lambda places: np.zeros((len(places), 32, 32), np.uint8), groups=[""] * 24,
        grouped_by="", start=x,
    )  # fmt: skip
    draw_health(tmp_path / "health.png", lines, scene, x, title="t", method="simclr", steps=50, thorough=False)
    axes = [axis for part in figures[0].subfigs for axis in part.axes if axis.lines]
    assert [axis.get_ylabel() for axis in axes if len(axis.lines) == 2] == ["spread"], "with the outputs"
    for axis in axes:
        low, high = axis.get_ylim()
        drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axis.lines])
        assert len(drawn) >= 5 and low <= drawn.min() and drawn.max() <= high, axis.get_ylabel()
