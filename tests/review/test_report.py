"""The report on the reviews: its numbers against hand counts and other libraries, and every name escaped."""

import json
import math
import re
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from scipy.stats import chi2

import medtl
from medtl.errors import MedtlError, ReviewError
from medtl.review import cases, figures, report, verdicts
from medtl.review.store import ReviewStore
from tests.review.making import LEAD, A, B, C, read, said, scan, score, token


def test_the_week_begins_on_monday() -> None:
    assert figures.week_of("2026-11-25T23:59:59.999+00:00") == date(2026, 11, 23)
    assert figures.week_of("2026-11-23T00:00:00.000+00:00") == date(2026, 11, 23)


def test_stability() -> None:
    # Reference spread evenly over five bins; then all of it in the upper two.
    reference, upper = np.arange(100) / 100, np.repeat(np.arange(60, 100) / 100, 5)
    assert figures.stability(reference, reference) == 0
    a, b, low = 100.5 / 202.5, 20.5 / 102.5, 0.5 / 202.5
    expected = 2 * (a - b) * math.log(a / b) + 3 * (low - b) * math.log(low / b)
    assert figures.stability(reference, upper) == pytest.approx(expected, rel=1e-9)


def test_chance_alone_stays_below_its_limit() -> None:
    rng = np.random.default_rng(1)
    for n, m in ((50, 50), (400, 100)):
        limit = figures.stability_by_chance(n, m)
        above = np.mean([figures.stability(rng.random(n), rng.random(m)) > limit for _ in range(1000)])
        # 5 % by definition, asymptotically; 1000 draws and small samples leave room.
        assert 0.005 < above < 0.08, (n, m, above)


def test_drift_needs_enough_scans() -> None:
    rng = np.random.default_rng(0)
    received = [("2026-11-02", 10), ("2026-11-09", 60), ("2026-11-16", 60), ("2026-11-23", 60), ("2026-11-30", 49)]
    scores = [(f"{day}T08:00", float(p)) for day, n in received for p in rng.beta(2, 5 if day < "2026-11-20" else 2, n)]
    weeks = figures.drift_by_week(scores)
    assert [(week.n, week.reference, math.isnan(week.psi)) for week in weeks] == [
        (10, False, True), (60, True, True), (60, False, False), (60, False, False), (49, False, True),
    ]  # fmt: skip
    assert weeks[2].p > 0.05 > 1e-3 > weeks[3].p and weeks[3].psi > weeks[3].psi_by_chance > weeks[2].psi
    assert weeks[0].quartiles[1] == pytest.approx(median(p for _, p in scores[:10]))


def test_drift_of_the_inputs() -> None:
    rng = np.random.default_rng(0)

    def facts(i: int, last: bool) -> dict[str, object]:
        doubts = "blurred; unlike" if last and i < 30 else "unlike" if not last and i < 2 else ""
        view, age = "AP" if last and i % 5 < 4 else "PA", float(rng.normal(140 if last else 60, 8))
        return {"sex": "FM"[i % 2], "age_years": age, "view": view} | {"doubts": doubts}

    weeks = (("2026-11-02", False), ("2026-11-09", False), ("2026-11-16", True))
    cases_of = [(f"{day}T08:00", facts(i, last)) for day, last in weeks for i in range(60)]
    found = figures.inputs_by_week(cases_of)
    assert list(found) == ["age_years", "sex", "view", "doubt: blurred", "doubt: unlike"]
    assert all([week.reference for week in weeks] == [True, False, False] for weeks in found.values())
    assert all(math.isnan(weeks[0].p) and weeks[1].p > 0.01 for weeks in found.values())
    assert [name for name, weeks in found.items() if weeks[2].p < 1e-6] == [
        "age_years", "view", "doubt: blurred", "doubt: unlike",
    ]  # fmt: skip
    assert found["sex"][2].p == 1
    # (30 of 60 against 2 of 60): chi-squared with Yates' correction by hand.
    a, b, c, d, n = 30, 30, 2, 58, 120
    statistic = n * (abs(a * d - b * c) - n / 2) ** 2 / ((a + b) * (c + d) * (a + c) * (b + d))
    assert found["doubt: unlike"][2].p == pytest.approx(chi2.sf(statistic, 1))
    assert found["view"][2].told == "AP 80 %, PA 20 %"
    assert found["age_years"][0].told.startswith("median 5") or found["age_years"][0].told.startswith("median 6")
    few = figures.inputs_by_week((f"2026-11-0{i}T08:00", {"sex": "F"}) for i in range(2, 9))
    assert [(week.n, week.told, week.reference) for week in few["sex"]] == [(7, "F 100 %", False)]
    assert figures.inputs_by_week([("2026-11-02T08:00", {})]) == {}
    unasked = [("2026-10-26T08:00", {"sex": "F"})] * 60
    assert figures.inputs_by_week([*unasked, *cases_of])["doubt: unlike"] == found["doubt: unlike"]


