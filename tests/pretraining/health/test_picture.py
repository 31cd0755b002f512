"""The picture of a run: what a person has to read on it."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medtl.pretraining.health.picture import Scene, _finish, _mosaic


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
