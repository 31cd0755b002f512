"""Verdicts: stored once, corrected by new rows, seen by those who may see them, on both databases."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl.errors import ReviewError
from medtl.review import cases, verdicts
from medtl.review.moments import now
from medtl.review.records import Region, Score, Verdict, label
from medtl.review.schema import CASES
from medtl.review.store import ReviewStore
from tests.review.making import LEAD, A, B, C, read, said, scan, score, token

BOX = Region(kind="box", points=((10.5, 20.0), (30.25, 44.125)))


def test_what_is_saved_is_read_back(store: ReviewStore) -> None:
    two = (score("pneumonia", 0.7), score("nodule", 0.1 + 0.2, 0.4))
    number = cases.add(store, [scan("s1", scores=two)])[0]
    cases.claim(store, number, by=A)
    began = now()
    chosen = [
        said(number, "disagree", note="é'\";-- 漢", region=BOX, seconds=12.5, verdict_first=True),
        said(number, "unsure", finding="nodule", bad_image=True),
    ]
    assert verdicts.save(store, chosen, by=A, token="t" * 16) == [1, 2]
    first, second = verdicts.of_case(store, number, by=A)
    for stored, verdict in ((first, chosen[0]), (second, chosen[1])):
        for name in Verdict.__dataclass_fields__:
            assert getattr(stored, name) == getattr(verdict, name), name
    assert (first.scan_id, first.sha256, first.reader, first.role, first.token) == (
        "s1", "s1" * 8, "Dr A", "reader", "t" * 16,
    )  # fmt: skip
    assert (first.probability, first.threshold, first.decision, first.label) == (0.7, 0.5, "positive", 0)
    assert (second.probability, second.threshold, second.decision) == (0.1 + 0.2, 0.4, "negative")
    assert began <= first.created_at <= now() and first.created_at.endswith("+00:00")
    assert verdicts.standing(store) == [first, second]
    assert cases.get(store, number, by=A).status == "done"


@settings(max_examples=20, deadline=None)
@given(note=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50))
def test_any_note_survives(note: str, made: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = ReviewStore(shutil.copy(made, tmp_path_factory.mktemp("any") / "r.db"))
    number = cases.add(store, [scan("s1")])[0]
    read(store, number, A, note=note)
    assert verdicts.standing(store)[0].note == note
    store.close()


@pytest.mark.parametrize(
    ("verdict", "decision", "relabel", "meant"),
    [
        ("agree", "positive", None, 1),
        ("disagree", "positive", None, 0),
        ("agree", "negative", None, 0),
        ("disagree", "negative", None, 1),
        ("unsure", "positive", None, None),
        ("agree", "uncertain", None, None),
        ("disagree", "uncertain", 1, 1),
        ("disagree", "uncertain", 0, 0),
        ("withdrawn", "positive", None, None),
    ],
)
def test_what_a_verdict_means(verdict: str, decision: str, relabel: int | None, meant: int | None) -> None:
    assert label(verdict, decision, relabel) == meant


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "maybe"}, "verdict 'maybe' on pneumonia: expected one of agree, disagree, unsure"),
        ({"verdict": "withdrawn"}, "verdict 'withdrawn' on pneumonia: expected one of agree, disagree, unsure"),
        ({"relabel": 2}, "label 2 on pneumonia beside 'agree': expected 0 or 1, and none when unsure"),
        ({"verdict": "unsure", "relabel": 1}, "label 1 on pneumonia beside 'unsure': expected 0 or 1, and none"),
        ({"note": "x" * 2001}, "the note has 2,001 characters; shorten it to 2,000"),
        ({"note": "a\0b"}, "the note holds characters that are no text; remove them"),
        ({"note": "\ud800"}, "the note holds characters that are no text; remove them"),
        ({"seconds": float("nan")}, "nan seconds on pneumonia; expected 0 or more"),
    ],
)
def test_a_verdict_is_valid_once_constructed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ReviewError) as caught:
        replace(said(1), **change)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("kind", "points", "message"),
    [
        ("circle", ((1.0, 1.0),), "unknown kind of region 'circle'; choose from: box, polygon"),
        ("box", ((1.0, 1.0),), "a box of 1 points; expected 2 to 2"),
        ("polygon", ((1.0, 1.0), (2.0, 2.0)), "a polygon of 2 points; expected 3 to 1000"),
        ("box", ((1.0, 1.0), (float("nan"), 2.0)), "a box needs (column, row) in pixels, from 0 on"),
        ("box", ((1.0, 1.0), (-1.0, 2.0)), "a box needs (column, row) in pixels, from 0 on"),
    ],
)
def test_a_region_is_valid_once_constructed(kind: str, points: Any, message: str) -> None:
    with pytest.raises(ReviewError) as caught:
        Region(kind=kind, points=points)
    assert str(caught.value).startswith(message)


def test_a_retried_save_is_stored_once(store: ReviewStore) -> None:
    number = cases.add(store, [scan("s1")])[0]
    cases.claim(store, number, by=A)
    verdict, same = said(number, "disagree", region=BOX, seconds=3), token()
    first = verdicts.save(store, [verdict], by=A, token=same)
    assert verdicts.save(store, [verdict], by=A, token=same) == first == [1]
    assert len(verdicts.of_case(store, number, by=A)) == 1
    for other, by in ((replace(verdict, verdict="agree"), A), (verdict, B)):
        with pytest.raises(ReviewError, match="other verdicts were saved with this token before"):
            verdicts.save(store, [other], by=by, token=same)
    with pytest.raises(ReviewError, match="a token of 3 characters; expected 16 to 200"):
        verdicts.save(store, [verdict], by=A, token="abc")


def test_a_correction_supersedes_and_keeps_what_was_said(store: ReviewStore) -> None:
    number = cases.add(store, [scan("s1")])[0]
    read(store, number, A)
    assert verdicts.save(store, [said(number, "disagree")], by=A, token=token()) == [2]
    assert [(row.verdict, row.supersedes) for row in verdicts.of_case(store, number, by=A)] == [
        ("agree", None), ("disagree", 1),
    ]  # fmt: skip
    assert [row.id for row in verdicts.standing(store)] == [2]


def test_undo_takes_back_and_gives_the_case_back(store: ReviewStore) -> None:
    number = cases.add(store, [scan("s1")])[0]
    ids, same = read(store, number, A), token()
    assert verdicts.undo(store, ids, by=A, token=same) == verdicts.undo(store, ids, by=A, token=same) == [2]
    assert verdicts.standing(store) == []
    case = cases.get(store, number, by=A)
    assert (case.status, case.claimed_by, case.read) == ("claimed", "Dr A", False)
    assert verdicts.save(store, [said(number)], by=A, token=token()) == [3]
    assert verdicts.standing(store)[0].supersedes is None
    for numbers, by in (([1], A), ([3], B), ([9], A), ([], A)):
        with pytest.raises(ReviewError, match="cannot be taken back; expected verdicts of Dr"):
            verdicts.undo(store, numbers, by=by, token=token())


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda n: [], "nothing to save; choose agree, disagree or unsure"),
        (lambda n: [said(n), said(n)], "two verdicts on one finding of pneumonia, pneumonia; keep one"),
        (lambda n: [said(n), said(n + 1, finding="x")], "verdicts on several cases"),
        (lambda n: [said(n, finding="nodule")], "has no score of nodule by bundle b1; it has pneumonia"),
        (lambda n: [said(n, bundle_id="b0")], "no score of pneumonia by bundle b0; it has none of this bundle"),
        (lambda n: [said(n + 77)], "there is no case "),
        (lambda n: [said(n, adjudicates=True)], "Dr A is a reader; only a lead adjudicates"),
    ],
)
def test_what_does_not_fit_is_not_stored(store: ReviewStore, choose: Any, message: str) -> None:
    number = cases.add(store, [scan("s1"), scan("s2")])[0]
    cases.claim(store, number, by=A)
    with pytest.raises(ReviewError) as caught:
        verdicts.save(store, choose(number), by=A, token=token())
    assert message in str(caught.value)
    assert verdicts.standing(store) == []


def test_only_who_reads_a_case_speaks_about_it(store: ReviewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    number = cases.add(store, [scan("s1")])[0]
    with pytest.raises(ReviewError, match=f"case {number} is not claimed by Dr A; claim it first"):
        verdicts.save(store, [said(number)], by=A, token=token())
    cases.claim(store, number, by=A)
    with pytest.raises(ReviewError, match=f"case {number} is being read by Dr A now"):
        verdicts.save(store, [said(number)], by=B, token=token())
    _run_out(store, number)
    # A claim that ran out while the reader wrote costs him nothing, unless somebody took the case.
    cases.claim(store, number, by=B)
    with pytest.raises(ReviewError, match="is being read by Dr B now; yours had run out"):
        verdicts.save(store, [said(number)], by=A, token=token())
    _run_out(store, number)
    assert verdicts.save(store, [said(number)], by=B, token=token()) == [1]


def test_the_answer_is_the_one_that_was_shown(store: ReviewStore) -> None:
    """A bundle replaced while a reader looks at the old one's answer does not turn his words around."""
    number = cases.add(store, [scan("s1", 0.7)])[0]
    cases.claim(store, number, by=A)
    cases.add(store, [scan("s1", 0.1, bundle_id="b2")])
    verdicts.save(store, [said(number, "agree")], by=A, token=token())
    stored = verdicts.standing(store)[0]
    assert (stored.bundle_id, stored.probability, stored.decision, stored.label) == ("b1", 0.7, "positive", 1)
    shown = cases.get(store, number, by=A)
    assert (shown.bundle_id, shown.scores) == ("b2", (score("pneumonia", 0.1),))


