"""Moments as the store writes them: UTC, ISO 8601, milliseconds; as text they sort as time does."""

from datetime import UTC, datetime, timedelta


def now(*, plus: timedelta = timedelta(0)) -> str:
    """This moment, or one so much later."""
    return (datetime.now(UTC) + plus).isoformat(timespec="milliseconds")


def moment(text: str) -> str:
    """A moment or a day that somebody wrote, as the store writes it; without a zone it is UTC.

    Raises:
        ValueError: it is neither.
    """
    read = datetime.fromisoformat(text)
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="milliseconds")


def days(text: str) -> float:
    """Days from 2020 on to a moment of the store."""
    return (datetime.fromisoformat(text) - datetime(2020, 1, 1, tzinfo=UTC)) / timedelta(days=1)
