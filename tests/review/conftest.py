"""Review stores on both databases: a SQLite file, and a PostgreSQL server that the tests start."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from medtl.review.chain import GENESIS
from medtl.review.schema import HEAD, METADATA
from medtl.review.store import ReviewStore
from tests.review.making import PASSWORD

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL server on loopback, without a database's name; ended with the tests."""
    if not PROGRAMS:
        pytest.skip("needs Debian's package postgresql")
    # postgres refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="medtl-postgresql-"))
    (folder / "password").write_text(PASSWORD)
    if user:
        shutil.chown(folder, user)
        shutil.chown(folder / "password", user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, common = folder / "data", {"user": user, "cwd": folder, "env": {"LC_ALL": "C", "PATH": os.environ["PATH"]}}
    words = ["-A", "scram-sha-256", "-U", "medtl", f"--pwfile={folder}/password", "-E", "UTF8", "--no-sync"]
    subprocess.run([PROGRAMS[-1] / "initdb", "-D", data, *words], check=True, capture_output=True, timeout=60, **common)
    # No sync to disk: what the server does when the power fails is not ours to test.
    options = ["fsync=off", f"unix_socket_directories={folder}", "listen_addresses=127.0.0.1", "shared_buffers=16MB"]
    log = (folder / "log").open("w")
    words = [word for option in options for word in ("-c", option)]
    process = subprocess.Popen([PROGRAMS[-1] / "postgres", "-D", data, "-p", str(port), *words], stderr=log, **common)
    try:
        url = f"postgresql+pg8000://medtl:{PASSWORD}@127.0.0.1:{port}"
        _wait(url, process, folder / "log")
        yield url
    finally:
        process.send_signal(signal.SIGQUIT)  # at once: what it holds is thrown away
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()
        shutil.rmtree(folder)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            create_engine(f"{url}/postgres").connect().close()
            return
        except Exception:
            time.sleep(0.1)
    pytest.fail(f"PostgreSQL did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store in a file, to copy."""
    path = tmp_path_factory.mktemp("made") / "r.db"
    ReviewStore(path).close()
    return path


@pytest.fixture(scope="session")
def made_on_server(server: str) -> Iterator[tuple[str, Engine]]:
    """The URL of a database that holds a store, and a connection to empty it by."""
    url = f"{server}/postgres"
    ReviewStore(url).close()
    engine = create_engine(url)
    yield url, engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of an empty store, on each database; making one anew takes longer."""
    if request.param == "sqlite":
        return str(shutil.copy(request.getfixturevalue("made"), tmp_path / "r.db"))
    url, engine = request.getfixturevalue("made_on_server")
    with engine.begin() as connection:
        connection.exec_driver_sql("SET lock_timeout = 5000")  # what an earlier test left open is its mistake
        connection.exec_driver_sql("ALTER TABLE verdicts DISABLE TRIGGER ALL")
        for table in reversed(METADATA.sorted_tables):
            connection.execute(table.delete())
        connection.exec_driver_sql("ALTER TABLE verdicts ENABLE TRIGGER ALL")
        connection.execute(HEAD.insert().values(id=1, count=0, hash=GENESIS))
        connection.exec_driver_sql("ALTER SEQUENCE cases_id_seq RESTART")
    return str(url)


@pytest.fixture
def store(where: str) -> Iterator[ReviewStore]:
    """A new store on each database."""
    opened = ReviewStore(where)
    yield opened
    opened.close()


@pytest.fixture
def statements(store: ReviewStore) -> Callable[[], list[str]]:
    """Call it for the SELECTs that the store has sent since the last call."""
    from sqlalchemy import event

    sent: list[str] = []
    event.listen(store._engine, "before_cursor_execute", lambda *words: sent.append(words[2]))

    def taken() -> list[str]:
        found = [text for text in sent if text.startswith("SELECT") and "pg_advisory" not in text]
        sent.clear()
        return found

    return taken
