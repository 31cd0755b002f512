"""The whole path on a small task, by functions and by commands: it learns, and every way in gives the same number."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import medtl
from medtl.data.dataset import Dataset
from medtl.data.sources import read_scan
from medtl.errors import RunError

SMALL, PRECISE = "network=resnet10-half", "precision=32"


def test_the_detector_learned(bundle: Path, dataset: Dataset, tmp_path: Path) -> None:
    report = medtl.evaluate(bundle, dataset.folder, out=tmp_path / "report")
    content = json.loads((report / "report.json").read_text())
    auroc = content["findings"]["spot"]["auroc"]
    assert auroc["value"] > 0.9 and auroc["low"] <= auroc["value"] <= auroc["high"]
    test = dataset.manifest[dataset.manifest["split"] == "test"]
    assert (content["n_scans"], content["n_patients"]) == (len(test), test["patient_id"].nunique())
    assert (report / "report.html").read_text().startswith("<!doctype html>")


def test_python_score_and_dataset_give_the_same_probability(
    bundle: Path, dataset: Dataset, scans: Path, tmp_path: Path
) -> None:
    table = pd.read_parquet(medtl.score(bundle, scans, out=tmp_path / "scores.parquet")).set_index("scan_id")
    detector = medtl.load(bundle)
    squares = detector.predict_stored(dataset.pixels(np.arange(len(dataset))))[:, 0]
    moved = medtl.load(shutil.copytree(bundle, tmp_path / "elsewhere/under another name"))
    for row, (scan_id, path) in enumerate(zip(dataset.manifest["scan_id"], dataset.manifest["path"], strict=True)):
        expected = detector.predict(scans / path)["spot"].probability
        assert table.loc[scan_id, "probability"] == pytest.approx(expected, abs=1e-6)
        assert squares[row] == pytest.approx(expected, abs=1e-6)
        if row % 20 == 0:
            assert moved.predict(scans / path)["spot"].probability == pytest.approx(expected, abs=1e-6)
            assert moved.predict(read_scan(scans / path))["spot"].probability == pytest.approx(expected, abs=1e-6)


def test_decision_is_the_side_of_the_operating_point_or_uncertain(bundle: Path, scans: Path) -> None:
    detector = medtl.load(bundle)
    for path in sorted((scans / "images").iterdir())[:20]:
        score = detector.predict(path)["spot"]
        side = "positive" if score.probability >= score.threshold else "negative"
        limits = score.band.limits(score.threshold)
        inside = limits is not None and limits[0] <= score.probability <= limits[1]
        assert score.decision == ("uncertain" if inside else side)


def test_heatmap_covers_the_scan_and_finds_the_spot(bundle: Path, scans: Path) -> None:
    detector = medtl.load(bundle)
    inside = []
    for patient in range(1, 40, 2):
        scan = read_scan(scans / f"images/p{patient:02d}_0.png")
        heat = detector.explain(scan, "spot")
        assert heat.shape == scan.pixels.shape and 0 <= heat.min() <= heat.max() <= 1
        spot = np.unravel_index(_smooth(scan.pixels).argmax(), scan.pixels.shape)
        inside.append(heat[spot] >= np.quantile(heat, 0.5))
    assert np.mean(inside) > 0.7, "the brightest spot lies in the warmer half of the heatmap"


def _smooth(image: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.gaussian_filter(image, 3)


def test_pretrained_start_goes_through(dataset: Dataset, tmp_path: Path) -> None:
    settings = ["steps=30", "input_px=32", "batch_size=16", SMALL, PRECISE]
    run = medtl.pretrain(dataset.folder, out=tmp_path / "run", settings=settings)
    start, *lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert start["step"] == 0 and start["spread"] > 0
    assert lines[-1]["loss"] < lines[0]["loss"] and "rankme" in lines[-1] and "spread" in lines[-1]
    assert (run / "health.png").is_file()
    out = medtl.finetune(dataset.folder, encoder=run, out=tmp_path / "bundle", settings=["steps=5"])
    content = json.loads((out / "bundle.json").read_text())
    assert content["training"]["start"].startswith("simclr on")
    assert content["input_px"] == 32
    assert "simclr on" in (out / "card.md").read_text()


def test_pretraining_never_sees_the_test_part(dataset: Dataset, tmp_path: Path) -> None:
    from medtl.pretraining.pretrain import training_rows

    assert set(dataset.manifest["split"].to_numpy()[training_rows(dataset)]) == {"train", "val"}


def test_imagenet_start_keeps_its_normalisation(dataset: Dataset, tmp_path: Path) -> None:
    from medtl.encoders.lite0 import imagenet_weights
    from medtl.inference.bundle import read_bundle

    settings = ["steps=3", "batch_size=4"]
    out = medtl.finetune(dataset.folder, encoder="imagenet", strategy="lp-ft", out=tmp_path / "b", settings=settings)
    _, classifier = read_bundle(out)
    before, after = imagenet_weights(in_channels=1), classifier.encoder.net.state_dict()
    for key in before:
        moved = not np.allclose(before[key], after[key])
        assert moved == (not key.endswith(("running_mean", "running_var", "num_batches_tracked"))), key


def test_heatmaps_leave_nothing_on_the_network(bundle: Path, scans: Path) -> None:
    detector = medtl.load(bundle)
    scan = read_scan(scans / "images/p01_0.png")
    heats = [detector.explain(scan, "spot") for _ in range(3)]
    assert np.array_equal(heats[0], heats[2])
    assert not any(module._forward_hooks or module._backward_hooks for module in detector._classifier.modules())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("pretrain", ["input_px=16", "batch_size=8", SMALL, PRECISE]),
        ("finetune", ["strategy=full", "input_px=16", SMALL]),
        ("finetune", ["encoder=imagenet", "strategy=lp-ft"]),
        ("finetune", ["encoder=imagenet"]),  # the trials of auto are interrupted
        ("finetune", ["strategy=full", "network=efficientnet-b0", "input_px=64"]),  # drops whole blocks at random
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else value,
)
def test_resume_of_a_command_reaches_the_same_weights(
    dataset: Dataset, tmp_path: Path, stage: str, settings: list[str], monkeypatch
) -> None:
    from medtl.training import loop

    command = getattr(medtl, stage)
    settings = ["steps=6", "batch_size=4", *settings]
    whole = command(dataset.folder, out=tmp_path / "whole", settings=settings)

    class Stop(Exception):  # noqa: N818
        pass

    def killed(path: Path, **kwargs: object) -> None:
        saved(path, **kwargs)
        if kwargs["pace"]["done"] >= 3:
            raise Stop

    saved = loop.save_checkpoint
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(loop, "save_checkpoint", killed)
    with pytest.raises(Stop):
        command(dataset.folder, out=tmp_path / "parts", settings=settings)
    monkeypatch.setattr(loop, "save_checkpoint", saved)
    resumed = command(dataset.folder, out=tmp_path / "parts", resume=True)  # the run knows its own settings
    name = "encoder.safetensors" if stage == "pretrain" else "model.safetensors"
    assert (whole / name).read_bytes() == (resumed / name).read_bytes()


def test_multi_label_with_unknowns_and_multi_class(scans: Path, tmp_path: Path) -> None:
    paths = sorted((scans / "images").iterdir())
    lines = ["path,patient_id,spot,even_image,odd_patient"]
    classes = ["path,patient_id,a,b,c"]
    for path in paths:
        patient, image = path.stem[1:].split("_")
        spot = int(patient) % 2
        known = "" if int(patient) % 5 == 0 else str(spot)
        lines.append(f"images/{path.name},p{patient},{known},{1 - int(image)},{spot}")
        kind = int(patient) % 3
        classes.append(f"images/{path.name},p{patient}," + ",".join(str(int(kind == i)) for i in range(3)))
    (tmp_path / "multi.csv").write_text("\n".join(lines).replace("images/", f"{scans}/images/"))
    (tmp_path / "class.csv").write_text("\n".join(classes).replace("images/", f"{scans}/images/"))
    data = medtl.ingest(scans, labels=tmp_path / "multi.csv", out=tmp_path / "data", size_px=40)
    settings = ["steps=5", "input_px=16", SMALL]
    multi = medtl.load(medtl.finetune(data.folder, out=tmp_path / "multi", settings=settings))
    assert (multi.bundle.findings, multi.bundle.exclusive) == (("spot", "even_image", "odd_patient"), False)
    single = medtl.load(
        medtl.finetune(data.folder, labels=tmp_path / "class.csv", out=tmp_path / "single", settings=settings)
    )
    assert single.bundle.exclusive
    probabilities = [score.probability for score in single.predict(paths[0]).scores]
    assert sum(probabilities) == pytest.approx(1.0, abs=1e-9)
    medtl.evaluate(
        single.bundle and tmp_path / "single", data.folder, labels=tmp_path / "class.csv", out=tmp_path / "report"
    )
    assert "multiclass" in json.loads((tmp_path / "report/report.json").read_text())


def test_resume_refuses_other_settings_and_a_restart_is_asked_for(
    dataset: Dataset, tmp_path: Path, monkeypatch
) -> None:
    from medtl.training import loop

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        medtl.finetune(dataset.folder, out=tmp_path / "b", settings=["steps=2", "input_px=16", SMALL])
    monkeypatch.undo()
    with pytest.raises(RunError, match=r"was started with steps 2, now it is 3; resume with what it was started with"):
        medtl.finetune(dataset.folder, out=tmp_path / "b", settings=["steps=3"], resume=True)
    with pytest.raises(RunError, match=r"holds a run that did not finish; add --resume to go on with it, delete it"):
        medtl.finetune(dataset.folder, out=tmp_path / "b", settings=["steps=2", "input_px=16", SMALL])
    with pytest.raises(RunError, match="holds no run to resume"):
        medtl.finetune(dataset.folder, out=tmp_path / "c", resume=True)


def test_evaluating_on_training_scans_is_said(
    bundle: Path, dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    medtl.evaluate(bundle, dataset.folder, out=tmp_path / "report", split="train")
    train = (dataset.manifest["split"] == "train").sum()
    assert f"was trained on {train} of these {train} scans; the numbers flatter it" in capsys.readouterr().err
    medtl.evaluate(bundle, dataset.folder, out=tmp_path / "report")
    assert "flatter" not in capsys.readouterr().err


def test_card_says_what_could_not_be_calibrated(scans: Path, tmp_path: Path) -> None:
    data = medtl.ingest(scans, labels=scans / "labels.csv", out=tmp_path / "data", size_px=40)
    train = data.manifest[data.manifest["split"] == "train"].head(10)
    rows = [f"{name},{int(path[8:10]) % 2}" for name, path in zip(train["scan_id"], train["path"], strict=True)]
    (tmp_path / "few.csv").write_text("\n".join(["scan_id,spot", *rows]))
    out = medtl.finetune(
        data.folder, labels=tmp_path / "few.csv", out=tmp_path / "b", settings=["steps=5", "input_px=16", SMALL]
    )
    detector = medtl.load(out)
    assert detector.bundle.thresholds == {"spot": pytest.approx(0.4)} and detector.bundle.temperatures == {"spot": 1.0}
    card = (out / "card.md").read_text()
    assert "none, for want of labels in the val part" in card and "Its probabilities are not calibrated" in card
    assert "spot: its operating point is its share of positives among the labels, 0.400" in card