def fill(store: ReviewStore) -> None:
    """Four scans, three readers, a lead; A agrees three times of four."""
    names = [f"s{i}" for i in range(4)]
    numbers = cases.add(store, [scan(name, 0.7, readings_wanted=3, patient_id="p") for name in names])
    for reader, words in ((A, "aaad"), (B, "aadd"), (C, "aaau")):
        for number, letter in zip(numbers, words, strict=True):
            verdict = {"a": "agree", "d": "disagree", "u": "unsure"}[letter]
            read(store, number, reader, verdict, seconds=float(number))
    cases.add(store, [scan("open1", 0.5, patient_id="q"), scan("open2", 0.51, patient_id="q"), scan("open3", 0.9)])


def test_the_report(store: ReviewStore, where: str, tmp_path: Path) -> None:
    fill(store)
    lead = cases.add(store, [scan("s0")])[0]
    read(store, lead, LEAD, "disagree", adjudicates=True)
    medtl.report_reviews(where, out=tmp_path / "report")
    content = json.loads((tmp_path / "report" / "reviews.json").read_text())
    assert content["cases"] == {"done": 4, "open": 3} and content["n_verdicts"] == 13
    week = content["agreement"][0]
    assert (len(content["agreement"]), week["n"], week["agreement"]["value"]) == (1, 11, 8 / 11)
    # Wilson's interval, written out.
    n, p, z = 11, 8 / 11, 1.959963984540054
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert week["agreement"]["high"] == pytest.approx((p + z**2 / (2 * n)) / (1 + z**2 / n) + half, abs=1e-9)
    kappas = {row["readers"]: (row["n"], row["kappa"]) for row in content["kappas"]}
    # A and B: 3 of 4 alike; chance 0.75 * 0.5 + 0.25 * 0.5 = 0.5.
    assert kappas["Dr A and Dr B"] == (4, 0.5)
    assert kappas["Dr A and Dr C"] == (3, None), "both say one thing only: not defined"
    # Three readers on s0 to s2: 3, 3 and 2 of them positive.
    observed, share = (1 + 1 + 1 / 3) / 3, 8 / 9
    expected = share**2 + (1 - share) ** 2
    assert kappas["any 3 readers (Fleiss)"] == (3, pytest.approx((observed - expected) / (1 - expected)))
    assert content["paces"][0] == {"reader": "Dr A", "n": 4, "quartiles": [1.75, 2.5, 3.25]}
    assert [row["scan_id"] for row in content["next"]] == ["open1", "open3"], "most in doubt first, one of each patient"
    page = (tmp_path / "report" / "reviews.html").read_text()
    assert page.count("<svg") == 2 and "<script" not in page and "http://" not in re.sub(r'xmlns\S+|"http\S+', "", page)


def next_to_read(store: ReviewStore) -> list[str]:
    return [str(row["scan_id"]) for row in report.content_of(store, [])["next"]]


