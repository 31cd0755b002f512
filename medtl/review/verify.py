"""Walk the hash chain and find what was changed behind medtl's back.

What it finds: a verdict that was changed, deleted, inserted or put in another place by someone who did not compute all
later hashes anew, and verdicts cut off at the end, because `head` holds their number and the last hash. What it cannot
find by itself: someone who can write to the database and recomputes the whole chain and `head`. Against that helps a
head that was written down elsewhere: each `verify` prints it, and `--head` checks that the chain still passes through.
Nothing helps against verdicts that were added through medtl by someone else's hands.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping, select

from medtl.errors import ReviewError
from medtl.progress import counted, say
from medtl.review.chain import GENESIS, row_hash
from medtl.review.schema import HEAD, VERDICTS
from medtl.review.store import open_existing


@dataclass(frozen=True)
class Head:
    """Where a chain ends: how many verdicts, and the hash of the last; written `COUNT:HASH`."""

    count: int
    hash: str

    def __str__(self) -> str:
        return f"{self.count}:{self.hash}"


def verify_reviews(reviews: str | Path, *, head: str | None = None) -> Head:
    """Check that no verdict was changed, deleted, inserted or moved since it was stored.

    Args:
        reviews: the file, or the PostgreSQL URL, that keeps the verdicts.
        head: what an earlier `verify` printed, `COUNT:HASH`; the chain must still pass through it.

    Returns:
        The head now. Write it down where whoever may write to the database cannot.

    Raises:
        ReviewError: the first verdict that is not as it was stored.
    """
    noted = None if head is None else _read_head(head)
    store = open_existing(reviews)
    try:
        with store.reading() as connection:
            heads = connection.execute(select(HEAD.c.count, HEAD.c.hash)).all()
            rows = connection.execute(select(VERDICTS).order_by(VERDICTS.c.id)).mappings()
            found = _walk(rows, noted, store.name)
    finally:
        store.close()
    if [tuple(row) for row in heads] != [(found.count, found.hash)]:
        said = ", ".join(str(Head(*row)) for row in heads) or "nothing"
        raise ReviewError(
            f"{store.name}: the chain ends at {found}, and the store's own note of its head says {said}: verdicts were "
            "cut off or put on at the end. Compare with a backup (medtl reviews backup)"
        )
    say(f"{counted(found.count, 'verdict')}, none changed since it was stored; the head of their chain:")
    return found


def _walk(rows: Iterable[RowMapping], noted: Head | None, name: str) -> Head:
    """Follow the chain to its end."""
    at = Head(0, GENESIS)
    passed = noted is None or noted == at
    for row in rows:
        if row["prev_hash"] != at.hash:
            raise ReviewError(
                f"{name}: verdict {row['id']} does not follow the one before it: a verdict was deleted, inserted or "
                "moved here. Compare with a backup (medtl reviews backup)"
            )
        if _hash(row) != row["hash"]:
            raise ReviewError(
                f"{name}: verdict {row['id']} (case {row['case_id']}, {row['finding']}, {row['reader']}) was changed "
                "after it was stored. Compare with a backup (medtl reviews backup)"
            )
        at = Head(at.count + 1, row["hash"])
        passed = passed or at == noted
    if not passed:
        raise ReviewError(
            f"{name}: the chain does not pass through {noted}, as it did when that was noted; it ends at {at}: "
            "verdicts were cut off, or the whole chain was computed anew. Compare with a backup (medtl reviews backup)"
        )
    return at


def _hash(row: RowMapping) -> Any:
    try:
        return row_hash(dict(row))
    except (TypeError, ValueError):  # a value of a kind that no verdict has
        return None


def _read_head(text: str) -> Head:
    if not re.fullmatch(r"\d+:[0-9a-f]{64}", text):
        raise ReviewError(f"--head {text}: expected COUNT:HASH, as medtl reviews verify prints it")
    count, _, digest = text.partition(":")
    return Head(int(count), digest)
