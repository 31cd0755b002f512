"""What a reader chose, as verdicts."""

import pytest

from app.choices import TRUTH, Choices, choice_of, offered, place_of, region_of, text_of, verdict_on
from medtl.errors import ReviewError
from medtl.review.records import VERDICTS, Case, Score, StoredVerdict, label

CASE = Case(
    id=7, scan_id="s", sha256="s", path="/s.png", bundle_id="b", patient_id="", facts={}, received_at="",
    readings_wanted=1, status="claimed", claimed_by="Dr A", claimed_until="", read=False, urgency=0, uncertainty=0,
    scores=(
        Score(finding="pneumonia", probability=0.8, threshold=0.5, decision="positive"),
        Score(finding="large_nodule", probability=0.1, threshold=0.5, decision="negative"),
        Score(finding="effusion", probability=0.5, threshold=0.5, decision="uncertain"),
    ),
)  # fmt: skip


def said(choices: Choices, *, blind: bool = False) -> dict[str, tuple[str, int | None]]:
    """By finding, the verdict and the label that it comes to."""
    decisions = {score.finding: score.decision for score in CASE.scores}
    found = choices.verdicts(CASE, blind=blind, decides=False, seconds=3.04)
    assert {(v.case_id, v.bundle_id, v.seconds) for v in found} == {(7, "b", 3.0)}
    return {v.finding: (v.verdict, label(v.verdict, decisions[v.finding], v.relabel)) for v in found}


@pytest.mark.parametrize(
    ("choice", "decision", "verdict", "means"),
    [
        ("agree", "positive", "agree", 1),
        ("disagree", "positive", "disagree", 0),
        ("agree", "negative", "agree", 0),
        ("disagree", "negative", "disagree", 1),
        ("present", "positive", "agree", 1),
        ("present", "negative", "disagree", 1),
        ("absent", "positive", "disagree", 0),
        ("absent", "negative", "agree", 0),
        ("present", "uncertain", "disagree", 1),
        ("absent", "uncertain", "disagree", 0),
        *((("unsure", decision, "unsure", None)) for decision in ("positive", "negative", "uncertain")),
    ],
)
def test_every_choice_comes_to_its_label(choice: str, decision: str, verdict: str, means: int | None) -> None:
    found, relabel = verdict_on(choice, decision)
    assert (found, label(found, decision, relabel)) == (verdict, means)


def test_an_uncertain_decision_is_nothing_to_agree_with() -> None:
    assert offered("positive", beside_the_answer=True) == VERDICTS
    assert offered("uncertain", beside_the_answer=True) == TRUTH
    assert offered("positive", beside_the_answer=False) == TRUTH


def test_instead_is_a_finding_that_is_there() -> None:
    assert said(Choices(said={"pneumonia": "disagree"}, instead="large_nodule")) == {
        "pneumonia": ("disagree", 0),
        "large_nodule": ("disagree", 1),
    }
    agreed = Choices(said={"pneumonia": "disagree", "large_nodule": "disagree"}, instead="large_nodule")
    assert said(agreed)["large_nodule"] == ("disagree", 1)
    for word in ("agree", "unsure"):
        with pytest.raises(ReviewError, match="large nodule is chosen as what it is instead, but is not confirmed"):
            said(Choices(said={"large_nodule": word}, instead="large_nodule"))


def test_a_bad_image_says_nothing_and_finishes_the_case() -> None:
    found = Choices(said={"pneumonia": "agree"}, bad_image=True).verdicts(CASE, blind=False, decides=False, seconds=1)
    assert [(v.finding, v.verdict, v.bad_image) for v in found] == [
        ("pneumonia", "agree", True),
        ("large_nodule", "unsure", True),
        ("effusion", "unsure", True),
    ]


def test_nothing_chosen_and_not_everything_chosen() -> None:
    with pytest.raises(ReviewError, match="choose for at least one finding first, or mark the image as bad"):
        said(Choices(said={"pneumonia": None}))
    with pytest.raises(ReviewError, match="on every finding first; large nodule, effusion not yet"):
        said(Choices(said={"pneumonia": "present"}), blind=True)
    assert said(Choices(said=dict.fromkeys(("pneumonia", "large_nodule", "effusion"), "unsure")), blind=True)


def test_a_region_belongs_to_the_finding_that_is_looked_at() -> None:
    box = region_of("1.5,2,30,40.25")
    assert box is not None and box.points == ((1.5, 2.0), (30.0, 40.25)) and box.plane is None
    found = Choices(said={"pneumonia": "agree", "effusion": "absent"}, region=box, looked_at="pneumonia").verdicts(
        CASE, blind=False, decides=False, seconds=1
    )
    assert [v.region for v in found] == [box, None]
    with pytest.raises(ReviewError, match="a region is marked for effusion; say whether it is there, or clear it"):
        said(Choices(said={"pneumonia": "agree"}, region=box, looked_at="effusion"))


@pytest.mark.parametrize("choice", ["absent", "disagree"])
def test_what_is_absent_is_nowhere(choice: str) -> None:
    box = region_of("1,2,3,4@0")
    with pytest.raises(
        ReviewError, match="a region is marked for pneumonia, which you say is absent; clear the region"
    ):
        said(Choices(said={"pneumonia": choice}, region=box, looked_at="pneumonia"))
    assert said(Choices(said={"pneumonia": "unsure"}, region=box, looked_at="pneumonia"))


@pytest.mark.parametrize("text", ["1.5,2.0,30.0,40.25@0", "0.1,2.0,3.0,4.0,Axial,41@12"])
def test_a_region_is_written_as_it_is_read(text: str) -> None:
    box = region_of(text)
    assert box is not None and text_of(box, place_of(text)) == text
    with pytest.raises(ReviewError, match="belongs to no finding; mark it again"):
        place_of(text.partition("@")[0])


def test_a_region_of_a_slice() -> None:
    box = region_of("1,2,3,4,Axial,41")
    assert box is not None and (box.plane, box.slice_index) == ("Axial", 41)
    assert region_of("  ") is None


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "nan,1,2,3", "5,5,4,6", "1,2,3,4,Axial", "<script>", "1,2,inf,4"])
def test_what_is_no_region(text: str) -> None:
    with pytest.raises(ReviewError):
        region_of(text)


@pytest.mark.parametrize("choices", [VERDICTS, TRUTH])
@pytest.mark.parametrize("verdict", ["agree", "disagree", "unsure"])
def test_a_stored_verdict_is_shown_as_it_was_meant(choices: tuple[str, ...], verdict: str) -> None:
    row = StoredVerdict(
        case_id=7, bundle_id="b", finding="pneumonia", verdict=verdict, id=1, scan_id="s", sha256="s",
        probability=0.8, threshold=0.5, decision="positive", reader="Dr A", role="reader", supersedes=None, token="t",
        created_at="", prev_hash="", hash="",
    )  # fmt: skip
    choice = choice_of(row, choices)
    assert choice in choices
    found, relabel = verdict_on(str(choice), "positive")
    assert label(found, "positive", relabel) == row.label
