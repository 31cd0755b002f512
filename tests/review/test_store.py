"""The database: opened, brought to this schema, and honest about what it cannot keep."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event

from medtl.errors import ReviewError
from medtl.review import cases, verdicts
from medtl.review.migrate import FOLDER, HEAD_REVISION
from medtl.review.schema import METADATA
from medtl.review.store import ReviewStore
from medtl.review.verify import verify_reviews
from tests.review.making import A, read, said, scan, token

# As medtl 0.1 made its files (sqlite_master of one of them).
SCHEMA_1 = """
CREATE TABLE verdicts (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, created_at VARCHAR NOT NULL, scan_id VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL, source_name VARCHAR NOT NULL, finding VARCHAR NOT NULL, probability FLOAT NOT NULL,
    threshold FLOAT NOT NULL, decision VARCHAR NOT NULL, verdict VARCHAR NOT NULL, note VARCHAR NOT NULL,
    reader VARCHAR NOT NULL, bundle_id VARCHAR NOT NULL
);
CREATE TRIGGER verdicts_no_update BEFORE UPDATE ON verdicts
    BEGIN SELECT RAISE(ABORT, 'verdicts are append-only'); END;
CREATE TRIGGER verdicts_no_delete BEFORE DELETE ON verdicts
    BEGIN SELECT RAISE(ABORT, 'verdicts are append-only'); END;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
