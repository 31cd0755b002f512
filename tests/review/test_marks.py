"""Findings that the detector does not know: marked in the chain, by whom may, and counted for teaching."""

from pathlib import Path

import pytest

import medtl
from medtl.errors import ReviewError
from medtl.finetuning.parts import FEW
from medtl.review import cases, figures, marks, verdicts
from medtl.review.export import FEWEST
from medtl.review.records import UNASKED, Verdict
from medtl.review.store import ReviewStore
from medtl.review.users import User
from medtl.review.verify import verify_reviews
from tests.review.making import LEAD, A, B, read, said, scan, score, token


def mark(
    store: ReviewStore, number: int, by: User, label: int | None, finding: str = "fracture", **more: object
) -> list[int]:
    cases.claim(store, number, by=by)
    verdict = said(
        number, "unsure" if label is None else "disagree", bundle_id="", finding=finding, relabel=label, **more
    )
    return verdicts.save(store, [verdict], by=by, token=token())


def test_a_mark_is_chained_and_no_answer_of_the_detector_s(
    store: ReviewStore, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = cases.add(store, [scan("s1", 0.7)])[0]
    cases.claim(store, number, by=LEAD)
    both: list[Verdict] = [said(number), said(number, "disagree", bundle_id="", finding="fracture", relabel=1)]
    verdicts.save(store, both, by=LEAD, token=token())
    row = verdicts.standing(store)[1]
    assert (row.bundle_id, row.decision, row.probability, row.threshold, row.label) == ("", UNASKED, 0, 0, 1)
    assert (row.scan_id, row.sha256) == ("s1", "s1" * 8)
    assert verify_reviews(where).count == 2
    medtl.export_labels(where, tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text() == "scan_id,pneumonia\ns1,1\n"
    assert "fracture: left out until 4 scans with it and 4 without it are marked" in capsys.readouterr().err
    [week] = figures.agreement_by_week(verdicts.standing(store))
    assert (week.n, week.agreement.value) == (1, 1.0), "the mark says nothing about the detector"


def test_enough_marks_are_exported(store: ReviewStore, where: str, tmp_path: Path) -> None:
    numbers = cases.add(store, [scan(f"s{i}") for i in range(8)])
    for place, number in enumerate(numbers):
        mark(store, number, LEAD, place % 2)
    medtl.export_labels(where, tmp_path / "labels.csv")
    rows = [f"s{place},{place % 2}" for place in range(8)]
    assert (tmp_path / "labels.csv").read_text().splitlines() == ["scan_id,fracture", *rows]
    mark(store, numbers[0], LEAD, 1)
    with pytest.raises(ReviewError, match=r"holds no labels yet: fracture is marked on too few scans"):
        medtl.export_labels(where, tmp_path / "labels.csv")


def test_a_lead_begins_and_readers_follow(store: ReviewStore) -> None:
    first, second = cases.add(store, [scan("s1"), scan("s2")])
    with pytest.raises(ReviewError, match="no lead has begun to mark fracture; choose one of the findings"):
        mark(store, first, A, 1)
    assert verdicts.standing(store) == [] and marks.names(store) == []
    cases.release(store, first, by=A)
    mark(store, first, LEAD, 1)
    mark(store, second, A, 0)
    assert marks.names(store) == ["fracture"]
    assert marks.examples(verdicts.standing(store), "fracture") == {first: 1, second: 0}


def test_what_was_taken_back_is_not_offered(store: ReviewStore) -> None:
    number = cases.add(store, [scan("s1")])[0]
    ids = mark(store, number, LEAD, 1, "fractrue")
    verdicts.undo(store, ids, by=LEAD, token=token())
    assert marks.names(store) == [] and marks.candidates(verdicts.standing(store), ["pneumonia"]) == []


def test_what_the_detector_knows_is_said_beside_its_answer(store: ReviewStore) -> None:
    number = cases.add(store, [scan("s1")])[0]
    with pytest.raises(ReviewError, match="the detector knows pneumonia; say beside its answer whether it is there"):
        mark(store, number, LEAD, 1, "pneumonia")


@pytest.mark.parametrize(
    "name", ["", " x", "a/b", "../x", "a,b", "a\nb", "<b>", "scan_id", "split", "x" * 61, "_", "="]
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ReviewError, match="is no name for a finding; expected 1 to 60 letters, digits"):
        said(1, "disagree", bundle_id="", finding=name, relabel=1)
    assert marks.name_of("  Rib   Fracture ") == "rib_fracture"


def test_readers_who_mark_differently_need_no_lead(store: ReviewStore) -> None:
    first, second = cases.add(store, [scan("s1", readings_wanted=2), scan("s2")])
    mark(store, second, LEAD, 0)
    mark(store, first, A, 1)
    mark(store, first, B, 0)
    assert cases.get(store, first, by=LEAD).status == "done"
    assert marks.examples(verdicts.standing(store), "fracture") == {second: 0}, (
        "from what is undecided nothing is taught"
    )


def test_how_many_are_there_and_how_many_are_missing(store: ReviewStore) -> None:
    assert FEWEST == FEW, "the page promises what teach accepts"
    numbers = cases.add(store, [scan(f"s{i}") for i in range(7)])
    for number, label in zip(numbers, (1, 1, 1, 1, 1, 0, None), strict=True):
        mark(store, number, LEAD, label)
    mark(store, numbers[1], LEAD, 0)
    mark(store, numbers[0], LEAD, 1, "device")
    found = marks.candidates(verdicts.standing(store), ["pneumonia"])
    assert [(c.finding, c.present, c.absent, c.undecided, c.missing) for c in found] == [
        ("fracture", 4, 2, 1, (0, 2)),
        ("device", 1, 0, 0, (3, 4)),
    ]
    assert [c.finding for c in marks.candidates(verdicts.standing(store), ["pneumonia", "fracture"])] == ["device"]


def test_what_an_earlier_bundle_knew_can_be_taught_from_its_verdicts(store: ReviewStore) -> None:
    number = cases.add(store, [scan("s1")])[0]
    cases.claim(store, number, by=A)
    verdicts.save(store, [said(number)], by=A, token=token())
    [found] = marks.candidates(verdicts.standing(store), ["nodule"])
    assert (found.finding, found.present) == ("pneumonia", 1)


def test_taking_back_a_mark_leaves_the_reading(store: ReviewStore) -> None:
    [number] = cases.add(store, [scan("s1")])
    read(store, number, LEAD)
    ids = mark(store, number, LEAD, 1)
    verdicts.undo(store, ids, by=LEAD, token=token())
    assert cases.get(store, number, by=LEAD).read
    assert [row.finding for row in verdicts.standing(store)] == ["pneumonia"]


def test_a_mark_can_be_taught_from_before_the_case_is_read(store: ReviewStore) -> None:
    [number] = cases.add(store, [scan("s1")])
    cases.claim(store, number, by=LEAD)
    one = said(number, "disagree", bundle_id="", finding="fracture", relabel=1)
    verdicts.save(store, [one, said(number)], by=LEAD, token=token(), done=False)
    assert [row.finding for row in verdicts.standing(store, read=True)] == ["fracture"]


def test_a_mark_that_a_verdict_superseded_is_no_mark_any_more(store: ReviewStore) -> None:
    [number] = cases.add(store, [scan("s1", readings_wanted=2)])
    mark(store, number, LEAD, 1)
    cases.add(store, [scan("s1", bundle_id="b2", scores=(score("fracture", 0.7),), readings_wanted=2)])
    cases.claim(store, number, by=LEAD)
    verdicts.save(store, [said(number, bundle_id="b2", finding="fracture")], by=LEAD, token=token())
    assert cases.get(store, number, by=LEAD).status == "open", "a second reader has not read it"
    assert verdicts.standing(store, read=True) == []
