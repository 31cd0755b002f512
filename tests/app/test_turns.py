"""Who computes next, and how often: against the order that readers need, written down."""

import copy
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app import desk
from app.files import read_recorded
from app.turns import Turn, Turns
from app.viewer_html import Look
from benchmarks.browsing import Tab
from medtl.data.scan import Scan
from medtl.inference.runtime import Detector
from medtl.review import cases
from medtl.review.records import Case
from medtl.review.store import ReviewStore
from medtl.review.users import User
from tests.app.acting import Actor, add_cases, write_scan
from tests.app.conftest import served_here
from tests.app.people import PASSWORD

PATIENCE_S = 120
READER = User(name="Dr A", role="reader")
Done = list[tuple[str, str]]


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


@contextmanager
def beside(work: Callable[[], Any]) -> Iterator[threading.Thread]:
    """In a thread of its own, which has to end after this block."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def waiting(turns: Turns) -> int:
    return len(turns._waiting)


def test_pictures_before_answers_before_what_is_read_ahead() -> None:
    turns, order = Turns(1), []

    def work(turn: Turn, name: str) -> None:
        with turns.of(turn):
            order.append(name)

    wanted = [(Turn.AHEAD, "a"), (Turn.ANSWER, "b"), (Turn.PICTURE, "c"), (Turn.ANSWER, "d"), (Turn.PICTURE, "e")]
    threads = [threading.Thread(target=work, args=each) for each in wanted]
    with turns.of(Turn.ANSWER):
        for count, thread in enumerate(threads, start=1):
            thread.start()
            until(lambda count=count: waiting(turns) == count)
        assert order == []
    for thread in threads:
        thread.join(PATIENCE_S)
    assert order == ["c", "e", "b", "d", "a"]


def test_nothing_is_begun_ahead_while_a_reader_is_worked_for() -> None:
    turns, begun = Turns(2), []

    def work(turn: Turn, ends: threading.Event) -> None:
        with turns.of(turn):
            begun.append(turn)
            assert ends.wait(PATIENCE_S)

    ends = {turn: threading.Event() for turn in Turn}
    with beside(lambda: work(Turn.PICTURE, ends[Turn.PICTURE])):
        until(lambda: begun == [Turn.PICTURE])
        with beside(lambda: work(Turn.AHEAD, ends[Turn.AHEAD])):
            until(lambda: waiting(turns) == 1)
            with beside(lambda: work(Turn.ANSWER, ends[Turn.ANSWER])):
                until(lambda: begun == [Turn.PICTURE, Turn.ANSWER])  # the second place is for readers
                ends[Turn.ANSWER].set()
            assert begun == [Turn.PICTURE, Turn.ANSWER] and waiting(turns) == 1
            ends[Turn.PICTURE].set()
            until(lambda: begun[-1] is Turn.AHEAD)
            with turns.of(Turn.PICTURE):  # and nobody waits for what was begun ahead
                ends[Turn.AHEAD].set()


@pytest.fixture
def page(reviews: ReviewStore, numbers: list[int], detector: Detector) -> Actor:
    return Actor(detector, reviews)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Done:
    """All that is computed, in its order: what, and of which file."""
    found: Done = []

    def read(case: Case, *, dims: int) -> Scan:
        found.append(("read", Path(case.path).stem))
        return read_recorded(case, dims=dims)

    def noted(what: str, owner: Any, name: str, scan_of: Callable[[Any], Scan]) -> None:
        plain = getattr(owner, name)

        def run(self: Any, *given: Any, **more: Any) -> Any:
            found.append((what, Path(scan_of((self, *given)).source).stem))
            return plain(self, *given, **more)

        monkeypatch.setattr(owner, name, run)

    monkeypatch.setattr(desk, "read_recorded", read)
    noted("draw", Look, "png", lambda given: given[0].scan)
    noted("score", Detector, "predict", lambda given: given[1])
    noted("heat", Detector, "explain", lambda given: given[1])
    return found


def of(name: str) -> tuple[Done, Done]:
    """What makes a picture, and what makes an answer."""
    return [("read", name), ("draw", name)], [("score", name), ("heat", name)]


def read_ahead(page: Actor, number: int) -> None:
    """As the page does it for the case after the one that is opened."""
    draw = partial(page.page.case.draw, READER, page.settings)
    page.page.desk.read_ahead(cases.get(page.store, number, by=READER), by=READER, draw=draw)


def test_readers_who_wait_see_all_pictures_first_and_nothing_is_computed_twice(
    page: Actor, numbers: list[int], done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "ARRIVES_S", 0.0)
    turns = page.page.desk.turns = Turns(1)
    other = copy.copy(page).be("Dr B")
    plain = Turns.of

    @contextmanager
    def once_others_wait(self: Turns, turn: Turn) -> Iterator[None]:
        """A thread that was not given the processor in time shall not look like one that did not wait."""
        with plain(self, turn):
            yield
            others = {Turn.PICTURE: 2, Turn.ANSWER: 1}.get(turn, 0)
            until(lambda: waiting(self) >= others)

    hold = threading.Event()
    with beside(lambda: held(turns, hold)):
        until(lambda: turns._at_work)
        monkeypatch.setattr(Turns, "of", once_others_wait)
        with beside(lambda: page.open(numbers[0])):
            until(lambda: waiting(turns) == 1)
            with beside(lambda: other.open(numbers[1])):
                until(lambda: waiting(turns) == 2)
                read_ahead(page, numbers[2])
                until(lambda: waiting(turns) == 3)
                hold.set()
    until(lambda: page.page.desk.is_ready(numbers[2]))
    pictures, answers = zip(*(of(f"scan{number}") for number in (0, 1, 2)), strict=True)
    assert done == [*pictures[0], *pictures[1], *answers[0], *answers[1], *pictures[2], *answers[2]]
    for actor, number in ((page, numbers[0]), (other, numbers[1])):
        assert actor.reading is not None and actor.reading.scan is not None and actor.reading.stored.id == number


def held(turns: Turns, ends: threading.Event) -> None:
    with turns.of(Turn.ANSWER):
        assert ends.wait(PATIENCE_S)


def test_a_case_that_is_being_read_ahead_is_finished_by_who_opens_it(
    page: Actor, numbers: list[int], done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "ARRIVES_S", 0.0)
    began, goes_on, threads = threading.Event(), threading.Event(), []
    pixels, predict = page.page.desk.pixels, Detector.predict

    def slowly(stored: Case) -> Scan:
        began.set()
        assert goes_on.wait(PATIENCE_S)
        return pixels(stored)

    def scored(self: Detector, scan: Scan) -> Any:
        threads.append(threading.current_thread().name)
        return predict(self, scan)

    monkeypatch.setattr(page.page.desk, "pixels", slowly)
    monkeypatch.setattr(Detector, "predict", scored)
    read_ahead(page, numbers[1])
    assert began.wait(PATIENCE_S)
    with beside(lambda: page.be("Dr B").open(numbers[1])) as reader:
        until(lambda: numbers[1] not in page.page.desk._ahead)
        goes_on.set()
    assert page.reading is not None and page.reading.scan is not None
    picture, answer = of("scan1")
    assert done == picture + answer and threads == [reader.name], "nobody reads ahead what is opened"
    page.page.desk.close()
    assert done == picture + answer


def test_an_upload_is_scored_once(page: Actor, done: Done, tmp_path: Path) -> None:
    page.upload(write_scan(tmp_path / "sent.png", 77))
    assert page.reading is not None and page.reading.scan is not None
    assert sorted(done) == sorted([("score", "sent"), ("draw", "sent"), ("heat", "sent")])


def test_a_page_waits_for_itself_and_not_for_others(
    bundle_folder: Path, detector: Detector, tmp_path: Path, done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By HTTP: Dr A opens a case whose file is slow, and then another; Dr B opens a third."""
    store = ReviewStore(tmp_path / "r.db")
    first, second, third, fourth, _ = add_cases(store, tmp_path, detector.bundle.bundle_id)
    began, goes_on, read = threading.Event(), threading.Event(), desk.read_recorded

    def slowly(case: Case, *, dims: int) -> Scan:
        if case.id == first:
            began.set()
            assert goes_on.wait(PATIENCE_S)
        return read(case, dims=dims)

    monkeypatch.setattr(desk, "read_recorded", slowly)
    monkeypatch.setattr(desk.joblib, "cpu_count", lambda: 2)
    with served_here(bundle_folder, tmp_path / "r.db") as url:
        his, hers = Tab(url, "Dr A", PASSWORD), Tab(url, "Dr B", PASSWORD)
        hers.press("refresh")  # another kind of event comes first
        his.fill("wanted", fourth)
        his.press("open")  # from now on Gradio tells those who wait how long
        his.fill("wanted", first)
        with beside(lambda: his.press("open")):
            assert began.wait(PATIENCE_S)
            his.fill("wanted", second)
            his.join("open")
            hers.fill("wanted", third)
            hers.press("open")
            assert hers.shown("token") and ("heat", "scan2") in done, "she has it while he waits"
            assert ("read", "scan1") not in done, "his second case waits for the first"
            goes_on.set()
        until(lambda: ("heat", "scan1") in done)
        assert done.index(("heat", "scan0")) < done.index(("read", "scan1"))
        holders = [cases.get(store, number, by=READER).claimed_by for number in (first, second)]
        assert holders == [None, "Dr A"], "the second event knew that the first case was open, and gave it back"
    store.close()
