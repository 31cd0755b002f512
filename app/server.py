"""`medtl.serve`: checks first, then the page, on this machine only unless told otherwise."""

import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medtl.data.scan import Scan
from medtl.errors import MedtlError
from medtl.progress import say

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LARGEST_UPLOAD = "512mb"
SESSIONS = 50
"""Readers whose open case is kept in memory; beyond it the one idle for longest loses its case."""
# The page needs nothing from elsewhere, so the browser is told to fetch nothing from elsewhere.
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; connect-src 'self'; frame-ancestors 'none'; form-action 'self'"
)


def serve(
    bundle: str | Path, *, reviews: str | Path = Path("review.db"), host: str = "127.0.0.1", port: int = 7860
) -> None:
    """Show the review page for a bundle until Ctrl-C.

    Args:
        bundle: the folder that `finetune` left.
        reviews: the file that keeps the verdicts; made where missing.
        host: the address to listen on. The page has no login: keep it on this machine.
        port: the port to listen on.

    Raises:
        BundleError: the bundle cannot be used.
        ReviewError: the review store cannot be used.
        MedtlError: the address is taken or not this machine's.
    """
    check_address(host, port)
    with private_files():
        from medtl.inference.runtime import load
        from medtl.review.store import ReviewStore

        detector, store = load(bundle), ReviewStore(reviews)
        store.check_writable()
        warm_up(detector)
        page = launch(detector, store, host=host, port=port)
        try:
            if host not in LOOPBACK:
                say(f"warning: the page has no login; whoever reaches {host}:{port} can use it")
            print(f"review page: http://{host}:{port}   verdicts: {reviews}   (Ctrl-C stops it)", flush=True)
            wait_for_signal()
        finally:
            page.close(verbose=False)
            store.close()


def warm_up(detector: Any) -> None:
    """Score an empty scan, so that what is loaded on first use does not keep the first reader waiting."""
    shape = (64,) * detector.bundle.spec.dims
    hu = np.zeros(shape, np.float32) if detector.bundle.spec.window else None
    blank = Scan(pixels=np.zeros(shape, np.float32), hu=hu, source="blank", sha256="")
    detector.predict(blank)
    detector.explain(blank, detector.bundle.findings[0])


def launch(detector: Any, store: Any, *, host: str, port: int) -> Any:
    """Start the page in the background, hardened, and return its Blocks."""
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from app.ui import HEAD, THEME_CSS, Page

    # A foreign web page that points its own name at this address is turned away.
    hosts = ["127.0.0.1", "localhost", "[::1]"] if host in LOOPBACK else ["*"]
    page = Page(detector, store)
    page.blocks.queue(max_size=50, api_open=False)
    page.blocks.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        show_error=False,
        run_history=False,
        allowed_paths=[],
        max_file_size=LARGEST_UPLOAD,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        footer_links=[],
        state_session_capacity=SESSIONS,
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css_paths=[THEME_CSS],
        head=HEAD,
        app_kwargs={
            "middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(Headers)],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
    )
    return page.blocks


class Headers:
    """ASGI middleware: answers are not kept by the browser, and load nothing from elsewhere."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [
                    (b"content-security-policy", POLICY.encode()),
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await self.app(scope, receive, with_headers)


def check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on, before anything slow is loaded.

    Raises:
        MedtlError: with a port to try.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return
        except OSError as problem:
            reason = problem
    other = _free_port(family, host, after=port)
    if other is None:
        raise MedtlError(f"{host}:{port}: cannot listen there ({reason.strerror}); try --host 127.0.0.1")
    raise MedtlError(f"{host}:{port}: cannot listen there ({reason.strerror}); try --port {other}")


def _free_port(family: int, host: str, *, after: int) -> int | None:
    for port in range(max(after, 1024) + 1, min(after + 100, 65536)):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
                return port
            except OSError:
                continue
    return None


@contextmanager
def private_files() -> Iterator[Path]:
    """A temporary folder that only this user can read, for all that Gradio writes; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="medtl-page-"))
    before, environment = tempfile.tempdir, dict(os.environ)
    tempfile.tempdir = str(folder)
    os.environ |= {"GRADIO_TEMP_DIR": str(folder), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE"):
            os.environ.pop(name)
            if name in environment:
                os.environ[name] = environment[name]
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_signal() -> None:
    """Return on Ctrl-C or on a polite request to end."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
