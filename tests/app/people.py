"""The people of the page's tests, and how they come in."""

from pathlib import Path
from typing import Any

import gradio as gr
import httpx
from playwright.sync_api import Page
from starlette.requests import Request
from starlette.testclient import TestClient

from app.auth import USER
from medtl.review import sessions, users
from medtl.review.store import ReviewStore
from medtl.review.users import User

PASSWORD = "correct horse battery"
PEOPLE = {"Dr A": "reader", "Dr B": "reader", "Dr L": "lead", "Boss": "admin"}


def add_people(store: ReviewStore, names: list[str] | None = None) -> None:
    for name in names or list(PEOPLE):
        users.add(store, name, PASSWORD, role=PEOPLE[name])


def session(reviews: Path, name: str) -> str:
    """A new session's token, without the time that a password takes."""
    store = ReviewStore(reviews)
    try:
        return sessions.begin(store, User(name=name, role=PEOPLE[name]))
    finally:
        store.close()


def cookie(url: str) -> str:
    """The name of the session's cookie at this address."""
    return f"medtl_session_{httpx.URL(url).port}"


def log_in(page: Page, url: str, *, reviews: Path, name: str = "Dr A") -> None:
    """Let a browser in."""
    page.context.add_cookies([{"name": cookie(url), "value": session(reviews, name), "url": url}])


def client(url: str, *, reviews: Path, name: str = "Dr A") -> httpx.Client:
    """A program that is logged in."""
    return httpx.Client(base_url=url, cookies={cookie(url): session(reviews, name)}, timeout=60)


def type_in(client: TestClient | httpx.Client, path: str, **fields: str) -> Any:
    """Fill in a form and send it, with the hidden token that it came with."""
    html = client.get(path).text
    form = html.split('name="form" value="')[1].split('"')[0]
    return client.post(path.partition("?")[0], data={"form": form, **fields}, follow_redirects=False)


def as_user(name: str, *, role: str = "reader") -> gr.Request:
    """A request as an event of the page gets it."""
    return gr.Request(Request({"type": "http", "headers": [], USER: User(name=name, role=role)}))
