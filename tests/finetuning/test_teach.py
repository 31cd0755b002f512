"""A finding taught later: what was there stays to the bit, what is new is judged on patients not seen, or refused."""

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import medtl
from medtl.data.dataset import Dataset
from medtl.data.sources import read_scan
from medtl.errors import LabelError, MedtlError
from medtl.evaluation.metrics import auroc
from medtl.finetuning import teach as module
from medtl.finetuning.examples import from_scans
from medtl.finetuning.instant import teach_finding
from medtl.inference.bundle import read_bundle
from medtl.inference.cache import FOLDER
from medtl.inference.reference import read_reference

POSITIVE, NEGATIVE = (1, 7, 9, 11, 17, 19), (0, 6, 8, 10, 16, 18)
"""Patients of the train part with and without a spot."""


def csv(path: Path, *columns: str, patients: tuple[int, ...] = POSITIVE + NEGATIVE) -> Path:
    """Both scans of each patient, labeled alike in every column."""
    rows = [
        f"images/p{patient:02d}_{image}.png" + f",{patient % 2}" * len(columns)
        for patient in patients
        for image in (0, 1)
    ]
    path.write_text("\n".join([",".join(["path", *columns]), *rows]) + "\n")
    return path


def probabilities(bundle: Path, data: Dataset) -> np.ndarray:
    """(N, F) of the whole dataset."""
    return medtl.load(bundle).predict_stored(data.pixels(np.arange(len(data))))


def renamed(key: str) -> str:
    """Where a weight of a bundle with one head is in a bundle with several."""
    return f"head.0.{key[5:]}" if key.startswith("head.") else key


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        total.update(path.name.encode() + (path.read_bytes() if path.is_file() else b""))
    return total.hexdigest()


