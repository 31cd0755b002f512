"""Users and sessions: passwords are hashed, guessing is stopped, and a session survives a restart and ends in time."""

from datetime import timedelta

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.profiles import RFC_9106_LOW_MEMORY
from sqlalchemy import select

from medtl.errors import ReviewError
from medtl.review import sessions, users
from medtl.review.moments import now
from medtl.review.schema import SESSIONS, USERS
from medtl.review.store import ReviewStore
from medtl.review.users import LoginError, User
from tests.review.making import PASSWORD


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that do not take their time; one test looks at the real ones."""
    monkeypatch.setattr(users, "PasswordHasher", lambda: PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    users._nobody.cache_clear()


def test_a_user_logs_in(store: ReviewStore) -> None:
    assert not users.any_user(store)
    added = users.add(store, "Dr A", PASSWORD, role="lead")
    assert users.any_user(store)
    assert users.log_in(store, "Dr A", PASSWORD) == added == users.listing(store)[0]
    assert (added.role, added.leads, added.active) == ("lead", True, True)
    for name, password in (("Dr A", PASSWORD + "x"), ("Dr A", ""), ("Dr B", PASSWORD), ("dr a", PASSWORD)):
        with pytest.raises(LoginError, match=r"^name or password is wrong$"):
            users.log_in(store, name, password)


def test_passwords_are_kept_as_argon2id(store: ReviewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    users.add(store, "Dr A", PASSWORD, role="reader")
    with store.reading() as connection:
        kept = connection.execute(select(USERS.c.password_hash)).scalar_one()
    assert PASSWORD not in kept and kept.startswith("$argon2id$")
    assert extract_parameters(kept) == RFC_9106_LOW_MEMORY


def test_guessing_locks_the_name(store: ReviewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    users.add(store, "Dr A", PASSWORD, role="reader")
    for name in ("Dr A", "nobody"):  # a name that does not exist locks too, so that locks do not tell which do
        for _ in range(5):
            with pytest.raises(LoginError, match="name or password is wrong"):
                users.log_in(store, name, "a wrong password")
        with pytest.raises(
            LoginError, match="too many wrong passwords for this name: it is locked for up to 15 minutes"
        ):
            users.log_in(store, name, PASSWORD)
    users.add(store, "Dr B", PASSWORD, role="reader")
    assert users.log_in(store, "Dr B", PASSWORD).name == "Dr B", "others are not locked"
    monkeypatch.setattr(users, "now", lambda plus=timedelta(0): now(plus=plus + timedelta(minutes=15, seconds=1)))
    assert users.log_in(store, "Dr A", PASSWORD).name == "Dr A"


def test_a_lock_survives_a_restart_and_ends_with_a_new_password(where: str) -> None:
    store = ReviewStore(where)
    users.add(store, "Dr A", PASSWORD, role="reader")
    for _ in range(5):
        with pytest.raises(LoginError):
            users.log_in(store, "Dr A", "a wrong password")
    store.close()
    store = ReviewStore(where)
    with pytest.raises(LoginError, match="locked"):
        users.log_in(store, "Dr A", PASSWORD)
    users.reset_password(store, "Dr A", PASSWORD + " 2")
    assert users.log_in(store, "Dr A", PASSWORD + " 2").name == "Dr A"
    store.close()


def test_success_forgets_failures(store: ReviewStore) -> None:
    users.add(store, "Dr A", PASSWORD, role="reader")
    for _ in range(3):
        for _ in range(4):
            with pytest.raises(LoginError, match="wrong"):
                users.log_in(store, "Dr A", "a wrong password")
        users.log_in(store, "Dr A", PASSWORD)


def test_attempts_at_once_count_before_they_are_checked(store: ReviewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one password is being hashed, others must not slip past the count."""
    users.add(store, "Dr A", PASSWORD, role="reader")
    tried = []

    def slow(hashed: str, password: str) -> bool:
        tried.append(password)
        if len(tried) < 20:
            with pytest.raises(LoginError):
                users.log_in(store, "Dr A", f"guess number {len(tried)}")
        return False

    monkeypatch.setattr(users, "_fits", slow)
    with pytest.raises(LoginError):
        users.log_in(store, "Dr A", "guess number 0")
    assert len(tried) == 5


