"""Moments as the store writes them: UTC, ISO 8601, milliseconds; as text they sort as time does."""

from datetime import UTC, datetime, timedelta


def now(*, plus: timedelta = timedelta(0)) -> str:
    """This moment, or one so much later."""
    return written(datetime.now(UTC) + plus)


def written(moment: datetime) -> str:
    """A moment as the store writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
