"""The gate in front of everything: who may pass, and to what.

Pure ASGI, so that streams flow through it. Without a session only the login page and what it needs is reachable; with
one, those of Gradio's routes that the page uses, as long as page and files are one's own. Other routes do not exist.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

import anyio
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from app import forms, pictures
from app.auth import ENDED, LOCAL, USER
from app.owners import Owners
from app.uploads import Receive, UploadRefusedError, checked
from medtl.errors import ReviewError
from medtl.review.users import User

log = logging.getLogger("medtl.page")

OPEN = ("/login", "/login.css", "/setup", "/health")
"""Reachable by everybody, also while the store is gone."""
ANYBODY = ("/logout",)
METRICS = "/metrics"
PAGE = (
    "/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/logout", METRICS,
    "/gradio_api/info", "/gradio_api/startup-events", "/gradio_api/app_id", "/gradio_api/theme.css",
)  # fmt: skip
CODE = "/assets/"
"""Scripts and styles of Gradio, whose names change with what they hold."""
KEPT = b"private, max-age=31536000, immutable"
ASSETS = (CODE, "/static/", "/svelte/", pictures.PATH)
EVENTS = ("/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/reset/")
STREAM, BEAT, UPLOAD = "/gradio_api/queue/data", "/gradio_api/heartbeat/", "/gradio_api/upload"
FILES = ("/gradio_api/file=", "/gradio_api/file/", "/gradio_api/stream/", "/gradio_api/proxy=")
LARGEST_EVENT_BYTES = 4 * 2**20
NOT_YOURS = "this belongs to another page or another user"
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; connect-src 'self'; frame-ancestors 'none'; form-action 'self'"
)
"""The page needs nothing from elsewhere, so the browser is told to fetch nothing from elsewhere."""


class Stopped(Exception):  # noqa: N818 what the gate does, and no fault
    """A request that may not pass, with what is answered."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


