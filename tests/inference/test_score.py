"""What `medtl score` writes beside a probability: open answers, and codes of reasons to doubt it."""

import hmac
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import medtl
from medtl.data.dataset import Dataset
from medtl.files import write_json
from medtl.inference import score as module
from medtl.review.intake import import_scores
from tests.data.conftest import dicom_bytes


@pytest.fixture
def inputs(scans: Path, tmp_path: Path) -> Path:
    """A training scan, a test scan, one that is all one grey, and a file that is no scan."""
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(scans / "images/p01_0.png", folder / "a-train.png")
    shutil.copy(scans / "images/p02_0.png", folder / "b-test.png")
    Image.fromarray(np.full((40, 40), 90, np.uint8)).save(folder / "c-blank.png")
    (folder / "d.dcm").write_bytes(b"no scan")
    return folder


def test_doubts_are_the_detectors(bundle: Path, dataset: Dataset, inputs: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(medtl.score(bundle, inputs, out=tmp_path / "s.parquet"))
    table.index = table["path"].map(lambda path: Path(path).stem)
    detector = medtl.load(bundle)
    for name in ("a-train", "b-test", "c-blank"):
        prediction = detector.predict(inputs / f"{name}.png")
        assert table.loc[name, "doubts"] == "; ".join(doubt.code for doubt in detector.doubts(prediction))
        assert table.loc[name, "decision"] == prediction["spot"].decision
    assert table.loc["a-train", "doubts"].startswith("seen")
    assert "seen" not in table.loc["b-test", "doubts"]
    assert "quality_blank" in table.loc["c-blank", "doubts"]
    assert table.loc["d", "doubts"] == "" and table.loc["d", "decision"] == "refused"
    assert import_scores(tmp_path / "s.parquet", reviews=tmp_path / "r.db") == 3


def test_the_nearest_labeled_scan_is_named(bundle: Path, inputs: Path, tmp_path: Path) -> None:
    """By the definition: the smallest angle between what the encoder makes of both."""
    table = pd.read_parquet(medtl.score(bundle, inputs, out=tmp_path / "s.parquet"))
    detector = medtl.load(bundle)
    for row in table.itertuples():
        if row.decision == "refused":
            assert row.nearest_scan_id == ""
            continue
        seen = detector.predict(Path(row.path)).embedding.astype(np.float64)
        angles = {
            name: np.arccos(np.clip(seen @ there / np.linalg.norm(seen) / np.linalg.norm(there), -1, 1))
            for name, there in zip(detector.reference.scan_ids, detector.reference.embeddings, strict=True)
        }
        assert row.nearest_scan_id == min(angles, key=angles.__getitem__)
    trained_on = table[table["path"].str.contains("a-train")].iloc[0]
    assert trained_on["nearest_scan_id"] == trained_on["scan_id"], "it is its own"
    assert table["nearest_scan_id"].nunique() >= 3, "not one for all"


def test_the_distance_is_the_detectors(bundle: Path, inputs: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(medtl.score(bundle, inputs, out=tmp_path / "s.parquet"))
    detector = medtl.load(bundle)
    for row in table.itertuples():
        if row.decision == "refused":
            assert np.isnan(row.distance)
        else:
            assert row.distance == pytest.approx(detector.predict(Path(row.path)).distance, abs=1e-3)
    away = table.set_index(table["path"].map(lambda path: Path(path).stem))["distance"]
    assert away["a-train"] < 0.05 < away["b-test"], "it is labeled itself"


def test_parts_of_an_earlier_version_are_scored_again(bundle: Path, inputs: Path, tmp_path: Path) -> None:
    parts = tmp_path / ".s.csv.parts"
    parts.mkdir()
    write_json(parts / "job.json", {"bundle_id": medtl.load(bundle).bundle.bundle_id})
    pd.DataFrame({"path": ["x"], "file": ["x"], "decision": ["positive"]}).to_parquet(parts / "part-000000.parquet")
    table = pd.read_csv(medtl.score(bundle, inputs, out=tmp_path / "s.csv"), keep_default_na=False)
    assert len(table) == 4 and "x" not in set(table["path"])


def test_the_salt_is_read_once_and_only_where_a_patient_is_named(
    bundle: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def salt() -> bytes:
        read.append(b"k" * 32)
        return read[-1]

    monkeypatch.setattr(module, "salt", salt)
    medtl.score(bundle, inputs, out=tmp_path / "nobody.csv")
    assert read == []
    rng = np.random.default_rng(0)
    for number in range(3):
        pixels = rng.integers(0, 4096, (40, 40)).astype(np.uint16)
        (inputs / f"e{number}.dcm").write_bytes(dicom_bytes(pixels, PatientID=f"P{number % 2}"))
    table = pd.read_csv(medtl.score(bundle, inputs, out=tmp_path / "some.csv"), keep_default_na=False)
    assert len(read) == 1
    named = table[table["patient_id"] != ""]["patient_id"].tolist()
    expected = ["p_" + hmac.digest(b"k" * 32, f"patient/P{n % 2}".encode(), "sha256").hex()[:16] for n in range(3)]
    assert named == expected
