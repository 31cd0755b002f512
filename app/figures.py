"""`/health` and `/metrics`: is it well, and how much does it do.

Metrics are Prometheus' text format, https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import json
import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from medtl.errors import ReviewError
from medtl.inference.bundle import MARKER
from medtl.review import worklist
from medtl.review.schema import HEAD
from medtl.review.store import ReviewStore
from medtl.review.users import User

log = logging.getLogger("medtl.page")

BOUNDS_S = (0.05, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Upper bounds of the histogram of answering times."""
TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNTING = User(name="metrics", role="admin")


class Figures:
    """Counts requests as ASGI middleware `counting`, and answers `/health` and `/metrics`.

    Args:
        store: asked each time; its verdicts and open cases are counted in the database.
        bundle_id: the detector at work.
        folder: where its bundle was read; somebody may put another one there.
    """

    def __init__(self, store: ReviewStore, *, bundle_id: str, folder: Path) -> None:
        self._store, self._bundle_id, self._folder = store, bundle_id, folder
        self._answers: Counter[int] = Counter()
        self._within: Counter[float] = Counter()
        self._seconds = 0.0
        self.routes = [
            Route("/health", self._health, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]

    def counting(self, app: Any) -> Any:
        """An ASGI app around another one; times run until an answer begins, because streams stay open."""

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            began = time.perf_counter()

            async def noting(message: Any) -> None:
                if message["type"] == "http.response.start":
                    took = time.perf_counter() - began
                    self._answers[message["status"]] += 1
                    self._seconds += took
                    self._within[next((bound for bound in BOUNDS_S if took <= bound), float("inf"))] += 1
                await send(message)

            await app(scope, receive, noting)

        return counted

    async def _health(self, request: Request) -> Response:
        try:
            await anyio.to_thread.run_sync(self._verdicts)
        except ReviewError as problem:
            log.error("unhealthy: %s", problem)
            return JSONResponse({"status": "unavailable", "reason": "the review store does not answer"}, 503)
        said = {"status": "ok", "bundle_id": self._bundle_id}
        there = await anyio.to_thread.run_sync(self._bundle_there)
        if there != self._bundle_id:
            said["note"] = f"the bundle's folder now holds {there or 'no bundle'}; restart medtl serve to use it"
        return JSONResponse(said)

    async def _metrics(self, request: Request) -> Response:
        try:
            verdicts = await anyio.to_thread.run_sync(self._verdicts)
            open_cases = await anyio.to_thread.run_sync(self._open_cases)
        except ReviewError as problem:
            log.error("metrics: %s", problem)
            return PlainTextResponse("# the review store does not answer\n", 503, media_type=TYPE)
        return PlainTextResponse(self._text(verdicts, open_cases), media_type=TYPE)

    def _text(self, verdicts: int, open_cases: int) -> str:
        lines = ["# HELP medtl_requests_total Answers to HTTP requests.", "# TYPE medtl_requests_total counter"]
        lines += [
            f'medtl_requests_total{{status="{status}"}} {count}' for status, count in sorted(self._answers.items())
        ]
        lines += [
            "# HELP medtl_request_seconds Time until an answer begins.",
            "# TYPE medtl_request_seconds histogram",
        ]
        total = 0
        for bound in (*BOUNDS_S, float("inf")):
            total += self._within[bound]
            shown = "+Inf" if bound == float("inf") else f"{bound:g}"
            lines.append(f'medtl_request_seconds_bucket{{le="{shown}"}} {total}')
        lines += [f"medtl_request_seconds_sum {self._seconds:.6f}", f"medtl_request_seconds_count {total}"]
        lines += [
            "# HELP medtl_verdicts_saved_total Verdicts in the review store, with corrected and withdrawn ones.",
            "# TYPE medtl_verdicts_saved_total counter",
            f"medtl_verdicts_saved_total {verdicts}",
            "# HELP medtl_open_cases Cases that wait to be read.",
            "# TYPE medtl_open_cases gauge",
            f"medtl_open_cases {open_cases}",
        ]
        return "\n".join(lines) + "\n"

    def _verdicts(self) -> int:
        with self._store.reading() as connection:
            return int(connection.execute(select(HEAD.c.count)).scalar_one())

    def _open_cases(self) -> int:
        return worklist.count(self._store, by=COUNTING, where=worklist.Filter(status="open"))

    def _bundle_there(self) -> str:
        try:
            return str(json.loads((self._folder / MARKER).read_text(encoding="utf-8"))["bundle_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""
