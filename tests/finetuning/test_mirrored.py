"""Fine-tuning mirrors scans only where their modality has no side, or where it is asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import medtl
from medtl.finetuning import finetune as module
from medtl.pretraining.presets import GENTLE


class PlannedError(Exception):
    """What fine-tuning would do."""


@pytest.mark.parametrize(
    ("modality", "settings", "flip"), [("US", [], 0.5), ("DX", [], 0.0), (None, [], 0.0), ("US", ["views.flip=0"], 0.0)]
)
def test_ultrasound_is_mirrored_and_chest_films_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modality: str | None, settings: list[str], flip: float
) -> None:
    (tmp_path / "in").mkdir()
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"in/{i:02d}.png")
    rows = "".join(f"in/{i:02d}.png,{i % 2},train\n" for i in range(12))
    (tmp_path / "labels.csv").write_text(f"path,x,split\n{rows}")
    medtl.ingest(tmp_path / "in", out=tmp_path / "ds", labels=tmp_path / "labels.csv", size_px=32, modality=modality)

    def choose(*given: Any, **_: Any) -> None:
        raise PlannedError(given[4].views)

    monkeypatch.setattr(module, "choose", choose)
    with pytest.raises(PlannedError) as caught:
        medtl.finetune(tmp_path / "ds", out=tmp_path / "bundle", encoder="random", settings=settings)
    assert caught.value.args[0] == GENTLE.model_copy(update={"flip": flip})
