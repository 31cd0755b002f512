"""Sessions of logged-in users, kept in the database so that they survive a restart of the server.

Only the sha256 of a session's token is stored: whoever reads the database cannot use it to log in.
"""

import hashlib
import secrets
from datetime import timedelta

from sqlalchemy import or_, select

from medtl.review.moments import now
from medtl.review.schema import SESSIONS, USERS
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
    token = secrets.token_urlsafe(32)
    with store.transaction() as connection:
        old = or_(SESSIONS.c.expires_at < now(), SESSIONS.c.last_seen_at < now(plus=-IDLE))
        connection.execute(SESSIONS.delete().where(old))
        connection.execute(
            SESSIONS.insert().values(
                token_hash=_hash(token),
                user_name=user.name,
                created_at=now(),
                last_seen_at=now(),
                expires_at=now(plus=LIFETIME),
            )
        )
    return token


def user_of(store: ReviewStore, token: str) -> User | None:
    """Whose session this is, as he is now; None where it is unknown, ended, idle too long, or he is disabled."""
    this = SESSIONS.c.token_hash == _hash(token)
    wanted = (
        select(SESSIONS.c.last_seen_at, USERS.c.name, USERS.c.role, USERS.c.created_at)
        .join(USERS, USERS.c.name == SESSIONS.c.user_name)
        .where(this, USERS.c.active, SESSIONS.c.expires_at > now(), SESSIONS.c.last_seen_at > now(plus=-IDLE))
    )
    with store.reading() as connection:
        row = connection.execute(wanted).one_or_none()
    if row is None:
        return None
    if row.last_seen_at < now(plus=-SEEN_EVERY):
        with store.transaction() as connection:
            connection.execute(SESSIONS.update().where(this).values(last_seen_at=now()))
    return User(name=row.name, role=row.role, created_at=row.created_at)


def end(store: ReviewStore, token: str) -> None:
    """Log out; a token that is unknown is no error."""
    with store.transaction() as connection:
        connection.execute(SESSIONS.delete().where(SESSIONS.c.token_hash == _hash(token)))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
