"""Verdicts become labels: adjudicated before majority before single, and the file is whole or absent."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

import medtl
from medtl.data.label_rows import read_labels
from medtl.errors import ReviewError
from medtl.review import cases, verdicts
from medtl.review.records import Region, Verdict
from medtl.review.schema import CASES
from medtl.review.store import ReviewStore
from tests.review.making import LEAD, A, B, C, read, said, scan, score, token


@pytest.mark.parametrize(
    ("probability", "verdict", "label"),
    [(0.7, "agree", "1"), (0.7, "disagree", "0"), (0.3, "agree", "0"), (0.3, "disagree", "1"), (0.7, "unsure", "")],
)
def test_what_a_verdict_means(where: str, tmp_path: Path, probability: float, verdict: str, label: str) -> None:
    store = ReviewStore(where)
    read(store, cases.add(store, [scan("s1", probability)])[0], A, verdict)
    store.close()
    assert medtl.export_labels(where, tmp_path / "labels.csv") == 1
    assert (tmp_path / "labels.csv").read_text() == f"scan_id,pneumonia\ns1,{label}\n"


def test_whose_word_counts(store: ReviewStore, tmp_path: Path) -> None:
    names = ("single", "majority", "tie", "unsure", "adjudicated", "corrected", "withdrawn", "bad", "relabelled")
    wanted = {"majority": 3, "adjudicated": 3, "tie": 2, "unsure": 2}
    scans = [scan(name, readings_wanted=wanted.get(name, 1)) for name in names]
    number = dict(zip(names, cases.add(store, scans), strict=True))
    read(store, number["single"], A)
    for reader, verdict in ((A, "agree"), (B, "disagree"), (C, "disagree")):
        read(store, number["majority"], reader, verdict)
        read(store, number["adjudicated"], reader, verdict)
    read(store, number["tie"], A)
    read(store, number["tie"], B, "disagree")
    read(store, number["unsure"], A, "unsure")
    read(store, number["unsure"], B, "disagree")
    read(store, number["adjudicated"], LEAD, "agree", adjudicates=True)
    read(store, number["corrected"], A)
    read(store, number["corrected"], A, "disagree")
    verdicts.undo(store, read(store, number["withdrawn"], A), by=A, token=token())
    read(store, number["bad"], A, bad_image=True)
    read(store, number["relabelled"], A, "disagree", relabel=1)
    assert medtl.export_labels(store.path or store._engine.url.render_as_string(False), tmp_path / "l.csv") == 8
    with (tmp_path / "l.csv").open(newline="") as file:
        found = {row["scan_id"]: row["pneumonia"] for row in csv.DictReader(file)}
    assert found == {
        "single": "1", "majority": "0", "tie": "", "unsure": "0", "adjudicated": "1", "corrected": "0", "bad": "",
        "relabelled": "1",
    }  # fmt: skip


def test_finetune_reads_it(store: ReviewStore, tmp_path: Path) -> None:
    two = (score("pneumonia", 0.9), score("nodule, left", 0.2))
    numbers = cases.add(store, [scan("s1", scores=two), scan("s2", scores=two)])
    for number, verdict in zip(numbers, ("agree", "disagree"), strict=True):
        cases.claim(store, number, by=A)
        chosen: list[Verdict] = [said(number, verdict), said(number, "unsure", finding="nodule, left")]
        verdicts.save(store, chosen if number == numbers[0] else chosen[:1], by=A, token=token())
    medtl.export_labels(store.path or store._engine.url.render_as_string(False), tmp_path / "deep" / "labels.csv")
    with (tmp_path / "deep" / "labels.csv").open(newline="") as file:
        assert next(file) == 'scan_id,pneumonia,"nodule, left"\n'
    rows = read_labels(tmp_path / "deep" / "labels.csv")
    assert rows.findings == ("pneumonia",), "of the other nothing is known"
    assert rows.cells["scan_id"] == ["s1", "s2"]
    np.testing.assert_array_equal(rows.values, [[1], [0]])


def test_a_case_that_others_still_have_to_read_is_left_out(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ReviewStore(where)
    half, whole = cases.add(store, [scan("half", readings_wanted=2), scan("whole", readings_wanted=2)])
    read(store, half, A)
    waiting = "1 case left out until every reader whom it needs has read it"
    with pytest.raises(ReviewError, match=f"holds no labels yet: {waiting}"):
        medtl.export_labels(where, tmp_path / "l.csv")
    read(store, whole, A)
    read(store, whole, B)
    assert medtl.export_labels(where, tmp_path / "l.csv") == 1
    assert waiting in capsys.readouterr().err
    assert (tmp_path / "l.csv").read_text() == "scan_id,pneumonia\nwhole,1\n"
    read(store, half, B, "disagree")
    store.close()
    assert medtl.export_labels(where, tmp_path / "l.csv") == 2
    assert (tmp_path / "l.csv").read_text() == "scan_id,pneumonia\nhalf,\nwhole,1\n"


def test_verdicts_as_they_were_said(where: str, tmp_path: Path) -> None:
    store = ReviewStore(where)
    number, other = cases.add(store, [scan("s1", readings_wanted=2), scan("s2", 0.2)])
    box = Region(kind="box", points=((1.0, 2.0), (30.0, 40.0)))
    read(store, number, A, "agree", region=box, note='=1+1 "quoted"\nÄ', seconds=3.5)
    read(store, number, B, "disagree")
    read(store, other, A, "agree")
    read(store, other, A, "disagree")
    store.close()
    assert medtl.export_verdicts(where, tmp_path / "v.jsonl") == 3
    first, second, corrected = map(json.loads, (tmp_path / "v.jsonl").read_text().splitlines())
    assert (first["reader"], first["scan_id"], first["path"], first["label"]) == ("Dr A", "s1", "/scans/s1.dcm", 1)
    assert first["region"]["kind"] == "box" and first["region"]["points"] == [[1, 2], [30, 40]]
    assert (first["note"], first["seconds"]) == ('=1+1 "quoted"\nÄ', 3.5)
    assert (second["reader"], second["label"], second["region"]) == ("Dr B", 0, None)
    assert (corrected["verdict"], corrected["decision"], corrected["label"]) == ("disagree", "negative", 1)
    assert not {"hash", "prev_hash", "token", "supersedes"} & set(first)


def test_nothing_to_export(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("old")
    with pytest.raises(ReviewError, match=r"r\.db: no such file; the review page \(medtl serve\) makes it"):
        medtl.export_labels(tmp_path / "r.db", tmp_path / "labels.csv")
    assert not (tmp_path / "r.db").exists()
    ReviewStore(tmp_path / "r.db").close()
    for export in (medtl.export_labels, medtl.export_verdicts):
        with pytest.raises(ReviewError, match=r"r\.db: holds no verdicts yet"):
            export(tmp_path / "r.db", tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text() == "old"


def scores_file(path: Path, /, **more: list[object]) -> Path:
    """Two scans with two findings, and a file that was refused, as `medtl score` writes them."""
    table = pd.DataFrame({
        "path": ["a.dcm", "a.dcm", "b.dcm", "b.dcm", "c.pdf"],
        "scan_id": ["0012", "0012", "s2", "s2", ""],
        "finding": ["pneumonia", "nodule", "pneumonia", "nodule", None],
        "probability": [0.7, 0.2, 0.1, 0.3, None],
        "threshold": [0.5, 0.4, 0.5, 0.4, None],
        "decision": ["positive", "negative", "negative", "negative", "refused"],
        "reason": ["", "", "", "", "not_an_image: is a PDF document"],
        "sha256": ["f1", "f1", "f2", "f2", "f3"],
        "bundle_id": ["b1"] * 5,
    } | more)  # fmt: skip
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_scores_become_cases(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = scores_file(tmp_path / f"s{suffix}", sex=["F"] * 5, uncertainty=[None, 0.5, None, None, None],
                       nearest_scan_id=["007"] * 2 + ["s9"] * 2 + [""], distance=[0.25] * 2 + [None] * 3)  # fmt: skip
    assert medtl.import_scores(file, reviews=tmp_path / "r.db", readings=2) == 2
    assert f"2 cases, 1 refused inputs left out: {tmp_path / 'r.db'}" in capsys.readouterr().err
    assert medtl.import_scores(file, reviews=tmp_path / "r.db") == 2, "and again, which adds nothing"
    store = ReviewStore(tmp_path / "r.db")
    first, second = (cases.get(store, number, by=A) for number in (1, 2))
    assert (first.scan_id, first.sha256, first.bundle_id, first.readings_wanted) == ("0012", "f1", "b1", 2)
    assert (first.path, first.facts) == (str(Path("a.dcm").absolute()), {"sex": "F"})
    assert first.scores == (score("pneumonia", 0.7), score("nodule", 0.2, 0.4, uncertainty=0.5))
    assert second.scan_id == "s2"
    with store.reading() as connection:
        assert connection.execute(select(CASES.c.nearest_scan_id)).scalars().all() == ["007", "s9"]
        assert connection.execute(select(CASES.c.distance)).scalars().all() == [0.25, None]
    with pytest.raises(ReviewError, match="there is no case 3"):
        cases.get(store, 3, by=A)
    store.close()


def test_paths_that_are_not_absolute_are_found_beside_the_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scored" / "d").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "scored" / "d" / "a.dcm").write_text("scan")
    (tmp_path / "scored" / "m.dcm").write_text("frames")
    monkeypatch.chdir(tmp_path / "elsewhere")
    paths = ["d/a.dcm", "d/a.dcm", "m.dcm#frame/2", "m.dcm#frame/2", "r"]
    file = scores_file(tmp_path / "scored" / "s.csv", path=paths)
    medtl.import_scores(file, reviews=tmp_path / "r.db")
    assert "not there" not in capsys.readouterr().err
    store = ReviewStore(tmp_path / "r.db")
    found = [cases.get(store, number, by=A).path for number in (1, 2)]
    assert found == [str(tmp_path / "scored" / name) for name in ("d/a.dcm", "m.dcm#frame/2")]
    store.close()
    (tmp_path / "scored" / "d" / "a.dcm").unlink()
    medtl.import_scores(file, reviews=tmp_path / "new.db")
    gone = tmp_path / "elsewhere" / "d" / "a.dcm"
    assert f"1 of 2 files are not there, such as {gone}: these cases cannot be shown" in capsys.readouterr().err


def test_scores_that_cannot_be_used(tmp_path: Path) -> None:
    reviews = tmp_path / "r.db"
    for name, message in (("s.xlsx", "unknown suffix '.xlsx'"), ("none.csv", "no such file; medtl score makes it")):
        with pytest.raises(ReviewError, match=message):
            medtl.import_scores(tmp_path / name, reviews=reviews)
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(ReviewError, match=r"text\.parquet: cannot be read"):
        medtl.import_scores(tmp_path / "text.parquet", reviews=reviews)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ReviewError, match="has no column path, scan_id, finding"):
        medtl.import_scores(tmp_path / "other.csv", reviews=reviews)
    with pytest.raises(ReviewError, match=r"s\.csv, row 4: scan s2 pneumonia: probability 7\.0 and threshold"):
        medtl.import_scores(scores_file(tmp_path / "s.csv", probability=[0.7, 0.2, 7, 0.3, None]), reviews=reviews)
    for name in ("probability", "threshold", "uncertainty"):
        words = scores_file(tmp_path / "s.csv", **{name: ["0.5", "abc", "0.5", "0.5", "0.5"]})
        with pytest.raises(ReviewError, match=f"row 2: scan 0012 has the {name} 'abc'; expected a number"):
            medtl.import_scores(words, reviews=reviews)
    with pytest.raises(ReviewError, match="row 2: scan 0012 is scored by several bundles; keep one"):
        medtl.import_scores(scores_file(tmp_path / "s.csv", bundle_id=["b1", "b2", "b1", "b1", "b1"]), reviews=reviews)
    with pytest.raises(ReviewError, match="holds no scan that could be scored"):
        medtl.import_scores(scores_file(tmp_path / "s.csv", decision=["refused"] * 5), reviews=reviews)
    assert not reviews.exists()
