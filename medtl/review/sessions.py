"""Sessions of logged-in users, kept in the database so that they survive a restart of the server.

Only the sha256 of a session's token is stored: whoever reads the database cannot use it to log in.
"""

from datetime import timedelta

from medtl.review.store import ReviewStore
from medtl.review.users import User

IDLE = timedelta(minutes=30)
"""A session ends when nothing was asked for so long."""
LIFETIME = timedelta(hours=12)
"""And in any case after a shift."""
SEEN_EVERY = timedelta(minutes=1)
"""`last_seen_at` is not written more often: a page asks many times a second."""


def begin(store: ReviewStore, user: User) -> str:
    """Begin a session and return its token, 256 random bits as URL-safe text; it is shown this once."""
    raise NotImplementedError


def user_of(store: ReviewStore, token: str) -> User | None:
    """Whose session this is, as he is now; None where it is unknown, ended, idle too long, or he is disabled."""
    raise NotImplementedError


def end(store: ReviewStore, token: str) -> None:
    """Log out; a token that is unknown is no error."""
    raise NotImplementedError
