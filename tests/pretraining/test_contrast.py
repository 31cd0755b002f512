"""Contrast where there is nothing to contrast: one patient, or parts of a batch that hold next to nothing."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import medtl
from medtl.data.dataset import Dataset
from medtl.errors import ConfigError, RunError
from medtl.pretraining.config import PretrainConfig
from medtl.pretraining.contrast import check_parts

QUICK = ["precision=32", "input_px=16", "network=resnet10-half", "batch_size=8", "from=random"]


@pytest.fixture(scope="module")
def one_patient(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """12 different pictures of one patient."""
    folder = tmp_path_factory.mktemp("one")
    rng = np.random.default_rng(0)
    lines = ["path,patient_id,split,spot"]
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (32, 32)).astype(np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,P1,train,{i % 2}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return medtl.ingest(folder, out=folder / "data", labels=folder / "labels.csv", size_px=32)


def test_scans_of_one_patient_are_learned_from_without_contrast(
    one_patient: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = medtl.pretrain(one_patient.folder, out=tmp_path / "run", settings=[*QUICK, "steps=2"])
    assert (
        "all 12 scans belong to one patient, so there is nothing to contrast: the method is vicreg instead of simclr; "
        "if they are of several patients, correct patient_id"
    ) in capsys.readouterr().err
    assert yaml.safe_load((run / "config.yaml").read_text())["method"] == "vicreg"
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["grad_norm"] > 1e-3 and last["loss"] > 1e-3
    assert json.loads((run / "encoder.json").read_text())["history"] == ["vicreg on 12 scans, 2 steps of 8"]


@pytest.mark.parametrize(
    ("method", "settings", "named"),
    [
        ("simclr", [], "simclr"),
        ("genesis+moco", [], "moco"),
        (None, ["objective.temperature=0.5"], "simclr"),
    ],
)
def test_contrast_that_was_asked_for_is_refused_on_one_patient(
    one_patient: Dataset, tmp_path: Path, method: str | None, settings: list[str], named: str
) -> None:
    said = (
        f"data: all 12 scans belong to one patient, so there is nothing to contrast with {named}; use --method vicreg, "
        "or correct patient_id"
    )
    with pytest.raises(RunError, match=re.escape(said)):
        medtl.pretrain(one_patient.folder, out=tmp_path / "run", method=method, settings=[*QUICK, *settings])
    assert not (tmp_path / "run/config.yaml").exists()


def test_parts_of_a_batch_must_hold_enough_to_compare(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as problem:
        medtl.pretrain(dataset.folder, out=tmp_path / "run", settings=[*QUICK, "accumulate=8", "steps=2"])
    assert str(problem.value) == (
        "accumulate: simclr compares scans within a part of the batch, where 1 of 8 are too few; lower accumulate to "
        "1, or raise batch_size to 64 if there are as many scans"
    )
    for method in ("moco", "byol", "vicreg", "genesis+barlow"):
        with pytest.raises(ConfigError, match="compares scans within a part of the batch, where 7 of 14"):
            check_parts(PretrainConfig(method=method, accumulate=2), batch_size=14)
        check_parts(PretrainConfig(method=method, accumulate=2), batch_size=16)
    for method in ("mae", "spark", "genesis", "voco"):
        check_parts(PretrainConfig(method=method, accumulate=8), batch_size=8)
    unweighted = PretrainConfig(method="simclr+genesis", accumulate=8, weights={"simclr": 0})
    check_parts(unweighted, batch_size=8)