@pytest.fixture(scope="module")
def bundle(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made in a second, in place of the one that takes a training."""
    out = tmp_path_factory.mktemp("linear") / "bundle"
    return medtl.finetune(dataset.folder, out=out, strategy="linear", settings=["input_px=64"])


@pytest.fixture(scope="module")
def tuned(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose encoder was trained, too, though not long."""
    out = tmp_path_factory.mktemp("tuned") / "bundle"
    return medtl.finetune(dataset.folder, out=out, strategy="lp-ft", settings=["input_px=64", "steps=1"])


@pytest.fixture
def taught(bundle: Path, dataset: Dataset, tmp_path: Path) -> Path:
    return medtl.teach(bundle, dataset.folder, labels=csv(tmp_path / "new.csv", "blob"), out=tmp_path / "taught")


def test_what_the_bundle_knew_stays_to_the_bit(bundle: Path, taught: Path, dataset: Dataset) -> None:
    before, after = load_file(bundle / "model.safetensors"), load_file(taught / "model.safetensors")
    assert set(after) == {renamed(key) for key in before} | {"head.1.weight", "head.1.bias"}
    for key, value in before.items():
        assert torch.equal(value, after[renamed(key)]), key
    was, now = read_bundle(bundle)[0], read_bundle(taught)[0]
    assert now.findings == ("spot", "blob") and not now.exclusive
    assert [(task.name, task.findings) for task in now.tasks] == [("main", ("spot",)), ("blob", ("blob",))]
    assert (was.thresholds["spot"], was.temperatures["spot"]) == (now.thresholds["spot"], now.temperatures["spot"])
    for count in (1, 7, len(dataset)):
        rows = np.arange(count)
        old, new = (medtl.load(each).predict_stored(dataset.pixels(rows)) for each in (bundle, taught))
        assert np.array_equal(old[:, 0], new[:, 0]), "to the bit"


def test_the_new_finding_is_found_on_patients_never_shown(taught: Path, dataset: Dataset) -> None:
    test = dataset.manifest["split"].to_numpy() == "test"
    truth = dataset.labels().values[:, 0]
    p = probabilities(taught, dataset)[:, 1]
    assert auroc(truth[test], p[test]) > 0.9
    about = read_bundle(taught)[0]
    flagged = p[test] >= about.thresholds["blob"]
    assert np.mean(flagged == truth[test]) > 0.8
    assert "12 positive and 12 negative scans of 12 patients; AUROC out of fold" in about.training["taught later: blob"]
    assert about.training["label_files of blob"].startswith("new.csv (sha256 ")
    assert "taught later: blob on 12 positive and 12 negative examples, each judged by a head" in about.calibration
    assert "taught from 12 positive and 12 negative scans only" in about.caveats["blob"][0]
    assert "50 % of its examples have it" in about.caveats["blob"][1]
    assert len(about.caveats["blob"]) == 2, "a linear probe left the encoder as it was"
    card = (taught / "card.md").read_text()
    assert all(f"- blob: {sentence}" in card for sentence in about.caveats["blob"])


def test_what_the_encoder_has_seen_is_said_where_it_was_trained(
    bundle: Path, tuned: Path, dataset: Dataset, tmp_path: Path
) -> None:
    labels = csv(tmp_path / "new.csv", "blob")
    for source, scans, caveats in ((tuned, 72, ["the encoder was trained on 24 of the examples"]), (bundle, 0, [])):
        first = medtl.teach(source, dataset.folder, labels=labels, out=tmp_path / "first")
        again = medtl.teach(first, dataset.folder, labels=csv(tmp_path / "b.csv", "dot"), out=tmp_path / "again")
        for about, finding in ((read_bundle(first)[0], "blob"), (read_bundle(again)[0], "dot")):
            assert about.training["labeled scans that the encoder was trained on"] == scans
            said = [caveat.split(",")[0] for caveat in about.caveats[finding] if "encoder" in caveat]
            assert said == caveats


def test_a_linear_probe_of_an_encoder_that_labels_trained(tuned: Path, dataset: Dataset, tmp_path: Path) -> None:
    """The probe left the encoder as it was, and it had learned from these very scans."""
    probe = medtl.finetune(dataset.folder, out=tmp_path / "probe", strategy="linear", encoder=tuned)
    taught = medtl.teach(probe, dataset.folder, labels=csv(tmp_path / "new.csv", "blob"), out=tmp_path / "taught")
    again = medtl.teach(taught, dataset.folder, labels=csv(tmp_path / "b.csv", "dot"), out=tmp_path / "again")
    for about, finding in ((read_bundle(taught)[0], "blob"), (read_bundle(again)[0], "dot")):
        assert any("the encoder was trained on 24 of the examples" in caveat for caveat in about.caveats[finding])


def test_the_reference_learns_the_examples(bundle: Path, taught: Path, dataset: Dataset) -> None:
    before, after = read_reference(bundle), read_reference(taught)
    assert after.scan_ids == before.scan_ids, "the examples were among the scans that it was trained on"
    assert np.array_equal(before.embeddings, after.embeddings) and np.array_equal(before.patients, after.patients)
    np.testing.assert_array_equal(before.labels[:, 0], after.labels[:, 0])
    blob = dict(zip(after.scan_ids, after.labels[:, 1].tolist(), strict=True))
    known = {name: value for name, value in blob.items() if value == value}
    truth = dict(zip(dataset.manifest["scan_id"], dataset.labels().values[:, 0], strict=True))
    assert len(known) == 24 and all(truth[name] == value for name, value in known.items())


def test_findings_come_one_after_another_and_are_taught_anew(taught: Path, dataset: Dataset, tmp_path: Path) -> None:
    both = medtl.teach(taught, dataset.folder, labels=csv(tmp_path / "b.csv", "dot"), out=tmp_path / "both")
    fewer = csv(tmp_path / "c.csv", "blob", patients=POSITIVE[:3] + NEGATIVE[:4])
    again = medtl.teach(both, dataset.folder, labels=fewer, out=both, replace=True)
    assert again == both, "a bundle may be replaced by what grew from it"
    about = read_bundle(both)[0]
    assert about.findings == ("spot", "blob", "dot")
    assert "6 positive and 8 negative scans" in about.training["taught later: blob"]
    old, new = probabilities(taught, dataset), probabilities(both, dataset)
    assert np.array_equal(old[:, 0], new[:, 0]) and not np.array_equal(old[:, 1], new[:, 1])


def test_one_of_several_outputs_is_taught_anew(dataset: Dataset, tmp_path: Path) -> None:
    two = medtl.finetune(
        dataset.folder, labels=csv(tmp_path / "two.csv", "spot", "blob"), out=tmp_path / "two", strategy="linear",
        settings=["input_px=64"],
    )  # fmt: skip
    new = medtl.teach(
        two, dataset.folder, labels=csv(tmp_path / "n.csv", "blob", patients=POSITIVE[:3] + NEGATIVE[:3]),
        out=tmp_path / "new", replace=True,
    )  # fmt: skip
    before, after = load_file(two / "model.safetensors"), load_file(new / "model.safetensors")
    assert set(before) == set(after)
    assert torch.equal(before["head.weight"][0], after["head.weight"][0])
    assert not torch.equal(before["head.weight"][1], after["head.weight"][1])
    assert np.array_equal(probabilities(two, dataset)[:, 0], probabilities(new, dataset)[:, 0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,spot\nimages/p00_0.png,0\n", "spot: the bundle detects it already; add --replace to teach it anew"),
        (
            "path,blob\n" + "".join(f"images/p0{i}_0.png,{i % 2}\n" for i in (0, 1, 6, 7, 8, 9)),
            "blob: has 3 positive and 3 negative examples; at least 4 of each are needed, so label more scans",
        ),
        (
            "path,blob\n" + "".join(f"images/p{i:02d}_0.png,1\n" for i in POSITIVE),
            "blob: has 6 positive and 0 negative examples",
        ),
        ("path,blob\nimages/nobody.png,1\n", "row 2: path 'images/nobody.png' matches no scan"),
        ("path,blob\nimages/p02_0.png,0\nimages/p03_0.png,\n", "no labeled scan outside the test part"),
    ],
)
def test_what_cannot_be_taught_is_refused(bundle: Path, dataset: Dataset, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "new.csv").write_text(text)
    before = digest(bundle)
    with pytest.raises(LabelError) as problem:
        medtl.teach(bundle, dataset.folder, labels=tmp_path / "new.csv", out=tmp_path / "out")
    assert said in str(problem.value)
    assert digest(bundle) == before and not (tmp_path / "out").exists()


def test_a_column_is_chosen_and_a_missing_one_named(bundle: Path, dataset: Dataset, tmp_path: Path) -> None:
    labels = csv(tmp_path / "new.csv", "spot", "blob")
    out = medtl.teach(bundle, dataset.folder, labels=labels, finding="blob", out=tmp_path / "out")
    assert read_bundle(out)[0].findings == ("spot", "blob")
    with pytest.raises(LabelError, match=r"new.csv: has no column 'blub'; it has spot, blob"):
        medtl.teach(bundle, dataset.folder, labels=labels, finding="blub", out=tmp_path / "out")


def test_a_class_of_several_cannot_be_taught_alone(dataset: Dataset, tmp_path: Path) -> None:
    values = {0: "1,0,0", 1: "0,1,0", 2: "0,0,1"}
    rows = [f"images/p{i:02d}_{k}.png,{values[i % 3]}" for i in range(60) for k in (0, 1)]
    (tmp_path / "classes.csv").write_text("\n".join(["path,a,b,c", *rows]))
    one = medtl.finetune(
        dataset.folder, labels=tmp_path / "classes.csv", out=tmp_path / "one", strategy="linear",
        settings=["input_px=64"],
    )  # fmt: skip
    with pytest.raises(LabelError, match="b: is one of the bundle's classes that exclude each other"):
        medtl.teach(one, dataset.folder, labels=csv(tmp_path / "b.csv", "b"), out=tmp_path / "x", replace=True)
    grown = medtl.teach(one, dataset.folder, labels=csv(tmp_path / "d.csv", "d"), out=tmp_path / "grown")
    old, new = probabilities(one, dataset), probabilities(grown, dataset)
    assert np.array_equal(old, new[:, :3]), "the classes still exclude each other"
    assert np.allclose(new[:, :3].sum(axis=1), 1)


def test_examples_from_a_page_teach_what_a_dataset_teaches(
    bundle: Path, scans: Path, dataset: Dataset, taught: Path, tmp_path: Path
) -> None:
    files = [scans / f"images/p{i:02d}_{k}.png" for i in POSITIVE + NEGATIVE for k in (0, 1)]
    examples = [(path if i % 2 else read_scan(path), int(path.name[2]) % 2) for i, path in enumerate(files)]
    out = medtl.teach(bundle, examples, finding="blob", out=tmp_path / "out")
    # The same scans in another order: the optimizer's last digits differ.
    rows = np.arange(len(dataset))
    one, other = (medtl.load(each).predict_stored(dataset.pixels(rows)) for each in (taught, out))
    temperatures = [read_bundle(each)[0].temperatures["blob"] for each in (taught, out)]
    logit = [np.log(p[:, 1] / (1 - p[:, 1])) * t for p, t in zip((one, other), temperatures, strict=True)]
    np.testing.assert_allclose(logit[0], logit[1], atol=0.02)
    assert (out.parent / FOLDER).is_dir() is False and (bundle.parent / FOLDER).is_dir(), "kept beside the bundle"
    anew = medtl.teach(taught, examples, finding="blob", out=tmp_path / "anew", replace=True)
    assert "label_files of blob" in read_bundle(taught)[0].training
    assert (
        "label_files of blob" not in read_bundle(anew)[0].training and "new.csv" not in (anew / "card.md").read_text()
    )


@pytest.mark.parametrize(
    ("labels", "finding", "said"),
    [
        ([1, 2], "blob", "example 2: blob is 2; expected 0 (absent) or 1 (present)"),
        ([1, 0], "blob", "was given before as 1 of blob; keep one"),
        ([1, 1], None, "finding: examples without a labels file need the finding's name"),
    ],
)
def test_examples_that_cannot_be_used(
    bundle: Path, scans: Path, labels: list[int], finding: str | None, said: str
) -> None:
    same = scans / "images/p01_0.png"
    with pytest.raises(MedtlError) as problem:
        from_scans([(same, label) for label in labels], finding, read_bundle(bundle)[0].spec)
    assert said in str(problem.value)


def test_scans_that_only_heads_have_seen_are_no_scans_of_the_encoder(
    tuned: Path, tmp_path: Path, dataset: Dataset
) -> None:
    """A second finding, taught from the same new scans as a first one."""
    paths = []
    for number in range(10):
        paths.append((tmp_path / f"{number}.png", number % 2))
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40)).astype(np.uint8)
        Image.fromarray(pixels).save(paths[-1][0])
    first = medtl.teach(tuned, paths, finding="noise", out=tmp_path / "first")
    second = medtl.teach(first, paths, finding="hiss", out=tmp_path / "second")
    assert len(read_reference(second).scan_ids) == len(read_reference(tuned).scan_ids) + 10
    for finding in ("noise", "hiss"):
        assert not any("the encoder was trained on" in said for said in read_bundle(second)[0].caveats[finding])


