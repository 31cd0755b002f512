"""The worklist as each user sees it."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from app.worklist_view import ROWS
from medtl.inference.runtime import Detector
from medtl.review import cases, verdicts
from medtl.review.records import NewCase, Score
from medtl.review.store import ReviewStore
from medtl.review.users import User
from tests.app.acting import Actor, add_cases
from tests.app.conftest import HOSTILE
from tests.app.people import add_people, as_user

A, B = (User(name=f"Dr {letter}", role="reader") for letter in "AB")
ANY = ("", "", "", "", "", "", "urgency")
"""Finding, decision, status, reader, from, before, order."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> ReviewStore:
    """10,000 cases, the later the more urgent."""
    store = ReviewStore(tmp_path_factory.mktemp("many") / "r.db")
    for first in range(0, 10_000, 1000):
        cases.add(store, [simple(number, (number + 1) / 20_000) for number in range(first, first + 1000)])
    return store


def simple(number: int, probability: float, **more: Any) -> NewCase:
    score = Score(finding="pneumonia", probability=probability, threshold=0.6, decision="negative")
    known = {"scan_id": f"{number:016x}", "sha256": f"{number:064x}", "path": f"/a/{number}.png", "bundle_id": "b"}
    return NewCase(**known | {"scores": (score,), "received_at": "2026-11-20"} | more)


def numbers(actor: Actor) -> list[int]:
    return [int(each) for each in re.findall(r'data-row="(\d+)"', str(actor.shown[actor.page.worklist.table]))]


def listed(actor: Actor, **changed: str) -> list[int]:
    names = ("finding", "decision", "status", "reader", "begin", "end", "sort")
    filters = [changed.get(name, default) for name, default in zip(names, ANY, strict=True)]
    return numbers(actor.take(actor.page.worklist.first(actor.request, *filters)))


def test_10_000_cases_page_smoothly(many: ReviewStore, detector: Detector) -> None:
    actor = Actor(detector, many)
    view, seen = actor.page.worklist, []
    spent = time.process_time()
    actor.take(view.first(actor.request, *ANY))
    for _ in range(9):
        seen += numbers(actor)
        ends, after = actor.shown[view.ends], actor.shown[view.after]
        actor.take(view.forward(actor.request, ends, after, *ANY))
    spent = time.process_time() - spent
    assert seen == list(range(10_000, 10_000 - 9 * ROWS, -1))
    assert "Cases 451 to 500 of 10,000" in str(actor.shown[view.position])
    actor.take(view.back(actor.request, actor.shown[view.ends], *ANY))
    assert numbers(actor) == seen[-ROWS:]
    assert spent / 10 < 0.3, f"{spent / 10:.3f} s of the processor a page"


def test_the_last_page(many: ReviewStore, detector: Detector) -> None:
    actor = Actor(detector, many)
    view = actor.page.worklist
    actor.take(view.first(actor.request, *ANY[:4], "2026-11-20", "2026-11-21", "oldest"))
    assert actor.shown[view.older]["interactive"] and not actor.shown[view.newer]["interactive"]
    actor.take(view.first(actor.request, *ANY[:4], "2026-11-21", "", "oldest"))
    assert "No cases" in str(actor.shown[view.position]) and "No case here" in str(actor.shown[view.table])
    assert not actor.shown[view.older]["interactive"]


