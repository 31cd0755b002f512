"""A backup made while readers write is a whole store of one moment."""

from pathlib import Path
from threading import Event, Thread

import pytest

import medtl
from medtl.errors import ReviewError
from medtl.review import cases, verdicts
from medtl.review.store import ReviewStore
from medtl.review.verify import verify_reviews
from tests.review.making import A, read, said, scan, token


def test_a_backup_while_saving(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.db"
    path.write_bytes(made.read_bytes())
    store, stop, saved = ReviewStore(path), Event(), []
    number = cases.add(store, [scan("s1")])[0]
    read(store, number, A)

    def write() -> None:
        while not stop.is_set():
            saved.extend(verdicts.save(store, [said(number)], by=A, token=token()))

    writer = Thread(target=write)
    writer.start()
    try:
        counts = []
        for i in range(3):
            before = 1 + len(saved)
            medtl.backup_reviews(path, out=tmp_path / f"{i}.db")
            counts.append(verify_reviews(tmp_path / f"{i}.db").count)
            assert before <= counts[-1] <= 2 + len(saved), "what was acknowledged before is in it"
    finally:
        stop.set()
        writer.join(timeout=60)
    store.close()
    assert counts == sorted(counts)
    assert verify_reviews(path).count == 1 + len(saved)
    copy = ReviewStore(tmp_path / "2.db")
    assert len(verdicts.of_case(copy, number, by=A)) == counts[2]
    copy.close()
    assert f"{counts[2]} verdicts, head {counts[2]}:" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["0.db", "1.db", "2.db", "r.db"], "single files"


def test_where_backups_cannot_be_made(made: Path, made_on_server: tuple[str, object], tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    path.write_bytes(made.read_bytes())
    with pytest.raises(ReviewError, match=r"r\.db: is the store itself; choose another --out"):
        medtl.backup_reviews(path, out=path)
    with pytest.raises(ReviewError, match="no such file"):
        medtl.backup_reviews(tmp_path / "none.db", out=tmp_path / "b.db")
    with pytest.raises(ReviewError, match=r"is on a PostgreSQL server.*pg_dump --format=custom"):
        medtl.backup_reviews(made_on_server[0], out=tmp_path / "b.db")
    assert not (tmp_path / "b.db").exists()
