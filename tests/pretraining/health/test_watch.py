"""A run that is watched: it stops, resumes and ends as it should, whatever happens to it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import medtl
from medtl.data.dataset import Dataset
from medtl.encoders.store import load_encoder
from medtl.errors import DatasetError, EncoderError, LabelError, RunError
from medtl.pretraining.batch import Views
from medtl.pretraining.health import watch as watching
from medtl.pretraining.objectives import simclr
from medtl.training import loop
from tests.volumes import write_volumes

QUICK = ["precision=32", "input_px=16", "network=resnet10-half", "batch_size=8", "check_every=10"]


def lines_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def checks_of(run: Path) -> list[dict[str, float]]:
    """Without the one figure that depends on how busy the machine is."""
    return [{k: v for k, v in line.items() if k != "images_per_s"} for line in lines_of(run) if "rankme" in line]


def dictated(monkeypatch: pytest.MonkeyPatch, scores: dict[int, float]) -> None:
    """Let the probes say this at the checks of these steps, in their order."""
    state = {"done": 0}
    look, after = watching.Watch._look, watching.Watch.after_step

    def after_step(self: watching.Watch, done: int, share: float) -> dict[str, float]:
        state["done"] = done
        return after(self, done, share)

    def told(self: watching.Watch) -> tuple[dict[str, float], Tensor]:
        figures, now = look(self)
        score = scores.get(state["done"], 0.5)
        return figures | {"knn_auroc": score, "probe_auroc": score}, now

    def begin(self: watching.Watch, *args: object, **kwargs: object) -> None:
        state["done"] = 0
        init(self, *args, **kwargs)

    init = watching.Watch.__init__
    monkeypatch.setattr(watching.Watch, "__init__", begin)
    monkeypatch.setattr(watching.Watch, "after_step", after_step)
    monkeypatch.setattr(watching.Watch, "_look", told)


def kill_after(monkeypatch: pytest.MonkeyPatch, step: int, go: Callable[[], object]) -> None:
    """Run until the first checkpoint at or after a step is written, and no further."""

    class Killed(BaseException):
        pass

    def dies(path: Path, **kwargs: object) -> None:
        saved(path, **kwargs)
        if kwargs["pace"]["done"] >= step:
            raise Killed

    saved = loop.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
        patch.setattr(loop, "save_checkpoint", dies)
        with pytest.raises(Killed):
            go()


@pytest.mark.slow
def test_early_stop_is_the_same_after_a_kill(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best check is at step 20; two checks later the run stops, also when it was killed before."""
    dictated(monkeypatch, {10: 0.6, 20: 0.8, 30: 0.7, 40: 0.75, 50: 0.9})
    labels = dataset.folder / "labels.csv"

    def run(name: str, *settings: str, resume: bool = False) -> Path:
        return medtl.pretrain(dataset.folder, out=tmp_path / name, labels=labels, settings=settings, resume=resume)

    settings = [*QUICK, "steps=60", "patience=2"]
    whole = run("whole", *settings)
    said = json.loads((whole / "encoder.json").read_text())
    assert said["stopped"] == {"reason": "no better AUROC of the probes in 2 checks", "step": 40, "best_step": 20}
    assert said["history"] == ["simclr on 96 scans, 20 steps of 8"]
    assert not (whole / "best").exists()
    for killed_at in (23, 40):
        name = f"killed at {killed_at}"
        kill_after(monkeypatch, killed_at, lambda name=name: run(name, *settings))
        if killed_at == 23:
            best, _, about = load_encoder(tmp_path / name / "best")
            assert about["step"] == 20
            assert about["history"] == ["simclr on 96 scans, 20 steps of 8"]
            written = load_encoder(whole)[0].state_dict()
            assert all(torch.equal(weight, written[key]) for key, weight in best.state_dict().items())
        parts = run(name, resume=True)
        assert (parts / "encoder.safetensors").read_bytes() == (whole / "encoder.safetensors").read_bytes()
        assert json.loads((parts / "encoder.json").read_text())["stopped"] == said["stopped"]
        assert checks_of(parts) == checks_of(whole)


@pytest.mark.slow
def test_labels_are_looked_at_only_when_given(
    dataset: Dataset, tmp_path: Path, drawn: None, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*QUICK, "steps=20"]
    with_labels = medtl.pretrain(
        dataset.folder, out=tmp_path / "a", labels=dataset.folder / "labels.csv", settings=settings
    )
    said = capsys.readouterr().err
    assert "at the start; its encoder is kept" in said and "health checks took" in said
    without = medtl.pretrain(dataset.folder, out=tmp_path / "b", settings=settings)
    assert [line["step"] for line in checks_of(with_labels)] == [0, 10, 20]
    assert all({"knn_auroc", "probe_auroc"} <= set(line) for line in checks_of(with_labels))
    assert not any("auroc" in key for line in lines_of(without) for key in line)
    keys = ("loss", "grad_norm", "rankme", "spread", "alignment", "uniformity")
    for a, b in zip(lines_of(with_labels), lines_of(without), strict=True):
        assert {k: a.get(k) for k in keys} == {k: b.get(k) for k in keys}, "labels change nothing that is learned"
    assert json.loads((without / "encoder.json").read_text())["stopped"] == {
        "reason": "to the end", "step": 20, "best_step": 20,
    }  # fmt: skip
    assert "labels: []" in (without / "config.yaml").read_text()
    for run in (with_labels, without):
        picture = matplotlib.image.imread(run / "health.png")
        assert picture.shape[0] > 600 and picture.shape[1] > 1000
        lower = picture[int(0.45 * len(picture)) :, : int(0.6 * picture.shape[1]), :3]
        assert 0.15 < (lower < 0.9).any(axis=2).mean() < 0.95, "scans fill the lower left"


