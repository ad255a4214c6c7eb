"""From when on: a time as an operator types it, for the command line and the console alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str, now: datetime) -> datetime:
    """A time (2026-01-31T12:00; local where it names no zone), or an age before `now` (90s, 10m, 2h, 1d), in UTC.

    Raises ValueError, saying what would be one, for anything else.
    """
    number, unit = text[:-1], text[-1:]
    try:
        if unit in _UNITS and number.replace(".", "", 1).isdecimal():
            return now - timedelta(**{_UNITS[unit]: float(number)})
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is neither a time (2026-01-31T12:00) nor an age (10m)") from error