"""
OLD = ("created_at", "scan_id", "sha256", "source_name", "finding", "probability", "threshold", "decision", "verdict",
       "note", "reader", "bundle_id")  # fmt: skip
SEEN = ("s1", "f1", "a.dcm")
OLD_ROWS = [
    ("2026-01-01T08:00:00.000+00:00", *SEEN, "pneumonia", 0.7, 0.5, "positive", "agree", "é\0'", "Dr A", "b1"),
    ("2026-01-01T08:00:00.000+00:00", *SEEN, "nodule", 0.1 + 0.2, 0.5, "negative", "unsure", "", "Dr A", "b1"),
    ("2026-01-02T08:00:00.000+00:00", *SEEN, "pneumonia", 0.7, 0.5, "positive", "disagree", "", "Dr A", "b1"),
    ("2026-01-03T08:00:00.000+00:00", "s2", "f2", "b", "pneumonia", 0.2, 0.4, "negative", "agree", "", "Dr B", "b2"),
]


def old_store(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA_1)
    marks = ", ".join("?" * len(OLD))
    connection.executemany(f"INSERT INTO verdicts ({', '.join(OLD)}) VALUES ({marks})", OLD_ROWS)
    connection.commit()
    connection.close()


def test_a_store_of_schema_1_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.db"
    old_store(path)
    store = ReviewStore(path)
    with store.reading() as connection:
        found = connection.exec_driver_sql(
            "SELECT created_at, v.scan_id, v.sha256, path, finding, probability, threshold, decision, verdict, note, "
            "reader, v.bundle_id FROM verdicts v JOIN cases c ON c.id = v.case_id ORDER BY v.id"
        ).all()
    assert [tuple(row) for row in found] == OLD_ROWS
    assert [row.id for row in verdicts.standing(store)] == [2, 3, 4], "the later verdict superseded the first"
    shown = cases.get(store, 1, by=A)
    assert (shown.status, shown.read, [s.finding for s in shown.scores]) == ("done", True, ["pneumonia", "nodule"])
    # And it goes on from there.
    assert read(store, cases.add(store, [scan("s9")])[0], A) == [5]
    store.close()
    assert verify_reviews(path).count == 5
    kept = sqlite3.connect(tmp_path / "r.db.schema-1")
    assert kept.execute(f"SELECT {', '.join(OLD)} FROM verdicts ORDER BY id").fetchall() == OLD_ROWS
    assert kept.execute("PRAGMA user_version").fetchone() == (1,)
    kept.close()
    said = capsys.readouterr().err
    assert f"{path}: brought from schema 1 to 4; as it was: {path}.schema-1" in said
    ReviewStore(path).close()
    assert "brought" not in capsys.readouterr().err


@pytest.mark.parametrize(("schema", "missing"), [("2", ("nearest_scan_id", "distance")), ("3", ("distance",))])
def test_a_store_of_an_earlier_schema_loses_nothing(
    where: str, schema: str, missing: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    store = ReviewStore(where)
    numbers = cases.add(store, [scan("s1", facts={"sex": "F"}), scan("s2", 0.2)])
    read(store, numbers[0], A)
    before = [cases.get(store, number, by=A) for number in numbers]
    with store.transaction() as connection:
        for column in missing:
            connection.exec_driver_sql(f"ALTER TABLE cases DROP COLUMN {column}")
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{schema}'")
    store.close()
    head = verify_reviews(where)
    assert f"brought from schema {schema} to 4" in capsys.readouterr().err or "://" in where
    assert head.count == 1
    store = ReviewStore(where)
    assert [cases.get(store, number, by=A) for number in numbers] == before
    assert cases.add(store, [scan("s3", nearest_scan_id="s1", distance=0.5)]) == [3]
    with store.reading() as connection:
        found = connection.exec_driver_sql("SELECT nearest_scan_id, distance FROM cases ORDER BY id").all()
    store.close()
    assert found == [("", None), ("", None), ("s1", 0.5)]
    if "://" not in where:
        kept = sqlite3.connect(f"{where}.schema-{schema}")
        assert "distance" not in [row[1] for row in kept.execute("PRAGMA table_info(cases)")]
        assert kept.execute("SELECT count(*) FROM verdicts").fetchone() == (1,)
        kept.close()


def test_a_migration_that_fails_leaves_the_old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.db"
    old_store(path)
    calls = []

    def fail(row: object) -> str:
        calls.append(row)
        if len(calls) == 3:
            raise RuntimeError("the power went")
        return "h"

    monkeypatch.setattr("medtl.review.chain.row_hash", fail)
    with pytest.raises(RuntimeError, match="the power went"):
        ReviewStore(path)
    monkeypatch.undo()
    connection = sqlite3.connect(path)
    assert connection.execute(f"SELECT {', '.join(OLD)} FROM verdicts ORDER BY id").fetchall() == OLD_ROWS
    assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")] == [
        "verdicts", "sqlite_sequence",
    ]  # fmt: skip
    connection.close()
    ReviewStore(path).close()
    assert verify_reviews(path).count == 4


def test_migrations_lead_to_the_tables_that_the_code_uses(store: ReviewStore) -> None:
    with store.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    assert ScriptDirectory(str(FOLDER)).get_current_head() == HEAD_REVISION


def test_a_new_store_is_made_on_each_database(server: str, tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    ReviewStore(path).close()
    connection = sqlite3.connect(path)
    # medtl 0.1 reads this number, and refuses the file instead of writing to it.
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    connection.close()
    opened = ReviewStore(f"{server}/template1")
    opened.check_writable()
    assert "password" not in opened.name and ":***@127.0.0.1" in opened.name
    opened.close()


def test_syncs_each_commit(store: ReviewStore) -> None:
    if store.path is None:
        with store.reading() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
        return
    with store.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2, "FULL"
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1


def test_locked_by_another_program(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtl.review.store.WAIT_FOR_LOCK_MS", 50)
    store, other = ReviewStore(where), ReviewStore(where)
    number = cases.add(store, [scan("s1")])[0]
    cases.claim(store, number, by=A)
    same = token()
    message = r"another program holds it; (close|end) that program and save again"
    with other.transaction(), pytest.raises(ReviewError, match=message):
        verdicts.save(store, [said(number)], by=A, token=same)
    assert verdicts.standing(store) == []
    assert verdicts.save(store, [said(number)], by=A, token=same) == [1]
    store.close()
    other.close()


@pytest.fixture
def one(made: Path, tmp_path: Path) -> ReviewStore:
    """A store in a file, with one case that Dr A has claimed."""
    path = tmp_path / "one.db"
    path.write_bytes(made.read_bytes())
    store = ReviewStore(path)
    cases.claim(store, cases.add(store, [scan("s1")])[0], by=A)
    return store


def test_full(one: ReviewStore) -> None:
    one.close()
    event.listen(one._engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 50"))
    with pytest.raises(ReviewError, match="the disk is full; free some space and save again"):
        for _ in range(200):
            read(one, 1, A, note="x" * 2000)
    kept = len(verdicts.of_case(one, 1, by=A))
    one.close()
    assert one.path is not None
    assert verify_reviews(one.path).count == kept > 0


def test_read_only(one: ReviewStore) -> None:
    one.close()
    event.listen(one._engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only = 1"))
    for attempt in (one.check_writable, lambda: verdicts.save(one, [said(1)], by=A, token=token())):
        with pytest.raises(ReviewError, match="it is read-only; make the file and its folder writable and save again"):
            attempt()
    assert verdicts.standing(one) == []


def test_read_only_server(made_on_server: tuple[str, Engine]) -> None:
    store = ReviewStore(made_on_server[0])
    event.listen(store._engine, "begin", lambda connection: connection.exec_driver_sql("SET TRANSACTION READ ONLY"))
    with pytest.raises(ReviewError, match="it is read-only; connect to the primary server and save again"):
        store.check_writable()
    store.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_file(one: ReviewStore, tmp_path: Path) -> None:
    one.close()
    (tmp_path / "one.db").chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(ReviewError, match="it is read-only"):
            ReviewStore(tmp_path / "one.db").check_writable()
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("gone", ["deleted", "moved", "replaced"])
def test_a_file_that_is_gone_acknowledges_nothing(one: ReviewStore, made: Path, gone: str) -> None:
    assert one.path is not None
    if gone == "moved":
        one.path.rename(one.path.with_suffix(".aside"))
    else:
        one.path.unlink()
    if gone == "replaced":
        one.path.write_bytes(made.read_bytes())
    for _ in range(2):  # by the connection that is open, and by a new one
        with pytest.raises(ReviewError, match=r"one\.db: (was deleted, moved or replaced since|it cannot be opened)"):
            verdicts.save(one, [said(1)], by=A, token=token())
        one.close()
    assert one.path.exists() == (gone == "replaced"), "no empty file takes its place"


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all" * 100)
    with pytest.raises(ReviewError, match=r"text\.db: it is not a review store; choose another file with --reviews"):
        ReviewStore(tmp_path / "text.db")

    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE users (id)").connection.close()
    with pytest.raises(ReviewError, match=r"other\.db: is the database of another program; choose another one"):
        ReviewStore(tmp_path / "other.db")

    ReviewStore(tmp_path / "new.db").close()
    connection = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    connection.execute("UPDATE alembic_version SET version_num = '5'")
    connection.close()
    with pytest.raises(ReviewError, match="is a review store of schema 5, this medtl reads schema 4; use the"):
        ReviewStore(tmp_path / "new.db")

    with pytest.raises(ReviewError, match=r"the folder .* does not exist; create it first"):
        ReviewStore(tmp_path / "none" / "r.db")
    with pytest.raises(ReviewError, match="it cannot be opened"):
        ReviewStore(tmp_path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://a@b/c", "--reviews mysql://…: expected a file, or a URL such as postgresql+pg8000://"),
        ("postgresql://a:secret@b/c", "--reviews postgresql://…: expected a file, or a URL such as"),
        ("://", "--reviews: cannot be read as a URL; expected a file"),
        ("postgresql+pg8000://a:secret@127.0.0.1:9/c", "the server does not answer; start it, or check the URL"),
    ],
)
def test_other_urls_are_refused(url: str, message: str) -> None:
    with pytest.raises(ReviewError) as caught:
        ReviewStore(url)
    assert message in str(caught.value) and "secret" not in str(caught.value)


def test_a_server_says_what_is_wrong(server: str) -> None:
    with pytest.raises(ReviewError, match="the server has no such database; create it with createdb"):
        ReviewStore(f"{server}/nowhere")
    wrong = server.replace("medtl:", "medtl:x")
    with pytest.raises(ReviewError, match="the server refused user and password"):
        ReviewStore(f"{wrong}/postgres")


WORKER = """
import json, sys, uuid
from medtl.review import cases, store as database, verdicts
from medtl.review.records import Verdict
from medtl.review.users import User
database.WAIT_FOR_LOCK_MS = 100_000  # two that save without a pause, on a busy machine
where, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store, by = database.ReviewStore(where), User(name=name, role="reader")
case = cases.claim(store, int(sys.argv[4]), by=by)
for _ in range(count):
    chosen = [Verdict(case_id=case.id, bundle_id="b1", finding=each.finding, verdict="agree") for each in case.scores]
    print(*verdicts.save(store, chosen, by=by, token=uuid.uuid4().hex, done=False), flush=True)
