"""Conformal sets: against a slow definition by ranks, and coverage by simulation of the binormal model."""

import json

import numpy as np
import pytest
from scipy.stats import norm

from medtl.evaluation.conformal import ERROR, LEAST, Band, conformal_band, coverage_range, set_result, uncertain_words
from medtl.evaluation.report import build_report, write_report


def answers(y, p, new, error):
    """By the definition: a label stays open unless too small a share of its scans conform less (Vovk 2005, eq. 4.5)."""
    present = (np.sum(p[y == 1] <= new) + 1) / (np.sum(y == 1) + 1) > error
    absent = (np.sum(p[y == 0] >= new) + 1) / (np.sum(y == 0) + 1) > error
    return present, absent


@pytest.mark.parametrize("n", [(9, 9), (10, 40), (57, 19)])
@pytest.mark.parametrize("decimals", [1, 12])  # with and without ties
def test_the_band_is_the_conformal_set_and_the_side(n, decimals):
    random = np.random.default_rng(n[0])
    y = np.repeat([1, 0], n)
    p = norm.cdf(random.normal(size=sum(n)) + y - 0.5).round(decimals)
    band = conformal_band(y, p)
    assert (band.n_present, band.n_absent, band.error) == (*n, ERROR)
    for threshold in (0.2, 0.5, 0.8):
        for new in np.unique([*p, *random.random(50)]):
            present, absent = answers(y, p, new, ERROR)
            side = new >= threshold
            both = (present or side) and (absent or not side)
            assert band.uncertain(np.array([new]), threshold)[0] == both
            for truth in (0, 1):
                said = band.covers(np.array([truth]), np.array([new]), threshold)[0]
                assert said == ((present or side) if truth else (absent or not side))


def test_coverage_holds_for_each_class_whatever_the_prevalence():
    """Mean coverage over many calibrations, of 30 scans with and 90 without, is at least 90 % and hardly more."""
    random = np.random.default_rng(0)
    y, covered = np.repeat([1, 0], [30, 90]), []
    new_y = np.repeat([1, 0], 500)
    for _ in range(400):
        band = conformal_band(y, norm.cdf(random.normal(size=120) + 1.0 * y))
        # An operating point that never says yes: the sets are then the conformal ones wherever the finding is.
        right = band.covers(new_y, norm.cdf(random.normal(size=1000) + 1.0 * new_y), 1.0)
        covered.append(right[:500].mean())
    # Exactly 1 - k / (n + 1) = 1 - 3 / 31; the standard error of the mean is about 0.003.
    assert np.mean(covered) == pytest.approx(1 - 3 / 31, abs=0.012)
    low, high = coverage_range(30)
    assert np.mean((np.array(covered) >= low) & (np.array(covered) <= high)) == pytest.approx(0.95, abs=0.04)


def test_both_classes_are_covered_at_the_operating_point():
    random = np.random.default_rng(1)
    y, kept = np.repeat([1, 0], [60, 60]), []
    for _ in range(200):
        band = conformal_band(y, norm.cdf(random.normal(size=120) + 1.5 * y - 0.75))
        new = norm.cdf(random.normal(size=120) + 1.5 * y - 0.75)
        right = band.covers(y, new, 0.5)
        kept.append([right[:60].mean(), right[60:].mean()])
    assert (np.mean(kept, axis=0) >= 0.9 - 0.01).all()


@pytest.mark.parametrize(
    ("present", "absent", "some"), [(8, 100, False), (100, 8, False), (9, 9, True), (0, 50, False)]
)
def test_too_few_scans_give_no_band(present, absent, some):
    p = np.linspace(0, 1, present + absent)
    band = conformal_band(np.repeat([0, 1], [absent, present]), p)
    assert (band is not None) == some
    assert LEAST == 9
    if not some:
        assert "uncertain is never said: that takes 9 scans with and 9 without" in uncertain_words(band, 0.5)


