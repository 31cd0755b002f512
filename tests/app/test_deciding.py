"""Several readers and a lead: whose word counts as a reading, when a lead decides, and what he sees of the others."""

from pathlib import Path

import pytest

from medtl.inference.runtime import Detector
from medtl.review import cases, verdicts
from medtl.review.store import ReviewStore
from medtl.review.users import User
from tests.app.acting import Actor, add_cases

LEAD = User(name="Dr L", role="lead")


@pytest.fixture
def numbers(reviews: ReviewStore, detector: Detector, tmp_path: Path) -> list[int]:
    """Five cases to be read by two."""
    return add_cases(reviews, tmp_path, detector.bundle.bundle_id, readings_wanted=2)


@pytest.fixture
def actor(reviews: ReviewStore, detector: Detector, numbers: list[int]) -> Actor:
    return Actor(detector, reviews, readings=2)


def status(reviews: ReviewStore, number: int) -> str:
    return cases.get(reviews, number, by=LEAD).status


def test_a_mark_to_be_taught_is_no_reading(actor: Actor, reviews: ReviewStore, numbers: list[int]) -> None:
    actor.be("Dr L").open(numbers[0]).save(None, None, to_teach="rib fracture", marked="present").go()
    assert actor.reading is not None and actor.reading.stored.id == numbers[1], "the same case does not come again"
    case = cases.get(reviews, numbers[0], by=LEAD)
    assert (case.status, case.read, case.claimed_by) == ("open", False, None)
    actor.be("Dr A").open(numbers[0]).save("agree", None)
    assert status(reviews, numbers[0]) == "open", "one has read it"
    actor.be("Dr B").open(numbers[0])
    assert actor.choices() == [None, None] and "Dr A" not in actor.told() and "Dr L" not in actor.told()
    actor.save("disagree", None)
    assert status(reviews, numbers[0]) == "adjudicate"
    assert {row.finding for row in verdicts.standing(reviews)} == {"pneumonia", "rib_fracture"}


@pytest.mark.parametrize("bad", [False, True])
def test_with_a_finding_or_a_bad_image_it_is_one(
    bad: bool, actor: Actor, reviews: ReviewStore, numbers: list[int]
) -> None:
    actor.be("Dr L").open(numbers[0])
    actor.save(None if bad else "agree", None, bad=bad, to_teach="rib fracture", marked="present").go()
    assert cases.get(reviews, numbers[0], by=LEAD).read


def test_a_mark_alone_is_taken_back(actor: Actor, reviews: ReviewStore, numbers: list[int]) -> None:
    actor.be("Dr L").open(numbers[0]).save(None, None, to_teach="rib fracture", marked="present").go().undo()
    assert actor.reading is not None and actor.reading.stored.id == numbers[0]
    assert actor.shown[actor.page.case.verdict.marked]["value"] == "present" and verdicts.standing(reviews) == []


def test_where_readers_agree_nobody_decides(actor: Actor, reviews: ReviewStore, numbers: list[int]) -> None:
    for name in ("Dr A", "Dr B"):
        actor.be(name).open(numbers[0]).save("agree", "agree")
    assert status(reviews, numbers[0]) == "done"
    actor.be("Dr L").open(numbers[0])
    view = actor.page.case.verdict
    assert actor.reading is not None and not actor.reading.decides
    assert actor.shown[view.save]["value"] == "Save and next"
    assert "to decide" not in actor.shown[actor.page.frame.status] and "Dr A" not in actor.rows()
    actor.save("agree", "agree").go()
    assert actor.reading.stored.id == numbers[1], "the next one to read"


def test_a_lead_decides_and_may_correct_it(actor: Actor, reviews: ReviewStore, numbers: list[int]) -> None:
    for name, word in (("Dr A", "agree"), ("Dr B", "disagree")):
        actor.be(name).open(numbers[0]).save(word, None)
    for word, label in (("absent", 0), ("present", 1)):
        actor.be("Dr L").open(numbers[0])
        assert actor.reading is not None and actor.reading.decides
        assert actor.shown[actor.page.case.verdict.save]["value"] == "Decide and next"
        actor.save(word, None)
        assert status(reviews, numbers[0]) == "done"
        assert [row.label for row in verdicts.standing(reviews) if row.adjudicates] == [label]


def test_what_readers_agree_on_a_lead_need_not_say_again(actor: Actor, numbers: list[int]) -> None:
    for name, word in (("Dr A", "agree"), ("Dr B", "disagree")):
        actor.be(name).open(numbers[0]).save("agree", word)
    actor.be("Dr L").open(numbers[0]).save(None, "present")
    said = actor.shown[actor.page.case.verdict.saved]
    assert f"Saved case {numbers[0]}" in said and "nothing was said" not in said


def test_a_lead_who_decides_sees_what_readers_marked(actor: Actor, numbers: list[int]) -> None:
    picture = actor.page.case.viewer.scan
    actor.be("Dr A").open(numbers[0]).save("agree", None, region="4,8,20,30")
    actor.be("Dr L").open(numbers[0])
    assert 'class="marks' not in actor.told(), "he may be the second reader"
    actor.skip()
    cases.release(actor.store, numbers[0], by=LEAD)
    actor.be("Dr B").open(numbers[0])
    assert 'class="marks' not in actor.told()
    actor.save("disagree", None)
    actor.be("Dr A").open(numbers[0])
    assert 'class="marks' not in actor.told(), "his own is the one that he can change"
    actor.skip()
    cases.release(actor.store, numbers[0], by=LEAD)
    actor.be("Dr L").decide()
    assert actor.reading is not None and actor.reading.stored.id == numbers[0]
    assert "Marked by readers: Dr A: pneumonia" in actor.shown[picture]
    assert "M4.0 8.0L20.0 8.0L20.0 30.0L4.0 30.0Z" in actor.shown[picture]
    assert actor.shown[actor.page.case.viewer.region] == "", "it is not his"
    actor.take(actor.page.case.viewer.turn(actor.shown[actor.page.case.scan], "pneumonia", *actor.settings))
    assert "Dr A: pneumonia" in actor.shown[picture]