def test_a_disabled_user_is_out_at_once(store: ReviewStore) -> None:
    user = users.add(store, "Dr A", PASSWORD, role="reader")
    token = sessions.begin(store, user)
    users.set_active(store, "Dr A", False)
    assert sessions.user_of(store, token) is None
    assert not users.listing(store)[0].active
    with pytest.raises(LoginError, match="name or password is wrong"):
        users.log_in(store, "Dr A", PASSWORD)
    users.set_active(store, "Dr A", True)
    assert users.log_in(store, "Dr A", PASSWORD) == user
    assert sessions.user_of(store, token) is None, "an ended session does not come back"


def test_another_role_holds_from_the_next_login(store: ReviewStore) -> None:
    token = sessions.begin(store, users.add(store, "Dr A", PASSWORD, role="reader"))
    users.set_role(store, "Dr A", "lead")
    assert sessions.user_of(store, token) is None
    assert users.log_in(store, "Dr A", PASSWORD).leads


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda s: users.set_role(s, "Dr A", "leed"), "unknown role 'leed'; did you mean 'lead'?"),
        (lambda s: users.set_role(s, "Dr B", "lead"), "there is no user 'Dr B'; medtl users list shows all"),
        (lambda s: users.add(s, "Dr A", PASSWORD, role="reader"), "there is a user 'Dr A' already"),
        (lambda s: users.add(s, "Dr B", "short", role="reader"), "the password has 5 characters; expected 10 to 200"),
        (lambda s: users.add(s, "Dr B", PASSWORD, role="leed"), "unknown role 'leed'; did you mean 'lead'?"),
        (lambda s: users.add(s, " ", PASSWORD, role="lead"), "' ' is no user name; expected 1 to 200 printable"),
        (lambda s: users.add(s, "a\nb", PASSWORD, role="lead"), "'a\\nb' is no user name"),
        (lambda s: users.reset_password(s, "Dr B", PASSWORD), "there is no user 'Dr B'; medtl users list shows all"),
        (lambda s: users.set_active(s, "Dr B", False), "there is no user 'Dr B'; medtl users list shows all"),
    ],
)
def test_what_cannot_be(store: ReviewStore, attempt: object, message: str) -> None:
    users.add(store, "Dr A", PASSWORD, role="reader")
    with pytest.raises(ReviewError) as caught:
        attempt(store)  # type: ignore[operator]
    assert str(caught.value).startswith(message)
    assert [user.name for user in users.listing(store)] == ["Dr A"]


def test_a_session_survives_a_restart_and_its_token_is_not_stored(where: str) -> None:
    store = ReviewStore(where)
    user = users.add(store, "Dr A", PASSWORD, role="reader")
    token = sessions.begin(store, user)
    store.close()
    store = ReviewStore(where)
    assert sessions.user_of(store, token) == user
    with store.reading() as connection:
        row = connection.execute(select(SESSIONS)).one()
    assert token not in tuple(row) and len(token) >= 43
    assert sessions.user_of(store, row.token_hash) is None
    sessions.end(store, token)
    sessions.end(store, token)
    assert sessions.user_of(store, token) is None
    store.close()


def test_a_session_ends_when_idle_and_after_a_shift(store: ReviewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    user: User = users.add(store, "Dr A", PASSWORD, role="reader")
    idle, busy = sessions.begin(store, user), sessions.begin(store, user)
    for minutes in range(0, 12 * 60, 20):
        passed = timedelta(minutes=minutes)
        monkeypatch.setattr(sessions, "now", lambda plus=timedelta(0), passed=passed: now(plus=plus + passed))
        assert sessions.user_of(store, busy) == user, minutes
        if minutes > 30:
            assert sessions.user_of(store, idle) is None
    monkeypatch.setattr(sessions, "now", lambda plus=timedelta(0): now(plus=plus + timedelta(hours=12, seconds=1)))
    assert sessions.user_of(store, busy) is None
    sessions.begin(store, user)
    with store.reading() as connection:
        assert len(connection.execute(select(SESSIONS)).all()) == 1, "what has run out is cleared away"
