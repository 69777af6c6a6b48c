"""Days, and ranges of days, as people write them."""

from datetime import date

import pytest

from invoicefs.dates import parse_day, parse_days
from invoicefs.errors import UsageError


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2025", date(2025, 1, 1), date(2025, 12, 31)),
        ("2024-02", date(2024, 2, 1), date(2024, 2, 29)),
        ("2025-12", date(2025, 12, 1), date(2025, 12, 31)),
        (" 2025-06-30 ", date(2025, 6, 30), date(2025, 6, 30)),
    ],
)
def test_a_year_month_or_day_is_a_range_of_days(text: str, first: date, last: date) -> None:
    assert parse_days(text) == (first, last)


@pytest.mark.parametrize(
    "text", ["2025-13", "2025-00", "2025-02-30", "0000", "25-01", "2025-1", "", "٢٠٢٥", "2025-01-"]
)
def test_another_text_is_no_date(text: str) -> None:
    with pytest.raises(UsageError, match="is not a date"):
        parse_days(text)


def test_the_day_of_a_time_is_the_one_that_is_written() -> None:
    assert parse_day("2026-01-01T00:00:00+02:00") == date(2026, 1, 1)
    assert parse_day("2026-02-30T00:00:00Z") is None
    assert parse_day("") is None
