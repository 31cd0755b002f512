"""Settings: strict keys, YAML then --set then options, messages a person can act on."""

from pathlib import Path

import pytest
import yaml

from medtl.config import build, closest, dump, load
from medtl.errors import ConfigError
from medtl.finetuning.config import FinetuneConfig
from medtl.pretraining.pretrain import PretrainConfig

ROOT = Path(__file__).parents[1]


def read(**values: object) -> PretrainConfig:
    return load(PretrainConfig, file=None, settings=[], **values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["batchsize=64"], r"unknown key 'batchsize'; did you mean 'batch_size'\?"),
        (["views.flp=0.5"], r"unknown key 'views.flp'; did you mean 'flip'\?"),
        (["frm=imagenet"], r"unknown key 'frm'; did you mean 'from'\?"),
        (["zzz=1"], "unknown key 'zzz'; choose from: method, from, frozen, network"),
        (["lr=fast"], "lr: Input should be a valid number.*found 'fast'"),
        (["lr=-1"], "lr: Input should be greater than 0"),
        (["views.flip=2"], "views.flip: Input should be less than or equal to 1"),
        (["input_px=0"], r"input_px: Input should be greater than 0 \(found 0\)"),
        (["input_px=10000000"], r"input_px: Input should be less than or equal to 2048"),
        (["LR=1"], r"unknown key 'LR'; did you mean 'lr'\?"),
        (["lr"], "--set lr: expected key=value, such as --set batch_size=64"),
        (["lr=[1"], "the value is not YAML"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(PretrainConfig, file=None, settings=settings)
    assert "\n" not in str(caught.value)


def test_options_override_set_overrides_file_overrides_default(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("lr: 1e-2\nbatch_size: 16\nsteps: 7\nfrom: imagenet\nviews:\n  flip: 0.5\n")
    config = load(
        PretrainConfig, file=file, settings=["batch_size=32", "steps=8", "views.noise=0.1"], steps=9, minutes=None
    )
    assert (config.lr, config.batch_size, config.steps, config.from_) == (0.01, 32, 9, "imagenet")
    assert (config.views.flip, config.views.noise, config.views.rotation_deg) == (0.5, 0.1, 15.0)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing.yaml: no such file"):
        load(PretrainConfig, file=tmp_path / "nothing.yaml", settings=[])
    broken = tmp_path / "broken.yaml"
    for text, said in {
        "- a\n- b\n": r"holds a list; expected a YAML mapping, lines such as batch_size: 64$",
        "steps\n": r"holds a single value; expected a YAML mapping",
        "1: 2\n": r"has the key 1; expected names of settings",
        "a: [": r"is not a readable YAML mapping",
    }.items():
        broken.write_text(text)
        with pytest.raises(ConfigError, match=rf"broken.yaml: {said}"):
            load(PretrainConfig, file=broken, settings=[])


def test_what_is_dumped_is_read_back_the_same() -> None:
    config = read(**{"from": "imagenet", "views": {"flip": 0.25}})
    assert build(PretrainConfig, yaml.safe_load(dump(config))) == config


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_is_valid(path: Path) -> None:
    model = PretrainConfig if path.name.startswith("pretrain") else FinetuneConfig
    load(model, file=path, settings=[])
    assert f"--config configs/{path.name}" in path.read_text().splitlines()[0], "the first line says how to use it"


@pytest.mark.parametrize("model", [PretrainConfig, FinetuneConfig])
def test_every_field_is_documented(model: type) -> None:
    assert not [name for name, field in model.model_fields.items() if not field.description]


def test_names_of_methods_are_taken_in_any_case() -> None:
    assert read(method="SimCLR+MAE").method == "simclr+mae"
    assert closest("MAEE", ["simclr", "mae"]) == "; did you mean 'mae'?"
    assert closest("dx", ["DX", "CR"]) == "; did you mean 'DX'?"
    assert closest("zzz", ["DX", "CR"]) == "; choose from: DX, CR"