def test_what_is_read_next_is_in_doubt_and_unlike_the_labeled_scans(store: ReviewStore) -> None:
    """Doubt times distance: 1 * 0.2, 0.8 * 0.5, 0.2 * 0.9 and so on; of a patient the first, what is read never."""
    wanted = {"far": (0.4, 0.5), "doubtful": (0.5, 0.2), "farther but sure": (0.9, 0.9), "labeled": (0.5, 0.0)}
    cases.add(store, [scan(name, p, distance=away) for name, (p, away) in wanted.items()])
    cases.add(store, [scan("unknown", 0.45), scan("unknown and sure", 0.1)])
    assert next_to_read(store) == ["far", "doubtful", "farther but sure", "labeled", "unknown", "unknown and sure"]
    cases.add(store, [scan("p1", 0.5, distance=0.3, patient_id="p"), scan("p2", 0.5, distance=0.6, patient_id="p")])
    cases.add(store, [scan("far", 0.5, bundle_id="b2", distance=0.1)])
    assert next_to_read(store)[:4] == ["p2", "doubtful", "farther but sure", "far"], "a new bundle's scores count"
    read(store, cases.find(store, "p2", by=A).id, A)
    assert next_to_read(store)[:2] == ["p1", "doubtful"]
    row = report.content_of(store, [])["next"][1]
    assert (row["doubt"], row["distance"]) == (1.0, 0.2)


def test_the_finding_in_most_doubt_counts_not_the_operating_point(store: ReviewStore) -> None:
    """At its operating point of 0.02 a finding is not in doubt; a probability of 1/2 is."""
    at_it, half = score("pneumonia", 0.02, 0.02), score("nodule", 0.5, 0.02)
    cases.add(store, [scan("at it", scores=(at_it,), distance=1), scan("half", scores=(at_it, half), distance=0.1)])
    assert next_to_read(store) == ["half", "at it"]


def test_what_others_hold_is_not_to_be_read_next(store: ReviewStore) -> None:
    first, second = cases.add(store, [scan("s1", 0.5), scan("s2", 0.6)])
    assert next_to_read(store) == ["s1", "s2"]
    cases.claim(store, first, by=A)
    assert next_to_read(store) == ["s2"]
    cases.release(store, first, by=A)
    cases.claim(store, second, by=B)
    assert next_to_read(store) == ["s1"]


def test_an_upload_is_not_to_be_read_next(store: ReviewStore) -> None:
    cases.add(store, [scan("kept"), scan("gone", path="gone.dcm")])
    assert next_to_read(store) == ["kept"]


def test_where_nobody_is_sure_there_are_verdicts_all_the_same(store: ReviewStore) -> None:
    [number] = cases.add(store, [scan("s1")])
    none = "No verdict yet that is sure and beside a decision of the detector."
    html = report.sections(report.content_of(store, verdicts.standing(store)))
    assert "No verdict yet." in html and none not in html
    read(store, number, A, "unsure")
    html = report.sections(report.content_of(store, verdicts.standing(store)))
    assert none in html and "No verdict yet." not in html and "1 verdict that" in html


def test_many_open_cases(store: ReviewStore) -> None:
    cases.add(store, [scan(f"s{i:03d}", 0.5, distance=i / 100) for i in range(200)])
    assert next_to_read(store) == [f"s{i}" for i in range(199, 199 - report.NEXT, -1)]


def test_names_are_text(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    path.write_bytes(made.read_bytes())
    store, hostile = ReviewStore(path), "<script>alert(1)</script> $x_$"
    by = A.__class__(name=hostile, role="reader")
    number = cases.add(store, [scan("<b>", scores=(score(hostile, 0.7),))])[0]
    cases.claim(store, number, by=by)
    verdicts.save(store, [said(number, finding=hostile, seconds=1)], by=by, token=token())
    cases.add(store, [scan("<i>")])
    store.close()
    medtl.report_reviews(path, out=tmp_path / "report")
    page = (tmp_path / "report" / "reviews.html").read_text()
    assert "<script>" not in page and "<i>" not in page and "&lt;script&gt;" in page


def test_where_nothing_can_be_reported(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    path.write_bytes(made.read_bytes())
    with pytest.raises(ReviewError, match=r"r\.db: holds no case yet; fill it with medtl reviews import SCORES"):
        medtl.report_reviews(path, out=tmp_path / "report")
    store = ReviewStore(path)
    cases.add(store, [scan("s1")])
    store.close()
    medtl.report_reviews(path, out=tmp_path / "report")
    assert "No verdict yet." in (tmp_path / "report" / "reviews.html").read_text()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(MedtlError, match="holds other files"):
        medtl.report_reviews(path, out=tmp_path / "mine")
