"""The commands around the store: one clear line for what goes wrong, and no password on the command line."""

import io
from pathlib import Path

import pytest

from medtl.review import cases, users
from medtl.review.store import ReviewStore
from tests.review.making import PASSWORD, A, read, scan
from tests.review.test_export import scores_file
from tests.test_cli import refused, run


def test_from_scores_to_labels(where: str, tmp_path: Path) -> None:
    place = ["--reviews", where]
    assert run("reviews", "import", scores_file(tmp_path / "s.parquet"), *place).returncode == 0
    store = ReviewStore(where)
    cases.add(store, [scan("s1")])
    read(store, 3, A)
    store.close()
    done = run("reviews", "verify", *place)
    assert done.returncode == 0 and done.stdout.startswith("1:") and len(done.stdout) == 67
    assert run("reviews", "verify", "--head", done.stdout.strip(), *place).stdout == done.stdout
    assert "does not pass through" in refused(run("reviews", "verify", "--head", "1:" + "0" * 64, *place))
    assert run("reviews", "export", "--out", tmp_path / "l.csv", *place).returncode == 0
    assert (tmp_path / "l.csv").read_text() == "scan_id,pneumonia\ns1,1\n"
    backup = run("reviews", "backup", "--out", tmp_path / "b.db", *place)
    if "://" in where:
        assert "pg_dump" in refused(backup)
    else:
        assert run("reviews", "verify", "--reviews", tmp_path / "b.db").stdout == done.stdout


def test_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ["--reviews", tmp_path / "r.db"]
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
    done = run("users", "add", "Dr A", "--role", "lead", "--password-stdin", *place)
    assert done.returncode == 0 and "Dr A may log in as lead" in done.stderr
    listed = run("users", "list", *place).stdout
    assert listed.splitlines()[1].split()[:4] == ["Dr", "A", "lead", "yes"]
    assert run("users", "role", "Dr A", "reader", *place).returncode == 0
    assert "reader" in run("users", "list", *place).stdout
    assert run("users", "role", "Dr A", "lead", *place).returncode == 0
    assert run("users", "disable", "Dr A", *place).returncode == 0
    assert "disabled" in run("users", "list", *place).stdout
    assert run("users", "enable", "Dr A", *place).returncode == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("another long one\r\n"))
    assert run("users", "reset", "Dr A", "--password-stdin", *place).returncode == 0
    store = ReviewStore(tmp_path / "r.db")
    assert users.log_in(store, "Dr A", "another long one").role == "lead"
    store.close()


def test_what_users_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ["--reviews", tmp_path / "r.db"]
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    line = refused(run("users", "add", "Dr A", "--role", "lead", "--password-stdin", *place))
    assert "the password has 5 characters; expected 10 to 200" in line
    assert "give it with --password-stdin" in refused(run("users", "add", "Dr A", "--role", "lead", *place))
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD))
    line = refused(run("users", "add", "Dr A", "--role", "boss", "--password-stdin", *place))
    assert "unknown role 'boss'; choose from: reader, lead, admin" in line
    assert "there is no user 'Dr B'" in refused(run("users", "disable", "Dr B", *place))
    assert "none.db: no such file" in refused(run("users", "list", "--reviews", tmp_path / "none.db"))