def test_examples_and_a_labels_file_are_one_too_many(bundle: Path, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(MedtlError, match="labels: examples bring their own labels; leave the file out"):
        medtl.teach(bundle, [(scans / "images/p01_0.png", 1)], labels=tmp_path / "l.csv", out=tmp_path / "out")


def test_taught_again_it_takes_no_network_and_little_time(
    bundle: Path, taught: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def network(*_: object) -> None:
        raise AssertionError("every embedding was kept")

    monkeypatch.setattr(module, "encoder_of", network)
    began = time.process_time()
    again = medtl.teach(bundle, dataset.folder, labels=tmp_path / "new.csv", out=tmp_path / "again")
    # The promise is 5 s of the clock; this counts the processor, because the machine that runs the tests may be busy.
    assert time.process_time() - began < 5
    was, now = (load_file(each / "model.safetensors") for each in (taught, again))
    assert all(torch.equal(was[key], now[key]) for key in was)


def test_patients_are_judged_by_heads_that_have_not_seen_them() -> None:
    """Labels without meaning, many scans a patient: what knows the patient is always right, the others by chance."""
    patients, found = np.repeat(np.arange(40), 4), []
    for seed in (1, 2, 3):
        random = np.random.default_rng(seed)
        of_patient = random.normal(size=(40, 60))[patients]
        embeddings = torch.from_numpy(of_patient + 0.01 * random.normal(size=(160, 60))).float()
        values = (random.permutation(40) % 2)[patients].astype(np.float32)
        taught = teach_finding("noise", embeddings, values, patients.astype(str), seen=0)
        assert auroc(values, taught.head(embeddings)[:, 0].detach().numpy()) == 1.0
        found.append(float(taught.said.split("AUROC out of fold ")[1].split()[0]))
        assert taught.caveats[0].startswith("chance level (AUROC 0.5) lies within its interval")
    # The standard deviation of one is 0.09.
    assert abs(np.mean(found) - 0.5) < 0.15


def test_few_patients_are_not_judged() -> None:
    values = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], np.float32)
    patients = np.array(["a", "a", "b", "b", "c", "c", "d", "d", "d", "d"])
    embeddings = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    taught = teach_finding("f", embeddings, values, patients, seen=0)
    assert "not judged: too few patients" in taught.said
    assert taught.calibration.thresholds == {"f": pytest.approx(0.4)}
    assert any("its operating point is its share of positives among the labels, 0.400" in one for one in taught.caveats)


@pytest.mark.slow
def test_the_training_loop_is_not_loaded_to_teach() -> None:
    """It takes as long to load as everything else together."""
    code = "import sys, medtl.finetuning.teach; print([m for m in ('lightning_fabric', 'monai') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