class Headers:
    """ASGI middleware: answers load nothing from elsewhere, and the browser keeps none but Gradio's own code."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                code = _path(scope).startswith(CODE) and message["status"] == 200
                stricter = [pair for pair in message["headers"] if pair[0] == b"content-security-policy"]
                wanted = {
                    b"content-security-policy": POLICY.encode(),
                    b"cache-control": KEPT if code else b"no-store",
                    b"x-content-type-options": b"nosniff",
                    b"x-frame-options": b"DENY",
                    b"referrer-policy": b"same-origin",
                    **dict(stricter),
                }
                others = [pair for pair in message["headers"] if pair[0] not in wanted]
                message["headers"] = [*others, *wanted.items()]
            await send(message)

        await self.app(scope, receive, with_headers)


class Gate:
    """ASGI middleware.

    Args:
        app: the server behind it.
        user_of: whose session a request belongs to, from the database.
    """

    def __init__(self, app: Any, *, user_of: Callable[[Request], User | None]) -> None:
        self.app = app
        self._user_of = user_of
        self._owners = Owners()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":  # the page uses none
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            try:
                await self._pass(scope, receive, send)
            except Stopped as stop:
                await stop.answer(scope, receive, send)

    async def _pass(self, scope: Any, receive: Any, send: Any) -> None:
        """Hand a request on.

        Raises:
            Stopped: it may not pass.
        """
        request = Request(scope)
        path = _path(scope)
        if scope["method"] not in ("GET", "HEAD") and not _same_origin(request):
            raise _no(403, "this was asked for by another site")
        if path not in OPEN:
            try:
                user = await anyio.to_thread.run_sync(self._user_of, request)
            except ReviewError as problem:
                raise Stopped(await out_of_reach(request, problem)) from None
            scope[USER] = user
            if user is not None:
                receive, send = await self._admit(path, user, scope, receive, send)
            elif path not in ANYBODY and not (path == METRICS and scope.get(LOCAL)):
                raise Stopped(_log_in_first(request))
        await self.app(scope, receive, send)

    async def _admit(self, path: str, user: User, scope: Any, receive: Receive, send: Any) -> tuple[Receive, Any]:
        """Whether this user may do this; returns the channels to go on with."""
        if path == METRICS and user.role != "admin" and not scope.get(LOCAL):
            raise _no(403, "only an administrator sees the metrics")
        if path.startswith(FILES):
            raise _no(403, "scans are no files here")
        if path == UPLOAD and scope["method"] == "POST":
            return await self._upload(user, scope, receive, send)
        if path in EVENTS:
            return await self._event(user, receive), send
        if path == STREAM or path.startswith(BEAT):
            named = QueryParams(scope["query_string"]).getlist("session_hash")
            asked = named if path == STREAM else [path.removeprefix(BEAT)]
            if len(asked) != 1:
                raise _no(400, "this asks for no page, or for several")
            if not self._owners.page_is_of(user, asked[0]):
                raise _no(403, NOT_YOURS)
        elif path not in PAGE and not path.startswith(ASSETS):
            raise _no(404, "there is nothing here")
        return receive, send

    async def _event(self, user: User, receive: Receive) -> Receive:
        """An event of a page, whose data may name files."""
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
            if len(body) > LARGEST_EVENT_BYTES:
                raise _no(413, f"this is more than {LARGEST_EVENT_BYTES // 2**20} MB")
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            content = None
        page = content.get("session_hash") if isinstance(content, dict) else None
        if not isinstance(page, str) or not page:
            raise _no(400, "this is no event of the page")
        if not self._owners.page_is_of(user, page) or not self._owners.files_are_of(user, content):
            raise _no(403, NOT_YOURS)
        return _again(body, receive)

    async def _upload(self, user: User, scope: Any, receive: Receive, send: Any) -> tuple[Receive, Any]:
        """Look at the files, hand them on, and note whose the stored ones are."""
        headers = Request(scope).headers
        length = headers.get("content-length", "")
        try:
            announced = int(length) if length.isdecimal() else 0
            replayed = await checked(receive, content_type=headers.get("content-type", ""), announced=announced)
        except UploadRefusedError as refusal:
            raise Stopped(PlainTextResponse(str(refusal), refusal.status, {"connection": "close"})) from None
        # The answer is read here, so it must not be compressed.
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        status, said = 0, b""

        async def noting(message: Any) -> None:
            nonlocal status, said
            if message["type"] == "http.response.start":
                status = message["status"]
            elif status == 200:
                said += message.get("body", b"")
                if not message.get("more_body"):  # before the browser knows the paths
                    self._owners.uploaded(user, json.loads(said))
            await send(message)

        return replayed, noting


def _path(scope: Any) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _same_origin(request: Request) -> bool:
    """Whether a request that changes something comes from our own pages; what is no browser says neither.

    As Go's `net/http.CrossOriginProtection`: Sec-Fetch-Site where there is one, else Origin against Host.
    """
    if site := request.headers.get("sec-fetch-site"):
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")


def _log_in_first(request: Request) -> Response:
    """The login page for somebody who opens the page; for the page itself a refusal, upon which it asks."""
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(request.scope.get("root_path", "") + "/login", 303)
    return _refusal(401, ENDED)


async def out_of_reach(request: Request, problem: Exception) -> Response:
    """What is said while the store does not answer."""
    log.error("refused: %s", problem)
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(forms.out_of_reach(root=request.scope.get("root_path", "")), 503)
    # To a 503 Gradio's page says that it is busy.
    return _refusal(500, "the review store does not answer; nothing was saved")


def _refusal(status: int, said: str) -> Response:
    """As Gradio's page shows it to the person."""
    return JSONResponse({"detail": said, "error": said}, status)


def _no(status: int, said: str) -> Stopped:
    return Stopped(_refusal(status, said))


def _again(body: bytes, receive: Receive) -> Receive:
    given = False

    async def once() -> dict[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once
