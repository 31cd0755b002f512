"""The worklist: the urgent first, one reader a case, and a page costs the same however long the list."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from typing import Any

import pytest
from sqlalchemy import select

from medtl.errors import ReviewError
from medtl.review import cases, verdicts, worklist
from medtl.review.records import NewCase, Score
from medtl.review.schema import CASES
from medtl.review.store import ReviewStore
from medtl.review.users import User
from medtl.review.worklist import Filter
from tests.review.making import LEAD, A, B, read, said, scan, score, token

DAY = datetime(2026, 11, 1, tzinfo=UTC)


def on(days: float) -> str:
    return (DAY + timedelta(days=days)).isoformat()


def order(store: ReviewStore, by: Any = A, sort: str = "urgency", **where: Any) -> list[str]:
    """The scans of the whole list, gathered three at a time."""
    found, after = [], None
    while True:
        page = worklist.page(store, by=by, where=Filter(**where), sort=sort, after=after, limit=3)
        found += [case.scan_id for case in page.cases]
        assert len(page.cases) == 3 or page.after is None
        if page.after is None:
            return found
        after = page.after


@pytest.mark.parametrize(
    ("probability", "threshold", "suspicion", "uncertainty"),
    [(0.0, 0.4, 0.0, 0.0), (0.2, 0.4, 0.5, 0.5), (0.4, 0.4, 1.0, 1.0), (0.7, 0.4, 1.5, 0.5), (1.0, 0.4, 2.0, 0.0),
     (0.3, 0.0, 1.3, 0.7), (1.0, 1.0, 1.0, 1.0)],
)  # fmt: skip
def test_suspicion(probability: float, threshold: float, suspicion: float, uncertainty: float) -> None:
    made = score("spot", probability, threshold)
    assert made.suspicion == pytest.approx(suspicion, abs=1e-12)
    assert made.uncertainty == pytest.approx(uncertainty, abs=1e-12)


def test_urgency_is_its_definition(store: ReviewStore) -> None:
    made = [
        scan(f"s{i:02d}", ((7 * i) % 20) / 20, received_at=on((3 * i) % 11), scores=(
            score("pneumonia", ((7 * i) % 20) / 20), score("nodule", ((3 * i) % 20) / 20, 0.3)))
        for i in range(20)
    ]  # fmt: skip
    cases.add(store, made)
    for now in (DAY + timedelta(days=20), DAY + timedelta(days=300)):  # waiting changes nothing about the order

        def urgency(case: NewCase, now: datetime = now) -> float:
            waited = (now - datetime.fromisoformat(case.received_at)) / timedelta(days=1)
            return max(s.suspicion + s.uncertainty / 2 for s in case.scores) + 0.1 * waited

        values = {round(urgency(case), 9) for case in made}
        assert len(values) == len(made), "the example must have no ties"
        assert order(store) == [case.scan_id for case in sorted(made, key=urgency, reverse=True)]


def test_sorts(store: ReviewStore) -> None:
    cases.add(store, [scan(f"s{i}", p, received_at=on(i)) for i, p in enumerate((0.1, 0.5, 0.9, 0.3))])
    assert order(store, sort="oldest") == ["s0", "s1", "s2", "s3"]
    assert order(store, sort="newest") == ["s3", "s2", "s1", "s0"]
    assert order(store, sort="uncertainty") == ["s1", "s3", "s2", "s0"]
    with pytest.raises(ReviewError, match="unknown sort 'urgent'; did you mean 'urgency'"):
        order(store, sort="urgent")


def test_filters(store: ReviewStore) -> None:
    cases.add(store, [
        scan("s1", scores=(score("pneumonia", 0.9), score("nodule", 0.1)), received_at=on(0)),
        scan("s2", scores=(score("pneumonia", 0.1), score("nodule", 0.9)), received_at=on(1.5)),
        scan("s3", scores=(Score(finding="nodule", probability=0.5, threshold=0.5, decision="uncertain"),),
             received_at=on(2)),
    ])  # fmt: skip
    assert set(order(store, finding="pneumonia")) == {"s1", "s2"}
    assert order(store, finding="pneumonia", decision="positive") == ["s1"]
    assert set(order(store, decision="positive")) == {"s1", "s2"}
    assert order(store, decision="uncertain") == ["s3"]
    assert order(store, received_from="2026-11-02", received_before="2026-11-03") == ["s2"]
    assert set(order(store, received_from=on(1.5))) == {"s2", "s3"}
    for what, message in (
        ({"status": "opne"}, "unknown status 'opne'; did you mean 'open'"),
        ({"decision": "yes"}, "unknown decision 'yes'; choose from: positive"),
        ({"received_from": "yesterday"}, "'yesterday' is no day; expected one as in 2026-11-25"),
    ):
        with pytest.raises(ReviewError, match=message):
            Filter(**what)


def test_a_new_bundle_decides_the_filters(store: ReviewStore) -> None:
    cases.add(store, [scan("s1", 0.9, received_at=on(3), nearest_scan_id="of b1", distance=0.5)])
    anew = scan("s1", 0.1, bundle_id="b2", patient_id="p1", facts={"sex": "F"}, nearest_scan_id="of b2")
    cases.add(store, [anew])
    with store.reading() as connection:
        assert connection.execute(select(CASES.c.nearest_scan_id, CASES.c.distance)).one() == ("of b2", None)
    assert order(store, decision="positive") == []
    assert order(store, decision="negative") == ["s1"]
    case = worklist.page(store, by=A).cases[0]
    assert datetime.fromisoformat(case.received_at) == DAY + timedelta(days=3), "it waits since it first came"
    assert (case.patient_id, case.facts) == ("p1", {"sex": "F"})
    cases.add(store, [scan("s1", 0.1, bundle_id="b3")])
    case = worklist.page(store, by=A).cases[0]
    assert (case.patient_id, case.facts) == ("p1", {"sex": "F"}), "what is known is not forgotten"


def test_status_as_each_sees_it(store: ReviewStore) -> None:
    ids = cases.add(store, [scan(f"s{i}", readings_wanted=1 + i % 2) for i in range(5)])
    read(store, ids[0], A)  # s0: done
    read(store, ids[1], A)  # s1: B is still to read it
    cases.claim(store, ids[2], by=B)
    read(store, ids[3], A)
    read(store, ids[3], B, "disagree")  # s3: to adjudicate
    seen = {
        by.name: {status: set(order(store, by, status=status)) for status in ("open", "claimed", "done", "adjudicate")}
        for by in (A, B, LEAD)
    }
    assert seen["Dr A"] == {"open": {"s4"}, "claimed": {"s2"}, "done": {"s0", "s1", "s3"}, "adjudicate": set()}
    assert seen["Dr B"] == {"open": {"s1", "s4"}, "claimed": {"s2"}, "done": {"s0", "s3"}, "adjudicate": set()}
    assert seen["Prof L"] == {"open": {"s1", "s4"}, "claimed": {"s2"}, "done": {"s0"}, "adjudicate": {"s3"}}
    for by in (A, B, LEAD):
        for case in worklist.page(store, by=by).cases:
            assert case.scan_id in seen[by.name][case.status], "the filter and what is shown agree"
        for status in ("open", "claimed", "done", "adjudicate"):
            assert worklist.count(store, by=by, where=Filter(status=status)) == len(seen[by.name][status])
    assert set(order(store, A, reader="Dr A")) == {"s0", "s1", "s3"}
    assert order(store, LEAD, reader="Dr B") == ["s3"]
    with pytest.raises(ReviewError, match="only a lead may ask for other readers' cases"):
        order(store, A, reader="Dr B")


def test_a_page_goes_on_where_the_last_one_ended(store: ReviewStore) -> None:
    cases.add(store, [scan(f"s{i}", i / 10, received_at=on(0)) for i in range(6)])
    first = worklist.page(store, by=A, sort="oldest", limit=2)
    cases.add(store, [scan("early", received_at=on(-1)), scan("late", received_at=on(1))])
    second = worklist.page(store, by=A, sort="oldest", after=first.after, limit=50)
    assert [case.scan_id for case in first.cases + second.cases] == [*(f"s{i}" for i in range(6)), "late"]
    for wrong in ("", "x", "1 2", "1 __import__('os')", "1 'a"):
        with pytest.raises(ReviewError, match="begin with the first page"):
            worklist.page(store, by=A, sort="oldest", after=wrong)


def test_a_page_takes_two_queries_and_an_index(store: ReviewStore, statements: Callable[[], list[str]]) -> None:
    n = 10_000 if store.path is not None else 1000
    cases.add(store, [scan(f"s{i:05d}", (i * 7919 % n) / n, received_at=on(i / 500)) for i in range(n)])
    statements()
    for sort in worklist.SORTS:
        page = worklist.page(store, by=A, sort=sort)
        page = worklist.page(store, by=A, sort=sort, after=page.after)
        assert len(page.cases) == 50
        sent = statements()
        assert len(sent) == 4, sent
        with store.reading() as connection:
            plan = _plan(connection, store, sort)
        assert "TEMP B-TREE" not in plan and "Sort" not in plan, plan
    assert worklist.count(store, by=A) == n
    assert len(statements()) == 1
    assert worklist.next_case(store, by=A) is not None


def _plan(connection: Any, store: ReviewStore, sort: str) -> str:
    """How the database finds a page in the middle of the list."""
    if store.path is None:  # whatever its statistics say, it sorts only where no index gives the order
        for way in ("seqscan", "bitmapscan", "sort", "incremental_sort"):
            connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
    column, direction = worklist.SORTS[sort]
    order = (column, CASES.c.id) if direction == "up" else (column.desc(), CASES.c.id.desc())
    query = cases.seen_by(A).order_by(*order).limit(51)
    text = str(query.compile(connection, compile_kwargs={"literal_binds": True})).replace("%%", "%")
    explain = "EXPLAIN QUERY PLAN" if store.path is not None else "EXPLAIN"
    return "\n".join(str(row) for row in connection.exec_driver_sql(f"{explain} {text}"))


def test_the_next_case_is_the_most_urgent_free_unread_one(store: ReviewStore) -> None:
    ids = cases.add(store, [scan(f"s{i}", p, received_at=on(0)) for i, p in enumerate((0.9, 0.95, 0.1, 0.8))])
    assert worklist.next_case(store, by=A).scan_id == "s1"
    second = worklist.next_case(store, by=B)
    assert (second.scan_id, second.status, second.claimed_by) == ("s0", "claimed", "Dr B")
    assert worklist.next_case(store, by=A, where=Filter(decision="negative")).scan_id == "s2"
    assert worklist.next_case(store, by=B).scan_id == "s3"
    assert worklist.next_case(store, by=B) is None
    cases.release(store, ids[1], by=A)
    assert worklist.next_case(store, by=B).scan_id == "s1"
    for by, status in ((A, "adjudicate"), (LEAD, "done")):
        with pytest.raises(ReviewError, match="cannot take the next case of status"):
            worklist.next_case(store, by=by, status=status)


@pytest.mark.parametrize("sort", list(worklist.SORTS))
def test_the_next_case_is_the_first_of_the_list(store: ReviewStore, sort: str) -> None:
    chances = (0.6, 0.95, 0.1, 0.8, 0.45)
    cases.add(store, [scan(f"s{i}", p, received_at=on((2 * i) % 5)) for i, p in enumerate(chances)])
    listed = order(store, sort=sort)
    for name in listed:
        upcoming, taken = (ask(store, by=A, sort=sort) for ask in (worklist.upcoming, worklist.next_case))
        assert (upcoming.scan_id, taken.scan_id) == (name, name)
    for ask in (worklist.upcoming, worklist.next_case):
        with pytest.raises(ReviewError, match="unknown sort 'newst'; did you mean 'newest'"):
            ask(store, by=A, sort="newst")


def test_a_case_that_was_only_marked_comes_last(store: ReviewStore) -> None:
    first, second = cases.add(store, [scan("s1", 0.9), scan("s2", 0.7)])

    def marked(number: int) -> list[int]:
        cases.claim(store, number, by=LEAD)
        one = said(number, "disagree", bundle_id="", finding="fracture", relabel=1)
        ids = verdicts.save(store, [one], by=LEAD, token=token(), done=False)
        cases.release(store, number, by=LEAD)
        return ids

    def comes(by: User = LEAD) -> int:
        return worklist.upcoming(store, by=by).id

    ids = marked(first)
    assert (comes(), comes(A)) == (second, first), "it waits for others as before"
    marked(second)
    assert comes() == first, "he has not read them"
    verdicts.undo(store, marked(first), by=LEAD, token=token())
    cases.release(store, first, by=LEAD)
    assert len(ids) == 1 and comes() == first, "what was taken back does not count"
    read(store, first, LEAD)
    assert comes() == second


def test_what_comes_next_is_said_without_taking_it(store: ReviewStore) -> None:
    cases.add(store, [scan("s1", 0.9), scan("s2", 0.7), scan("s3", 0.5)])
    for expected in ("s1", "s2", "s3"):
        said = [worklist.upcoming(store, by=by) for by in (A, B)]
        assert [case.scan_id for case in said] == [expected] * 2, "nobody holds it, others hold the earlier ones"
        assert worklist.next_case(store, by=A).scan_id == expected
    assert worklist.upcoming(store, by=B) is None
    with pytest.raises(ReviewError, match="cannot take the next case of status 'adjudicate'"):
        worklist.upcoming(store, by=A, status="adjudicate")


def test_uploads_do_not_come_next(store: ReviewStore) -> None:
    cases.add(store, [scan("s1", 0.99, path="upload.dcm"), scan("s2", 0.6)])
    assert [case.scan_id for case in worklist.page(store, by=A).cases] == ["s1", "s2"]
    assert worklist.upcoming(store, by=A).scan_id == "s2" == worklist.next_case(store, by=A).scan_id
    assert worklist.next_case(store, by=B) is None


def test_the_next_case_of_a_second_reader_and_of_a_lead(store: ReviewStore) -> None:
    number = cases.add(store, [scan("s1", readings_wanted=2)])[0]
    read(store, number, A)
    assert worklist.next_case(store, by=A) is None, "he has read it"
    assert worklist.next_case(store, by=LEAD, status="adjudicate") is None
    assert worklist.next_case(store, by=B).id == number
    read(store, number, B, "disagree")
    assert worklist.next_case(store, by=LEAD, status="adjudicate").id == number


def test_a_case_is_held_by_one_reader(store: ReviewStore) -> None:
    number = cases.add(store, [scan("s1")])[0]
    until = cases.claim(store, number, by=A).claimed_until
    assert cases.claim(store, number, by=A).claimed_until >= until
    for attempt in (cases.claim, cases.release):
        with pytest.raises(
            ReviewError, match=rf"case {number} is being read by Dr A until \d\d:\d\d UTC; take another"
        ):
            attempt(store, number, by=B)
    with store.transaction() as connection:
        connection.execute(CASES.update().values(claimed_until="2026-01-01T00:00:00.000+00:00"))
    assert cases.get(store, number, by=B).status == "open", "a claim runs out"
    cases.claim(store, number, by=B)
    cases.release(store, number, by=LEAD)
    assert cases.get(store, number, by=B).claimed_by is None
    for attempt in (cases.claim, cases.release, cases.get, cases.priors):
        with pytest.raises(ReviewError, match="there is no case 999; the worklist shows all"):
            attempt(store, 999, by=A)


def test_of_readers_who_come_at_once_each_gets_another_case(store: ReviewStore) -> None:
    cases.add(store, [scan(f"s{i}", received_at=on(0)) for i in range(8)])
    start, got = Barrier(8), []

    def take(name: str) -> None:
        start.wait(timeout=30)
        got.append(worklist.next_case(store, by=A.__class__(name=name, role="reader")).id)

    threads = [Thread(target=take, args=(f"Dr {i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(set(got)) == len(got) == 8


def test_priors_are_the_other_cases_of_the_patient(store: ReviewStore) -> None:
    ids = cases.add(store, [
        scan("s1", patient_id="p1", received_at=on(0)), scan("s2", patient_id="p1", received_at=on(5)),
        scan("s3", patient_id="p2"), scan("s4"), scan("s5"), scan("s6", patient_id="p1", received_at=on(2)),
    ])  # fmt: skip
    assert [case.scan_id for case in cases.priors(store, ids[0], by=A)] == ["s2", "s6"]
    assert cases.priors(store, ids[2], by=A) == cases.priors(store, ids[3], by=A) == []


def test_a_known_scan_keeps_its_case(store: ReviewStore) -> None:
    ids = cases.add(store, [scan("s1", facts={"sex": "F", "doubts": "unlike"}), scan("s2")])
    read(store, ids[0], A)
    again = scan("s1", path="/moved/s1.dcm", facts={"view": "PA", "doubts": ""})
    assert cases.add(store, [scan("s2"), scan("s3"), again]) == [ids[1], ids[1] + 1, ids[0]]
    case = cases.get(store, ids[0], by=A)
    assert (case.status, case.read, case.path) == ("done", True, "/moved/s1.dcm")
    assert case.facts == {"sex": "F", "view": "PA", "doubts": ""}, "the newer ones beside what was known"
    assert len(verdicts.of_case(store, ids[0], by=A)) == 1
    assert cases.add(store, []) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scan_id": ""}, "a case needs a scan_id and a score; this one has '' and 1"),
        ({"scores": ()}, "a case needs a scan_id and a score; this one has 's1' and 0"),
        ({"readings_wanted": 0}, "0 readings wanted; expected 1 to 9"),
        ({"received_at": "today"}, "received at 'today'; expected a moment as in 2026-11-25T14:30:00+00:00"),
    ],
)
def test_a_case_is_valid_once_constructed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ReviewError) as caught:
        scan("s1", path="a.dcm", **change) if "scan_id" not in change else scan(**{"name": ""})
    assert message in str(caught.value)
