"""RFC 3339 times as nanoseconds, and days, months and years as ranges of days. Pure functions."""

import calendar
import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from invoicefs.clock import NS_PER_S
from invoicefs.errors import UsageError

_LAST_S = 15_032_385_535  # 2446-05-10, the latest time that ext4 stores, see its i_ctime_extra
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(  # without hour 24, which Python has accepted since 3.14
    r"(\d{4}-\d\d-\d\d)[Tt ]((?!24)\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)
_PERIOD = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", re.ASCII)


@lru_cache(4096)  # many invoices have the same periods
def parse_time_ns(text: str) -> int | None:
    """Return the nanoseconds since 1970 of an RFC 3339 time, or None if it is invalid.

    A time before 1970 or after 2446 counts as invalid: where a copy of the file cannot have that
    mtime, every ``rsync -a`` would find the file changed.

    >>> parse_time_ns("1970-01-01T00:00:01.000000002Z")
    1000000002
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    day, time, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time}{zone.upper().replace('Z', '+00:00')}")
        seconds = (moment - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError):
        return None
    if not 0 <= seconds <= _LAST_S:
        return None
    return seconds * NS_PER_S + int((fraction or "").ljust(9, "0"))


def parse_day(text: str) -> date | None:
    """Return the day of an RFC 3339 time, as it is written, or None if the time is invalid.

    >>> parse_day("2026-01-31T23:59:59.999999999Z")
    datetime.date(2026, 1, 31)
    """
    return None if parse_time_ns(text) is None else date.fromisoformat(text[:10])


def parse_days(text: str) -> tuple[date, date]:
    """Return the first and the last day of a year, month or day; raises `UsageError`.

    >>> parse_days("2026-02")
    (datetime.date(2026, 2, 1), datetime.date(2026, 2, 28))
    """
    match = _PERIOD.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a date: write 2026, 2026-01 or 2026-01-31.")
    year, month, day = match.groups()
    last_month = int(month or 12)
    try:
        first = date(int(year), int(month or 1), int(day or 1))
        last_day = int(day or calendar.monthrange(first.year, last_month)[1])
        return first, date(first.year, last_month, last_day)
    except ValueError:
        raise UsageError(f"{text!r} is not a date: there is no such month or day.") from None
