"""Behind the login: uploads are looked at first, and nobody reaches what is another's."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.testclient import TestClient

from app.gate import LARGEST_EVENT_BYTES
from app.owners import REMEMBERED, Owners
from app.server import LOCK, private_files
from app.uploads import UploadRefusedError, checked
from medtl.review.users import User
from tests.app.door import Door
from tests.app.people import add_people

EXE = b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00" + bytes(5000)
ELF = b"\x7fELF\x02\x01\x01\x00" + bytes(5000)


@pytest.fixture(scope="module")
def door(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with private_files() as files:
        door = Door(bundle_folder, tmp_path_factory.mktemp("door"))
        door.files = files
        add_people(door.store)
        yield door
        door.store.close()


def upload(browser: TestClient, *files: tuple[str, bytes]) -> Any:
    return browser.post("/gradio_api/upload", files=[("files", (name, content)) for name, content in files])


def kept(door: Door) -> list[Path]:
    return [path for path in door.files.rglob("*") if path.is_file() and path != door.files / LOCK]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("setup.exe", EXE, "setup.exe is of no known image type (it starts with 4d 5a 90 00)"),
        ("chest.dcm", ELF, "chest.dcm is of no known image type (it starts with 7f 45 4c 46)"),
        ("letter.png", b"%PDF-1.7\n" + bytes(99), "letter.png is a PDF document, not a scan"),
        ("../../x.exe", EXE, "x.exe is of no known image type"),
    ],
)
def test_what_is_no_scan_is_never_stored(door: Door, png_file: Path, name: str, content: bytes, message: str) -> None:
    browser = door.logged_in("Dr A")
    for files in ([(name, content)], [("a.png", png_file.read_bytes()), (name, content)]):
        refused = upload(browser, *files)
        assert refused.status_code == 415 and message in refused.text
        assert kept(door) == []


def test_a_scan_arrives_as_it_was_sent(door: Door, dicom_file: Path, png_file: Path) -> None:
    browser = door.logged_in("Dr A")
    contents = [dicom_file.read_bytes(), png_file.read_bytes(), b"Dear colleague", b""]
    done = upload(browser, *((f"{place}.dcm", content) for place, content in enumerate(contents)))
    assert done.status_code == 200
    paths = [Path(each) for each in done.json()]
    assert [path.read_bytes() for path in paths] == contents, "what is text or empty the page explains"
    assert all(path.is_relative_to(door.files) for path in paths)
    for path in paths:
        path.unlink()
    traversal = upload(browser, ("../../../etc/x.png", png_file.read_bytes()))
    stored = Path(traversal.json()[0])
    assert stored.name == "x.png" and stored.is_relative_to(door.files)
    stored.unlink()


def test_an_upload_that_is_announced_as_too_large(door: Door) -> None:
    browser = door.logged_in("Dr A")
    announced = browser.post("/gradio_api/upload", content=b"x", headers={
        "content-length": str(2**30), "content-type": "multipart/form-data; boundary=b"})  # fmt: skip
    assert announced.status_code == 413 and "larger than 512 MB; open fewer files at once" in announced.text


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ([b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n', bytes(900)] * 9, 413, "larger"),
        ([b"--b\r\nno header at all"], 400, "not a form"),
        ([b"--c\r\n\r\n"], 400, "not a form"),
        ([b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nII*\0'], 400, "broken off"),
    ],
)
def test_bodies_that_are_no_upload(body: list[bytes], status: int, message: str) -> None:
    parts = iter(body)

    async def receive() -> dict[str, Any]:
        part = next(parts, None)
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    with pytest.raises(UploadRefusedError, match=message) as refusal:
        anyio.run(partial(checked, receive, content_type="multipart/form-data; boundary=b", most_bytes=2000))
    assert refusal.value.status == status


def test_an_upload_in_pieces_of_any_size() -> None:
    content = bytes(range(256)) * 40
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.exe"\r\n\r\n'
    whole = head + b"MZ\0\0" + content + b"\r\n--b--\r\n"
    for size in (1, 7, len(head) + 1, len(whole)):
        pieces = [whole[first : first + size] for first in range(0, len(whole), size)]

        async def receive(left: list[bytes] = pieces) -> dict[str, Any]:
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

        with pytest.raises(UploadRefusedError, match=r"a\.exe is of no known image type"):
            anyio.run(partial(checked, receive, content_type="multipart/form-data; boundary=b"))
        assert pieces == [], "a browser that still sends does not read the answer"


def event(browser: TestClient, page: str | None, *data: Any) -> int:
    said = {"session_hash": page, "fn_index": 0, "data": list(data), "event_data": None, "trigger_id": None}
    return browser.post("/gradio_api/queue/join", json=said).status_code


def test_another_readers_page_and_files(door: Door, png_file: Path) -> None:
    a, b = door.logged_in("Dr A"), door.logged_in("Dr B")
    about = {"session_hash": "pagea", "fn_index": 0, "event_id": "x"}
    assert a.post("/gradio_api/cancel", json=about).status_code == 200
    assert b.get("/gradio_api/queue/data?session_hash=pagea").status_code == 403
    assert event(b, "pageb") != 403
    assert b.get("/gradio_api/queue/data?session_hash=pageb&session_hash=pagea").status_code == 400
    assert b.get("/gradio_api/heartbeat/pagea").status_code == 403
    assert event(b, "pagea") == 403
    assert b.post("/gradio_api/cancel", json=about).status_code == 403
    again = door.logged_in("Dr A")
    assert again.post("/gradio_api/cancel", json=about).status_code == 200, "after logging in anew"

    path = upload(a, ("a.png", png_file.read_bytes())).json()[0]
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    assert event(b, "pageb", file) == 403
    assert event(b, "pageb", [{"deep": [file]}]) == 403
    for guessed in ("/etc/passwd", str(png_file), f"{path}/../a.png"):
        assert event(a, "pagea", {"path": guessed}) == 403
    for browser in (a, b):
        for route in ("file=", "file/"):
            refused = browser.get(f"/gradio_api/{route}{path}")
            assert refused.status_code == 403 and "scans are no files here" in refused.text
    for climb in (
        "/assets/../../../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static//etc/passwd",
    ):
        answer = a.get(climb)
        assert answer.status_code in (403, 404) and "root:" not in answer.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"not json", 400),
        (b"[]", 400),
        (b'{"data": []}', 400),
        (b'{"session_hash": 7}', 400),
        (b'{"session_hash": ""}', 400),
        (b"[" * 100_000, 400),
        (b'"' + b"x" * LARGEST_EVENT_BYTES + b'"', 413),
    ],
)
def test_events_that_are_none(door: Door, body: bytes, status: int) -> None:
    answer = door.logged_in("Dr A").post("/gradio_api/queue/join", content=body)
    assert answer.status_code == status
    assert json.loads(answer.text)["detail"]


def test_owners_are_not_remembered_for_ever() -> None:
    owners = Owners()
    a, b = User(name="A", role="reader"), User(name="B", role="reader")
    owners.uploaded(a, ["/x"])
    owners.uploaded(b, ["/x"])
    assert owners.files_are_of(a, {"path": "/x"}) and owners.files_are_of(b, [{"path": "/x"}]), "the same bytes"
    owners.uploaded(a, [f"/{number}" for number in range(REMEMBERED)])
    assert not owners.files_are_of(a, {"path": "/x"}), "forgotten, and so nobody's"
    assert owners.files_are_of(a, {"path": f"/{REMEMBERED - 1}", "value": None})
    for number in range(REMEMBERED + 5):
        assert owners.page_is_of(a, str(number))
    assert len(owners._pages) == REMEMBERED
