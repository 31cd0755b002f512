"""`medtl.serve`: checks first, then the page behind its login, on this machine only unless told otherwise."""

import fcntl
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from medtl.data.scan import Scan
from medtl.errors import MedtlError, ReviewError

FOLDER, LOCK = "medtl-page-", "lock"
"""How the folder of a server's temporary files begins, and the file in it that the server has locked while it lives."""


def serve(
    bundle: str | Path,
    *,
    scores: str | Path | None = None,
    watch: str | Path | None = None,
    readings: int = 1,
    verdict_first: bool = False,
    reviews: str | Path = "review.db",
    host: str = "127.0.0.1",
    port: int = 7860,
    root_path: str = "",
    trusted_proxy: str = "",
) -> None:
    """Show the review page for a bundle until Ctrl-C.

    Where no user exists yet, it prints a one-time link on which the first administrator is made.

    Args:
        bundle: the folder that `finetune` left.
        scores: what `medtl score` wrote; its scans become cases of the worklist.
        watch: a folder; scans that arrive in it are scored and become cases.
        readings: how many readers have to read each case, of these and of uploads.
        verdict_first: hide the detector's answer until the reader has spoken.
        reviews: the file, or the PostgreSQL URL, that keeps users and verdicts; a file is made where missing.
        host: the address to listen on. Passwords travel as they are: beyond this machine, put a proxy with https in
            front (docs/guide/serve.md).
        port: the port to listen on.
        root_path: the path under which a reverse proxy shows the page, such as "/medtl".
        trusted_proxy: the address or network of the reverse proxy; X-Forwarded-* headers count from there only.

    Raises:
        BundleError: the bundle cannot be used.
        ReviewError: the review store cannot be used, or has no user though the page would be open to a network.
        MedtlError: the address is taken or not this machine's, or an option cannot be understood.
    """
    from app.proxy import LOOPBACK, network, prefix

    root, trusted = prefix(root_path), network(trusted_proxy)
    check_address(host, port)
    with private_files():
        from app.first_admin import FirstAdmin
        from app.watch import Watch
        from app.web import running
        from medtl.inference.runtime import load
        from medtl.review.intake import import_scores
        from medtl.review.store import ReviewStore
        from medtl.review.users import any_user

        detector, store = load(bundle), ReviewStore(reviews)
        try:
            store.check_writable()
            first_admin = None if any_user(store) else FirstAdmin(store)
            if first_admin is not None and host not in LOOPBACK:
                raise ReviewError(
                    f"{store.name}: has no user yet, and {host} is open to a network; first make an administrator "
                    "with: medtl users add NAME --role admin"
                )
            watcher = None if watch is None else Watch(Path(watch), detector, store, readings=readings)
            if scores is not None:
                import_scores(scores, reviews=store, readings=readings)
            warm_up(detector)
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}{root}"
            with running(
                detector, store, folder=Path(bundle), host=host, port=port, root=root, trusted=trusted,
                first_admin=first_admin, readings=readings, verdict_first=verdict_first,
            ):  # fmt: skip
                print(f"review page: {address}   verdicts: {store.name}   (Ctrl-C stops it)", flush=True)
                if first_admin is not None:
                    print("nobody can log in yet; make the first administrator, on this machine, within 30 minutes:")
                    print(f"  {address}/setup?token={first_admin.token}", flush=True)
                if watcher is not None:
                    watcher.start()
                wait_for_signal()
                if watcher is not None:
                    watcher.close()
        finally:
            store.close()


def warm_up(detector: Any) -> None:
    """Score an empty scan, so that what is loaded on first use does not keep the first reader waiting."""
    shape = (64,) * detector.bundle.spec.dims
    hu = np.zeros(shape, np.float32) if detector.bundle.spec.window else None
    blank = Scan(pixels=np.zeros(shape, np.float32), hu=hu, source="blank", sha256="")
    detector.predict(blank)
    detector.explain(blank, detector.bundle.findings[0])


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
    """A temporary folder that only this user can read, for all that Gradio writes; removed at the end.

    Folders of servers that were killed are removed, too: they hold a lock file that nobody has locked any more.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER}*/{LOCK}"):
        with suppress(OSError), left.open() as file:  # locked, or another user's
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"new-{FOLDER}"))
    lock = (made / LOCK).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder = made.rename(made.with_name(made.name.removeprefix("new-")))  # found by others only once it is locked
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
        lock.close()


def wait_for_signal() -> None:
    """Return on Ctrl-C or on a polite request to end."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
