"""Checkpoints of others: the same embedding as their own network gives, and one clear line for what is none."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import medtl
from medtl.data.dataset import Dataset
from medtl.data.preprocess import PreprocessSpec
from medtl.encoders.foreign import read_checkpoint
from medtl.encoders.store import load_encoder, save_encoder, start_from
from medtl.encoders.table import build_encoder
from medtl.errors import EncoderError
from medtl.inference.bundle import read_bundle
from tests.encoders.torchvision_resnet import DEVIATION, MEAN, TorchvisionResNet, normalised, sequence

SPEC = PreprocessSpec(size_px=64)
GRAY = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
MID_GRAY = (0.5 - MEAN) / DEVIATION


@pytest.fixture(scope="module")
def oracle() -> TorchvisionResNet:
    return TorchvisionResNet("resnet18").eval()


@pytest.fixture
def file(oracle: TorchvisionResNet, tmp_path: Path) -> Path:
    torch.save(oracle.state_dict(), tmp_path / "resnet18.pth")
    return tmp_path / "resnet18.pth"


def embedding(path: Path, images: Tensor = GRAY, *, spec: PreprocessSpec = SPEC) -> Tensor:
    with torch.no_grad():
        return start_from(path, spec=spec).encoder.eval()(images)


def close(ours: Tensor, expected: Tensor) -> None:
    """Equal but for float32: colours are summed before instead of after the products."""
    assert expected.std() > 0.01, "the oracle's embedding says something"
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_torchvision_s_layout_gives_torchvision_s_embedding(name: str, tmp_path: Path) -> None:
    network = TorchvisionResNet(name).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    start = start_from(tmp_path / "weights.safetensors", spec=SPEC)
    assert start.encoder.name == name and start.pretrained
    with torch.no_grad():
        # Our padding is x = 0, mid gray, so the oracle's image lies on mid gray as well.
        close(start.encoder.eval()(GRAY), network(normalised(GRAY), border=MID_GRAY))


def test_colours_are_seen_as_torchvision_sees_them(oracle: TorchvisionResNet, file: Path) -> None:
    colours = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        expected = oracle(normalised(colours), border=MID_GRAY)
    close(embedding(file, colours, spec=PreprocessSpec(size_px=64, colour=True)), expected)


def test_torchvision_s_own_border_moves_the_embedding_little(oracle: TorchvisionResNet, file: Path) -> None:
    """Torchvision pads with the colours' mean, a gray of 0.41 to 0.49, where we pad with 0.5."""
    with torch.no_grad():
        expected, other = oracle(normalised(GRAY)), oracle(normalised(-GRAY))
    moved = (embedding(file) - expected).norm()
    assert 0 < moved < 0.05 * expected.norm()
    assert moved < 0.5 * (other - expected).norm()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_radimagenet_s_layout_expects_our_range(name: str, tmp_path: Path) -> None:
    """Its networks see -1..1, black to white, so the border is theirs too."""
    network = TorchvisionResNet(name).eval()
    torch.save(sequence(network.state_dict()), tmp_path / "RadImageNet.pt")
    assert not read_checkpoint(tmp_path / "RadImageNet.pt").normalised
    with torch.no_grad():
        close(embedding(tmp_path / "RadImageNet.pt"), network(GRAY.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"epoch": 3, "state_dict": {f"module.encoder.{key}": value for key, value in state.items()}},
        lambda state: {"model": {"state_dict": {f"net.{key}": value for key, value in state.items()}}},
        lambda state: {"model": {f"backbone.{key}": value for key, value in state.items()} | {"fc.weight": MEAN}},
        lambda state: {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
    ],
    ids=["module", "state_dict, module.encoder", "model, state_dict, net", "backbone, own fc", "before torch 0.4.1"],
)
def test_wrappings_are_taken_off(oracle: TorchvisionResNet, file: Path, tmp_path: Path, wrap) -> None:
    torch.save(wrap(oracle.state_dict()), tmp_path / "wrapped.pt")
    assert torch.equal(embedding(tmp_path / "wrapped.pt"), embedding(file))


