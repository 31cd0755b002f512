"""The dataset folder: what ingest leaves, what it refuses, and what survives."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medtl.data import shards
from medtl.data.dataset import Dataset, open_dataset
from medtl.data.ingest import ingest
from medtl.data.manifest import COLUMNS
from medtl.data.pseudonyms import pseudonym, salt
from medtl.data.sources import read_scan
from medtl.data.split import part_at, place_of
from medtl.data.split_check import split_check
from medtl.errors import ConfigError, DatasetError, LabelError, MedtlError

MakePng = Callable[[int], bytes]


def hidden(patient: str) -> str:
    """The patient as the manifest names them."""
    return pseudonym("patient", patient, key=salt())


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory, make_png: MakePng) -> Path:
    """Twelve scans, one of them twice, a text and a cut PNG; two scans a patient in labels.csv."""
    root = tmp_path_factory.mktemp("scans") / "in"
    (root / "images").mkdir(parents=True)
    for i in range(12):
        (root / f"images/{i:02d}.png").write_bytes(make_png(i))
    (root / "images/99.png").write_bytes(make_png(3))
    (root / "images/note.dcm").write_text("not a scan")
    (root / "images/cut.png").write_bytes(make_png(50)[:200])
    lines = ["path,patient_id,nodule", *(f"images/{i:02d}.png,{i // 2:04d},{i % 3 == 0:d}" for i in range(12))]
    (root / "labels.csv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def made(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return ingest(scans, out=tmp_path_factory.mktemp("made") / "ds", labels=scans / "labels.csv", size_px=32)


@pytest.fixture
def dataset(made: Dataset, tmp_path: Path) -> Dataset:
    """A copy that may be spoiled."""
    shutil.copytree(made.folder, tmp_path / "ds")
    return open_dataset(tmp_path / "ds")


def test_the_folder_is_as_the_contract_says(dataset: Dataset) -> None:
    names = sorted(path.name for path in dataset.folder.iterdir())
    assert names == ["dataset.json", "labels.csv", "manifest.parquet", "pixels-00000.npy", "rejects.csv", "report.html"]
    content = json.loads((dataset.folder / "dataset.json").read_text())
    assert content["format"] == 1 and content["spec"]["size_px"] == 32
    assert content["counts"]["scans"] == 12 and content["counts"]["patients"] == 6 and content["counts"]["rejects"] == 3
    assert {"medtl", "numpy", "pydicom"} <= set(content["software"])
    assert list(dataset.manifest.columns) == COLUMNS
    assert np.load(dataset.folder / "pixels-00000.npy").shape == (12, 1, 32, 32)
    labels = pd.read_csv(dataset.folder / "labels.csv", dtype=str)
    assert list(labels.columns) == ["scan_id", "path", "patient_id", "split", "nodule"]
    assert labels["patient_id"][11] == hidden("0005")


def test_pixels_are_those_that_scoring_would_see(dataset: Dataset, scans: Path) -> None:
    for row in (7, 0, 11):
        scan = read_scan(scans / dataset.manifest["path"][row])
        assert np.array_equal(dataset.pixels(np.array([row]))[0], dataset.spec.stored(scan))
        assert dataset.manifest["scan_id"][row] == scan.scan_id
    both = dataset.pixels(np.array([7, 0, 7]))
    assert both.dtype == np.uint8 and np.array_equal(both[0], both[2]) and not np.array_equal(both[0], both[1])


def test_every_file_is_a_scan_or_a_reject(dataset: Dataset) -> None:
    rejects = pd.read_csv(dataset.folder / "rejects.csv").set_index("path")
    assert rejects["code"].to_dict() == {
        "images/99.png": "duplicate", "images/cut.png": "truncated", "images/note.dcm": "text",
    }  # fmt: skip
    assert rejects["message"]["images/99.png"] == "holds the same bytes as images/03.png, which is kept"


def test_no_patient_is_in_two_parts(dataset: Dataset) -> None:
    parts = dataset.manifest.groupby("patient_id")["split"]
    assert parts.nunique().max() == 1
    assert parts.first().to_dict() == {hidden(f"{i:04d}"): part_at(place_of(f"{i:04d}", 0)) for i in range(6)}


def test_labels_come_back(dataset: Dataset, scans: Path) -> None:
    expected = [[float(i % 3 == 0)] for i in range(12)]
    for table in (dataset.labels(), dataset.labels(scans / "labels.csv"), open_dataset(dataset.folder).labels()):
        assert table.findings == ("nodule",) and table.values.tolist() == expected


def test_labels_named_from_the_folder_above(scans: Path, tmp_path: Path) -> None:
    data = ingest(scans / "images", out=tmp_path / "ds", labels=scans / "labels.csv", size_px=32)
    assert data.manifest["path"][0] == "00.png" and data.labels(scans / "labels.csv").values.sum() == 4


def test_the_fingerprint_tells_scans_and_spec_apart(dataset: Dataset, scans: Path, tmp_path: Path) -> None:
    again = ingest([scans], out=tmp_path / "again", labels=scans / "labels.csv", size_px=32)
    other = ingest(scans, out=tmp_path / "other", labels=scans / "labels.csv", size_px=64)
    assert again.fingerprint == dataset.fingerprint != other.fingerprint
    unnamed = ingest(scans, out=tmp_path / "unnamed", size_px=32)
    assert unnamed.fingerprint != dataset.fingerprint, "other patients and parts are another dataset to learn from"
    with pytest.raises(
        DatasetError, match=r"images of 64 px, the network was made for images of 32 px; .* --size-px 32"
    ):
        other.check_storage(dataset.spec)


def test_scans_without_patient_are_said_aloud(scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ingest(scans, out=tmp_path / "ds")
    assert data.spec.size_px == 256 and data.manifest["patient_id"].nunique() == 12
    assert "12 of 12 scans name no patient: each counts as its own" in capsys.readouterr().err
    with pytest.raises(DatasetError, match="was ingested without labels; name a labels file"):
        data.labels()


def test_labels_for_some_scans_name_the_patient_of_all(tmp_path: Path, make_dicom: Callable[..., bytes]) -> None:
    values = np.arange(400, dtype=np.uint16).reshape(20, 20)
    (tmp_path / "in").mkdir()
    lines = ["path,patient_id,nodule"]
    for i in range(40):
        (tmp_path / f"in/{i}").write_bytes(make_dicom(values + i, PatientID=f"HOSP-{i // 2:03d}"))
        lines += [f"{i},{i // 2},{i % 4 // 2}"] if i % 2 == 0 else []
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    data = ingest(tmp_path / "in", out=tmp_path / "ds", labels=tmp_path / "labels.csv", size_px=32)
    assert data.manifest["patient_id"].nunique() == 20
    assert (data.manifest.groupby("patient_id")["split"].nunique() == 1).all()
    (tmp_path / "torn.csv").write_text("path,patient_id,nodule\n0,a,0\n1,b,1\n")
    with pytest.raises(LabelError, match=r"is patient b in the labels file, another scan with its header id is a"):
        ingest(tmp_path / "in", out=tmp_path / "ds", labels=tmp_path / "torn.csv", size_px=32)


def test_header_patients_and_parts_of_the_labels_file(
    tmp_path: Path, make_dicom: Callable[..., bytes], make_png: MakePng
) -> None:
    values = np.arange(400, dtype=np.uint16).reshape(20, 20)
    (tmp_path / "in").mkdir()
    for i, patient in enumerate(["H1", "H1", "H2"]):
        (tmp_path / f"in/{i}").write_bytes(make_dicom(values + i, PatientID=patient, PatientSex="F"))
    (tmp_path / "labels.csv").write_text("path,split,x\n0,test,1\n")
    manifest = ingest(tmp_path / "in", out=tmp_path / "ds", labels=tmp_path / "labels.csv").manifest
    assert manifest["patient_id"].tolist() == [hidden("H1"), hidden("H1"), hidden("H2")]
    # The unlabeled scan follows its patient.
    assert manifest["split"].tolist() == ["test", "test", part_at(place_of("H2", 0))]
    assert manifest["sex"].tolist() == ["F"] * 3 and manifest["modality"][0] == "DX"


def test_npz_keeps_size_parts_and_labels(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 24, 24), np.uint8)
    labels = np.arange(9).reshape(9, 1) % 2
    np.savez(
        tmp_path / "ours.npz",
        train_images=images[:5],
        test_images=images[5:],
        train_labels=labels[:5],
        test_labels=labels[5:],
    )
    data = ingest(tmp_path / "ours.npz", out=tmp_path / "ds")
    assert data.spec.size_px == 24 and data.manifest["split"].tolist() == ["train"] * 5 + ["test"] * 4
    assert np.array_equal(data.pixels(np.arange(9))[:, 0], images)
    assert data.labels().findings == ("ours",) and data.labels().values.ravel().tolist() == [0, 1] * 4 + [0]
    assert data.labels(data.folder / "labels.csv").values.shape == (9, 1)


@pytest.mark.parametrize(("stem", "modality"), [("breastmnist_64", "US"), ("organamnist", "CT"), ("ours", None)])
def test_medmnist_sets_have_their_modality(tmp_path: Path, stem: str, modality: str | None) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 24), np.uint8)
    np.savez(tmp_path / f"{stem}.npz", train_images=images)
    found = ingest(tmp_path / f"{stem}.npz", out=tmp_path / "ds").manifest["modality"]
    assert [None if pd.isna(each) else each for each in found] == [modality] * 3


def test_a_modality_may_be_said_where_files_do_not(
    tmp_path: Path, make_png: MakePng, make_dicom: Callable[..., bytes]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.png").write_bytes(make_png(1))
    (source / "b.dcm").write_bytes(make_dicom(np.arange(600, dtype=np.uint16).reshape(20, 30), PatientID="H1"))
    data = ingest(source, out=tmp_path / "ds", size_px=32, modality="us")
    assert data.manifest["modality"].tolist() == ["US", "DX"]
    (tmp_path / "labels.csv").write_text("path,modality,x\na.png,MG,1\nb.dcm,MG,0\n")
    data = ingest(source, out=tmp_path / "both", labels=tmp_path / "labels.csv", size_px=32, modality="us")
    assert data.manifest["modality"].tolist() == ["MG", "DX"], "a header, as score will see it, counts first"
    (tmp_path / "more").mkdir()
    (tmp_path / "more/c.png").write_bytes(make_png(2))
    data = ingest(tmp_path / "more", out=tmp_path / "both", add=True, modality="us")
    assert data.manifest["modality"].tolist() == ["MG", "DX", "US"]
    (tmp_path / "more/d.png").write_bytes(make_png(3))
    data = ingest(tmp_path / "more", out=tmp_path / "both", add=True)
    assert [None if pd.isna(each) else each for each in data.manifest["modality"]] == ["MG", "DX", "US", None]
    data = ingest(source / "a.png", out=tmp_path / "both", add=True, modality="XC")
    assert pd.isna(data.manifest["modality"][3]), "what is there is not touched"
    with pytest.raises(ConfigError, match=r"modality: 'ULTRASOUND' is no DICOM code of a modality; choose from: AR"):
        ingest(source, out=tmp_path / "ds", modality="ULTRASOUND")


def test_the_labels_file_may_say_the_modality(tmp_path: Path, make_png: MakePng) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for i, name in enumerate(("a.png", "b.png", "c.png")):
        (source / name).write_bytes(make_png(i))
    labels = tmp_path / "labels.csv"
    labels.write_text("path,modality,x\na.png,us,1\nb.png,,0\n")
    data = ingest(source, out=tmp_path / "ds", labels=labels, size_px=32, modality="MG")
    assert data.manifest["modality"].tolist() == ["US", "MG", "MG"]
    assert data.labels().findings == ("x",)
    labels.write_text("path,modality,x\na.png,ultrasound,1\n")
    with pytest.raises(LabelError, match=r"labels\.csv, row 2: modality: 'ultrasound' is no DICOM code of a modality"):
        ingest(source, out=tmp_path / "ds", labels=labels)
    labels.write_text("path,modality,x\na.png,US,1\na.png,MG,1\n")
    with pytest.raises(LabelError, match=r"row 3: 'a\.png' is also in row 2, as US, not MG; keep one"):
        ingest(source, out=tmp_path / "ds", labels=labels)


def test_an_unknown_window_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        ingest(tmp_path / "nothing", out=tmp_path / "ds", window=["lung", "soft"])
    assert str(caught.value) == (
        "--window: no window is called 'soft'; choose from: lung, mediastinum, bone, abdomen, liver, brain, subdural, "
        "stroke"
    )
    with pytest.raises(ConfigError, match=r"no window is called 'abdomn'; did you mean 'abdomen'\?"):
        ingest(tmp_path / "nothing", out=tmp_path / "ds", window=["abdomn"])


def test_several_shards(dataset: Dataset, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 5 * 32 * 32)
    data = ingest(scans, out=tmp_path / "many", size_px=32)
    assert [len(np.load(path)) for path in sorted(data.folder.glob("pixels-*"))] == [5, 5, 2]
    rows = np.array([11, 0, 4, 5, 9])
    assert np.array_equal(data.pixels(rows), dataset.pixels(rows))


def test_no_usable_file_is_one_line_and_keeps_what_was_there(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / "bad" / name).write_bytes(b"")
    before = {path.name: path.read_bytes() for path in dataset.folder.iterdir()}
    with pytest.raises(DatasetError, match=r"none of the 2 files can be used; the first: a\.dcm: the file is empty"):
        ingest(tmp_path / "bad", out=dataset.folder)
    assert {path.name: path.read_bytes() for path in dataset.folder.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "ds"]


def test_bad_labels_are_found_before_anything_is_read(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,nodule\nimages/00.png,yes\n")
    with pytest.raises(LabelError, match="row 2: nodule is 'yes'"):
        ingest(scans, out=tmp_path / "ds", labels=tmp_path / "labels.csv")
    assert not (tmp_path / "ds").exists()


def test_other_folders_are_not_overwritten(scans: Path) -> None:
    with pytest.raises(MedtlError, match=r"holds other files and no dataset\.json"):
        ingest(scans / "images", out=scans)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "dataset.json").unlink(), "holds no dataset.json; expected a dataset"),
        (lambda folder: (folder / "dataset.json").write_text('{"format": 7}'), "has format 7, this medtl reads"),
        (lambda folder: (folder / "dataset.json").write_text('{"format": 1}'), "ingest the scans again"),
        (lambda folder: (folder / "manifest.parquet").unlink(), "the dataset is incomplete"),
        (lambda folder: (folder / "manifest.parquet").write_bytes(b"PAR1"), "cannot be read"),
        (lambda folder: (folder / "pixels-00000.npy").unlink(), "its pixel files hold 0 scans, dataset.json says 12"),
        (lambda folder: (folder / "pixels-00000.npy").write_bytes(b"\x93NUMPY"), "its pixels cannot be read"),
        (lambda folder: shutil.rmtree(folder), "no such folder; expected a dataset"),
    ],
)  # fmt: skip
def test_damaged_datasets_say_what_to_do(dataset: Dataset, spoil: Callable[[Path], object], words: str) -> None:
    spoil(dataset.folder)
    with pytest.raises(DatasetError) as caught:
        open_dataset(dataset.folder)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_report_stands_alone(dataset: Dataset) -> None:
    text = (dataset.folder / "report.html").read_text()
    assert "12 scans of 6 patients" in text and "data:image/jpeg;base64," in text
    assert "images/cut.png" in text and "nodule" in text
    assert "http://" not in text and "https://" not in text and "<script" not in text


SCRIPT = """
import sys, medtl
medtl.ingest(sys.argv[1], out=sys.argv[2])
"""


@pytest.mark.slow
def test_a_thousand_pngs_hold_memory_flat(tmp_path: Path) -> None:
    """The sum over all its processes, at any time, stays under 1.5 GB."""
    import psutil
    from PIL import Image

    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (512, 512), np.uint8)
    Image.fromarray(noise).save(tmp_path / "in/0000.png", compress_level=1)
    data = (tmp_path / "in/0000.png").read_bytes()
    for i in range(1, 1000):  # what follows the end of a PNG is not read, but makes it another file
        (tmp_path / f"in/{i:04d}.png").write_bytes(data + i.to_bytes(4, "big"))
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, tmp_path / "in", tmp_path / "ds"],
        env={key: value for key, value in os.environ.items() if key != "LOKY_MAX_CPU_COUNT"},
        stderr=subprocess.DEVNULL,
    )
    peak, root = 0, psutil.Process(process.pid)

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            held = 0
            for each in [root, *root.children(recursive=True)]:
                try:
                    held += each.memory_info().rss
                except psutil.Error:
                    continue
            peak = max(peak, held)
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.wait(timeout=120) == 0
    watcher.join()
    assert len(open_dataset(tmp_path / "ds")) == 1000
    assert peak < 1.5e9, f"peak {peak / 1e9:.2f} GB"
    print(f"peak {peak / 1e9:.2f} GB")


def test_the_real_radiographs(shared: Path, tmp_path: Path) -> None:
    source = shared / "cxr_nih"
    data = ingest(source, out=tmp_path / "cxr", labels=source / "labels.csv")
    given = pd.read_csv(source / "labels.csv", dtype={"patient_id": str})
    assert len(data) == 999 and data.manifest["patient_id"].nunique() == given["patient_id"].nunique()
    known = data.manifest.merge(given, on="path", suffixes=("", "_given"))
    assert (known["patient_id"] == known["patient_id_given"].map(hidden)).all()
    split_check(data.folder)
    assert data.labels().values[:, 0].tolist() == known["pneumonia"].tolist()
