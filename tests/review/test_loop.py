"""The loop on the sample data: scans, scores, verdicts and marks, and back into fine-tuning."""

import csv
import shutil
from pathlib import Path

import pytest

import medtl
from medtl.review import cases, verdicts, worklist
from medtl.review.records import Verdict
from medtl.review.store import ReviewStore
from tests.review.making import LEAD, token
from tests.test_cli import run

SAMPLES = Path(__file__).parents[2] / "sample_data"
SCANS = 48
SMALL = ["steps=2", "batch_size=8", "input_px=16", "network=resnet10-half"]


@pytest.fixture
def truth(tmp_path: Path) -> dict[str, dict[str, str]]:
    """The labels of some sample scans, by path; the scans and their labels are copied to `samples`."""
    with (SAMPLES / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:SCANS]
    for row in rows:
        to = tmp_path / "samples" / row["path"]
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLES / row["path"], to)
    with (tmp_path / "samples" / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "effusion"])
        table.writerows((row["path"], row["effusion"]) for row in rows)
    return {str(tmp_path / "samples" / row["path"]): row for row in rows}


def test_verify_export_finetune(tmp_path: Path, truth: dict[str, dict[str, str]]) -> None:
    samples, reviews, few = tmp_path / "samples", tmp_path / "r.db", SMALL
    data = medtl.ingest(samples / "images", labels=samples / "labels.csv", out=tmp_path / "data", size_px=32)
    bundle = medtl.finetune(data.folder, out=tmp_path / "bundle", settings=few)
    medtl.score(bundle, samples / "images", out=tmp_path / "scores.parquet")
    assert medtl.import_scores(tmp_path / "scores.parquet", reviews=reviews) == SCANS
    store = ReviewStore(reviews)
    for case in worklist.page(store, by=LEAD, limit=SCANS).cases:
        cases.claim(store, case.id, by=LEAD)
        known = truth[case.path]
        said = [
            Verdict(case_id=case.id, bundle_id=case.bundle_id, finding="effusion", verdict="agree",
                    relabel=int(known["effusion"])),
            Verdict(case_id=case.id, bundle_id="", finding="nodule", verdict="agree", relabel=int(known["nodule"])),
        ]  # fmt: skip
        verdicts.save(store, said, by=LEAD, token=token())
    store.close()

    assert run("reviews", "verify", "--reviews", reviews).stdout.startswith(f"{2 * SCANS}:")
    assert run("reviews", "export", "--reviews", reviews, "--out", tmp_path / "labels.csv").returncode == 0
    with (tmp_path / "labels.csv").open(newline="") as file:
        found = {row["scan_id"]: (row["effusion"], row["nodule"]) for row in csv.DictReader(file)}
    paths = dict(zip(data.manifest["scan_id"], data.manifest["path"], strict=True))
    assert len(found) == SCANS
    for scan_id, labels in found.items():
        known = next(row for path, row in truth.items() if path.endswith(str(paths[scan_id])))
        assert labels == (known["effusion"], known["nodule"])
    settings = [word for each in few for word in ("--set", each)]
    words = ("finetune", data.folder, "--labels", tmp_path / "labels.csv", "--out", tmp_path / "again")
    done = run(*words, *settings)
    assert done.returncode == 0, done.stderr
    assert set(medtl.load(tmp_path / "again").bundle.findings) == {"effusion", "nodule"}
