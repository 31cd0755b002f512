"""The web server: Gradio's page, hardened, behind the gate, and uvicorn that runs it in the background."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI

from app.auth import Login, person
from app.events import page_by_page
from app.figures import Figures
from app.first_admin import FirstAdmin
from app.gate import Gate, Headers, out_of_reach
from app.proxy import LOOPBACK, Arrival, Network
from app.ui import HEAD, STYLES, Page
from app.uploads import LARGEST_UPLOAD_BYTES
from medtl.errors import MedtlError, ReviewError
from medtl.inference.runtime import Detector
from medtl.review.store import ReviewStore

SESSION_JS = Path(__file__).with_name("session.js")
PAGES = 50
"""Open pages whose case is kept in memory; beyond it the one idle for longest loses its case."""
STARTING_S = 60
ENDING_S = 3
"""How long an answer may still take when the server is asked to end; streams are cut off then."""


def mounted(page: Page, login: Login, figures: Figures) -> FastAPI:
    """Login, figures and the hardened page in one app; nobody is kept out of it yet."""
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        routes=[*login.routes, *figures.routes, page.pictures.route],
        exception_handlers={ReviewError: out_of_reach},
    )
    page.blocks.queue(max_size=50, api_open=False)
    page_by_page(page.blocks._queue)
    page.blocks.state_session_capacity = PAGES
    return gr.mount_gradio_app(
        app,
        page.blocks,
        path="/",
        auth_dependency=_name,
        show_error=False,
        run_history=False,
        allowed_paths=[],
        max_file_size=LARGEST_UPLOAD_BYTES,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        footer_links=[],
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css_paths=STYLES,
        head=f"{HEAD}<script>{SESSION_JS.read_text(encoding='utf-8')}</script>",
    )


def guarded(app: FastAPI, login: Login, figures: Figures, *, root: str, trusted: Network | None, hosts: Any) -> Any:
    """The app behind everything that a request has to pass."""
    gate = Gate(app, user_of=login.user)
    arrival = Arrival(gate, root_path=root, trusted=trusted, hosts=hosts)
    return figures.counting(Headers(arrival))


@contextmanager
def running(
    detector: Detector,
    store: ReviewStore,
    *,
    folder: Path,
    host: str,
    port: int,
    root: str = "",
    trusted: Network | None = None,
    first_admin: FirstAdmin | None = None,
    readings: int = 1,
    verdict_first: bool = False,
) -> Iterator[FastAPI]:
    """Serve the page until the block is left.

    Args:
        folder: where the detector's bundle lies.
        root, trusted: prefix and address of a reverse proxy, as `Arrival` takes them.
        first_admin: the one-time link where there is no user yet.
        readings, verdict_first: as `Page` takes them.

    Raises:
        MedtlError: the server does not start.
    """
    page = Page(detector, store, folder=folder, readings=readings, verdict_first=verdict_first)
    login = Login(store, port=port, first_admin=first_admin)
    figures = Figures(store, bundle_id=detector.bundle.bundle_id, folder=folder)
    app = mounted(page, login, figures)
    hosts = LOOPBACK if host in LOOPBACK else ()
    server = uvicorn.Server(
        uvicorn.Config(
            guarded(app, login, figures, root=root, trusted=trusted, hosts=hosts),
            host=host,
            port=port,
            log_level="warning",
            lifespan="on",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=ENDING_S,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + STARTING_S
    while not server.started and thread.is_alive() and time.monotonic() < until:
        time.sleep(0.01)
    if not server.started:
        raise MedtlError(f"{host}:{port}: the server did not start; its messages above say why")
    try:
        yield app
    finally:
        _end_streams(page.blocks, app)
        server.should_exit = True
        thread.join()
        page.teacher.close()
        page.desk.close()


def _name(request: Any) -> str | None:
    """Gradio's own check, behind the gate's."""
    user = person(request.scope)
    return user.name if user is not None else None


def _end_streams(blocks: gr.Blocks, app: FastAPI) -> None:
    """Open pages hold streams that would keep the server from ending."""
    blocks.is_running = False
    blocks._queue.close()
    for route in app.routes:
        stop = getattr(getattr(route, "app", None), "stop_event", None)
        if stop is not None:
            stop.set()