def test_filters(detector: Detector, tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "r.db")
    bundle_id = detector.bundle.bundle_id
    add_people(store)
    ids = add_cases(store, tmp_path, bundle_id, received_at="2026-11-20")
    other = cases.add(store, [simple(77, 0.1, bundle_id=bundle_id, received_at="2026-11-25")])
    actor = Actor(detector, store)
    assert listed(actor) == [*ids, *other], "most urgent first, and waiting counts"
    assert listed(actor, decision="positive") == ids[:3]
    assert listed(actor, finding="large_nodule", decision="positive") == []
    assert listed(actor, begin="2026-11-25") == other
    assert listed(actor, end="2026-11-25", sort="newest") == ids[::-1]
    cases.claim(store, ids[0], by=B)
    assert listed(actor, status="claimed") == ids[:1]
    assert "Dr B, until" in str(actor.shown[actor.page.worklist.table])
    actor.open(ids[1]).save("agree", None)
    assert listed(actor, status="done") == listed(actor, reader="Dr A") == [ids[1]]
    assert "read by you" in str(actor.shown[actor.page.worklist.table])
    assert listed(actor, begin="soon") == [ids[1]], "the page that was there stays"
    assert "soon" in actor.notice and "is no day; expected one as in 2026-11-25" in actor.notice
    listed(actor, reader="Dr B")
    assert "a reader sees what he read himself" in actor.notice
    assert listed(actor.be("Dr L"), reader="Dr A") == [ids[1]]
    names = [value for _, value in actor.page.worklist.readers(User(name="Dr L", role="lead"))["choices"]]
    assert names == ["", "Boss", "Dr A", "Dr B", "Dr L"]


def test_the_next_case_follows_the_filter(detector: Detector, tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "r.db")
    add_cases(store, tmp_path, detector.bundle.bundle_id, received_at="2026-11-20")
    later = add_cases(store, tmp_path, detector.bundle.bundle_id, first_seed=10, received_at="2026-11-01")
    actor = Actor(detector, store)
    listed(actor, end="2026-11-10", status="done")
    actor.next()
    assert actor.reading is not None and actor.reading.stored.id == later[0], "its status does not matter"


def test_the_next_case_follows_the_order(detector: Detector, tmp_path: Path) -> None:
    store, bundle_id = ReviewStore(tmp_path / "r.db"), detector.bundle.bundle_id
    days = {first: add_cases(store, tmp_path, bundle_id, first_seed=first, received_at=f"2026-11-{first}")
            for first in (20, 10)}  # fmt: skip
    actor = Actor(detector, store)
    shown = listed(actor, sort="newest")
    assert shown == sorted(days[20], reverse=True) + sorted(days[10], reverse=True)
    actor.next()
    for number in shown[:2]:
        assert actor.reading is not None and actor.reading.stored.id == number
        actor.save("agree", None).go()
    assert actor.reading.stored.id == shown[2]
    actor.skip()
    assert actor.reading.stored.id == shown[3]


def test_an_order_that_tells_the_answer_does_not_lead_on(detector: Detector, tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "r.db")
    numbers = add_cases(store, tmp_path, detector.bundle.bundle_id, received_at="2026-11-20")
    actor = Actor(detector, store, verdict_first=True)
    listed(actor, sort="uncertainty")
    actor.next()
    assert actor.reading is not None and actor.reading.stored.id == numbers[0], "the most urgent, not the least sure"


def test_the_page_is_greeted_with_what_the_role_may(detector: Detector, tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "r.db")
    add_cases(store, tmp_path, detector.bundle.bundle_id)
    for name, leads in (("Dr A", False), ("Dr L", True)):
        actor = Actor(detector, store, name)
        actor.take(actor.page.greet(actor.request, *ANY))
        assert name in str(actor.shown[actor.page.who])
        assert actor.shown[actor.page.to_agreement]["visible"] is leads
        assert actor.shown[actor.page.worklist.next_to_decide]["visible"] is leads
        assert (str(tmp_path) in actor.told()) is leads, "a path may name the patient"
    nobody = as_user("Dr A")
    nobody.request.scope["medtl.user"] = None
    assert "your session has ended" in str(actor.page.greet(nobody, *ANY)[actor.page.frame.notice])


def test_verdict_first_hides_what_the_detector_said(detector: Detector, tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "r.db")
    ids = add_cases(store, tmp_path, detector.bundle.bundle_id, received_at="2026-11-20")
    actor = Actor(detector, store, verdict_first=True)
    assert listed(actor, finding="pneumonia", decision="positive", sort="uncertainty") == ids, "it cannot be asked for"
    assert "%" not in actor.told() and "pneumonia" not in actor.told().lower()
    cases.claim(store, ids[0], by=A)
    said = [actor.open(ids[0]).reading]
    assert said[0] is not None
    actor.save("absent", "absent")
    listed(actor)
    assert str(actor.shown[actor.page.worklist.table]).count("90.0 %") == 1, "of the one he has read"


