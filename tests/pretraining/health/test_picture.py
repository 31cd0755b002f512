"""The picture of a run: what a person has to read on it."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medtl.pretraining.health.picture import _finish


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