"""


def worker(where: str, name: str, count: int, number: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WORKER, where, name, str(count), str(number)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)


def test_two_processes_append_at_once(where: str) -> None:
    store = ReviewStore(where)
    numbers = cases.add(store, [scan("s1"), scan("s2")])
    store.close()
    both = [worker(where, f"Dr {letter}", 25, number) for letter, number in zip("AB", numbers, strict=True)]
    told = [sorted(int(word) for word in process.communicate(timeout=100)[0].split()) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(told[0] + told[1]) == list(range(1, 51)), "none lost, none twice"
    assert verify_reviews(where).count == 50


def test_everything_acknowledged_survives_a_kill(where: str) -> None:
    """kill -9 while saving: what was printed after `save` is there, and a save of two is there whole or not at all."""
    store = ReviewStore(where)
    two = tuple(scan("x").scores[0].__class__(**asdict(scan("x").scores[0]) | {"finding": f}) for f in ("a", "b"))
    number = cases.add(store, [scan("s1", scores=two)])[0]
    store.close()
    acknowledged: list[int] = []
    for seconds in (0.03, 0.11):
        process = worker(where, "Dr A", 100_000, number)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        for line in [first, *process.stdout.read().splitlines(keepends=True)]:
            if line.endswith("\n"):
                acknowledged += [int(word) for word in line.split()]
        process.wait()
    store = ReviewStore(where)
    with store.transaction():
        pass  # a server may still be undoing what the killed process had begun
    stored = [row.id for row in verdicts.of_case(store, number, by=A)]
    store.close()
    assert len(acknowledged) >= 4
    assert set(acknowledged) <= set(stored)
    assert len(stored) % 2 == 0, "a transaction is there whole or not at all"
    assert verify_reviews(where).count == len(stored)
    if "://" not in where:
        assert sqlite3.connect(where).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_facts_are_kept_as_json(store: ReviewStore) -> None:
    facts = {"age_years": 61, "sex": "F", "view": "PA"}
    number = cases.add(store, [scan("s1", facts=facts)])[0]
    assert cases.get(store, number, by=A).facts == facts == json.loads(json.dumps(facts))
