import json
import math
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, confusion_matrix, roc_auc_score

from medtl.errors import BundleError, LabelError, MedtlError
from medtl.evaluation.page import elsewhere
from medtl.evaluation.plots import threshold_text
from medtl.evaluation.report import build_report, write_report

ESTIMATES = ["auroc", "ap", "sensitivity", "specificity", "accuracy"]
FIELDS = {*ESTIMATES, "threshold", "brier", "ece", "n_positive", "n_negative"}


def report_of(labels, probabilities, patients, *, findings=None, exclusive=False, context=None, threshold=0.5):
    labels, probabilities = np.atleast_2d(labels), np.atleast_2d(probabilities)
    names = findings or [f"finding {i}" for i in range(labels.shape[1])]
    return build_report(
        findings=names,
        labels=labels,
        probabilities=probabilities,
        patient_ids=[str(patient) for patient in patients],
        thresholds=dict.fromkeys(names, threshold),
        exclusive=exclusive,
        context=context or {"bundle": "a bundle"},
    )


@pytest.fixture(scope="module")
def written(binormal, tmp_path_factory):
    """A multi-label report with unknown labels: its folder, and what went in."""
    folder = tmp_path_factory.mktemp("written") / "REPORT"
    y, p, patients = binormal(120, 1.4, seed=0, scans_each=2, shared=0.5)
    other_y, other_p, _ = binormal(120, 0.8, seed=1, scans_each=2)
    other_y[::5] = np.nan
    labels, probabilities = np.stack([y, other_y], axis=1), np.stack([p, other_p], axis=1)
    report = report_of(labels, probabilities, patients, findings=["pneumonia", "nodule"])
    write_report(report, folder)
    return folder, labels, probabilities


def test_report_json_field_by_field(written):
    folder, labels, probabilities = written
    content = json.loads((folder / "report.json").read_text())
    assert set(content) == {"format", "n_scans", "n_patients", "findings"}
    assert (content["format"], content["n_scans"], content["n_patients"]) == (1, 240, 120)
    assert list(content["findings"]) == ["pneumonia", "nodule"]
    for i, found in enumerate(content["findings"].values()):
        known = ~np.isnan(labels[:, i])
        y, p = labels[known, i], probabilities[known, i]
        (passed, alarms), (missed, hits) = confusion_matrix(y, p >= 0.5)
        assert set(found) == FIELDS
        assert (found["n_positive"], found["n_negative"]) == (y.sum(), len(y) - y.sum())
        assert found["auroc"]["value"] == pytest.approx(roc_auc_score(y, p))
        assert found["ap"]["value"] == pytest.approx(average_precision_score(y, p))
        assert found["sensitivity"]["value"] == pytest.approx(hits / (hits + missed))
        assert found["specificity"]["value"] == pytest.approx(passed / (passed + alarms))
        assert found["accuracy"]["value"] == pytest.approx((hits + passed) / len(y))
        assert found["brier"] == pytest.approx(brier_score_loss(y, p))
        assert 0 < found["ece"] < 0.3
        assert found["threshold"] == 0.5
        for name in ESTIMATES:
            assert set(found[name]) == {"value", "low", "high"}
            assert found[name]["low"] < found[name]["value"] < found[name]["high"]


