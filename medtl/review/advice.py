"""What a refusal of the database means for the person who reads it."""

import sqlite3

from sqlalchemy.exc import DBAPIError

_SQLITE = {
    "locked": "another program holds it; close that program and save again",
    "readonly": "it is read-only; make the file and its folder writable and save again",
    "full": "the disk is full; free some space and save again",
    "disk I/O error": "the disk refused; check that it has space and is healthy, then save again",
    "unable to open": "it cannot be opened; check that the path is a file in a folder you may write to",
    "not a database": "it is not a review store; choose another file with --reviews",
    "malformed": "it is damaged; restore it from a backup, or choose another file with --reviews",
}
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRESQL = {
    "25006": "it is read-only; connect to the primary server and save again",
    "53100": "the server's disk is full; free some space and save again",
    "55P03": "another program holds it; end that program and save again",
    "57P03": "the server is starting or stopping; save again in a moment",
    "28": "the server refused user and password; check the URL in --reviews",
    "3D000": "the server has no such database; create it with createdb",
    "42501": "this user may not do that there; give him the rights on the database and its tables",
    "53300": "the server has no connection free; save again in a moment",
}


def advice(problem: DBAPIError | sqlite3.Error) -> str:
    """One line: what to do, and what the database said."""
    cause = problem.orig if isinstance(problem, DBAPIError) else problem
    if isinstance(cause, sqlite3.Error):
        said = str(cause)
        return _first(_SQLITE, [sign for sign in _SQLITE if sign in said], f"SQLite: {said}")
    fields = cause.args[0] if cause is not None and cause.args else ""
    if not isinstance(fields, dict):
        return f"the server does not answer; start it, or check the URL in --reviews (PostgreSQL: {fields})"
    code = str(fields.get("C", ""))
    return _first(_POSTGRESQL, [sign for sign in _POSTGRESQL if code.startswith(sign)], f"PostgreSQL: {fields['M']}")


def _first(table: dict[str, str], signs: list[str], said: str) -> str:
    return f"{table[signs[0]]} ({said})" if signs else f"it refused ({said})"
