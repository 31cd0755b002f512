"""Bundles of medtl 0.1 are read as they were; those with several tasks say what belongs together."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

import medtl
from medtl.data.dataset import Dataset
from medtl.data.tasks import Task
from medtl.encoders.table import build_encoder
from medtl.errors import BundleError
from medtl.inference.bundle import Bundle, Classifier, read_bundle, write_bundle
from medtl.inference.runtime import load, probabilities_of

OLD: dict[str, Any] = {
    "format": 1,
    "name": "old",
    "findings": ["pneumonia", "effusion"],
    "exclusive": False,
    "thresholds": {"pneumonia": 0.31, "effusion": 0.5},
    "temperatures": {"pneumonia": 1.25, "effusion": 1.0},
    "flip_average": False,
    "spec": {"dims": 2, "size_px": 32, "spacing_mm": None, "window": [], "input_px": 32},
    "network": "resnet10-half",
    "input_px": 32,
    "training": {"start": "ImageNet", "labeled_scans": 2, "labels": "pneumonia 1+/1-, effusion 1+/1-"},
    "calibration": "pneumonia on 30 positive and 40 negative scans of the val part",
    "intended_use": "Research use only.",
    "bundle_id": "",
    "medtl": "0.1.0",
    "torch": "2.13.0",
}
"""A bundle.json as medtl 0.1 wrote it."""


def write_old(folder: Path, *, exclusive: bool) -> Classifier:
    """A whole bundle as medtl 0.1 wrote it, signed as it signed."""
    torch.manual_seed(0)
    classifier = Classifier(build_encoder("resnet10-half", input_px=32), 2).eval()
    folder.mkdir()
    model = save({key: value.contiguous() for key, value in classifier.state_dict().items()})
    (folder / "model.safetensors").write_bytes(model)
    reference = {"embeddings": torch.zeros(2, 256).half(), "labels": torch.eye(2)}
    (folder / "reference.safetensors").write_bytes(save(reference, {"scan_ids": '["a", "b"]'}))
    settings = OLD | {"exclusive": exclusive}
    signed = {k: v for k, v in settings.items() if k not in ("format", "medtl", "torch", "bundle_id")}
    digest = hashlib.sha256(model + json.dumps(signed, sort_keys=True).encode())
    settings["bundle_id"] = digest.hexdigest()[:12]
    (folder / "bundle.json").write_text(json.dumps(settings, indent=2))
    return classifier


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_bundle_of_medtl_0_1_is_one_task(tmp_path: Path, exclusive: bool) -> None:
    classifier = write_old(tmp_path / "old", exclusive=exclusive)
    bundle, read = read_bundle(tmp_path / "old")
    assert bundle.tasks == (Task(name="main", findings=("pneumonia", "effusion"), exclusive=exclusive),)
    assert (bundle.exclusive, bundle.caveats) == (exclusive, {})
    blocks = np.random.default_rng(1).integers(0, 256, (8, 1, 32, 32), dtype=np.uint8)
    with torch.inference_mode():
        logits = classifier(bundle.spec.network_input(torch.from_numpy(blocks))).double()
    scaled = logits / torch.tensor([1.25, 1.0])
    expected = scaled.softmax(dim=1) if exclusive else scaled.sigmoid()
    assert np.array_equal(load(tmp_path / "old").predict_stored(blocks), expected.numpy())
    assert [tuple(head.weight.shape) for head in read.heads] == [(2, 256)]


def settings(**changes: Any) -> Bundle:
    findings = ("a", "b", "c", "d")
    tasks = (
        Task(name="one", findings=("a",), exclusive=False),
        Task(name="classes", findings=("b", "c", "d"), exclusive=True),
    )
    plain: dict[str, Any] = {
        "name": "n", "findings": findings, "exclusive": False, "flip_average": True, "tasks": tasks,
        "thresholds": dict.fromkeys(findings, 0.5), "temperatures": {"a": 2.0, "b": 1.5, "c": 1.5, "d": 1.5},
        "spec": OLD["spec"], "network": "resnet10-half", "input_px": 32, "training": {}, "calibration": "none",
        "caveats": {"a": ["taught from 4 scans"]},
    }  # fmt: skip
    from medtl.config import build
    from medtl.data.preprocess import PreprocessSpec

    return Bundle(**(plain | {"spec": build(PreprocessSpec, OLD["spec"])} | changes))


def test_several_tasks_are_written_and_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = Classifier(build_encoder("resnet10-half", input_px=32), 1, 3).eval()
    empty = {"embeddings": torch.zeros(1, 256), "labels": torch.zeros(1, 4), "scan_ids": ["a"]}
    written = write_bundle(tmp_path / "b", settings(), classifier, **empty)
    bundle, read = read_bundle(tmp_path / "b")
    assert bundle == written and bundle.tasks == settings().tasks and bundle.caveats == {"a": ["taught from 4 scans"]}
    for key, value in classifier.state_dict().items():
        assert torch.equal(value, read.state_dict()[key]), key
    blocks = np.random.default_rng(1).integers(0, 256, (3, 1, 32, 32), dtype=np.uint8)
    p = load(tmp_path / "b").predict_stored(blocks)
    images = bundle.spec.network_input(torch.from_numpy(np.concatenate([blocks, np.zeros((5, 1, 32, 32), np.uint8)])))
    with torch.inference_mode():
        both = [[head(classifier.encoder(x)).double()[:3] for x in (images, images.flip(-1))] for head in read.heads]
    one, classes = ((first + second) / 2 for first, second in both)
    np.testing.assert_allclose(p[:, :1], probabilities_of(one, [2.0], exclusive=False), rtol=1e-6)
    np.testing.assert_allclose(p[:, 1:], probabilities_of(classes, [1.5] * 3, exclusive=True), rtol=1e-6)
    card = (tmp_path / "b/card.md").read_text()
    assert "classes (b, c, d): exactly one of these holds for each scan." in card
    assert "- a: taught from 4 scans" in card


def test_heads_read_the_levels_that_the_bundle_names(tmp_path: Path) -> None:
    """Also after a copy; a bundle that names others is damaged, and its similar cases know the last level only."""
    torch.manual_seed(0)
    encoder = build_encoder("resnet10-half", input_px=32)
    encoder.multilevel = True
    classifier = Classifier(encoder, 1).eval()
    assert classifier.head.in_features == 32 + 64 + 128 + 256
    about = settings(
        findings=("a",), tasks=(), exclusive=False, thresholds={"a": 0.5}, temperatures={"a": 1.25}, flip_average=False,
        bands={}, caveats={}, levels=encoder.widths,
    )  # fmt: skip
    two = {"embeddings": torch.randn(2, 480), "labels": torch.ones(2, 1), "scan_ids": ["a", "b"]}
    written = write_bundle(tmp_path / "b", about, classifier, **two)
    detector = load(tmp_path / "b")
    stored = np.random.default_rng(0).integers(0, 255, (3, 1, 32, 32)).astype(np.uint8)
    images = written.spec.network_input(torch.from_numpy(stored))
    with torch.no_grad():
        expected = (classifier(images).double() / 1.25).sigmoid().numpy()
        every = encoder(images).numpy()
    probabilities, embedded, distances = detector.look(stored)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(embedded, every[:, -256:], atol=1e-5)
    assert detector.reference.levels == (32, 64, 128, 256) and detector.reference.directions.shape == (2, 256)
    np.testing.assert_allclose(distances, detector.reference.distance(every), rtol=1e-3)

    told = json.loads((tmp_path / "b" / "bundle.json").read_text())
    (tmp_path / "b" / "bundle.json").write_text(json.dumps(told | {"levels": [32, 64, 256]}))
    with pytest.raises(BundleError, match="its levels are not those of resnet10-half; the bundle is damaged"):
        load(tmp_path / "b")


def test_tasks_must_be_those_of_the_findings() -> None:
    with pytest.raises(BundleError, match="its tasks are not those of its findings; the bundle is damaged"):
        settings(findings=("a", "b", "c"))
    with pytest.raises(BundleError, match="its tasks are not those of its findings"):
        settings(exclusive=True)


def test_card_and_report_name_the_side_that_the_network_sees(tmp_path: Path, dataset: Dataset) -> None:
    """A run that learned at 32 px sees scans at 40 px when it is fine-tuned; its network stays the one for 32."""
    classifier = Classifier(build_encoder("resnet10-half", input_px=32), 1)
    bundle = Bundle(
        name="b", findings=("spot",), exclusive=False, thresholds={"spot": 0.5}, temperatures={"spot": 1.0},
        flip_average=False, spec=dataset.spec.at(40), network="resnet10-half", input_px=32, training={},
        calibration="none",
    )  # fmt: skip
    write_bundle(
        tmp_path / "b", bundle, classifier, embeddings=torch.ones(2, classifier.encoder.widths[-1]),
        labels=torch.tensor([[0.0], [1.0]]), scan_ids=["x", "y"],
    )  # fmt: skip
    medtl.evaluate(tmp_path / "b", dataset.folder, out=tmp_path / "report")
    for page in ("b/card.md", "report/report.html"):
        text = (tmp_path / page).read_text()
        assert "resnet10-half at 40 px" in text and "at 32 px" not in text
