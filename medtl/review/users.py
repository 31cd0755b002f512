"""Users of the review page: names, argon2 hashes, roles, and the lockout after wrong passwords.

Passwords are hashed with argon2id in argon2-cffi's default profile (RFC 9106, sec. 4, second recommended option).
Failures are counted in the database, so neither a restart nor a second server process forgets them.
"""

from dataclasses import dataclass
from datetime import timedelta

from medtl.errors import ReviewError
from medtl.review.store import ReviewStore

ROLES = ("reader", "lead", "admin")
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
        role: "reader" gives verdicts; "lead" also adjudicates and sees all verdicts; "admin" also manages users.

    Raises:
        ReviewError: a name or role that cannot be used.
    """

    name: str
    role: str
    active: bool = True
    created_at: str = ""

    @property
    def leads(self) -> bool:
        """Whether he may adjudicate and see what all readers said."""
        return self.role in ("lead", "admin")


def add(store: ReviewStore, name: str, password: str, *, role: str) -> User:
    """Add a user.

    Raises:
        ReviewError: the name is taken, the role unknown, the password shorter than 10 characters.
    """
    raise NotImplementedError


def listing(store: ReviewStore) -> list[User]:
    """All users, by name."""
    raise NotImplementedError


def reset_password(store: ReviewStore, name: str, password: str) -> None:
    """Give a user a new password, end his sessions and any lockout.

    Raises:
        ReviewError: no such user, or the password is too short.
    """
    raise NotImplementedError


def set_active(store: ReviewStore, name: str, active: bool) -> None:
    """Disable a user (his sessions end at once, his verdicts stay) or enable him again.

    Raises:
        ReviewError: no such user.
    """
    raise NotImplementedError


def any_user(store: ReviewStore) -> bool:
    """Whether anybody can log in; where not, the server prints a one-time link."""
    raise NotImplementedError


def log_in(store: ReviewStore, name: str, password: str) -> User:
    """Check a password; takes as long for a name that no user has.

    Raises:
        LoginError: it does not fit, or the name is locked after 5 failures within 15 minutes.
    """
    raise NotImplementedError
