"""The database behind the review page: one SQLite file by default, PostgreSQL by URL.

What a transaction here has committed is on disk: SQLite syncs its write-ahead log at each commit
(https://www.sqlite.org/wal.html; `PRAGMA synchronous=FULL`), PostgreSQL does by default. Writers wait for each other.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from medtl.errors import ReviewError
from medtl.files import atomic_file
from medtl.progress import say
from medtl.review import schema
from medtl.review.advice import advice
from medtl.review.migrate import HEAD_REVISION, found_revision, upgrade

WAIT_FOR_LOCK_MS = 5000
WRITERS = 6840212
"""PostgreSQL: the lock that a transaction which writes holds, so that writers wait for each other as in SQLite."""
POOL = {"pool_size": 20, "max_overflow": 20, "pool_timeout": WAIT_FOR_LOCK_MS / 1000}


class ReviewStore:
    """A review store, opened; made where it is missing, and brought to this schema where it is of an earlier one.

    Args:
        where: a file, or the URL of a PostgreSQL database such as `postgresql+pg8000://medtl@localhost/reviews`.

    Raises:
        ReviewError: it cannot be opened or made, is no review store, or is of a later schema.
    """

    def __init__(self, where: str | Path) -> None:
        self.path: Path | None = None
        if "://" in str(where):
            self._engine, self.name = _server(str(where))
        else:
            self.path = Path(where)
            self.name = str(where)
            if not self.path.parent.is_dir():
                raise ReviewError(f"{self.name}: the folder {self.path.parent} does not exist; create it first")
            with self._explained():
                self._inode = _file_of(self.path)
            self._engine = create_engine(
                "sqlite://", creator=lambda: _connect(Path(where)), poolclass=QueuePool, **POOL
            )
        event.listen(self._engine, "connect", self._prepare)
        self._bring_to_schema()

    def check_writable(self) -> None:
        """Find out now, and not at the first verdict, whether verdicts can be kept.

        Raises:
            ReviewError: they cannot; the message says why and what to do.
        """
        # Both databases open what is read-only without complaint, so something has to be written.
        with self.transaction() as connection:
            connection.execute(schema.HEAD.update().values(count=schema.HEAD.c.count))

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection that may write; what was done is on disk when the block is left, or undone by an error.

        Raises:
            ReviewError: nothing was stored; the message says why and what to do.
        """
        with self._explained(), self._engine.connect() as connection:
            if self.path is not None:
                # IMMEDIATE takes the write lock before anything is read, so nobody writes between reading and writing.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")
            yield connection
            self._still_there()
            connection.commit()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database, however long the block takes.

        Raises:
            ReviewError: it cannot be read.
        """
        with self._explained(), self._engine.connect() as connection:
            if self.path is not None:
                connection.exec_driver_sql("BEGIN")
            else:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            self._still_there()
            yield connection

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def _bring_to_schema(self) -> None:
        with self.reading() as connection:  # mostly nothing is to be done, and nobody need be waited for
            if found_revision(connection, self.name) == HEAD_REVISION:
                return
        with self.transaction() as connection:
            revision = found_revision(connection, self.name)
            if revision == HEAD_REVISION:
                return
            if revision is not None and self.path is not None:
                copy = self.path.with_name(f"{self.path.name}.schema-{revision}")
                with self.reading() as source:
                    copy_sqlite(source, copy)
                say(f"{self.name}: brought from schema {revision} to {HEAD_REVISION}; as it was: {copy}")
            upgrade(connection, revision)

    def _still_there(self) -> None:
        """A file that was deleted or replaced can still be written to by whoever has it open, for nobody."""
        if self.path is None:
            return
        try:
            same = self.path.stat().st_ino == self._inode
        except OSError:
            same = False
        if not same:
            raise ReviewError(
                f"{self.name}: was deleted, moved or replaced since it was opened; put it back, or start again"
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as problem:
            raise ReviewError(f"{self.name}: {advice(problem)}") from None
        except sqlite3.Error as problem:  # of what SQLAlchemy does not see: connecting, copying
            raise ReviewError(f"{self.name}: {advice(problem)}") from None
        except PoolTimeout:
            raise ReviewError(f"{self.name}: all connections to it are busy; try again in a moment") from None

    def _prepare(self, connection: Any, _: Any) -> None:
        if self.path is None:
            connection.cursor().execute(f"SET lock_timeout = {WAIT_FOR_LOCK_MS}")
            connection.commit()
            return
        connection.execute(f"PRAGMA busy_timeout = {WAIT_FOR_LOCK_MS}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")


def copy_sqlite(connection: Connection, out: Path) -> None:
    """Copy a SQLite database as one transaction sees it into a file, while others read and write.

    https://www.sqlite.org/backup.html
    """
    source = connection.connection.driver_connection
    assert isinstance(source, sqlite3.Connection)
    with atomic_file(out) as temporary:
        target = sqlite3.connect(temporary)
        try:
            source.backup(target)
            # A copy that is carried away is one file.
            target.execute("PRAGMA journal_mode = DELETE")
        finally:
            target.close()


def _file_of(path: Path) -> int:
    """The inode of the file, which is made where it is missing."""
    try:
        path.touch()
        return path.stat().st_ino
    except OSError:
        if path.is_file():  # read-only: it can be looked at, and the first write says so
            return path.stat().st_ino
        raise sqlite3.OperationalError("unable to open database file") from None


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: a file that is gone is an error, and not a new, empty one. isolation_level None: we say BEGIN ourselves.
    where = f"file:{quote(str(path.absolute()))}?mode=rw"
    return sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False)


def _server(text: str) -> tuple[Any, str]:
    """The engine of a PostgreSQL server, and its URL without the password."""
    wanted = "expected a file, or a URL such as postgresql+pg8000://USER@HOST/DATABASE"
    try:
        url = make_url(text)
        if url.drivername != "postgresql+pg8000":
            raise ReviewError(f"--reviews {url.drivername}://…: {wanted}")
        engine = create_engine(url, pool_pre_ping=True, **POOL)
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise ReviewError(f"--reviews: cannot be read as a URL; {wanted}") from None
    return engine, url.render_as_string(hide_password=True)


def open_existing(where: str | Path) -> ReviewStore:
    """Open a store that must be there already.

    Raises:
        ReviewError: there is none; or as `ReviewStore`.
    """
    if "://" not in str(where) and not Path(where).is_file():
        raise ReviewError(f"{where}: no such file; the review page (medtl serve) makes it, or medtl reviews import")
    return ReviewStore(where)
