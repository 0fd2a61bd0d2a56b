"""Cutting a span of time into hours, days, weeks or months of a place, as its clocks and calendar run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from projections.analytics.schema.tables import SLOT_MINUTES

Length = Literal["hourly", "daily", "weekly", "monthly"]
PERIODS_MAX = 1_500  # in one answer: 62 days of hours, four years of days


class TooManyPeriodsError(ValueError):
    """The span has more than `PERIODS_MAX` periods."""


class Period(msgspec.Struct, frozen=True):
    """From `start` to before `end`, UTC; `label` is the local time it begins, with its offset."""

    label: str
    start: datetime
    end: datetime


def zone(name: str) -> ZoneInfo:
    """The time zone of that name.

    Raises:
        LookupError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise LookupError(f"expected the name of a time zone, such as Europe/Berlin, got {name!r}") from error


def slot_of(moment: datetime) -> datetime:
    """The start of the quarter of an hour a moment is in.

    Usage is summed by these: a range from within one would hold calls whose sums it lacks.
    """
    return moment.replace(minute=moment.minute // SLOT_MINUTES * SLOT_MINUTES, second=0, microsecond=0)


def begin(moment: datetime, length: Length, place: ZoneInfo) -> datetime:
    """When the period that holds `moment` began, UTC.

    Hours are counted in real time, so that the hour that clocks show twice is two hours; days begin at local midnight (or,
    where clocks skip it, at the first moment of the day).
    """
    local = moment.astimezone(place)
    if length == "hourly":
        offset = local.utcoffset() or timedelta(0)
        whole = (moment.astimezone(UTC) + offset).replace(minute=0, second=0, microsecond=0)
        return whole - offset
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if length == "weekly":
        day -= timedelta(days=day.weekday())
    elif length == "monthly":
        day = day.replace(day=1)
    return _midnight(day, place)


def _midnight(day: datetime, place: ZoneInfo) -> datetime:
    naive = day.replace(tzinfo=None, fold=0)
    return naive.replace(tzinfo=place).astimezone(UTC)


def _next(start: datetime, length: Length, place: ZoneInfo) -> datetime:
    if length == "hourly":
        # Half an hour into the next one: a change of the offset by less than an hour moves where hours begin.
        return max(begin(start + timedelta(minutes=90), length, place), start + timedelta(minutes=15))
    local = start.astimezone(place)
    # Noon is never skipped or repeated, so days are counted from noon to noon.
    noon = datetime(local.year, local.month, local.day, 12, tzinfo=place)
    if length == "daily":
        noon += timedelta(days=1)
    elif length == "weekly":
        noon += timedelta(days=7)
    else:
        noon = noon.replace(year=noon.year + noon.month // 12, month=noon.month % 12 + 1, day=1)
    return _midnight(noon.replace(hour=0), place)


def cut(since: datetime, until: datetime, length: Length, place: ZoneInfo) -> list[Period]:
    """Every period that overlaps `since` to before `until`, oldest first, none left out.

    The first and the last are whole periods only where the span begins and ends with one.

    Raises:
        TooManyPeriodsError: there would be more than `PERIODS_MAX`.
    """
    found: list[Period] = []
    start = begin(since, length, place)
    while start < until:
        if len(found) >= PERIODS_MAX:
            raise TooManyPeriodsError(f"expected at most {PERIODS_MAX} periods; choose longer ones or a shorter range")
        end = _next(start, length, place)
        found.append(Period(start.astimezone(place).isoformat(), max(start, since), min(end, until)))
        start = end
    return found
