"""The verdict store: what it acknowledges is on disk, and what it cannot keep it does not acknowledge."""

import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from medtl.errors import ReviewError
from medtl.review.store import ReviewStore, Verdict

VERDICT = Verdict(
    scan_id="0123456789abcdef",
    sha256="0123456789abcdef" * 4,
    source_name="a.dcm",
    finding="pneumonia",
    probability=0.7,
    threshold=0.5,
    decision="positive",
    verdict="agree",
    note="",
    reader="Dr A",
    bundle_id="b1",
)


def rows(path: Path) -> list[dict[str, Any]]:
    """The table as plain sqlite3 reads it: the oracle."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    found = [dict(row) for row in connection.execute("SELECT * FROM verdicts ORDER BY id")]
    connection.close()
    return found


def test_saves_and_reads_back(tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "r.db")
    assert store.save([VERDICT, replace(VERDICT, finding="nodule", verdict="unsure")]) == [1, 2]
    assert store.save([VERDICT]) == [3]
    assert ReviewStore(tmp_path / "r.db").verdicts() == store.verdicts()
    stored = rows(tmp_path / "r.db")
    assert [row["id"] for row in stored] == [1, 2, 3]
    assert stored[0].items() >= asdict(VERDICT).items()
    assert stored[0]["created_at"].endswith("+00:00")


@settings(max_examples=25, deadline=None)
@given(note=st.text(st.characters(exclude_categories=["Cs"]), max_size=50), reader=st.text("é'\";-- \x00漢"))
def test_any_text_survives(note: str, reader: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = ReviewStore(tmp_path_factory.mktemp("any") / "r.db")
    store.save([replace(VERDICT, note=note, reader=reader)])
    assert (store.verdicts()[0].note, store.verdicts()[0].reader) == (note, reader)
    store.close()


def test_syncs_each_commit(tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "r.db")
    store.check_writable()
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA user_version").scalar_one() == 1


@pytest.mark.parametrize("change", ["UPDATE verdicts SET verdict = 'disagree'", "DELETE FROM verdicts"])
def test_nothing_is_changed_later(tmp_path: Path, change: str) -> None:
    ReviewStore(tmp_path / "r.db").save([VERDICT])
    connection = sqlite3.connect(tmp_path / "r.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "maybe"}, "verdict 'maybe' on pneumonia: expected one of agree, disagree, unsure"),
        ({"decision": "refused"}, "decision 'refused' on pneumonia: expected one of positive, negative"),
        ({"probability": float("nan")}, "pneumonia: probability nan and threshold 0.5; expected 0 to 1"),
        ({"note": "x" * 2001}, "the note has 2,001 characters; shorten it to 2,000"),
        ({"reader": "x" * 201}, "the reader's name has 201 characters; shorten it to 200"),
    ],
)
def test_a_verdict_is_valid_once_constructed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ReviewError) as caught:
        replace(VERDICT, **change)
    assert str(caught.value) == message


def test_all_or_none(tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "r.db")
    broken = replace(VERDICT)
    object.__setattr__(broken, "finding", None)  # breaks NOT NULL inside the transaction
    with pytest.raises(ReviewError):
        store.save([VERDICT, broken])
    assert store.verdicts() == []


def test_locked_by_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtl.review.store.WAIT_FOR_LOCK_MS", 50)
    store = ReviewStore(tmp_path / "r.db")
    other = sqlite3.connect(tmp_path / "r.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ReviewError, match=r"r\.db: another program holds it; close that program and save again"):
        store.save([VERDICT])
    other.execute("ROLLBACK")
    assert store.save([VERDICT]) == [1]


def test_full(tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "r.db")
    store.close()
    event.listen(store._engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 8"))
    long = replace(VERDICT, note="x" * 2000)
    with pytest.raises(ReviewError, match="the disk is full; free some space and save again"):
        store.save([long] * 50)
    assert rows(tmp_path / "r.db") == []


def test_read_only(tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "r.db")
    store.close()
    event.listen(store._engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only = 1"))
    for attempt in (store.check_writable, lambda: store.save([VERDICT])):
        with pytest.raises(ReviewError, match="it is read-only; make the file and its folder writable and save again"):
            attempt()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_file(tmp_path: Path) -> None:
    ReviewStore(tmp_path / "r.db").close()
    (tmp_path / "r.db").chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(ReviewError, match="it is read-only"):
            ReviewStore(tmp_path / "r.db").check_writable()
    finally:
        tmp_path.chmod(0o755)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all" * 100)
    with pytest.raises(ReviewError, match=r"text\.db: it is not a review store; choose another file with --reviews"):
        ReviewStore(tmp_path / "text.db")

    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE users (id)").connection.close()
    with pytest.raises(ReviewError, match=r"other\.db: is the database of another program"):
        ReviewStore(tmp_path / "other.db")

    ReviewStore(tmp_path / "new.db").close()
    sqlite3.connect(tmp_path / "new.db").execute("PRAGMA user_version = 2").connection.close()
    with pytest.raises(ReviewError, match=r"is a review store of schema 2, this medtl reads schema 1"):
        ReviewStore(tmp_path / "new.db")

    with pytest.raises(ReviewError, match=r"the folder .* does not exist; create it first"):
        ReviewStore(tmp_path / "none" / "r.db")
    with pytest.raises(ReviewError, match="it cannot be opened"):
        ReviewStore(tmp_path)


def test_everything_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    code = (
        "import sys; from medtl.review.store import ReviewStore; from tests_verdict import VERDICT\n"
        "store = ReviewStore(sys.argv[1])\n"
        "while True: print(*store.save([VERDICT, VERDICT]), flush=True)"
    )
    (tmp_path / "tests_verdict.py").write_text(
        f"from medtl.review.store import Verdict\nVERDICT = Verdict(**{asdict(VERDICT)!r})\n"
    )
    path = tmp_path / "r.db"
    acknowledged: list[int] = []
    for seconds in (0.05, 0.11, 0.17):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        for line in [first, *process.stdout.read().splitlines(keepends=True)]:
            if line.endswith("\n"):
                acknowledged += [int(number) for number in line.split()]
        process.wait()
    stored = [row["id"] for row in rows(path)]
    assert len(acknowledged) >= 6
    assert set(acknowledged) <= set(stored)
    assert len(stored) % 2 == 0, "a transaction is there whole or not at all"
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
