"""Periods follow the clock and calendar of a place, also where clocks are changed, and leave nothing out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.analytics.periods import PERIODS_MAX, TooManyPeriodsError, begin, cut, zone

BERLIN, LORD_HOWE, KATHMANDU = ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Kathmandu")
PLACES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Pacific/Apia",
]


def hours(place: ZoneInfo, day: datetime) -> list[float]:
    return [(one.end - one.start).total_seconds() / 3600 for one in cut(day, day + timedelta(days=3), "daily", place)]


def test_a_day_is_an_hour_shorter_or_longer_when_clocks_change() -> None:
    assert 23.0 in hours(BERLIN, datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert 25.0 in hours(BERLIN, datetime(2026, 10, 24, 12, tzinfo=UTC))
    assert 24.5 in hours(LORD_HOWE, datetime(2026, 4, 4, tzinfo=UTC))


def test_the_hour_that_clocks_show_twice_is_two_hours() -> None:
    night = cut(datetime(2026, 10, 24, 23, tzinfo=UTC), datetime(2026, 10, 25, 3, tzinfo=UTC), "hourly", BERLIN)
    assert [one.label for one in night] == [
        "2026-10-25T01:00:00+02:00", "2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00",
    ]  # fmt: skip


def test_days_begin_at_local_midnight_also_a_quarter_past() -> None:
    (first, second) = cut(datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC), "daily", KATHMANDU)
    assert first.end == second.start == datetime(2026, 5, 1, 18, 15, tzinfo=UTC)


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    assert begin(datetime(2026, 11, 25, 12, tzinfo=UTC), "weekly", BERLIN) == datetime(2026, 11, 22, 23, tzinfo=UTC)
    months = cut(datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC), "monthly", BERLIN)
    assert [one.label[:10] for one in months] == [f"2026-{month:02}-01" for month in range(1, 13)]


def test_too_many_periods_and_unknown_zones_are_refused() -> None:
    with pytest.raises(TooManyPeriodsError):
        cut(
            datetime(2026, 1, 1, tzinfo=UTC),
            datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=PERIODS_MAX + 1),
            "hourly",
            BERLIN,
        )
    for name in ("Europe/Atlantis", "", "../../etc/passwd", "Europe"):
        with pytest.raises(LookupError):
            zone(name)


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2035, 1, 1)),  # noqa: DTZ001  hypothesis wants them naive
    st.integers(1, 60 * 24 * 60),
    st.sampled_from(["hourly", "daily", "weekly", "monthly"]),
    st.sampled_from(PLACES),
)
def test_periods_cover_the_span_without_gap_or_overlap(moment: datetime, minutes: int, length: str, name: str) -> None:
    since = moment.replace(tzinfo=UTC)
    until = since + timedelta(minutes=minutes)
    try:
        found = cut(since, until, length, zone(name))  # type: ignore[arg-type]
    except TooManyPeriodsError:
        assert minutes > PERIODS_MAX * 60 // 2
        return
    assert found[0].start == since
    assert found[-1].end == until
    for before, after in pairwise(found):
        assert before.start < before.end == after.start