def test_a_second_reader_is_blind_and_a_lead_decides(store: ReviewStore) -> None:
    number = cases.add(store, [scan("s1", readings_wanted=2)])[0]
    read(store, number, A, "agree")
    assert cases.get(store, number, by=A).status == "done", "for him"
    assert cases.get(store, number, by=B).status == "open"
    for other in (B, LEAD):
        assert verdicts.of_case(store, number, by=other) == [], "the case is still to be read"
    read(store, number, B, "disagree")
    assert cases.get(store, number, by=LEAD).status == "adjudicate"
    assert cases.get(store, number, by=A).status == cases.get(store, number, by=B).status == "done"
    assert [row.reader for row in verdicts.of_case(store, number, by=A)] == ["Dr A"]
    assert [row.reader for row in verdicts.of_case(store, number, by=LEAD)] == ["Dr A", "Dr B"]
    ids = read(store, number, LEAD, "disagree", adjudicates=True)
    assert cases.get(store, number, by=LEAD).status == "done"
    assert not cases.get(store, number, by=LEAD).read, "a decision is no reading"
    verdicts.undo(store, ids, by=LEAD, token=token())
    cases.release(store, number, by=LEAD)
    assert cases.get(store, number, by=LEAD).status == "adjudicate"


def test_a_majority_needs_no_lead(store: ReviewStore) -> None:
    number = cases.add(store, [scan("s1", readings_wanted=3)])[0]
    for reader, verdict in ((A, "agree"), (B, "disagree"), (C, "agree")):
        assert cases.get(store, number, by=LEAD).status == "open"
        read(store, number, reader, verdict)
    assert cases.get(store, number, by=LEAD).status == "done"


