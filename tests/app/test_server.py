"""What is checked before the page is shown, and what the server gives away."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app.case import Case, take
from app.server import check_address, private_files, serve
from app.ui import Page
from medtl.errors import BundleError, MedtlError, ReviewError
from medtl.inference.runtime import load
from medtl.review import verdicts
from medtl.review.store import ReviewStore


def test_what_the_server_gives_away(url: str, folder: Path) -> None:
    page = httpx.get(url)
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    assert httpx.get(url, headers={"host": "evil.example"}).status_code == 400, "DNS rebinding"
    for path in ("/docs", "/redoc", "/openapi.json", "/gradio_api/mcp/sse", "/monitoring"):
        assert httpx.get(url + path).status_code != 200, path
    assert httpx.get(f"{url}/gradio_api/info").json()["named_endpoints"] == {}
    for path in (folder / "r.db", "/etc/passwd"):
        assert httpx.get(f"{url}/gradio_api/file={path}").status_code in (403, 404)
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


def test_private_files_go_and_the_environment_comes_back() -> None:
    before = dict(os.environ)
    with private_files() as folder:
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        (folder / "left").write_text("x")
    assert not folder.exists()
    assert dict(os.environ) == before


def test_an_upload_is_taken_off_the_disk(tmp_path: Path) -> None:
    (tmp_path / "hash").mkdir()
    (tmp_path / "hash" / "a.dcm").write_bytes(b"pixels")
    assert take([str(tmp_path / "hash" / "a.dcm")]) == [("a.dcm", b"pixels")]
    assert list(tmp_path.iterdir()) == []


def test_a_verdict_never_lands_on_another_scan(bundle_folder: Path, png_file: Path, tmp_path: Path) -> None:
    detector, store = load(bundle_folder), ReviewStore(tmp_path / "r.db")
    page = Page(detector, store)
    case = Case(name="a.png", prediction=detector.predict(png_file))
    other = replace(case, token="what the browser still shows")
    assert "Not saved: another scan was opened meanwhile" in page.keep(case, other.token, "", "Dr A", "agree", None)
    assert "Not saved" in page.keep(None, "", "", "Dr A", "agree", None)
    assert "for at least one finding" in page.keep(case, case.token, "", "Dr A", None, None)
    assert "enter the reader" in page.keep(case, case.token, "", "  ", "agree", None)
    assert verdicts.standing(store) == []
    assert "(verdicts 1 to 2)" in page.keep(case, case.token, " n ", " Dr A ", "agree", "unsure")
    kept = verdicts.standing(store)
    assert [(v.finding, v.verdict, v.note, v.reader) for v in kept] == [
        ("pneumonia", "agree", "n", "Dr A"),
        ("large_nodule", "unsure", "n", "Dr A"),
    ]
    assert kept[0].probability == case.prediction["pneumonia"].probability
    assert (kept[0].scan_id, kept[0].bundle_id) == (case.prediction.scan.scan_id, detector.bundle.bundle_id)


def test_a_failure_inside_is_no_traceback_on_the_page(
    bundle_folder: Path, png_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(load(bundle_folder), ReviewStore(tmp_path / "r.db"))

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(page.detector, "predict", fail)
    copy = tmp_path / "upload" / "a.png"
    copy.parent.mkdir()
    copy.write_bytes(png_file.read_bytes())
    *_, last = page.open(str(copy), "As read", 50, 100, "Axial", False)
    assert "medtl failed on this file" in last[page.viewer.scan] and "secret" not in last[page.viewer.scan]
    assert last[page.case] is None
