"""docs/guide/new-objective.md, run as it stands."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import medtl
from tests.pretraining.tiny import tiny_encoder, views_of


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 noisy scans that are brighter at the top: they all lie the same way."""
    source = tmp_path_factory.mktemp("upright")
    for i in range(48):
        shade = np.linspace(180, 60, 32)[:, None] + np.random.default_rng(i).normal(0, 15, (32, 32))
        Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8)).save(source / f"{i:02d}.png")
    return medtl.ingest(source, out=source / "dataset", size_px=32).folder


def test_the_example_learns(rotation, upright: Path, tmp_path: Path) -> None:
    assert medtl.methods()["rotation"].load() is rotation.Rotation
    settings = ["steps=30", "batch_size=16", "network=resnet10-half", "precision=32", "objective.hidden_dim=32"]
    run = medtl.pretrain(upright, out=tmp_path / "run", method="rotation", from_="random", settings=settings)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][1:]
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"] and lines[-1]["loss"] < 0.5 * math.log(4)
    assert lines[-1]["right"] > 0.8
    assert "hidden_dim: 32" in (run / "config.yaml").read_text()
    assert json.loads((run / "encoder.json").read_text())["history"][0].startswith("rotation on")


@pytest.mark.parametrize("dims", [2, 3])
def test_the_example_turns_as_it_says(rotation, dims: int) -> None:
    """The encoder is given the scan turned in its last two axes, as often as the answer is."""
    encoder, seen = tiny_encoder(dims=dims), []
    encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    objective = rotation.Rotation(encoder, rotation.RotationConfig())
    scans = torch.randn(20, 1, 1, *[4] * dims)
    loss, figures = objective(views_of(scans))
    turns = views_of(scans).draws.uniform(0, 4).long()
    assert set(turns.tolist()) == {0, 1, 2, 3}
    for scan, turned, count in zip(scans[:, 0], seen[0], turns.tolist(), strict=True):
        expected = scan.numpy()
        for _ in range(count):
            expected = np.flip(np.swapaxes(expected, -1, -2), -2)  # transposed, then upside down: a quarter turn
        assert np.array_equal(turned.numpy(), expected)
    answers = objective.head(encoder(seen[0])).log_softmax(dim=1).detach()
    assert loss.item() == pytest.approx(float(-answers[torch.arange(20), turns].mean()), rel=1e-5)
    assert 0 <= figures["right"] <= 1
