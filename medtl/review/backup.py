"""A copy of the review store, made while readers work."""

from pathlib import Path

from medtl.errors import ReviewError
from medtl.progress import counted, say
from medtl.review.store import copy_sqlite, open_existing
from medtl.review.verify import verify_reviews


def backup_reviews(reviews: str | Path, *, out: str | Path) -> Path:
    """Copy the review store as it is at one moment, while others read and write; the copy's chain is verified.

    Args:
        reviews: the file that keeps the verdicts.
        out: the file to write; an existing one is replaced once the copy is complete.

    Returns:
        The copy, a review store itself.

    Raises:
        ReviewError: the store is on a server, is missing, or its chain is broken.
    """
    target = Path(out)
    store = open_existing(reviews)
    try:
        if store.path is None:
            raise ReviewError(
                f"{store.name}: is on a PostgreSQL server, whose own program makes consistent copies while it runs: "
                "pg_dump --format=custom --file=OUT DATABASE"
            )
        if target.exists() and target.samefile(store.path):
            raise ReviewError(f"{target}: is the store itself; choose another --out")
        with store.reading() as connection:
            copy_sqlite(connection, target)
    finally:
        store.close()
    head = verify_reviews(target)
    say(f"{counted(head.count, 'verdict')}, head {head}: {target}")
    return target