def attract_only(first: Tensor, second: Tensor, *, temperature: float, group: Tensor | None = None) -> Tensor:
    """What contrast is without negatives: a loss that a constant solves."""
    return 1 - F.cosine_similarity(first, second).mean()


def embeddings_attract(self: simclr.SimCLR, views: Views) -> tuple[Tensor, dict[str, float]]:
    """The same for the embeddings of all scans, with nothing in between."""
    embedded = F.normalize(self.encoder(views.whole[:, 0]), dim=1)
    return self.projection(embedded).mean() * 0 + embedded.var(dim=0).sum() * 10, {}


@pytest.mark.parametrize("what", ["spread 0.", "std of the method's outputs 0.0"])
@pytest.mark.slow
def test_a_network_that_collapses_is_stopped(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Real collapses: of the embeddings, and of the head, behind which embeddings may live on."""
    if what.startswith("spread"):
        monkeypatch.setattr(simclr.SimCLR, "forward", embeddings_attract)
    else:
        monkeypatch.setattr(simclr, "nt_xent", attract_only)
    with pytest.raises(RunError) as problem:
        medtl.pretrain(dataset.folder, out=tmp_path / "run", settings=[*QUICK, "steps=300", "lr=3e-3"])
    said = str(problem.value)
    assert "the network collapsed by step" in said and "\n" not in said and what in said
    assert "start anew with --set lr=0.001, --set objective.temperature=0.5, --set batch_size=16" in said
    assert (tmp_path / "run/health.png").is_file()
    assert not (tmp_path / "run/encoder.json").exists()
    checks = checks_of(tmp_path / "run")
    assert 100 < checks[-1]["step"] < 300
    if "before it, is in" in said:
        assert load_encoder(tmp_path / "run/best")[2]["step"] < checks[-2]["step"]


def spoiled_at(monkeypatch: pytest.MonkeyPatch, call: int, factor: float) -> None:
    """From this call of the objective on its gradient is multiplied; the loss itself stays finite."""
    forward, calls = simclr.SimCLR.forward, []

    def spoiled(self: simclr.SimCLR, views: Views) -> tuple[Tensor, dict[str, float]]:
        loss, figures = forward(self, views)
        calls.append(1)
        if len(calls) >= call:
            loss.register_hook(lambda gradient: gradient * factor)
        return loss, figures

    monkeypatch.setattr(simclr.SimCLR, "forward", spoiled)


def test_a_gradient_that_is_nan_stops_before_it_spoils_the_weights(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, run = [*QUICK, "steps=20", "lr=1e-3"], tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
        spoiled_at(patch, 16, float("nan"))
        with pytest.raises(RunError) as problem:
            medtl.pretrain(dataset.folder, out=run, settings=settings)
    assert str(problem.value) == (
        f"{run}: the gradient became nan at step 15; the checkpoint before it is kept; the encoder of step 10 was "
        f"still good, go on from it with --from {run}/best --set lr=0.0003 --out NEW, and look for blank scans in the "
        "dataset's report"
    )
    with pytest.raises(EncoderError, match=r"has not finished; go on .*, or take .*run/best, its encoder so far"):
        medtl.pretrain(dataset.folder, out=tmp_path / "no", from_=run, settings=["steps=1"])
    few = ["steps=1", "batch_size=8", "precision=32", "lr=3e-4"]  # what is advised, word for word
    further = medtl.pretrain(dataset.folder, out=tmp_path / "new", from_=run / "best", settings=few)
    history = json.loads((further / "encoder.json").read_text())["history"]
    assert history == ["simclr on 96 scans, 10 steps of 8", "simclr on 96 scans, 1 step of 8"]
    resumed = medtl.pretrain(dataset.folder, out=run, resume=True)
    whole = medtl.pretrain(dataset.folder, out=tmp_path / "whole", settings=settings)
    assert (resumed / "encoder.safetensors").read_bytes() == (whole / "encoder.safetensors").read_bytes()


def test_a_rate_that_is_far_too_high_names_no_checkpoint_that_is_not_there(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunError) as problem:
        medtl.pretrain(dataset.folder, out=tmp_path / "run", settings=[*QUICK, "steps=5", "lr=1e30"])
    said = str(problem.value)
    assert "became" in said and "; start anew with --set lr=0.001 --out NEW, and look for blank scans" in said
    assert "kept" not in said and not (tmp_path / "run/checkpoint").exists()


def test_a_run_without_a_gradient_is_stopped(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled_at(monkeypatch, 1, 0.0)
    with pytest.raises(RunError, match="run: the gradient was 0 at steps 10 and 20, so nothing is learned; look at"):
        medtl.pretrain(dataset.folder, out=tmp_path / "run", settings=[*QUICK, "steps=40"])
    assert not (tmp_path / "run/encoder.json").exists() and not (tmp_path / "run/best").exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "dataset.json").write_text(
            (folder / "dataset.json").read_text().replace('"fingerprint": "', '"fingerprint": "0')), "was changed"),
        (lambda folder: (folder / "manifest.parquet").write_bytes(b"another"), "was changed"),
        (shutil.rmtree, "was removed or damaged"),
    ],
    ids=["fingerprint", "manifest", "gone"],
)  # fmt: skip
def test_a_dataset_that_changes_under_a_run_stops_it(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object], said: str
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(dataset.folder, folder)
    forward, calls = simclr.SimCLR.forward, []

    def meanwhile(self: simclr.SimCLR, views: object) -> tuple[Tensor, dict[str, float]]:
        calls.append(1)
        if len(calls) == 5:
            damage(folder)
        return forward(self, views)

    monkeypatch.setattr(simclr.SimCLR, "forward", meanwhile)
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    with pytest.raises(RunError, match=f"data: {said} while it was being learned from; the last checkpoint is kept"):
        medtl.pretrain(folder, out=tmp_path / "run", settings=[*QUICK, "steps=30"])
    assert json.loads((tmp_path / "run/checkpoint/state.json").read_text())["pace"]["done"] == 9


def of_pictures(folder: Path, pictures: list[np.ndarray]) -> Path:
    """A dataset of these, which `ingest` would not take twice: their file headers differ."""
    (folder / "in").mkdir(parents=True)
    lines = ["path,patient_id,split,spot"]
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"in/{i}.tif", description=f"scan {i}")
        lines.append(f"{i}.tif,p{i},train,{i % 2}")
    (folder / "in/labels.csv").write_text("\n".join(lines))
    return medtl.ingest(folder / "in", out=folder / "data", labels=folder / "in/labels.csv", size_px=32).folder


def test_scans_that_are_all_the_same_or_blank_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 255, (32, 32)).astype(np.uint8)
    same = [np.where(np.arange(32) == i, one.clip(0, 254) + 1, one).astype(np.uint8) for i in range(12)]
    data = of_pictures(tmp_path / "same", same)
    with pytest.raises(
        DatasetError, match="same/data: all scans are the same picture, so there is nothing to tell apart"
    ):
        medtl.pretrain(data, out=tmp_path / "run")
    blank = of_pictures(tmp_path / "blank", [np.full((32, 32), 20 * i, np.uint8) for i in range(12)])
    with pytest.raises(DatasetError, match="blank/data: all scans are blank; look at the window"):
        medtl.pretrain(blank, out=tmp_path / "run")
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_few_scans_shrink_the_batch_and_one_is_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (32, 32)).astype(np.uint8) for _ in range(12)]
    data = of_pictures(tmp_path / "few", pictures)
    run = medtl.pretrain(data, out=tmp_path / "run", settings=["steps=3", "input_px=16", "network=resnet10"])
    said = capsys.readouterr().err
    assert "12 scans to learn from: 12 a step instead of 128" in said
    assert "batch_size: 12" in (run / "config.yaml").read_text()
    one = of_pictures(tmp_path / "one", pictures[:1])
    with pytest.raises(
        RunError,
        match=r"has 1 scan outside its test part, and a batch needs at least 8; ingest more \(--add\), or start from "
        "ImageNet with medtl finetune$",
    ):
        medtl.pretrain(one, out=tmp_path / "run1")


def test_labels_with_one_class_are_refused_before_training(dataset: Dataset, tmp_path: Path) -> None:
    lines = [f"{name},0" for name in dataset.manifest["scan_id"]]
    (tmp_path / "l.csv").write_text("\n".join(["scan_id,spot", *lines]))
    with pytest.raises(LabelError, match="no finding is present in two patients"):
        medtl.pretrain(dataset.folder, out=tmp_path / "run", labels=tmp_path / "l.csv", settings=[*QUICK, "steps=5"])


def test_volumes_are_probed_and_drawn(drawn: None, tmp_path: Path) -> None:
    data = write_volumes(tmp_path / "data", count=60)
    run = medtl.pretrain(
        data.folder, out=tmp_path / "run", labels=data.folder / "labels.csv",
        settings=[*QUICK, "steps=2"],
    )  # fmt: skip
    assert 0 <= checks_of(run)[-1]["knn_auroc"] <= 1
    assert (run / "health.png").stat().st_size > 50_000