def test_the_same_input_gives_the_same_files(written, tmp_path):
    folder, labels, probabilities = written
    patients = np.repeat([f"P{i}" for i in range(120)], 2)
    again = tmp_path / "again"
    write_report(report_of(labels, probabilities, patients, findings=["pneumonia", "nodule"]), again)
    for name in ("report.json", "report.html"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


class Page(HTMLParser):
    """Collects what a browser would load, the ids, and the tags left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for key, value in attributes:
            if key in {"src", "href", "xlink:href", "action", "data", "srcset", "poster"}:
                self.loads.append(value)
            if key == "id":
                self.ids.append(value)
            self.references += re.findall(r"url\(#([^)]+)\)", value or "")

    def handle_data(self, data):
        self.text += data


def test_nothing_in_the_page_points_outside(written):
    html = (written[0] / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"'<>]+", re.sub(r'xmlns(:\w+)?="[^"]*"', "", html))) == set()
    page = Page(html)
    assert all(target.startswith("#") for target in page.loads)
    assert not {"script", "link", "iframe", "img", "object", "embed"} & set(page.tags)
    assert "@import" not in html


def test_every_figure_refers_to_parts_of_its_own(written):
    page = Page((written[0] / "report.html").read_text(encoding="utf-8"))
    assert page.tags.count("svg") == 8
    assert len(page.ids) == len(set(page.ids))
    assert {*page.references, *(target[1:] for target in page.loads)} <= set(page.ids)


def test_the_page_says_the_numbers_in_words(written):
    folder, _, _ = written
    found = json.loads((folder / "report.json").read_text())["findings"]["pneumonia"]
    text = " ".join(Page((folder / "report.html").read_text(encoding="utf-8")).text.split())
    flagged, alarms = round(100 * found["sensitivity"]["value"]), round(100 * (1 - found["specificity"]["value"]))
    assert f"Of 100 scans with pneumonia, {flagged} are flagged" in text
    assert f"Of 100 scans without it, {alarms} are flagged falsely" in text
    assert "240 scans of 120 patients" in text
    assert f"{found['auroc']['value']:.3f} {found['auroc']['low']:.3f}–{found['auroc']['high']:.3f}" in text
    assert "nodule: 48 scans without a label for it were left out" in text


def test_hostile_names_stay_text(binormal, tmp_path):
    y, p, patients = binormal(60, 1.0, seed=0)
    name = '"><script>alert(1)</script>$x^{$ & {{ 7*7 }}'
    context = {"<img src=x onerror=alert(2)>": "</table><script>alert(3)</script>"}
    for exclusive in (False, True):
        labels, probabilities = np.stack([y, 1 - y], axis=1), np.stack([p, 1 - p], axis=1)
        report = report_of(labels, probabilities, patients, findings=[name, "b"], exclusive=exclusive, context=context)
        write_report(report, tmp_path / "r")
        page = Page((tmp_path / "r/report.html").read_text(encoding="utf-8"))
        assert "script" not in page.tags and "img" not in page.tags
        assert name in page.text and context["<img src=x onerror=alert(2)>"] in page.text
        assert name in json.loads((tmp_path / "r/report.json").read_text())["findings"]


def test_multiclass_report(tmp_path):
    random = np.random.default_rng(0)
    y = random.integers(3, size=150)
    logits = random.normal(size=(150, 3)) + 1.5 * np.eye(3)[y]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.eye(3)[y]
    labels[:4] = np.nan
    report = report_of(labels, p, np.arange(150) // 2, findings=["normal", "opacity", "effusion"], exclusive=True)
    write_report(report, tmp_path / "r")
    found = json.loads((tmp_path / "r/report.json").read_text())["multiclass"]
    assert set(found) == {"accuracy", "macro_auroc", "classes", "confusion"}
    assert found["classes"] == ["normal", "opacity", "effusion"]
    assert found["confusion"] == confusion_matrix(y[4:], p[4:].argmax(axis=1)).tolist()
    assert found["accuracy"]["value"] == pytest.approx((y[4:] == p[4:].argmax(axis=1)).mean())
    assert found["macro_auroc"]["value"] == pytest.approx(roc_auc_score(y[4:], p[4:], multi_class="ovr"))
    for name in ("accuracy", "macro_auroc"):
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
    text = " ".join(Page((tmp_path / "r/report.html").read_text(encoding="utf-8")).text.split())
    assert "All classes together" in text
    assert "4 scans without exactly one known class were left out of the table of classes." in text


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("label", [0.0, 1.0, math.nan])
def test_one_class_or_none_is_null_and_said(label, exclusive, tmp_path):
    labels = np.full((8, 1), label)
    write_report(report_of(labels, np.linspace(0, 1, 8)[:, None], range(8), exclusive=exclusive), tmp_path / "r")
    found = json.loads((tmp_path / "r/report.json").read_text())["findings"]["finding 0"]
    assert found["auroc"] == found["ap"] == {"value": None, "low": None, "high": None}
    assert (found["sensitivity"]["value"] is None) == (label != 1)
    assert (found["specificity"]["value"] is None) == (label != 0)
    text = " ".join(Page((tmp_path / "r/report.html").read_text(encoding="utf-8")).text.split())
    assert ("No scan has a label for this finding." if math.isnan(label) else "Needs scans with and without") in text


def test_a_detector_that_flags_nothing_or_everything_still_has_a_page(binormal, tmp_path):
    y, p, patients = binormal(60, 1.0, seed=0)
    for threshold, flagged in ((0.0, 100), (1.0, 0)):
        write_report(report_of(y[:, None], 0.9 * p[:, None], patients, threshold=threshold), tmp_path / "r")
        text = " ".join(Page((tmp_path / "r/report.html").read_text(encoding="utf-8")).text.split())
        assert f"Of 100 scans with finding 0, {flagged} are flagged" in text
        assert ("Of 100 flagged scans" in text) == (flagged == 100)


def test_predictive_values_elsewhere_follow_bayes():
    # 1,000 scans, 50 with the finding: 45 of them flagged, and 95 of the 950 without.
    found = elsewhere(0.9, 0.9, 0.05)
    assert found["flagged"] == pytest.approx(140 / 1000)
    assert found["ppv"] == pytest.approx(45 / 140)
    assert found["npv"] == pytest.approx(855 / 860)
    assert math.isnan(elsewhere(0.0, 1.0, 0.05)["ppv"])
    assert math.isnan(elsewhere(1.0, 0.0, 0.05)["npv"])


def test_a_small_threshold_does_not_read_as_zero():
    assert threshold_text(0.34) == "0.340"
    assert threshold_text(0.000123) == "0.00012"


def test_a_report_replaces_a_report_and_nothing_else(written, tmp_path):
    labels, probabilities = written[1:]
    folder = shutil.copytree(written[0], tmp_path / "REPORT")
    report = report_of(labels, probabilities, np.arange(240), findings=["pneumonia", "nodule"])
    write_report(report, folder)
    assert json.loads((folder / "report.json").read_text())["n_patients"] == 240
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("years of work")
    with pytest.raises(MedtlError, match=r"thesis: holds other files and no report\.json"):
        write_report(report, other)
    assert (other / "chapter.txt").read_text() == "years of work"


def test_a_failure_while_writing_leaves_the_old_report(written, tmp_path, monkeypatch):
    labels, probabilities = written[1:]
    folder = shutil.copytree(written[0], tmp_path / "REPORT")
    before = (folder / "report.json").read_bytes()
    report = report_of(labels, probabilities, np.arange(240), findings=["pneumonia", "nodule"])

    def broken(_):
        raise OSError("disk full")

    monkeypatch.setattr("medtl.evaluation.report.render_page", broken)
    with pytest.raises(OSError, match="disk full"):
        write_report(report, folder)
    assert (folder / "report.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_bad_input_is_refused_in_one_line():
    y, p = np.array([[0.0], [1.0]]), np.array([[0.2], [0.7]])
    with pytest.raises(LabelError, match=r"^finding 0: scan 1 has the label 2; expected 0, 1 or empty"):
        report_of(y * 2, p, "ab")
    with pytest.raises(BundleError, match=r"^finding 0: scan 0 has the probability nan; expected 0 to 1"):
        report_of(y, p * [[math.nan], [1]], "ab")
    with pytest.raises(BundleError, match=r"^finding 0: scan 1 has the probability 1\.4"):
        report_of(y, p * 2, "ab")
    with pytest.raises(BundleError, match=r"^x: the bundle has no operating point"):
        build_report(
            findings=["x"],
            labels=y,
            probabilities=p,
            patient_ids=["a", "b"],
            thresholds={},
            exclusive=False,
            context={},
        )
    with pytest.raises(ValueError, match=r"must both have the shape \(3, 1\)"):
        report_of(y, p, "abc")
