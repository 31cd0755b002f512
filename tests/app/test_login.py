"""Logging in and out, the one-time link, and what nobody reaches without."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from sqlalchemy import update
from starlette.requests import Request
from starlette.routing import Mount, Route
from starlette.websockets import WebSocketDisconnect

from app.auth import user_of
from app.first_admin import VALID_FOR_S, FirstAdmin
from app.proxy import network
from app.server import serve
from medtl.errors import ReviewError
from medtl.review import sessions, users
from medtl.review.moments import now
from medtl.review.schema import SESSIONS
from tests.app.door import COOKIE, PORT, Door
from tests.app.people import PASSWORD, add_people, as_user, type_in

OPEN = {"/login", "/login.css", "/health"}
"""All that answers 200 to nobody; /metrics does on this machine, /setup with its token."""


@pytest.fixture
def empty(bundle_folder: Path, tmp_path: Path) -> Iterator[Door]:
    """No user yet."""
    door = Door(bundle_folder, tmp_path)
    yield door
    door.store.close()


def test_in_and_out(door: Door) -> None:
    browser = door.browser()
    sent = browser.get("/", headers={"accept": "text/html"})
    assert (sent.status_code, sent.headers["location"]) == (303, "/login")
    page = browser.get("/login")
    assert "Research use. Not a diagnostic viewer." in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    done = type_in(browser, "/login", name="Dr A", password=PASSWORD)
    assert (done.status_code, done.headers["location"]) == (303, "/")
    token = browser.cookies[COOKIE]
    assert browser.get("/").status_code == 200
    assert browser.get("/config").json()["username"] == "Dr A"

    assert "logged in as <b>Dr A</b>" in browser.get("/logout").text
    assert browser.get("/config").status_code == 200, "looking at the page logs nobody out"
    out = type_in(browser, "/logout")
    assert (out.status_code, out.headers["location"]) == (303, "/login")
    assert COOKIE not in browser.cookies
    browser.cookies.set(COOKIE, token)
    assert browser.get("/config").status_code == 401, "a copy of the cookie is worth nothing after logging out"


def test_five_wrong_passwords_lock_the_name(door: Door) -> None:
    browser = door.browser()
    for _ in range(5):
        wrong = type_in(browser, "/login", name="Dr B", password="wrong password")
        assert wrong.status_code == 401 and "Name or password is wrong." in wrong.text
    locked = type_in(browser, "/login", name="Dr B", password=PASSWORD)
    assert locked.status_code == 401 and "Too many wrong passwords for this name: it is locked" in locked.text
    assert COOKIE not in browser.cookies
    unknown = type_in(browser, "/login", name="Nobody <i>", password="wrong password")
    assert unknown.status_code == 401 and "Name or password is wrong." in unknown.text and "<i>" not in unknown.text


def test_the_cookie_stays_with_the_browser(bundle_folder: Path, tmp_path: Path) -> None:
    door = Door(bundle_folder, tmp_path, root="/medtl", trusted=network("127.0.0.1"))
    add_people(door.store, ["Dr A"])

    def given(**headers: str) -> str:
        browser = door.browser()
        browser.headers.update(headers)
        html = browser.get("/login").text
        form = html.split('name="form" value="')[1].split('"')[0]
        said = {"form": form, "name": "Dr A", "password": PASSWORD}
        marks = {"cookie": f"medtl_form_{PORT}={form}"}  # the client sends no Secure cookie over http
        done = browser.post("/login", data=said, headers=marks)
        assert done.headers["location"] == "/medtl/"
        return next(each for each in done.headers.get_list("set-cookie") if each.startswith(COOKIE))

    plain = given()
    for flag in ("HttpOnly", "SameSite=lax", "Path=/medtl"):
        assert flag in plain
    assert "Secure" not in plain and "expires" not in plain.lower(), "it ends with the browser"
    assert "Secure" in given(**{"x-forwarded-proto": "https", "x-forwarded-for": "10.0.0.9"})
    door.store.close()


def test_forms_of_other_pages_are_refused(door: Door) -> None:
    browser = door.browser()
    said = {"name": "Dr A", "password": PASSWORD}
    assert browser.post("/login", data=said).status_code == 403, "no token"
    theirs = door.browser().get("/login").text.split('name="form" value="')[1].split('"')[0]
    browser.get("/login")
    refused = browser.post("/login", data=said | {"form": theirs})
    assert refused.status_code == 403 and "The form was too old, or came from another page" in refused.text
    assert type_in(browser, "/login", **said | {"password": "x" * 20_000}).status_code == 403, "too long to be typed"
    many = {f"field{number}": "x" for number in range(20)}
    assert type_in(browser, "/login", **said | many).status_code == 403, "more fields than the form has"

    browser = door.logged_in("Dr A")
    assert browser.post("/logout").status_code == 403
    assert browser.get("/config").status_code == 200, "still logged in"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": f"http://127.0.0.1:{PORT}"},
    ],
)
def test_another_site_changes_nothing(door: Door, headers: dict[str, str]) -> None:
    browser = door.logged_in("Dr A")
    for path in ("/gradio_api/queue/join", "/gradio_api/upload", "/login", "/logout"):
        answer = browser.post(path, json={"session_hash": "a", "data": []}, headers=headers)
        assert answer.status_code == 403 and "another site" in answer.text, path
    own = browser.post("/gradio_api/reset", json={"session_hash": "a", "fn_index": 0, "event_id": "x"},
                       headers={"origin": f"http://127.0.0.1:{PORT}", "sec-fetch-site": "same-origin"})  # fmt: skip
    assert own.status_code == 200


def routes(app: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """Every method and path that an app answers to, those of mounted apps too, with words for its parameters."""
    for route in app.routes:
        if isinstance(route, Mount):
            yield from routes(route.app, before + route.path)
        elif hasattr(route, "original_router"):
            yield from routes(route.original_router, before)
        else:
            assert isinstance(route, Route), route
            path = re.sub(r"\{[^}]*\}", "x", route.path)
            yield from ((method, before + path) for method in sorted(route.methods - {"HEAD", "OPTIONS"}))


def test_nothing_is_open_to_nobody(door: Door) -> None:
    every = list(routes(door.app))
    assert len(every) > 60 and ("POST", "/gradio_api/queue/join") in every and ("GET", "/assets/x") in every
    elsewhere = door.browser(host="10.0.0.9")
    answers = {(method, path): elsewhere.request(method, path) for method, path in every}
    reached = {path for (_, path), answer in answers.items() if answer.status_code not in (303, 401, 403)}
    assert reached == OPEN
    assert answers["GET", "/metrics"].status_code == 401
    with pytest.raises(WebSocketDisconnect), elsewhere.websocket_connect("/gradio_api/queue/data"):
        pass
    assert elsewhere.get("/", headers={"cookie": f"{COOKIE}=guessed"}).status_code == 401


def test_routes_that_the_page_does_not_need_are_gone(door: Door) -> None:
    browser = door.logged_in("Boss")
    for path in ("/docs", "/redoc", "/openapi.json", "/gradio_api/openapi.json", "/gradio_api/mcp/sse", "/monitoring",
                 "/gradio_api/runs", "/gradio_api/vibe-code", "/gradio_api/deep_link", "/gradio_api/component_server",
                 "/gradio_api/run/keep", "/gradio_api/call/keep"):  # fmt: skip
        for method in ("GET", "POST"):
            assert browser.request(method, path).status_code == 404, path
    config = browser.get("/config").json()
    assert config["run_history"] is False and config["show_error"] is False
    assert config["footer_links"] == []


def test_a_session_ends(door: Door) -> None:
    for column, moment in (("last_seen_at", now(plus=-sessions.IDLE)), ("expires_at", now())):
        browser = door.logged_in("Dr A")
        assert browser.get("/config").status_code == 200
        with door.store.transaction() as connection:
            connection.execute(update(SESSIONS).values({column: moment}))
        ended = browser.get("/config")
        assert ended.status_code == 401 and ended.json()["detail"] == "your session has ended; log in again"
    browser = door.logged_in("Dr L")
    users.set_active(door.store, "Dr L", False)
    assert browser.get("/config").status_code == 401
    users.set_active(door.store, "Dr L", True)


def test_who_asked(door: Door) -> None:
    assert user_of(as_user("Dr A")).name == "Dr A"
    for nobody in (gr.Request(Request({"type": "http", "headers": []})), gr.Request(None)):
        with pytest.raises(ReviewError, match="your session has ended; log in again"):
            user_of(nobody)


def test_the_one_time_link_opens_once(empty: Door) -> None:
    link = f"/setup?token={empty.first_admin.token}"
    browser = empty.browser()
    assert browser.get("/setup?token=guessed").status_code == 403
    assert empty.browser(host="10.0.0.9").get(link).status_code == 403, "from another machine"
    through = browser.get(link, headers={"x-forwarded-for": "127.0.0.1"})
    assert through.status_code == 403, "through a proxy"

    said = {"token": empty.first_admin.token, "name": "Boss", "password": PASSWORD, "again": PASSWORD}
    differs = type_in(browser, link, **said | {"again": "something else"})
    assert differs.status_code == 400 and "The two passwords are not the same" in differs.text
    short = type_in(browser, link, **said | {"password": "short", "again": "short"})
    assert short.status_code == 400 and "expected 10 to 200" in short.text
    assert browser.post("/setup", data=said).status_code == 403, "without the form's token"
    assert users.listing(empty.store) == []

    done = type_in(browser, link, **said)
    assert (done.status_code, done.headers["location"]) == (303, "/")
    assert [(each.name, each.role) for each in users.listing(empty.store)] == [("Boss", "admin")]
    assert browser.get("/config").json()["username"] == "Boss", "logged in at once"

    again = empty.browser().get(link)
    assert again.status_code == 403 and "it was used already" in again.text
    users.set_active(empty.store, "Boss", False)
    assert empty.browser().get(link).status_code == 403, "also when nobody is active any more"


def test_the_one_time_link_grows_old(empty: Door) -> None:
    time = [0.0]
    link = FirstAdmin(empty.store, clock=lambda: time[0])
    time[0] = VALID_FOR_S - 1
    assert link.fits(link.token)
    time[0] = VALID_FOR_S
    assert not link.fits(link.token)
    with pytest.raises(ReviewError, match="this link was used already or is too old"):
        link.make(link.token, "Boss", PASSWORD)


def test_the_one_time_link_is_dead_once_there_is_a_user(empty: Door) -> None:
    add_people(empty.store, ["Dr A"])
    assert empty.browser().get(f"/setup?token={empty.first_admin.token}").status_code == 403


def test_the_one_time_link_without_a_store(empty: Door, tmp_path: Path) -> None:
    for file in tmp_path.iterdir():
        file.unlink()
    answer = empty.browser().get(f"/setup?token={empty.first_admin.token}", headers={"accept": "text/html"})
    assert answer.status_code == 503 and "The review store does not answer." in answer.text


def test_no_network_without_a_user(bundle_folder: Path, port: int, tmp_path: Path) -> None:
    with pytest.raises(ReviewError, match=r"no user yet, and 0\.0\.0\.0 is open .*: medtl users add NAME --role admin"):
        serve(bundle_folder, reviews=tmp_path / "r.db", host="0.0.0.0", port=port)
