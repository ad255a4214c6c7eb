"""A time as an operator types it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from edgefl.monitor.since import moment

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("1.5h", NOW - timedelta(minutes=90)),
        ("10m", NOW - timedelta(minutes=10)),
        ("2d", NOW - timedelta(days=2)),
        ("2026-03-01T12:00+01:00", datetime(2026, 3, 1, 11, 0, tzinfo=UTC)),
        ("2026-03-01T12:00", datetime(2026, 3, 1, 12, 0).astimezone(UTC)),
    ],
)
def test_a_moment_is_an_age_or_a_time(text, at):
    assert moment(text, NOW) == at
    assert moment(text, NOW).tzinfo == UTC


@pytest.mark.parametrize("text", ["", "m", ".m", "-5m", "²m", "10", "10 m", "yesterday", "99999999999d", "2026-13-01"])
def test_what_is_no_moment_is_named_with_what_would_be_one(text):
    with pytest.raises(ValueError, match=r"is neither a time \(2026-01-31T12:00\) nor an age \(10m\)"):
        moment(text, NOW)