def test_words_from_outside_are_text(detector: Detector, tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "r.db")
    cases.add(store, [simple(1, 0.5, path=f"/{HOSTILE}.png", facts={"sex": HOSTILE, "view": HOSTILE})])
    cases.claim(store, 1, by=User(name=HOSTILE, role="reader"))
    actor = Actor(detector, store, "Dr L")
    listed(actor)
    assert HOSTILE not in actor.told() and actor.told().count("&lt;img") >= 4


def test_agreement_and_labels_are_for_leads(detector: Detector, tmp_path: Path) -> None:
    from medtl.review.export import export_labels

    store = ReviewStore(tmp_path / "r.db")
    ids = add_cases(store, tmp_path, detector.bundle.bundle_id, readings_wanted=2)
    actor = Actor(detector, store)
    page = actor.page
    for name, words in (
        ("Dr A", ("agree", "agree", "agree", "disagree")),
        ("Dr B", ("agree", "disagree", "agree", "disagree")),
    ):
        actor.be(name)
        for number, word in zip(ids, words, strict=False):
            actor.open(number).save(word, None)
    refused = actor.be("Dr A").take(page.agreement(actor.request)).take(page.lead.csv(actor.request))
    assert "Dr A is a reader; only a lead sees what other readers said" in refused.notice
    assert page.lead.report not in refused.shown and refused.shown[page.lead.labels] == ""
    assert page.lead.candidates not in refused.shown

    actor.be("Dr L").take(page.agreement(actor.request))
    assert actor.shown[page.frame.view] == "agreement"
    # Labels A: 1 1 1 1, B: 1 0 1 1 (the fourth was negative, and both disagree). Cohen: observed 3/4, by chance
    # 1 x 3/4 + 0 x 1/4 = 3/4, so kappa is 0.
    report = str(actor.shown[page.lead.report])
    assert "<th>Dr A and Dr B</th><td>pneumonia</td><td>4</td><td>0.000</td>" in report
    # Of 8 sure verdicts, A confirms 3 and B 2.
    assert "<td>8</td><td><b>62 %</b>" in report and report.count("<svg") == 3
    actor.take(page.lead.csv(actor.request))
    export_labels(tmp_path / "r.db", tmp_path / "labels.csv")
    assert actor.shown[page.lead.labels] == (tmp_path / "labels.csv").read_text()
    assert len(verdicts.standing(store)) == 8


def test_a_lead_learns_nothing_of_a_case_that_he_may_still_read(detector: Detector, tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "r.db")
    number = add_cases(store, tmp_path, detector.bundle.bundle_id, readings_wanted=2)[0]
    actor = Actor(detector, store).open(number).save("agree", None)
    lead = actor.be("Dr L").take(actor.page.agreement(actor.request)).take(actor.page.lead.csv(actor.request))
    assert "there are no verdicts yet" in lead.notice and lead.shown[lead.page.lead.labels] == ""
    assert "No sure verdict yet" in str(lead.shown[lead.page.lead.report]) or "Dr A" not in lead.told()
    actor.open(number).save("disagree", None)
    actor.take(actor.page.lead.csv(actor.request))
    assert actor.shown[actor.page.lead.labels] != "", "both have read it"


def test_no_verdicts_no_labels(detector: Detector, tmp_path: Path) -> None:
    actor = Actor(detector, ReviewStore(tmp_path / "r.db"), "Dr L")
    actor.take(actor.page.agreement(actor.request)).take(actor.page.lead.csv(actor.request))
    assert "there are no verdicts yet; save one first" in actor.notice
    assert "No scan was read by two readers." in str(actor.shown[actor.page.lead.report])
    assert "No finding is marked yet." in str(actor.shown[actor.page.lead.candidates])
