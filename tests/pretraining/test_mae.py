"""MAE: the transformer sees visible patches only."""

from pathlib import Path

import pytest
import torch

import medtl
from medtl.data.dataset import Dataset
from medtl.encoders.table import Encoder, build_encoder
from medtl.encoders.vit import VisionTransformer
from medtl.errors import ConfigError
from medtl.pretraining.methods import METHODS, network_for
from medtl.pretraining.objectives.mae import MAE, MAEConfig
from medtl.pretraining.objectives.patches import cut, hidden_loss
from tests.pretraining.toys import batch, blobs, losses, mean, stripes


def mae(side: int = 32, dims: int = 2, channels: int = 1) -> MAE:
    torch.manual_seed(0)
    return MAE(build_encoder("vit-tiny", input_px=side, dims=dims, channels=channels), MAEConfig())


@pytest.mark.parametrize(("side", "dims"), [(32, 2), (16, 3)])
def test_hidden_pixels_change_nothing_but_the_target(side: int, dims: int) -> None:
    objective = mae(side, dims)
    images = blobs(4, side, dims=dims)
    with torch.no_grad():
        predicted, hidden = objective.restored(images, batch(images))
        patch = objective.encoder.net.patch_px
        cells = side // patch
        mask = hidden.reshape(4, 1, *[cells] * dims)
        for axis in range(2, 2 + dims):
            mask = mask.repeat_interleave(patch, dim=axis)
        other = torch.where(mask, torch.rand_like(images), images)
        again, _ = objective.restored(other, batch(images))
        seen = torch.where(mask, images, torch.rand_like(images))
        different, _ = objective.restored(seen, batch(images))
    assert hidden.sum(dim=1).tolist() == [round(0.75 * cells**dims)] * 4
    assert torch.equal(predicted, again) and not torch.allclose(predicted, different)


def test_loss_is_that_of_the_hidden_patches_and_the_same_again() -> None:
    objective = mae(channels=2)
    images = blobs(4, 32, channels=2)
    predicted, hidden = objective.restored(images, batch(images))
    assert predicted.shape == cut(images, 4).shape
    loss, _ = objective(batch(images))
    assert torch.equal(loss, hidden_loss(predicted, images, hidden, 4)) and torch.equal(
        loss, objective(batch(images))[0]
    )
    assert not torch.equal(loss, objective(batch(images, seed=1))[0])


def test_patches_that_are_not_known_are_told_apart_by_place() -> None:
    objective = mae()
    images = blobs(2, 32)
    predicted, hidden = objective.restored(images, batch(images))
    unknown = predicted[0][hidden[0]]
    assert (unknown[0] - unknown[1]).abs().max() > 1e-3


@pytest.mark.parametrize(("dims", "side"), [(2, 32), (3, 16)])
def test_learns(dims: int, side: int) -> None:
    torch.manual_seed(0)
    net = VisionTransformer(dims=dims, channels=1, patch_px=8, reference=side / 8, width=96, depth=2)
    encoder = Encoder(net, name="small", input_px=side, embedding_dim=96, cam_layer="net.map", dims=dims)
    objective = MAE(encoder, MAEConfig(mask_ratio=0.5))
    found = losses(objective, side=side, dims=dims, steps=60, size=8, images=stripes)
    assert mean(found[-10:]) < 0.6, "1 is what each patch's mean gives"


def test_convolutions_are_sent_to_spark() -> None:
    encoder = build_encoder("resnet10-half", input_px=32)
    with pytest.raises(ConfigError, match=r"resnet10-half is no transformer; --method spark .* network=vit-tiny"):
        MAE(encoder, MAEConfig())


def test_the_method_brings_its_network(tmp_path: Path, dataset: Dataset) -> None:
    assert network_for("simclr") is None and network_for("simclr+mae") == METHODS["mae"].network == "vit-tiny"
    small = ["steps=2", "batch_size=8", "input_px=16", "precision=32"]
    run = medtl.pretrain(dataset.folder, out=tmp_path / "mae", method="mae", settings=small)
    assert "network: vit-tiny" in (run / "config.yaml").read_text()
    again = medtl.pretrain(dataset.folder, out=tmp_path / "simclr", from_=run, settings=small)
    assert "network: vit-tiny" in (again / "config.yaml").read_text()
    cnn = medtl.pretrain(dataset.folder, out=tmp_path / "cnn", settings=[*small, "network=resnet10-half"])
    with pytest.raises(ConfigError, match="resnet10-half is no transformer"):
        medtl.pretrain(dataset.folder, out=tmp_path / "wrong", method="mae", from_=cnn, settings=small)