def test_unsure_contradicts_nobody(store: ReviewStore) -> None:
    number = cases.add(store, [scan("s1", readings_wanted=2)])[0]
    read(store, number, A, "agree")
    read(store, number, B, "unsure")
    assert cases.get(store, number, by=LEAD).status == "done"


def test_a_part_of_a_reading_keeps_the_case(store: ReviewStore) -> None:
    number = cases.add(store, [scan("s1", scores=(score("pneumonia", 0.7), score("nodule", 0.2)))])[0]
    cases.claim(store, number, by=A)
    verdicts.save(store, [said(number)], by=A, token=token(), done=False)
    case = cases.get(store, number, by=A)
    assert (case.status, case.claimed_by, case.read) == ("claimed", "Dr A", False)
    verdicts.save(store, [said(number, finding="nodule")], by=A, token=token())
    assert cases.get(store, number, by=A).status == "done"


def test_all_or_none(store: ReviewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    number = cases.add(store, [scan("s1")])[0]
    cases.claim(store, number, by=A)

    def fail(*_: object) -> None:
        raise RuntimeError("killed before the commit")

    monkeypatch.setattr("medtl.review.verdicts._settle", fail)
    with pytest.raises(RuntimeError):
        verdicts.save(store, [said(number)], by=A, token=token())
    assert verdicts.standing(store) == []
    assert cases.get(store, number, by=A).claimed_by == "Dr A"


def _run_out(store: ReviewStore, number: int) -> None:
    with store.transaction() as connection:
        connection.execute(CASES.update().where(CASES.c.id == number).values(claimed_until="2026-01-01"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decision": "refused"}, "decision 'refused' on spot: expected one of positive, negative, uncertain"),
        ({"probability": float("nan")}, "spot: probability nan and threshold 0.5; expected 0 to 1"),
        ({"uncertainty": 1.5}, "spot: uncertainty 1.5; expected 0 to 1"),
    ],
)
def test_a_score_is_valid_once_constructed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ReviewError) as caught:
        Score(**{"finding": "spot", "probability": 0.7, "threshold": 0.5, "decision": "positive"} | change)
    assert str(caught.value) == message
