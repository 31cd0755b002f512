"""`medtl study`: the same numbers after a kill, nobody influenced by being watched, clear lines for bad input."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

import medtl
from medtl.config import build
from medtl.data.dataset import Dataset
from medtl.data.preprocess import PreprocessSpec
from medtl.encoders.store import save_encoder, start_from
from medtl.encoders.table import build_encoder
from medtl.errors import ConfigError, EncoderError, LabelError, RunError, Stopped
from medtl.finetuning.config import FinetuneConfig, filled_in
from medtl.finetuning.fit import fit
from medtl.finetuning.parts import split_labeled
from medtl.progress import part_of_more, progress, say
from medtl.studying import study as module
from medtl.studying.config import StudyConfig
from medtl.studying.starts import minutes_of

FAST = ["steps=6", "input_px=32", "batch_size=8", "network=resnet10-half"]


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    settings = ["steps=2", "batch_size=8", "input_px=32", "network=resnet10-half"]
    return medtl.pretrain(dataset.folder, out=out, settings=settings)


def studied(dataset: Dataset, out: Path, run: Path, **options) -> Path:
    asked = {"starts": ["random", str(run)], "labels_per_class": [4], "seeds": 2, "strategy": "lp-ft", "settings": FAST}
    return medtl.study(dataset.folder, out=out, **asked | options)


@pytest.fixture(scope="module")
def whole(dataset: Dataset, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studied(dataset, tmp_path_factory.mktemp("whole") / "study", run)


def test_numbers_follow_from_the_files_beside_them(whole: Path) -> None:
    content = json.loads((whole / "study.json").read_text())
    scans = pd.read_csv(whole / "test_scans.csv")
    assert [each["strategy"] for each in content["fits"]] == ["full", "lp-ft"] * 2
    for each in content["fits"]:
        logits = np.load(whole / each["logits"])
        expected = roc_auc_score(scans["spot"], logits[:, 0])
        assert each["findings"]["spot"]["auroc"]["value"] == pytest.approx(expected)
        assert each["convergence"][-1]["aurocs"] == [pytest.approx(expected)], "24 scans: all are looked at"
        assert [mark["step"] for mark in each["convergence"]] == [0, 1, 1, 2, 3, 6]
        assert each["n_labels"] == 8
    assert any("(random weights 600, run 100)" in text for text in content["caveats"]), "6 steps were asked for"
    assert sorted(path.name for path in whole.iterdir()) == [
        "fits", "plan.json", "study.html", "study.json", "test_scans.csv"
    ]  # fmt: skip


def test_a_study_that_is_stopped_goes_on_to_the_same_numbers(
    dataset: Dataset, run: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    real, calls = module.fine_tune, []

    def killed(*arguments, **more):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(arguments[1])
        return real(*arguments, **more)

    monkeypatch.setattr(module, "fine_tune", killed)
    with pytest.raises(Stopped, match="stopped with 2 of 4 fine-tunings done") as stopped:
        studied(dataset, tmp_path / "s", run)
    assert stopped.value.again == () and not (tmp_path / "s/study.json").exists()
    (tmp_path / "s/fits/random-4-per-class-1.npy").write_bytes(b"half")  # as a kill between the two files leaves it
    monkeypatch.setattr(module, "fine_tune", lambda *a, **b: calls.append(a[1]) or real(*a, **b))
    capsys.readouterr()
    studied(dataset, tmp_path / "s", run)
    assert len(calls) == 4 and "2 of them done by an earlier call" in capsys.readouterr().err
    for path in (whole / "fits").glob("*.npy"):
        assert (tmp_path / "s/fits" / path.name).read_bytes() == path.read_bytes(), path.name
    studied(dataset, tmp_path / "s", run, seeds=1)
    assert len(calls) == 4, "nothing is done twice"


def test_other_settings_labels_or_weights_are_refused(dataset: Dataset, run: Path, whole: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole, tmp_path / "study")
    with pytest.raises(RunError, match=r"study: the study was started with settings .*'steps': 6.*'steps': 7"):
        studied(dataset, copy, run, settings=[*FAST, "steps=7"])
    other = shutil.copytree(run, tmp_path / "run")
    weights = other / "encoder.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RunError, match="the start 'run' has other weights than when the study began"):
        studied(dataset, copy, other)
    labels = tmp_path / "labels.csv"
    table = pd.read_csv(dataset.folder / "labels.csv")
    table.assign(spot=1 - table["spot"]).to_csv(labels, index=False)
    with pytest.raises(RunError, match="the study was started with labels"):
        studied(dataset, copy, run, labels=labels)
    (copy / "fits/random-4-per-class-0.npy").write_bytes(b"half")
    with pytest.raises(RunError, match=r"random-4-per-class-0.json: is damaged"):
        studied(dataset, copy, run)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("mine")
    with pytest.raises(RunError, match=r"notes: holds other files and no plan\.json; choose another --out"):
        studied(dataset, tmp_path / "notes", run)


def test_being_watched_changes_no_weight(dataset: Dataset, tmp_path: Path) -> None:
    labels = dataset.labels()
    parts, seen = split_labeled(dataset, labels), list[int]()

    def weights(watch) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        start = start_from("random", spec=dataset.spec, network="resnet10-half", input_px=32)
        plan = FinetuneConfig(strategy="full", steps=4, batch_size=8)
        plan = plan.model_copy(update=filled_in(plan, start, len(parts.fit)))
        (tmp_path / "work").mkdir(exist_ok=True)
        trained, _ = fit(dataset, labels, parts, start, plan, tmp_path / "work", resume=False, watch=watch)
        return trained.state_dict()

    def look(step: int, classifier) -> None:
        seen.append(step)
        training = classifier.training
        classifier.eval()(torch.zeros(1, 1, 32, 32))
        classifier.train(training)

    alone, watched = weights(None), weights(look)
    assert seen == [0, 1, 2, 3, 4]
    assert all(torch.equal(alone[key], watched[key]) for key in alone)


def test_bad_input_is_one_clear_line(dataset: Dataset, run: Path, tmp_path: Path) -> None:
    def refused(error: type[Exception], words: str, **options) -> None:
        with pytest.raises(error, match=words):
            studied(dataset, tmp_path / "s", run, **options)
        assert not (tmp_path / "s").exists(), "nothing is begun"

    refused(
        LabelError,
        r"spot: the train part has 36 labeled scans with.* --labels-per-class 36 works",
        labels_per_class=[50],
    )
    refused(EncoderError, r"nowhere: no such folder or file", starts="random,nowhere")
    refused(ConfigError, r"--starts: two are called 'random'", starts="random,random")
    refused(ConfigError, r"--starts: names none", starts="")
    refused(ConfigError, r"fractions: .*expected shares above 0", fractions=[1.5])
    refused(ConfigError, r"labels_per_class: .*from 1 on", labels_per_class=[0])
    refused(ConfigError, r"--set seed: a study takes it from --seeds", settings=["seed=3"])
    refused(ConfigError, r"--set patience", settings=["patience=3"])
    refused(ConfigError, r"unknown strategy 'lpft'; did you mean 'lp-ft'", strategy="lpft")
    labels = tmp_path / "labels.csv"
    table = pd.read_csv(dataset.folder / "labels.csv")
    table[(table["split"] != "test") | (table["spot"] == 0)].to_csv(labels, index=False)
    refused(LabelError, r"spot: the test part has 0 labeled scans with it and 12 without", labels=labels)
    spec = PreprocessSpec(dims=3, size_px=40, spacing_mm=1.0, input_px=32)
    encoder = build_encoder("resnet10-half", input_px=32, dims=3, channels=1)
    (tmp_path / "run3d").mkdir()
    save_encoder(tmp_path / "run3d", encoder, spec=spec, about={"history": ["simclr"]})
    words = "run3d: learned from volumes, this dataset keeps images; pretrain on this dataset"
    refused(EncoderError, words, starts=["random", str(tmp_path / "run3d")])


def test_amounts_are_each_once_and_default_to_10_and_30() -> None:
    def names(**asked) -> list[str]:
        return [each.name for each in build(StudyConfig, {"starts": ("random",)} | asked).amounts]

    assert names() == ["10 per class", "30 per class"]
    assert names(fractions=(1.0, 0.1)) == ["10 % of all", "100 % of all"]
    assert names(labels_per_class=(5, 5), fractions=(0.5,)) == ["5 per class", "50 % of all"]


def test_minutes_of_a_chain_add_up(tmp_path: Path) -> None:
    for name, before, minutes in (("first", "imagenet", 2.5), ("second", str(tmp_path / "first"), 4)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "encoder.json").write_text(json.dumps({"format": 1, "minutes": minutes}))
        (tmp_path / name / "config.yaml").write_text(f"from: {before}\n")
    assert minutes_of(str(tmp_path / "second")) == 6.5
    shutil.rmtree(tmp_path / "first")
    assert minutes_of(str(tmp_path / "second")) is None, "what the first took is not known any more"
    assert minutes_of("imagenet") == 0


def test_a_part_of_more_shows_nothing_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with part_of_more():
        say("inner")
        with progress("inner", 3) as update:
            update(3)
    say("outer")
    assert capsys.readouterr().err == "outer\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--labels-per-class", "10", "30", "--fractions", "0.1", "1.0", "--seeds", "2"],
        [
            "--seeds",
            "2",
            "--fractions",
            "0.1",
            "--labels-per-class",
            "10",
            "--labels-per-class",
            "30",
            "--fractions",
            "1.0",
        ],
    ],
)
def test_the_command_line_takes_lists_of_numbers(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from medtl.cli import app

    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/dataset.json").touch()
    asked: dict[str, object] = {}
    monkeypatch.setattr(module, "study", lambda dataset, **options: asked.update(options, dataset=dataset))
    done = CliRunner().invoke(app, ["study", *words, "data", "--out", "s"])
    assert done.exit_code == 0, done.output
    assert (asked["dataset"], asked["labels_per_class"], asked["fractions"]) == (Path("data"), [10, 30], [0.1, 1.0])
    assert asked["seeds"] == 2