def test_classes_far_apart_leave_nothing_open():
    band = conformal_band(np.repeat([0, 1], 20), np.r_[np.linspace(0, 0.2, 20), np.linspace(0.8, 1, 20)])
    assert band.limits(0.5) is None and uncertain_words(band, 0.5) == "no probability is uncertain"
    assert not band.uncertain(np.linspace(0, 1, 101), 0.5).any()
    # An operating point among the scans without the finding: what they had as well stays open.
    assert band.limits(0.1) == (0.1, band.highest_absent)
    assert band.uncertain(np.array([0.05, 0.1, 0.15, 0.5]), 0.1).tolist() == [False, True, True, False]


@pytest.mark.parametrize("change", [{"lowest_present": 1.2}, {"error": float("nan")}, {"n_absent": 0}])
def test_a_band_is_valid_once_constructed(change):
    good = {"lowest_present": 0.3, "highest_absent": 0.6, "error": 0.1, "n_present": 9, "n_absent": 9}
    Band(**good)
    with pytest.raises(ValueError, match="expected"):
        Band(**good | change)


def test_the_report_states_coverage_and_the_share_of_uncertain(binormal, tmp_path):
    calibration_y, calibration_p, _ = binormal(200, 1.2, seed=3)
    y, p, patients = binormal(150, 1.2, seed=4, scans_each=2, shared=0.5)
    band = conformal_band(calibration_y, calibration_p)
    bands = {"nodule": band}
    labels, probabilities = np.stack([y, y], axis=1), np.stack([p, p], axis=1)
    report = build_report(
        findings=["nodule", "mass"], labels=labels, probabilities=probabilities, patient_ids=patients.tolist(),
        thresholds={"nodule": 0.5, "mass": 0.5}, exclusive=False, context={}, bands=bands,
    )  # fmt: skip
    write_report(report, tmp_path / "r")
    found = json.loads((tmp_path / "r/report.json").read_text())["findings"]
    assert "sets" not in found["mass"], "without a band nothing is said"
    sets = found["nodule"]["sets"]
    open_ = [answers(calibration_y, calibration_p, each, ERROR) for each in p]
    both = np.array([(a or s) and (b or not s) for (a, b), s in zip(open_, p >= 0.5, strict=True)])
    right = both | ((p >= 0.5) == (y == 1))
    assert sets["uncertain"]["value"] == pytest.approx(both.mean())
    assert sets["coverage"]["value"] == pytest.approx(right.mean())
    assert sets["covered_present"]["value"] == pytest.approx(right[y == 1].mean())
    assert sets["covered_absent"]["value"] == pytest.approx(right[y == 0].mean())
    assert sets["right"]["value"] == pytest.approx(right[~both].mean())
    for name in ("uncertain", "coverage", "covered_present", "covered_absent", "right"):
        assert sets[name]["low"] < sets[name]["value"] < sets[name]["high"]
    text = " ".join((tmp_path / "r/report.html").read_text().split())
    assert text.count("the detector says <b>uncertain</b>") == 1
    assert f"<b>{100 * both.mean():.0f}</b> are uncertain" in text and "at least 90 % of each was intended" in text
    again = {name: {**each} for name, each in found.items()}
    again["nodule"].pop("sets")
    plain = build_report(
        findings=["nodule", "mass"], labels=labels, probabilities=probabilities, patient_ids=patients.tolist(),
        thresholds={"nodule": 0.5, "mass": 0.5}, exclusive=False, context={},
    )  # fmt: skip
    assert plain.as_json()["findings"] == again, "measures at the operating point stay as they are"


def test_intervals_of_sets_are_over_patients(binormal):
    y, p, patients = binormal(80, 1.0, seed=5, scans_each=4, shared=0.95)
    band = conformal_band(y, p)
    by_patient = set_result(y, p, patients, band=band, threshold=0.5).uncertain
    by_scan = set_result(y, p, np.arange(len(y)), band=band, threshold=0.5).uncertain
    assert by_patient.value == by_scan.value
    assert by_patient.high - by_patient.low > 1.3 * (by_scan.high - by_scan.low)
