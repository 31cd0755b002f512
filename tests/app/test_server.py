"""What is checked before the page is shown, and what the server gives away."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from app.case import take
from app.server import check_address, private_files, serve
from medtl.errors import BundleError, MedtlError, ReviewError
from medtl.review import schema
from medtl.review.store import ReviewStore
from tests.app.people import client


def test_what_the_server_gives_away(url: str, folder: Path) -> None:
    reader = client(url, reviews=folder / "r.db")
    page = reader.get("/")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    code = re.search(r"/?assets/[\w.-]+\.js", page.text)
    assert code is not None
    address = "/" + code.group().lstrip("/")
    assert reader.get(address).headers["cache-control"] == "private, max-age=31536000, immutable"
    missing = reader.get("/assets/none-00000000.js")
    assert missing.status_code == 404 and missing.headers["cache-control"] == "no-store"
    assert reader.get("/", headers={"host": "evil.example"}).status_code == 400, "DNS rebinding"
    assert reader.get("/gradio_api/info").json()["named_endpoints"] == {}
    for path in (folder / "r.db", "/etc/passwd"):
        assert reader.get(f"/gradio_api/file={path}").status_code == 403
    folders = list((folder / "tmp").glob("medtl-page-*"))
    assert [oct(each.stat().st_mode & 0o777) for each in folders] == ["0o700"]


def test_a_port_in_use_names_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MedtlError, match=rf"127\.0\.0\.1:{port}: cannot listen there \(.*\); try --port \d+"):
            check_address("127.0.0.1", port)


def test_an_address_of_another_machine(port: int) -> None:
    with pytest.raises(MedtlError, match=r"cannot listen there .*; try --host 127\.0\.0\.1"):
        check_address("192.0.2.1", port)  # reserved for documentation, RFC 5737


def test_the_bundle_and_the_store_are_checked_first(bundle_folder: Path, port: int, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        serve(tmp_path / "none", reviews=tmp_path / "r.db", port=port)
    assert not (tmp_path / "r.db").exists()
    (tmp_path / "text.db").write_text("not a database" * 99)
    with pytest.raises(ReviewError, match="is not a review store"):
        serve(bundle_folder, reviews=tmp_path / "text.db", port=port)


def test_the_store_is_opened_once_for_scores_and_page(
    bundle_folder: Path, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.csv").write_text(
        "path,scan_id,finding,probability,threshold,decision,sha256,bundle_id\na.png,s1,x,0.7,0.5,positive,00,b\n"
    )
    opened: list[ReviewStore] = []
    make = ReviewStore.__init__

    def counted(store: ReviewStore, where: str | Path) -> None:
        make(store, where)
        opened.append(store)

    @contextmanager
    def running(detector: object, store: ReviewStore, **_: object) -> Iterator[None]:
        with store.reading() as connection:
            assert [row.scan_id for row in connection.execute(select(schema.CASES))] == ["s1"]
        yield

    monkeypatch.setattr(ReviewStore, "__init__", counted)
    monkeypatch.setattr("app.web.running", running)
    monkeypatch.setattr("app.server.wait_for_signal", lambda: None)
    serve(bundle_folder, scores=tmp_path / "s.csv", reviews=tmp_path / "r.db", port=port)
    assert len(opened) == 1


def test_a_database_server_is_asked_and_no_file_made(
    bundle_folder: Path, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = r"postgresql\+pg8000://medtl:\*\*\*@127\.0\.0\.1:1/r: the server does not answer"
    with pytest.raises(ReviewError, match=said):
        serve(bundle_folder, reviews="postgresql+pg8000://medtl:secret@127.0.0.1:1/r", port=port)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ReviewError, match=r"a\.dcm: is gone from the server; open the file again"):
        take([str(tmp_path / "hash" / "a.dcm")])  # somebody else sent the same bytes, and was faster


def test_private_files_go_and_the_environment_comes_back() -> None:
    before = dict(os.environ)
    with private_files() as folder:
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        (folder / "left").write_text("x")
    assert not folder.exists()
    assert dict(os.environ) == before


HOLD = "from app.server import private_files as files\nwith files() as folder: print(folder, flush=True); input()"


@contextmanager
def holding(folder: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A process with private files in this folder, and where they are."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=Path(__file__).parents[2], env=os.environ | {"TMPDIR": str(folder)}, **pipes
    )
    try:
        assert process.stdout is not None
        yield Path(process.stdout.readline().strip()), process
    finally:
        process.communicate("\n" if process.poll() is None else None)


def test_private_files_of_killed_servers_go_and_those_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "medtl-page-of-an-older-version").mkdir()
    with holding(tmp_path) as (killed, process), holding(tmp_path) as (alive, _):
        (killed / "picture.png").write_bytes(b"pixels")
        process.kill()
        process.wait()
        assert (killed / "picture.png").exists()
        with holding(tmp_path) as (last, _):
            left = {path.name for path in tmp_path.iterdir()}
            assert left == {alive.name, last.name, "medtl-page-of-an-older-version"}
    assert [path.name for path in tmp_path.iterdir()] == ["medtl-page-of-an-older-version"]


def test_an_upload_is_taken_off_the_disk(tmp_path: Path) -> None:
    (tmp_path / "hash").mkdir()
    (tmp_path / "hash" / "a.dcm").write_bytes(b"pixels")
    assert take([str(tmp_path / "hash" / "a.dcm")]) == [("a.dcm", b"pixels")]
    assert list(tmp_path.iterdir()) == []
