"""Encoders on disk: what is saved comes back, what does not fit is refused with a reason."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import medtl
from medtl.data.dataset import Dataset
from medtl.data.preprocess import PreprocessSpec
from medtl.encoders.store import default_start, load_encoder, save_encoder, start_from
from medtl.encoders.table import build_encoder
from medtl.errors import EncoderError, MedtlError
from medtl.inference.bundle import read_bundle

SPEC = PreprocessSpec(size_px=64)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    encoder = build_encoder("resnet18-half", input_px=32)
    save_encoder(folder, encoder, spec=SPEC.at(32), about={"history": ["ImageNet", "simclr"]})
    return folder


def test_round_trip(run: Path) -> None:
    torch.manual_seed(1)
    first, spec, about = load_encoder(run)
    second, _, _ = load_encoder(run)
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(first.eval()(images), second.eval()(images))
    assert (spec, about["history"]) == (SPEC.at(32), ["ImageNet", "simclr"])


def test_start_from_a_run_brings_network_and_history(run: Path) -> None:
    start = start_from(run, spec=SPEC)
    assert (start.encoder.name, start.spec.input_px, start.history) == ("resnet18-half", 32, ("ImageNet", "simclr"))
    larger = start_from(run, spec=SPEC, enlarge=True)
    assert (larger.spec.input_px, larger.encoder.input_px) == (64, 32), "larger scans, with the stem that it has"
    assert start_from(run, spec=SPEC, input_px=48).spec.input_px == 48
    assert start.pretrained


def test_random_start_has_learned_nothing() -> None:
    start = start_from("random", spec=SPEC)
    assert not start.pretrained and start.encoder.name == "resnet18-half"


def test_imagenet_start() -> None:
    start = start_from("imagenet", spec=SPEC)
    assert start.pretrained and start.encoder.name == "efficientnet-lite0" and start.spec.input_px == 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: (run / "encoder.safetensors").unlink(), "encoder.safetensors: no such file"),
        (lambda run: (run / "encoder.safetensors").write_bytes(b"\x00" * 40), "encoder.safetensors: is damaged"),
        (lambda run: (run / "encoder.json").write_text('{"format": 9}'), "has format 9, this medtl reads format 1"),
        (lambda run: (run / "encoder.json").write_text("{"), "is not readable JSON"),
        (lambda run: (run / "encoder.json").write_text('{"format": 1}'), "lacks 'network'"),
        (lambda run: (run / "encoder.json").unlink(), "holds no encoder.json"),
    ],
)
def test_damage_is_named(run: Path, change, message: str) -> None:
    change(run)
    with pytest.raises(MedtlError, match=message):
        start_from(run, spec=SPEC)


def test_truncated_weights_are_named(run: Path) -> None:
    weights = run / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(EncoderError, match="is damaged"):
        start_from(run, spec=SPEC)


def test_weights_of_another_network_are_refused(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    save_encoder(other, build_encoder("resnet10", input_px=32), spec=SPEC, about={"history": []})
    (other / "encoder.safetensors").replace(run / "encoder.safetensors")
    with pytest.raises(
        EncoderError, match="another network than the folder names, or to that of an earlier medtl; make it again"
    ):
        start_from(run, spec=SPEC)


def test_what_does_not_fit_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="holds a resnet18-half, not a resnet50"):
        start_from(run, spec=SPEC, network="resnet50")
    with pytest.raises(
        EncoderError, match="scans of 64 px, this dataset keeps scans of 128 px; ingest again with --size-px 64"
    ):
        start_from(run, spec=PreprocessSpec(size_px=128))
    with pytest.raises(EncoderError, match="ImageNet weights are at hand for efficientnet-lite0 only"):
        start_from("imagenet", spec=SPEC, network="resnet50")
    with pytest.raises(
        EncoderError, match="no such folder or file; expected 'random', 'imagenet', the folder of a run"
    ):
        start_from(tmp_path / "nothing", spec=SPEC)
    for near in ("imagnet", "ImageNet"):
        with pytest.raises(EncoderError, match=rf"^{near}: no such folder or file; did you mean 'imagenet'\?"):
            start_from(near, spec=SPEC)


VOLUMES = PreprocessSpec(dims=3, size_px=32, spacing_mm=1.5, window=("lung", "bone"))


def test_volumes_and_channels_come_back(tmp_path: Path) -> None:
    start = start_from("random", spec=VOLUMES, input_px=16)
    assert (start.encoder.dims, start.encoder.channels, start.encoder.name) == (3, 2, "resnet10-half")
    save_encoder(tmp_path, start.encoder, spec=start.spec, about={"history": []})
    again = start_from(tmp_path, spec=VOLUMES)
    volumes = torch.randn(1, 2, 16, 16, 16)
    assert torch.equal(start.encoder.eval()(volumes), again.encoder.eval()(volumes))
    other = VOLUMES.model_copy(update={"spacing_mm": 2.0})
    with pytest.raises(
        EncoderError, match=r"1.5 mm each.*ingest again with --size-px 32 --spacing-mm 1.5 --window lung"
    ):
        start_from(tmp_path, spec=other)
    with pytest.raises(EncoderError, match="learned from volumes, this dataset keeps images; pretrain on this dataset"):
        start_from(tmp_path, spec=SPEC)


def test_a_run_on_images_does_not_fit_volumes(run: Path) -> None:
    with pytest.raises(EncoderError, match="learned from images, this dataset keeps volumes"):
        start_from(run, spec=VOLUMES)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"dims": 2}, "imagenet"),
        ({"dims": 3}, "imagenet"),
        ({"dims": 3, "network": "resnet18"}, "random"),
        ({"dims": 2, "input_px": 48}, "random"),
        ({"dims": 3, "input_px": 48}, "imagenet"),
        ({"dims": 3, "input_px": 32}, "random"),
    ],
)
def test_the_start_when_nobody_chooses(asked: dict[str, Any], expected: str) -> None:
    assert default_start(**({"network": None, "input_px": None} | asked)) == expected


def test_imagenet_start_for_volumes() -> None:
    start = start_from("imagenet", spec=VOLUMES)
    assert (start.encoder.dims, start.encoder.channels, start.spec.input_px) == (3, 2, 48)


def test_a_bundle_s_encoder_is_a_start(bundle: Path, dataset: Dataset) -> None:
    """Supervised pretraining: what finetune left, on the same or another dataset."""
    settings, classifier = read_bundle(bundle)
    start = start_from(bundle, spec=dataset.spec)
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(start.encoder.eval()(images), classifier.encoder(images))
    assert start.pretrained and (start.origin, start.spec) == (str(bundle), settings.spec)
    assert start.history == ("supervised on 72 scans (spot 36+/36-)",)
    assert start_from(bundle, spec=dataset.spec, input_px=40).spec.input_px == 40


def test_history_grows_with_every_link_of_a_chain(bundle: Path, dataset: Dataset, tmp_path: Path) -> None:
    few = ["steps=1", "batch_size=8"]
    first = medtl.pretrain(dataset.folder, out=tmp_path / "1", from_=bundle, settings=[*few, "precision=32"])
    second = medtl.pretrain(dataset.folder, out=tmp_path / "2", from_=first, settings=[*few, "precision=32"])
    tuned = medtl.finetune(dataset.folder, out=tmp_path / "3", encoder=second, settings=few)
    last = medtl.pretrain(dataset.folder, out=tmp_path / "4", from_=tuned, settings=[*few, "precision=32"])
    history = json.loads((last / "encoder.json").read_text())["history"]
    kinds = ["supervised", "simclr", "simclr", "supervised", "simclr"]
    assert [entry.split()[0] for entry in history] == kinds
    assert json.loads((second / "encoder.json").read_text())["history"] == history[:3]
    assert "supervised on 72 scans (spot 36+/36-) > simclr on" in (tuned / "card.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: (b / "model.safetensors").unlink(), "model.safetensors: no such file"),
        (lambda b: (b / "model.safetensors").write_bytes(b"\x00" * 40), "model.safetensors: is damaged"),
        (lambda b: (b / "bundle.json").write_text("{"), "is not readable JSON"),
        (lambda b: (b / "bundle.json").write_text('{"format": 1}'), "lacks 'training'; the bundle is damaged"),
        (lambda b: (b / "bundle.json").write_text('{"format": 9}'), "has format 9, this medtl reads format 1"),
    ],
)
def test_damage_to_a_bundle_is_named(bundle: Path, dataset: Dataset, tmp_path: Path, change, message: str) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    change(copy)
    with pytest.raises(EncoderError, match=message):
        start_from(copy, spec=dataset.spec)


def test_a_bundle_that_does_not_fit_is_refused(bundle: Path, dataset: Dataset) -> None:
    with pytest.raises(EncoderError, match="holds a resnet10-half, not a resnet50; leave the network out"):
        start_from(bundle, spec=dataset.spec, network="resnet50")
    with pytest.raises(EncoderError, match="scans of 40 px, this dataset keeps scans of 64 px; ingest again with"):
        start_from(bundle, spec=SPEC)
    with pytest.raises(EncoderError, match="learned from images, this dataset keeps volumes"):
        start_from(bundle, spec=VOLUMES)
