"""Users of the review page: names, argon2 hashes, roles, and the lockout after wrong passwords.

Passwords are hashed with argon2id in argon2-cffi's default profile (RFC 9106, sec. 4, second recommended option).
Failures are counted in the database, so neither a restart nor a second server process forgets them.
"""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import Connection, RowMapping, func, select

from medtl.config import closest
from medtl.errors import ReviewError
from medtl.review.moments import now
from medtl.review.schema import LOGIN_FAILURES, SESSIONS, USERS
from medtl.review.store import ReviewStore

ROLES = ("reader", "lead", "admin")
LONGEST_NAME = 200
SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 200
"""Characters. Hashing a megabyte costs the server more than sending it costs the sender."""
FAILURES_ALLOWED = 5
LOCKED_FOR = timedelta(minutes=15)
"""After so many failures within this time, a name is locked until the oldest of them is this old."""


class LoginError(ReviewError):
    """Wrong name or password, a disabled user, or a name that is locked; says no more to the outside than it must."""


@dataclass(frozen=True, kw_only=True)
class User:
    """Who is at the page.

    Args:
        name: 1 to 200 characters.
        role: "reader" gives verdicts; "lead" also adjudicates and sees all verdicts; "admin" also reads the metrics.

    Raises:
        ReviewError: a name or role that cannot be used.
    """

    name: str
    role: str
    active: bool = True
    created_at: str = ""

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= LONGEST_NAME or self.name != self.name.strip() or not self.name.isprintable():
            raise ReviewError(f"{self.name!r} is no user name; expected 1 to {LONGEST_NAME} printable characters")
        if self.role not in ROLES:
            raise ReviewError(f"unknown role '{self.role}'{closest(self.role, ROLES)}")

    @property
    def leads(self) -> bool:
        """Whether he may adjudicate and see what all readers said."""
        return self.role in ("lead", "admin")


def add(store: ReviewStore, name: str, password: str, *, role: str) -> User:
    """Add a user.

    Raises:
        ReviewError: the name is taken, the role unknown, the password shorter than 10 characters.
    """
    user = User(name=name, role=role, created_at=now())
    hashed = _hashed(password)
    with store.transaction() as connection:
        if _row(connection, name) is not None:
            raise ReviewError(f"there is a user '{name}' already; give him a new password with: medtl users reset")
        connection.execute(
            USERS.insert().values(name=name, password_hash=hashed, role=role, active=True, created_at=user.created_at)
        )
    return user


def listing(store: ReviewStore) -> list[User]:
    """All users, by name."""
    with store.reading() as connection:
        return [_user(row) for row in connection.execute(select(USERS).order_by(USERS.c.name)).mappings()]


def reset_password(store: ReviewStore, name: str, password: str) -> None:
    """Give a user a new password, end his sessions and any lockout.

    Raises:
        ReviewError: no such user, or the password is too short.
    """
    _change(store, name, password_hash=_hashed(password))


def set_active(store: ReviewStore, name: str, active: bool) -> None:
    """Disable a user (his sessions end at once, his verdicts stay) or enable him again.

    Raises:
        ReviewError: no such user.
    """
    _change(store, name, active=active)


def set_role(store: ReviewStore, name: str, role: str) -> None:
    """Give a user another role; his sessions end, his verdicts stay.

    Raises:
        ReviewError: no such user or role.
    """
    _change(store, name, role=User(name=name, role=role).role)


def any_user(store: ReviewStore) -> bool:
    """Whether anybody can log in; where not, the server prints a one-time link."""
    with store.reading() as connection:
        return connection.execute(select(USERS.c.name).where(USERS.c.active).limit(1)).first() is not None


def log_in(store: ReviewStore, name: str, password: str) -> User:
    """Check a password; takes as long for a name that no user has.

    Raises:
        LoginError: it does not fit, or the name is locked after 5 failures within 15 minutes.
    """
    shown = name[:LONGEST_NAME]
    _begin_attempt(store, shown)
    with store.reading() as connection:
        row = _row(connection, shown)
    # Hashing takes its time, so no transaction is held meanwhile.
    fits = _fits(row["password_hash"] if row is not None else _nobody(), password[:LONGEST_PASSWORD])
    if row is None or not fits or not row["active"]:
        raise LoginError("name or password is wrong")
    with store.transaction() as connection:
        connection.execute(LOGIN_FAILURES.delete().where(LOGIN_FAILURES.c.name == shown))
    return _user(row)


def _begin_attempt(store: ReviewStore, name: str) -> None:
    """Count an attempt as failed until it has succeeded: a hundred at once are no more than one after another."""
    since = now(plus=-LOCKED_FOR)
    with store.transaction() as connection:
        connection.execute(LOGIN_FAILURES.delete().where(LOGIN_FAILURES.c.failed_at < since))
        failures = connection.execute(
            select(func.count()).select_from(LOGIN_FAILURES).where(LOGIN_FAILURES.c.name == name)
        ).scalar_one()
        if failures < FAILURES_ALLOWED:
            connection.execute(LOGIN_FAILURES.insert().values(name=name, failed_at=now()))
    if failures >= FAILURES_ALLOWED:
        minutes = int(LOCKED_FOR.total_seconds() // 60)
        raise LoginError(
            f"too many wrong passwords for this name: it is locked for up to {minutes} minutes, or until an "
            "administrator gives it a new one (medtl users reset)"
        )


def _change(store: ReviewStore, name: str, **values: object) -> None:
    with store.transaction() as connection:
        if _row(connection, name) is None:
            raise ReviewError(f"there is no user '{name}'; medtl users list shows all")
        connection.execute(USERS.update().where(USERS.c.name == name).values(**values))
        connection.execute(SESSIONS.delete().where(SESSIONS.c.user_name == name))
        connection.execute(LOGIN_FAILURES.delete().where(LOGIN_FAILURES.c.name == name))


def _row(connection: Connection, name: str) -> RowMapping | None:
    return connection.execute(select(USERS).where(USERS.c.name == name)).mappings().one_or_none()


def _user(row: RowMapping) -> User:
    return User(name=row["name"], role=row["role"], active=row["active"], created_at=row["created_at"])


def _hashed(password: str) -> str:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ReviewError(
            f"the password has {len(password):,} characters; expected {SHORTEST_PASSWORD} to {LONGEST_PASSWORD}"
        )
    return PasswordHasher().hash(password)


def _fits(hashed: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(hashed, password)
    except VerifyMismatchError:
        return False


@cache
def _nobody() -> str:
    """A hash that no password is known for, so that names without a user take as long."""
    return PasswordHasher().hash(secrets.token_hex())
