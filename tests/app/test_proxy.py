"""Behind a reverse proxy with a prefix and https, and who is believed."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from playwright.sync_api import Page, expect
from starlette.requests import Request
from starlette.responses import StreamingResponse

from app.auth import LOCAL
from app.proxy import LOOPBACK, Arrival, network, prefix
from app.web import running
from medtl.errors import MedtlError
from medtl.inference.runtime import load
from medtl.review.store import ReviewStore
from tests.app.conftest import free_port
from tests.app.people import PASSWORD, add_people
from tests.app.test_page import scored, upload

pytestmark = pytest.mark.slow


def arrived(scope: dict[str, Any], **arrival: Any) -> dict[str, Any]:
    """What comes out behind `Arrival`: the scope, or the answer that it gave itself."""
    found: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.update(scope)

    async def send(message: Any) -> None:
        found.setdefault("status", message.get("status"))

    whole = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "scheme": "http",
             "client": ("127.0.0.1", 5), "headers": [(b"host", b"localhost:7860")]} | scope  # fmt: skip
    known = {"root_path": "", "trusted": None, "hosts": LOOPBACK} | arrival
    anyio.run(Arrival(app, **known), whole, None, send)
    return found


def said(**headers: str) -> list[tuple[bytes, bytes]]:
    named = {"host": "localhost:7860"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return [(name.encode(), value.encode()) for name, value in named.items()]


FORWARDED = said(
    x_forwarded_for="6.6.6.6, 10.0.0.9", x_forwarded_proto="https", x_forwarded_host="pacs.example", forwarded="for=1"
)


def test_only_the_trusted_proxy_is_believed() -> None:
    true = arrived({"headers": FORWARDED}, trusted=network("127.0.0.0/8"))
    assert (true["scheme"], true["client"][0]) == ("https", "10.0.0.9"), "the last hop, not what the client wrote"
    assert dict(true["headers"]) == {b"host": b"pacs.example"} and true[LOCAL] is False
    for trusted in (None, network("10.1.0.0/16")):
        ignored = arrived({"headers": FORWARDED}, trusted=trusted)
        assert (ignored["scheme"], ignored["client"][0]) == ("http", "127.0.0.1")
        assert dict(ignored["headers"]) == {b"host": b"localhost:7860"}, "nobody behind it sees what was claimed"
        assert ignored[LOCAL] is False, "a proxy that nobody told us of"


@pytest.mark.parametrize(
    ("client", "local"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.9", False), ("", False)],
)
def test_this_machine(client: str, local: bool) -> None:
    assert (arrived({"client": (client, 5)}))[LOCAL] is local


def test_other_names_are_turned_away() -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:7860", "", "10.0.0.9"):
        assert (arrived({"headers": [(b"host", host.encode())]}))["status"] == 400, host
    for host in ("localhost", "127.0.0.1:7860", "[::1]:7860"):
        assert "status" not in arrived({"headers": [(b"host", host.encode())]}), host
    assert "status" not in arrived({"headers": said(host="pacs.example")}, hosts=())


def test_a_prefix_that_the_proxy_strips_or_not() -> None:
    for path in ("/login", "/medtl/login"):
        found = arrived({"path": path, "raw_path": path.encode()}, root_path="/medtl")
        assert (found["path"], found["raw_path"], found["root_path"]) == ("/medtl/login", b"/medtl/login", "/medtl")
    assert (arrived({"path": "/medtl"}, root_path="/medtl"))["status"] == 307, "to where links are right"


def test_options_that_cannot_be_understood() -> None:
    assert [prefix(text) for text in ("", "/", "medtl", "/medtl/", "/a-b/c.d_e")] == [
        "",
        "",
        "/medtl",
        "/medtl",
        "/a-b/c.d_e",
    ]
    for text in ("/a b", "https://x/medtl", "/a?b", "//a//b", "/<b>"):
        with pytest.raises(MedtlError, match=r"--root-path .*: expected a path of letters, digits"):
            prefix(text)
    with pytest.raises(MedtlError, match=r"--trusted-proxy nginx: is no address; expected one such as 127\.0\.0\.1"):
        network("nginx")


@contextmanager
def reverse_proxy(target: str, *, path: str) -> Iterator[str]:
    """nginx in small: strips a prefix and says who asked."""
    port = free_port()
    client = httpx.AsyncClient(timeout=None, trust_env=False, limits=httpx.Limits(max_connections=None))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        assert scope["path"].startswith(path + "/"), f"{scope['path']} is not below {path}: a link lost its prefix"
        headers = {k: v for k, v in request.headers.items() if k not in ("host", "connection", "accept-encoding")}
        headers |= {
            "x-forwarded-for": "10.0.0.9",
            "x-forwarded-proto": "http",
            "x-forwarded-host": request.headers["host"],
        }
        where = target + scope["path"].removeprefix(path) + (f"?{q}" if (q := scope["query_string"].decode()) else "")
        asked = client.build_request(request.method, where, headers=headers, content=await request.body())
        answer = await client.send(asked, stream=True)
        kept = [(k, v) for k, v in answer.headers.multi_items() if k not in ("content-length", "transfer-encoding")]
        streamed = StreamingResponse(answer.aiter_bytes(), answer.status_code)
        streamed.raw_headers = [(k.encode(), v.encode()) for k, v in kept if k != "content-encoding"]
        try:
            await streamed(scope, receive, send)
        finally:
            await answer.aclose()

    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def test_login_to_score_through_a_proxy(
    blank: Page, bundle_folder: Path, tmp_path: Path, port: int, dicom_file: Path
) -> None:
    store = ReviewStore(tmp_path / "r.db")
    add_people(store, ["Dr A"])
    known: dict[str, Any] = {"root": "/medtl", "trusted": network("127.0.0.1")}
    target = f"http://127.0.0.1:{port}"
    with (
        running(load(bundle_folder), store, folder=bundle_folder, host="127.0.0.1", port=port, **known),
        reverse_proxy(target, path="/medtl") as outside,
    ):
        asked: list[str] = []
        blank.on("request", lambda request: asked.append(request.url))
        blank.goto(f"{outside}/medtl/")
        expect(blank).to_have_url(f"{outside}/medtl/login")
        blank.get_by_label("Name").fill("Dr A")
        blank.get_by_label("Password").fill(PASSWORD)
        blank.get_by_role("button", name="Log in").click()
        blank.wait_for_selector("#upload")
        upload(blank, dicom_file)
        scored(blank)
        assert [each for each in asked if not each.startswith((f"{outside}/medtl/", "data:", "blob:"))] == []
        blank.goto(f"{outside}/medtl/logout")
        blank.get_by_role("button", name="Log out").click()
        expect(blank).to_have_url(f"{outside}/medtl/login")
        assert httpx.get(f"{outside}/medtl/metrics").status_code == 401, "not this machine"
        blank.close()
    store.close()
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
