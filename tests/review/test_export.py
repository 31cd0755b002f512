"""Verdicts become labels: the latest counts, and the file is whole or absent."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from medtl.errors import ReviewError
from medtl.review.export import export_labels
from medtl.review.store import ReviewStore, Verdict

VERDICT = Verdict(
    scan_id="s1",
    sha256="s1" * 32,
    source_name="a.png",
    finding="pneumonia",
    probability=0.7,
    threshold=0.5,
    decision="positive",
    verdict="agree",
    note="",
    reader="Dr A",
    bundle_id="b1",
)


@pytest.mark.parametrize(
    ("decision", "verdict", "label"),
    [
        ("positive", "agree", "1"),
        ("positive", "disagree", "0"),
        ("negative", "agree", "0"),
        ("negative", "disagree", "1"),
        ("positive", "unsure", ""),
        ("negative", "unsure", ""),
    ],
)
def test_what_a_verdict_means(tmp_path: Path, decision: str, verdict: str, label: str) -> None:
    ReviewStore(tmp_path / "r.db").save([replace(VERDICT, decision=decision, verdict=verdict)])
    assert export_labels(tmp_path / "r.db", tmp_path / "labels.csv") == 1
    assert (tmp_path / "labels.csv").read_text() == f"scan_id,pneumonia\ns1,{label}\n"


def test_the_latest_verdict_counts(tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "r.db")
    store.save([VERDICT, replace(VERDICT, finding="nodule, left", decision="negative")])
    store.save([replace(VERDICT, scan_id="s2", verdict="disagree")])
    store.save([replace(VERDICT, verdict="disagree")])
    store.save([replace(VERDICT, scan_id="s2", verdict="unsure")])
    assert export_labels(tmp_path / "r.db", tmp_path / "deep" / "labels.csv") == 2
    with (tmp_path / "deep" / "labels.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"scan_id": "s1", "pneumonia": "0", "nodule, left": "0"},
            {"scan_id": "s2", "pneumonia": "", "nodule, left": ""},
        ]


def test_nothing_to_export(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("old")
    with pytest.raises(ReviewError, match=r"r\.db: no such file; the review page \(medtl serve\) makes it"):
        export_labels(tmp_path / "r.db", tmp_path / "labels.csv")
    assert not (tmp_path / "r.db").exists()
    ReviewStore(tmp_path / "r.db").close()
    with pytest.raises(ReviewError, match=r"r\.db: holds no verdicts yet"):
        export_labels(tmp_path / "r.db", tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text() == "old"
