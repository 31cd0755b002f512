"""kill -9 of the real server while readers save at once by HTTP: what was answered is in the store, whole, and once."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.browsing import Tab
from medtl.inference.runtime import Detector
from medtl.review.store import ReviewStore
from medtl.review.verify import verify_reviews
from tests.app.acting import add_cases
from tests.app.conftest import FINDINGS, add_people_to, free_port
from tests.app.people import PASSWORD, PEOPLE
from tests.app.test_page import stored

pytestmark = pytest.mark.slow

ANSWER = re.compile(r"Saved case (\d+) \(verdicts (\d+) to (\d+)\)")
PATIENCE_S = 60
Acknowledged = dict[str, tuple[int, int, int]]
"""By the note that was saved: the case, and the numbers of its first and last verdict."""
LOADED = """if True:
    import os, sys
    import app.server, app.web, medtl.cli
    for line in sys.stdin:
        child = os.fork()
        if not child:
            print(os.getpid(), flush=True)
            sys.argv = ["medtl", *sys.argv[1:], line.strip()]
            sys.exit(medtl.cli.main())
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
Moment = Callable[[Path, threading.Semaphore], None]
"""Returns when it has come, from the store's file and a count of the answers."""


def written(reviews: Path, _: threading.Semaphore) -> None:
    """The first verdict is on its way to the disk, and not answered."""
    log = reviews.with_name(f"{reviews.name}-wal")
    before, until = log.stat(), time.monotonic() + PATIENCE_S
    while (now := log.stat()).st_mtime_ns == before.st_mtime_ns and now.st_size == before.st_size:
        assert time.monotonic() < until
        time.sleep(0.0002)


def answered(_: Path, answers: threading.Semaphore) -> None:
    """The first reader was told, and the others were not."""
    assert answers.acquire(timeout=PATIENCE_S)


class Servers:
    """`medtl serve`, each time in a new process; forked from one that has loaded what takes seconds to load."""

    def __init__(self, bundle: Path, reviews: Path) -> None:
        self.words = ["serve", str(bundle), "--reviews", str(reviews), "--port"]
        environment = os.environ | {"TMPDIR": str(reviews.parent)}  # who is killed leaves his files
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self.loaded = subprocess.Popen(
            [sys.executable, "-c", LOADED, *self.words], cwd=Path(__file__).parents[2], env=environment, **pipes
        )

    @contextlib.contextmanager
    def one(self, *, ends_by: signal.Signals) -> Iterator[tuple[str, Callable[[], None]]]:
        """Its address, and what ends it by this signal."""
        port = free_port()
        assert self.loaded.stdin is not None and self.loaded.stdout is not None
        print(port, file=self.loaded.stdin)
        pid = int(self.loaded.stdout.readline())
        try:
            assert "review page" in self.loaded.stdout.readline()
            yield f"http://127.0.0.1:{port}", lambda: os.kill(pid, ends_by)
            assert int(self.loaded.stdout.readline()) == (-ends_by if ends_by == signal.SIGKILL else 0)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise


@pytest.fixture
def servers(bundle_folder: Path, tmp_path: Path) -> Iterator[Servers]:
    add_people_to(tmp_path / "r.db")
    servers = Servers(bundle_folder, tmp_path / "r.db")
    yield servers
    servers.loaded.communicate(timeout=PATIENCE_S)


class Reader(threading.Thread):
    """Opens a case, waits for the others, and saves."""

    def __init__(self, tab: Tab, note: str, together: threading.Barrier, answers: threading.Semaphore) -> None:
        super().__init__()
        self.tab, self.note, self.together, self.answers = tab, note, together, answers
        self.told = ""
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.tab.press("next-case")
            self.tab.choose()
            self.tab.fill("note", self.note)
            self.together.wait(PATIENCE_S)
            with contextlib.suppress(httpx.TransportError):  # the server died; its answer may have come before
                self.tab.press("save")
            self.told = str(self.tab.shown("saved"))
            if self.told:
                self.answers.release()
        except BaseException as problem:
            self.failure = problem
            self.together.abort()


def save_at_once(
    url: str, act: str, *, until: Callable[[threading.Semaphore], None], then: Callable[[], None]
) -> Acknowledged:
    """Everybody saves a case, with a note of his own; `then` comes meanwhile. Returns what was answered."""
    together, answers = threading.Barrier(len(PEOPLE) + 1), threading.Semaphore(0)
    readers = [Reader(Tab(url, name, PASSWORD), f"{name}, {act}", together, answers) for name in PEOPLE]
    for reader in readers:
        reader.start()
    together.wait(PATIENCE_S)
    until(answers)
    then()
    acknowledged: Acknowledged = {}
    for reader in readers:
        reader.join(PATIENCE_S)
        assert not reader.is_alive()
        if reader.failure is not None:
            raise reader.failure
        if said := ANSWER.search(reader.told):
            acknowledged[reader.note] = (int(said[1]), int(said[2]), int(said[3]))
    return acknowledged


def check(folder: Path, acknowledged: Acknowledged) -> None:
    """The store against what readers sent and were told."""
    rows = stored(folder)
    saves: dict[str, list[Any]] = {}
    for row in rows:
        saves.setdefault(row["note"], []).append(row)
    assert set(acknowledged) <= set(saves), "a verdict that was answered is lost"
    for note, (case, first, last) in acknowledged.items():
        assert [(row["case_id"], row["id"]) for row in saves[note]] == [(case, first), (case, last)]
    for note, save in saves.items():
        assert [row["finding"] for row in save] == list(FINDINGS), f"{note}: stored in part, or twice"
        assert len({(row["case_id"], row["token"]) for row in save}) == 1
        assert {row["reader"] for row in save} == {note.partition(",")[0]}
    assert len({save[0]["case_id"] for save in saves.values()}) == len(saves), "a case was read twice"
    assert verify_reviews(folder / "r.db").count == len(rows)


def test_what_was_answered_survives_a_kill_of_the_server(servers: Servers, detector: Detector, tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "r.db")
    for seed in (0, 5, 10):
        add_cases(store, tmp_path, detector.bundle.bundle_id, first_seed=seed)
    store.close()
    acknowledged: Acknowledged = {}
    for moment in (written, answered):
        with servers.one(ends_by=signal.SIGKILL) as (url, kill):
            acknowledged |= save_at_once(url, moment.__name__, until=partial(moment, tmp_path / "r.db"), then=kill)
        check(tmp_path, acknowledged)
    assert 1 <= len(acknowledged) < 2 * len(PEOPLE), "a kill finds saves that are not answered"
    with servers.one(ends_by=signal.SIGTERM) as (url, end):
        last = save_at_once(url, "afterwards", until=lambda _: None, then=lambda: None)
        end()
    assert len(last) == len(PEOPLE), "the server that came back saves"
    check(tmp_path, acknowledged | last)
