"""The verdict store: what readers said, appended to one SQLite file and never changed.

A verdict that `save` acknowledged is on disk: one transaction, write-ahead log, a sync at each commit
(https://www.sqlite.org/wal.html; `PRAGMA synchronous=FULL`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Column, Connection, Float, Integer, MetaData, String, Table, create_engine, event, select
from sqlalchemy.exc import DatabaseError

from medtl.errors import ReviewError

SCHEMA = 1
VERDICTS = ("agree", "disagree", "unsure")
DECISIONS = ("positive", "negative")
LONGEST = 2000
"""Characters that a note may have; a reader's name may have a tenth."""
WAIT_FOR_LOCK_MS = 5000


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a reader says about one finding of one scan, beside what the detector had said.

    Args:
        scan_id, sha256, source_name: the scan, and the name of the file that was uploaded.
        finding: which finding.
        probability, threshold, decision: the detector's answer, its operating point, "positive" or "negative".
        verdict: "agree", "disagree" or "unsure".
        note: free text, may be empty.
        reader: who says so.
        bundle_id: which detector.

    Raises:
        ReviewError: a value that does not fit.
    """

    scan_id: str
    sha256: str
    source_name: str
    finding: str
    probability: float
    threshold: float
    decision: str
    verdict: str
    note: str
    reader: str
    bundle_id: str

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ReviewError(f"verdict '{self.verdict}' on {self.finding}: expected one of {', '.join(VERDICTS)}")
        if self.decision not in DECISIONS:
            raise ReviewError(f"decision '{self.decision}' on {self.finding}: expected one of {', '.join(DECISIONS)}")
        if not (0 <= self.probability <= 1 and 0 <= self.threshold <= 1):
            raise ReviewError(
                f"{self.finding}: probability {self.probability} and threshold {self.threshold}; expected 0 to 1"
            )
        for name, text, longest in (("note", self.note, LONGEST), ("reader's name", self.reader, LONGEST // 10)):
            if len(text) > longest:
                raise ReviewError(f"the {name} has {len(text):,} characters; shorten it to {longest:,}")


@dataclass(frozen=True, kw_only=True)
class StoredVerdict(Verdict):
    """A verdict with its number and the moment it was stored (UTC, ISO 8601)."""

    id: int
    created_at: str


_METADATA = MetaData()
_TABLE = Table(
    "verdicts",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("created_at", String, nullable=False),
    *(
        Column(each.name, Float if each.type is float else String, nullable=False)
        for each in fields(Verdict)
    ),
    sqlite_autoincrement=True,
)  # fmt: skip
_APPEND_ONLY = (
    "CREATE TRIGGER verdicts_no_{lower} BEFORE {upper} ON verdicts "
    "BEGIN SELECT RAISE(ABORT, 'verdicts are append-only'); END"
)


class ReviewStore:
    """The verdicts of one file, which is created where it is missing.

    Raises:
        ReviewError: the file cannot be opened or made, is no review store, or is of another schema version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise ReviewError(f"{self.path}: the folder {self.path.parent} does not exist; create it first")
        self._engine = create_engine(URL.create("sqlite", database=str(self.path)))
        event.listen(self._engine, "connect", _prepare)
        with self._transaction() as connection:
            self._check_schema(connection)

    def check_writable(self) -> None:
        """Find out now, and not at the first verdict, whether verdicts can be kept.

        Raises:
            ReviewError: they cannot; the message says why and what to do.
        """
        # SQLite opens a read-only file without complaint, so something has to be written.
        with self._transaction() as connection:
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA}")

    def save(self, verdicts: Sequence[Verdict]) -> list[int]:
        """Append verdicts, all or none; they are on disk when this returns.

        Returns:
            Their numbers, in order.

        Raises:
            ReviewError: nothing was stored; the message says why and what to do.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._transaction() as connection:
            ids = [
                connection.execute(_TABLE.insert().values(created_at=now, **asdict(verdict))).inserted_primary_key
                for verdict in verdicts
            ]
        return [int(row[0]) for row in ids if row is not None]

    def verdicts(self) -> list[StoredVerdict]:
        """All verdicts, oldest first.

        Raises:
            ReviewError: the file cannot be read.
        """
        with self._explained(), self._engine.connect() as connection:
            rows = connection.execute(select(_TABLE).order_by(_TABLE.c.id)).mappings()
            return [StoredVerdict(**row) for row in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def _check_schema(self, connection: Connection) -> None:
        version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
        if version == SCHEMA:
            return
        if version:
            raise ReviewError(
                f"{self.path}: is a review store of schema {version}, this medtl reads schema {SCHEMA}; "
                "use the medtl that wrote it, or choose another file with --reviews"
            )
        if connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one():
            raise ReviewError(f"{self.path}: is the database of another program; choose another file with --reviews")
        _METADATA.create_all(connection)
        for action in ("update", "delete"):
            connection.exec_driver_sql(_APPEND_ONLY.format(lower=action, upper=action.upper()))
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA}")

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        # IMMEDIATE takes the write lock before anything is read, so two processes cannot both find an empty file.
        with self._explained(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as problem:
            raise ReviewError(f"{self.path}: {_advice(str(problem.orig))}") from None


def _prepare(connection: Any, _: Any) -> None:
    connection.execute(f"PRAGMA busy_timeout = {WAIT_FOR_LOCK_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


_ADVICE = {
    "locked": "another program holds it; close that program and save again",
    "readonly": "it is read-only; make the file and its folder writable and save again",
    "full": "the disk is full; free some space and save again",
    "disk I/O error": "the disk refused; check that it has space and is healthy, then save again",
    "unable to open": "it cannot be opened; check that the path is a file in a folder you may write to",
    "not a database": "it is not a review store; choose another file with --reviews",
    "malformed": "it is damaged; restore it from a backup, or choose another file with --reviews",
}


def _advice(problem: str) -> str:
    for sign, what in _ADVICE.items():
        if sign in problem:
            return f"{what} (SQLite: {problem})"
    return f"SQLite refused: {problem}"
