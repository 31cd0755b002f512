"""The one-time link, printed where no user exists yet, on which the first administrator is made."""

import secrets
import threading
import time
from collections.abc import Callable

from medtl.errors import ReviewError
from medtl.review import users
from medtl.review.store import ReviewStore
from medtl.review.users import User

VALID_FOR_S = 30 * 60


class FirstAdmin:
    """A token that makes one administrator, once, within 30 minutes, and only while there is no user."""

    def __init__(self, store: ReviewStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.token = secrets.token_urlsafe(32)
        self._store, self._clock, self._until = store, clock, clock() + VALID_FOR_S
        self._used = False
        self._one_at_a_time = threading.Lock()

    def fits(self, token: str) -> bool:
        """Whether the link still opens."""
        same = secrets.compare_digest(token.encode(), self.token.encode())
        return same and not self._used and self._clock() < self._until and not users.any_user(self._store)

    def make(self, token: str, name: str, password: str) -> User:
        """Make the administrator; the link is dead from then on.

        Raises:
            ReviewError: it is dead already, or name or password cannot be used.
        """
        with self._one_at_a_time:
            if not self.fits(token):
                raise ReviewError("this link was used already or is too old")
            user = users.add(self._store, name, password, role="admin")
            self._used = True
        return user
