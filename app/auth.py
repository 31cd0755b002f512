"""Who is at the page: the session cookie, and the pages on which one logs in and out.

Users, argon2 hashes, the lock after wrong passwords and the ends of sessions are the review store's.
"""

import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import anyio
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from app import forms
from app.first_admin import FirstAdmin
from medtl.errors import ReviewError
from medtl.review import sessions, users
from medtl.review.store import ReviewStore
from medtl.review.users import LONGEST_NAME, LoginError, User

if TYPE_CHECKING:
    import gradio as gr

log = logging.getLogger("medtl.page")

USER = "medtl.user"
"""Where the gate leaves the person in the scope of a request."""
LOCAL = "medtl.local"
"""Whether a request comes from this machine and through no proxy."""
ENDED = "your session has ended; log in again"
LARGEST_FORM_BYTES = 16_384
HASHED_AT_ONCE = 2
"""A password's hash takes 64 MiB; more of them at once wait."""
FORM_POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


def user_of(request: "gr.Request") -> User:
    """The person who asked for an event of the page.

    Raises:
        ReviewError: nobody is logged in.
    """
    user = None if request.request is None else person(request.request.scope)
    if user is None:
        raise ReviewError(ENDED)
    return user


def person(scope: Any) -> User | None:
    """Whom the gate found behind a request; None for nobody."""
    found = scope.get(USER)
    return found if isinstance(found, User) else None


class Login:
    """The routes on which one logs in and out.

    Args:
        store: users and sessions.
        port: of the server; browsers send cookies to all ports of a machine, so its number is part of their names.
        first_admin: the one-time link where there is no user yet.
    """

    def __init__(self, store: ReviewStore, *, port: int, first_admin: FirstAdmin | None = None) -> None:
        self._store = store
        self._first_admin = first_admin
        self._session, self._form = f"medtl_session_{port}", f"medtl_form_{port}"
        self._hashing = anyio.Semaphore(HASHED_AT_ONCE)
        self.routes = [
            Route("/login", self._show_login, methods=["GET"]),
            Route("/login", self._log_in, methods=["POST"]),
            Route("/logout", self._show_logout, methods=["GET"]),
            Route("/logout", self._log_out, methods=["POST"]),
            Route("/setup", self._show_setup, methods=["GET"]),
            Route("/setup", self._set_up, methods=["POST"]),
            Route("/login.css", self._css, methods=["GET"]),
        ]

    def user(self, request: Request) -> User | None:
        """Whose session a request belongs to.

        Raises:
            ReviewError: the store cannot be read.
        """
        token = request.cookies.get(self._session)
        return sessions.user_of(self._store, token) if token else None

    async def _css(self, request: Request) -> Response:
        return Response(forms.CSS.read_text(encoding="utf-8"), media_type="text/css")

    async def _show_login(self, request: Request) -> Response:
        return self._page(request, forms.login)

    async def _log_in(self, request: Request) -> Response:
        fields = await self._fields(request)
        if fields is None:
            return self._page(request, forms.login, forms.FORGED, status=403)
        name = fields.get("name", "")
        try:
            async with self._hashing:
                user = await anyio.to_thread.run_sync(users.log_in, self._store, name, fields.get("password", ""))
            return await self._let_in(request, user)
        except LoginError as problem:
            log.warning("login failed: name %r, from %s: %s", name[:LONGEST_NAME], _client(request), problem)
            return self._page(request, forms.login, str(problem), name[:LONGEST_NAME], status=401)
        except ReviewError as problem:
            log.error("login failed: %s", problem)
            return self._page(request, forms.login, forms.OUT_OF_REACH, name[:LONGEST_NAME], status=503)

    async def _show_logout(self, request: Request) -> Response:
        user = person(request.scope)
        return _home(request) if user is None else self._page(request, forms.logout, user.name)

    async def _log_out(self, request: Request) -> Response:
        user = person(request.scope)
        if user is not None and await self._fields(request) is None:
            return self._page(request, forms.logout, user.name, status=403)
        await self._end_session(request)
        answer = RedirectResponse(request.scope.get("root_path", "") + "/login", 303)
        answer.delete_cookie(self._session, path=_path(request))
        return answer

    async def _show_setup(self, request: Request) -> Response:
        token = request.query_params.get("token", "")
        if not await self._may_set_up(request, token):
            return self._page(request, forms.dead_link, status=403)
        return self._page(request, forms.setup, token)

    async def _set_up(self, request: Request) -> Response:
        fields = await self._fields(request)
        token = "" if fields is None else fields.get("token", "")
        if fields is None or not await self._may_set_up(request, token):
            return self._page(request, forms.dead_link, status=403)
        assert self._first_admin is not None
        name, password = fields.get("name", ""), fields.get("password", "")
        try:
            if password != fields.get("again", ""):
                raise ReviewError("the two passwords are not the same; type them again")
            user = await anyio.to_thread.run_sync(self._first_admin.make, token, name, password)
            return await self._let_in(request, user)
        except ReviewError as problem:
            return self._page(request, forms.setup, token, str(problem), status=400)

    async def _may_set_up(self, request: Request, token: str) -> bool:
        if self._first_admin is None or not request.scope.get(LOCAL):
            return False
        return await anyio.to_thread.run_sync(self._first_admin.fits, token)

    async def _let_in(self, request: Request, user: User) -> Response:
        """Begin a session; the one that this browser had before ends."""
        await self._end_session(request)
        token = await anyio.to_thread.run_sync(sessions.begin, self._store, user)
        log.info("login: %r, from %s", user.name, _client(request))
        answer = _home(request)
        self._set_cookie(request, answer, self._session, token, samesite="lax")
        return answer

    async def _end_session(self, request: Request) -> None:
        if token := request.cookies.get(self._session):
            await anyio.to_thread.run_sync(sessions.end, self._store, token)

    async def _fields(self, request: Request) -> dict[str, str] | None:
        """What was typed into a form; None unless it is the form that this browser was given.

        The form's hidden token equals a cookie that no other site can read or set (OWASP, "double submit cookie").
        """
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_FORM_BYTES:
                return None
        try:
            fields = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=10))
        except ValueError:  # more fields than any form has
            return None
        given, kept = fields.get("form", ""), request.cookies.get(self._form, "")
        return fields if kept and secrets.compare_digest(given.encode(), kept.encode()) else None

    def _page(self, request: Request, draw: Callable[..., str], *words: str, status: int = 200) -> Response:
        form = request.cookies.get(self._form) or secrets.token_urlsafe(32)
        html = draw(*words, root=request.scope.get("root_path", ""), form=form)
        answer = HTMLResponse(html, status, {"content-security-policy": FORM_POLICY})
        self._set_cookie(request, answer, self._form, form, samesite="strict")
        return answer

    def _set_cookie(self, request: Request, answer: Response, name: str, value: str, *, samesite: Any) -> None:
        secure = request.url.scheme == "https"
        answer.set_cookie(name, value, path=_path(request), httponly=True, secure=secure, samesite=samesite)


def _home(request: Request) -> Response:
    return RedirectResponse(request.scope.get("root_path", "") + "/", 303)


def _path(request: Request) -> str:
    return request.scope.get("root_path", "") or "/"


def _client(request: Request) -> str:
    return request.client.host if request.client else "an unknown address"