def test_files_of_torch_before_1_6_and_half_precision_are_read(oracle, file: Path, tmp_path: Path) -> None:
    torch.save(oracle.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(embedding(tmp_path / "old.pth"), embedding(file))
    half = {key: w.half() if w.is_floating_point() else w for key, w in oracle.state_dict().items()}
    save_file(half, tmp_path / "half.safetensors")
    torch.testing.assert_close(embedding(tmp_path / "half.safetensors"), embedding(file), rtol=0.02, atol=0.01)


def test_the_stem_is_the_checkpoint_s_at_every_size_and_comes_back(file: Path, tmp_path: Path) -> None:
    for side in (28, 64):
        start = start_from(file, spec=SPEC, input_px=side)
        assert start.spec.input_px == side
        assert start.encoder.net.conv1.kernel_size == (7, 7) and not start.encoder.net.no_max_pool
    save_encoder(tmp_path, start.encoder, spec=start.spec, about={"history": list(start.history)})
    again, spec, about = load_encoder(tmp_path)
    assert torch.equal(again.eval()(GRAY), embedding(file)) and spec.input_px == 64
    assert about["history"][0].startswith("resnet18 of resnet18.pth (sha256 ")


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_equal_channels_give_what_gray_gives(file: Path, channels: int) -> None:
    windows = ("lung", "bone", "brain", "liver", "subdural")[:channels]
    several = PreprocessSpec(size_px=64, window=windows)
    close(embedding(file, GRAY.expand(-1, channels, -1, -1), spec=several), embedding(file))


def test_a_volume_that_does_not_change_along_depth_is_seen_as_its_plane(file: Path) -> None:
    volumes = PreprocessSpec(dims=3, size_px=64, spacing_mm=1.0)
    deep, plane = start_from(file, spec=volumes).encoder.eval(), start_from(file, spec=SPEC).encoder.eval()
    assert deep.net.conv1.kernel_size == (7, 7, 7)
    gray = GRAY[:1, :, :32, :32]
    with torch.no_grad():
        x, y = gray, gray[:, :, None].repeat(1, 1, 64, 1, 1)  # deep enough that the middle sees no border
        for name in ("conv1", "bn1", "act", "maxpool", "layer1"):
            x, y = getattr(plane.net, name)(x), getattr(deep.net, name)(y)
    close(y[:, :, y.shape[2] // 2], x)


def test_it_can_be_trained_and_tuned(file: Path, dataset: Dataset, tmp_path: Path) -> None:
    small = ["steps=1", "batch_size=8", "input_px=32"]
    run = medtl.pretrain(dataset.folder, out=tmp_path / "run", from_=file, settings=[*small, "precision=32"])
    history = json.loads((run / "encoder.json").read_text())["history"]
    assert history[0].startswith("resnet18 of resnet18.pth (sha256 ") and history[1].startswith("simclr on")
    bundle, classifier = read_bundle(medtl.finetune(dataset.folder, out=tmp_path / "b", encoder=run, settings=small))
    assert (bundle.network, bundle.spec.input_px) == ("resnet18", 32)
    assert classifier.encoder.net.conv1.kernel_size == (7, 7), "the bundle builds the same stem"
    assert bundle.training["start"] == " > ".join(history)


def changed(state: dict[str, Tensor], **changes: Tensor | None) -> dict[str, Tensor]:
    state = state | {key.replace("__", "."): value for key, value in changes.items() if value is not None}
    return {key: value for key, value in state.items() if changes.get(key.replace(".", "__"), value) is not None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: changed(s, layer2__0__conv1__weight=None), "lacks 'layer2.0.conv1.weight' of a resnet18"),
        (lambda s: changed(s, bn1__weight=torch.ones(32)), r"'bn1.weight' has the shape \(32,\), that of a resnet18"),
        (lambda s: changed(s, conv1__weight=torch.ones(64, 1, 7, 7)), r"'conv1.weight' has the shape \(64, 1, 7, 7\)"),
        (lambda s: changed(s, bn1__bias=torch.full((64,), torch.nan)), "'bn1.bias' holds values that are not finite"),
        (lambda s: changed(s, head__0__weight=MEAN), "holds 'head.0.weight', which a resnet18 has not"),
        (lambda s: changed(s, layer3__2__conv1__weight=MEAN), "a ResNet of 2-2-3-2 basic blocks; ResNet-18"),
        (lambda s: {"features.conv0.weight": MEAN}, "another architecture.*first tensor is 'features.conv0.weight'"),
        (lambda s: {"fc.weight": MEAN}, "another architecture"),
        (lambda s: {"state_dict": {}}, "holds no tensors by name"),
        (lambda s: [MEAN, MEAN], "holds no tensors by name"),
        (lambda s: {"state_dict": s, "args": argparse.Namespace(lr=1)}, "holds more than tensors; save a state_dict"),
        (lambda s: nn.Linear(2, 2), "holds more than tensors; save a state_dict"),
        (lambda s: build_encoder("resnet18-half", input_px=64).net.state_dict(), "belongs to another network"),
    ],
)
def test_other_contents_are_refused(oracle: TorchvisionResNet, tmp_path: Path, change, message: str) -> None:
    torch.save(change(oracle.state_dict()), tmp_path / "other.pth")
    with pytest.raises(EncoderError, match=rf"other\.pth: .*{message}") as refusal:
        start_from(tmp_path / "other.pth", spec=SPEC)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "notes.pth",
            lambda b: b"a list of weights\n" * 9,
            "is no checkpoint; expected a .safetensors file, or a .pth",
        ),
        ("notes.safetensors", lambda b: b"a list of weights\n" * 9, "is no checkpoint, or is damaged"),
        ("empty.pth", lambda b: b"", "is no checkpoint"),
        ("cut.pth", lambda b: b[: len(b) // 2], "is no checkpoint, or is damaged; copy it again"),
        ("end.pth", lambda b: b[:-30], "is no checkpoint, or is damaged; copy it again"),
        ("cut.safetensors", lambda b: b[:100], "is no checkpoint, or is damaged"),
    ],
)
def test_other_files_are_refused(file: Path, tmp_path: Path, name: str, change, message: str) -> None:
    (tmp_path / name).write_bytes(change(file.read_bytes()))
    with pytest.raises(EncoderError, match=f"{name}: {message}") as refusal:
        start_from(tmp_path / name, spec=SPEC)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_old_files_cut_short_are_refused(oracle: TorchvisionResNet, tmp_path: Path, share: float) -> None:
    torch.save(oracle.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "old.pth").read_bytes()
    (tmp_path / "old.pth").write_bytes(content[: int(share * len(content))])
    with pytest.raises(EncoderError, match="is no checkpoint, or is damaged"):
        start_from(tmp_path / "old.pth", spec=SPEC)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harm",)

    for zipped in (True, False):
        torch.save({"conv1.weight": MEAN, "x": Harm()}, tmp_path / "h.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(EncoderError, match="holds more than tensors"):
            start_from(tmp_path / "h.pth", spec=SPEC)
    assert not (tmp_path / "harm").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_program_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "script.pt")
    with pytest.raises(EncoderError, match="is a TorchScript program; save its state_dict"):
        start_from(tmp_path / "script.pt", spec=SPEC)


def test_another_network_than_asked_is_refused(file: Path) -> None:
    with pytest.raises(EncoderError, match="holds a resnet18, not a resnet50; leave the network out"):
        start_from(file, spec=SPEC, network="resnet50")


def test_of_a_run_or_bundle_the_folder_is_wanted(bundle: Path, tmp_path: Path) -> None:
    save_encoder(tmp_path, build_encoder("resnet18-half", input_px=32), spec=SPEC.at(32), about={"history": []})
    for path in (tmp_path / "encoder.safetensors", bundle / "model.safetensors"):
        with pytest.raises(EncoderError, match="is part of what medtl left in its folder; give the folder"):
            start_from(path, spec=SPEC)
