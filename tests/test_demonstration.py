"""`medtl demo` tells its whole story, and never deletes what is not its own."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest

import medtl
from medtl import demonstration
from medtl.errors import MedtlError, Stopped
from medtl.training.pace import Pace

pytestmark = pytest.mark.slow

SMALL = ["steps=3", "batch_size=8", "input_px=16", "network=resnet10-half", "precision=32"]


@pytest.fixture
def quick(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demonstration, "PRETRAIN", SMALL)
    monkeypatch.setattr(demonstration, "FINETUNE", ["steps=5"])
    monkeypatch.setattr(demonstration, "_samples", lambda folder: scans)


def test_leaves_everything_and_says_how_to_open_the_page(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # the second replaces what the first left
        out = medtl.demo(out=tmp_path / "demo")
    assert len(pd.read_parquet(out / "scores.parquet")) == 120
    assert json.loads((out / "report/report.json").read_text())["n_scans"] == 24
    said = capsys.readouterr()
    assert "spot" in said.out and "AUROC" in said.out
    assert f"medtl serve {out / 'bundle'}" in said.err
    assert medtl.load(out / "bundle").bundle.training["start"].endswith("3 steps of 8")


@pytest.mark.parametrize("name", ["README.txt", "thesis.dcm", ".medtl-demo.txt"])
def test_foreign_files_are_never_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(MedtlError, match="holds other files; choose another --out for the demo"):
        medtl.demo(out=tmp_path)
    (tmp_path / ".medtl-demo").touch()
    with pytest.raises(MedtlError, match="holds other files"):
        medtl.demo(out=tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    with pytest.raises(MedtlError, match="is a file; --out needs the name of a folder"):
        medtl.demo(out=tmp_path / name)


def test_ctrl_c_does_not_promise_what_a_demo_cannot_do(quick: None, tmp_path: Path, monkeypatch) -> None:
    step = Pace.step

    def interrupted(self: Pace) -> None:
        step(self)
        if self.done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Pace, "step", interrupted)
    with pytest.raises(Stopped, match=r"stopped at step 2 of 3; .*A demo starts from the beginning") as caught:
        medtl.demo(out=tmp_path / "demo")
    assert caught.value.again is None
