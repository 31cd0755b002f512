"""The whole server in this process, behind its gate, and browsers in front of it."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from app.auth import Login
from app.figures import Figures
from app.first_admin import FirstAdmin
from app.proxy import LOOPBACK
from app.ui import Page
from app.web import guarded, mounted
from medtl.inference.runtime import load
from medtl.review import sessions, users
from medtl.review.store import ReviewStore

PORT = 7860
COOKIE = f"medtl_session_{PORT}"


class Door:
    """A server in this process, and browsers in front of it."""

    def __init__(self, bundle: Path, folder: Path, **arrival: Any) -> None:
        self.store = ReviewStore(folder / "r.db")
        detector = load(bundle)
        self.first_admin = FirstAdmin(self.store)
        login = Login(self.store, port=PORT, first_admin=self.first_admin)
        figures = Figures(self.store, bundle_id=detector.bundle.bundle_id, folder=bundle)
        self.page = Page(detector, self.store, folder=Path("no-bundle"))
        self.app: FastAPI = mounted(self.page, login, figures)
        known = {"root": "", "trusted": None, "hosts": LOOPBACK} | arrival
        self.guarded = guarded(self.app, login, figures, **known)

    def browser(self, *, host: str = "127.0.0.1", scheme: str = "http") -> TestClient:
        base = f"{scheme}://127.0.0.1:{PORT}"
        return TestClient(self.guarded, base_url=base, client=(host, 50_000), follow_redirects=False)

    def logged_in(self, name: str) -> TestClient:
        browser = self.browser()
        browser.cookies.set(COOKIE, sessions.begin(self.store, user(self.store, name)))
        return browser


def user(store: ReviewStore, name: str) -> users.User:
    return next(each for each in users.listing(store) if each.name == name)
