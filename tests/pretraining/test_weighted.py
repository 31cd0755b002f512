"""Several objectives at once, and pairs by patient, through the module and through `medtl.pretrain`."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import medtl
from medtl.data.dataset import Dataset
from medtl.errors import ConfigError, EncoderError, RunError
from medtl.pretraining import methods
from medtl.pretraining.objectives.weighted import build_weighted
from medtl.training import loop
from tests.pretraining.tiny import tiny_encoder, views_of

pytestmark = pytest.mark.usefixtures("rotation")
SCANS = torch.randn(12, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def built(method: str = "simclr+rotation", *, objective=None, weights=None, dims: int = 2):
    torch.manual_seed(0)
    return build_weighted(method, objective or {}, weights or {}, tiny_encoder(dims=dims))


def test_the_loss_is_the_weighted_sum_and_figures_have_names() -> None:
    module, settings = built(weights={"rotation": 0.25, "simclr": 2.0}, objective={"simclr": {"temperature": 0.5}})
    total, figures = module(views_of(SCANS))
    views = views_of(SCANS)
    alone = {
        name: objective(replace(views, draws=views.draws.named(name)))[0].item()
        for name, objective in module.objectives.items()
    }
    assert total.item() == pytest.approx(2 * alone["simclr"] + 0.25 * alone["rotation"], rel=1e-5)
    assert set(figures) == {"simclr.loss", "simclr.top1", "simclr.std", "rotation.loss", "rotation.right"}
    assert figures["simclr.loss"] == pytest.approx(alone["simclr"], abs=1e-4)  # figures are rounded
    assert module.objectives["simclr"].temperature == 0.5
    assert settings == {
        "objective": {"simclr": {"temperature": 0.5, "projection_dim": 128}, "rotation": {"hidden_dim": 128}},
        "weights": {"simclr": 2.0, "rotation": 0.25},
    }


def test_gradients_reach_the_shared_encoder_from_each_by_its_weight() -> None:
    def gradient(weights: dict[str, float]) -> torch.Tensor:
        module, _ = built(weights=weights)
        module(views_of(SCANS))[0].backward()
        return module.objectives["simclr"].encoder.net[1].weight.grad

    both, first, second = (gradient({"simclr": a, "rotation": b}) for a, b in [(0.5, 3.0), (1.0, 0.0), (0.0, 1.0)])
    assert first.abs().max() > 0 and second.abs().max() > 0
    torch.testing.assert_close(both, 0.5 * first + 3 * second, rtol=1e-4, atol=1e-6)
    module, _ = built()
    assert len({id(objective.encoder) for objective in module.objectives.values()}) == 1
    assert (module.n_views, module.n_crops) == (2, 0)


def test_the_order_of_names_does_not_matter_to_what_each_draws() -> None:
    first, second = (built(name)[0] for name in ("simclr+rotation", "rotation+simclr"))
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first(views_of(SCANS))[0], second(views_of(SCANS))[0])


def test_one_alone_keeps_plain_names_and_its_weight() -> None:
    module, settings = built("rotation", objective={"hidden_dim": 8}, weights={"rotation": 3.0})
    total, figures = module(views_of(SCANS))
    assert total.item() == pytest.approx(3 * module.objectives["rotation"](views_of(SCANS))[0].item(), rel=1e-5)
    assert set(figures) == {"right"}
    assert settings == {"objective": {"hidden_dim": 8}, "weights": {"rotation": 3.0}}


def test_each_is_told_that_a_step_is_done(rotation, monkeypatch) -> None:
    module, _ = built()
    told = []
    for name, objective in module.objectives.items():
        monkeypatch.setattr(objective, "after_step", lambda done, name=name: told.append((name, done)))
    module.after_step(0.25)
    assert told == [("simclr", 0.25), ("rotation", 0.25)]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"weights": {"rotaton": 1.0}}, "weights: 'rotaton' is none of the methods of this run, write weights.METHOD; "
                                        "did you mean 'rotation'?"),
        ({"weights": {"x": 1.0}}, "write weights.METHOD; choose from: simclr, rotation"),
        ({"weights": {"rotation": -1.0}}, "weights.rotation: is -1; expected 0 or more"),
        ({"method": "simclr", "weights": {"simclr": 0}}, "weights: all are 0, so nothing is learned; give simclr a "
                                                         "weight above 0"),
        ({"weights": {"rotation": 0.0, "simclr": 0.0}}, "weights: all are 0"),
        ({"objective": {"temperature": 0.1}}, "objective: 'temperature' is none of the methods of this run, write "
                                              "objective.METHOD; choose from: simclr, rotation"),
        ({"objective": {"simcl": {"temperature": 0.1}}}, "did you mean 'simclr'?"),
        ({"objective": {"simclr": {"temprature": 0.1}}}, "objective.simclr: unknown key 'temprature'; did you mean "
                                                         "'temperature'?"),
        ({"objective": {"simclr": {"temperature": -1}}}, "objective.simclr: temperature: Input should be greater"),
        ({"objective": {"simclr": 0.1}}, "objective.simclr: is 0.1; expected settings, such as "
                                         "objective.simclr.KEY=VALUE"),
        ({"method": "simclr", "weights": {"rotation": 1.0}}, "weights: 'rotation' is none of the methods of this run"),
        ({"method": "simclr", "objective": {"temprature": 1}}, "objective: unknown key 'temprature'; did you mean"),
        ({"method": "simclr+rotatoin"}, "unknown method 'rotatoin'; did you mean 'rotation'?"),
        ({"method": "simclr+"}, "method 'simclr+' lacks a name beside +; choose from: simclr, moco"),
        ({"method": ""}, "method '' lacks a name; choose from: simclr"),
        ({"method": "simclr+simclr"}, "method 'simclr+simclr' names one objective twice; use its weight instead"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(asked: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        built(**asked)


def test_a_method_for_images_does_not_take_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = replace(methods.METHODS["rotation"], dims=(2,))
    monkeypatch.setattr(methods, "METHODS", {**methods.METHODS, "rotation": plane})
    with pytest.raises(ConfigError, match="method 'rotation' is not for volumes; medtl methods lists those that are"):
        built(dims=3)


SMALL = ["batch_size=8", "input_px=16", "network=resnet10-half", "precision=32"]
COMBINED = [*SMALL, "steps=12", "weights.rotation=0.5", "objective.simclr.temperature=0.1"]


def test_a_combined_run_says_what_it_did_and_resumes_to_the_same_weights(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"method": "simclr+rotation", "settings": COMBINED}
    whole = medtl.pretrain(dataset.folder, out=tmp_path / "whole", **asked)
    last = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])
    # Figures are rounded to four places.
    assert last["loss"] == pytest.approx(last["simclr.loss"] + 0.5 * last["rotation.loss"], abs=1e-3)
    config = yaml.safe_load((whole / "config.yaml").read_text())
    assert config["weights"] == {"simclr": 1.0, "rotation": 0.5}
    assert config["objective"]["simclr"] == {"temperature": 0.1, "projection_dim": 128}
    history = json.loads((whole / "encoder.json").read_text())["history"]
    assert history[0].startswith("simclr+rotation on")

    class Stop(Exception):  # noqa: N818
        pass

    def killed(path: Path, **kwargs: object) -> None:
        saved(path, **kwargs)
        if kwargs["pace"]["done"] >= 5:
            raise Stop

    saved = loop.save_checkpoint
    with monkeypatch.context() as patched:
        patched.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
        patched.setattr(loop, "save_checkpoint", killed)
        with pytest.raises(Stop):
            medtl.pretrain(dataset.folder, out=tmp_path / "parts", **asked)
    with pytest.raises(RunError, match="was started with weights"):
        other = [*COMBINED, "weights.rotation=0.7"]
        medtl.pretrain(dataset.folder, out=tmp_path / "parts", resume=True, method="simclr+rotation", settings=other)
    resumed = medtl.pretrain(dataset.folder, out=tmp_path / "parts", resume=True, **asked)  # the very same command
    assert (whole / "encoder.safetensors").read_bytes() == (resumed / "encoder.safetensors").read_bytes()


def test_a_chain_of_two_methods_keeps_both_in_its_history(dataset: Dataset, tmp_path: Path) -> None:
    first = medtl.pretrain(dataset.folder, out=tmp_path / "1", method="rotation", settings=[*SMALL, "steps=1"])
    few = ["steps=1", "batch_size=8", "precision=32"]
    second = medtl.pretrain(dataset.folder, out=tmp_path / "2", method="simclr", from_=first, settings=few)
    about = json.loads((second / "encoder.json").read_text())
    assert [entry.split()[0] for entry in about["history"]] == ["rotation", "simclr"]
    assert (about["input_px"], about["method"]) == (16, "simclr")
    with pytest.raises(EncoderError, match="holds a resnet10-half, not a resnet10; leave the network out"):
        medtl.pretrain(dataset.folder, out=tmp_path / "3", from_=first, settings=["network=resnet10"])


def test_pairs_by_patient_show_two_scans_of_one_patient(dataset: Dataset, tmp_path: Path) -> None:
    """Views that change nothing are equal if they show one scan, and each is then nearest to its partner at once."""
    same = ["views.crop_area=[1.0,1.0]", "views.crop_aspect=1", "views.rotation_deg=0", "views.brightness=0"]
    same += [
        "views.contrast=0",
        "views.gamma=0",
        "views.blur_px=0",
        "views.noise=0",
        "views.elastic=0",
        "steps=1",
        "batch_size=64",
        "input_px=32",
        "network=resnet10-half",
        "precision=32",
    ]
    top1 = {}
    for pairs in ("scan", "patient"):
        run = medtl.pretrain(dataset.folder, out=tmp_path / pairs, settings=[*same, f"pairs={pairs}"])
        top1[pairs] = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["top1"]
        assert yaml.safe_load((run / "config.yaml").read_text())["pairs"] == pairs
    # Every patient has two scans: pure noise, or noise with a spot somewhere.
    assert top1["scan"] == 1.0 and top1["patient"] < 0.5
    with pytest.raises(ConfigError, match="pairs: Input should be 'scan', 'study' or 'patient'"):
        medtl.pretrain(dataset.folder, out=tmp_path / "x", settings=["pairs=person"])
