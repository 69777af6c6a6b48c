"""How many invoices a server is asked for, whatever the largest limit that it takes."""

import pytest

from invoicefs.api.list_limits import FIRST_LIMIT, LAST_LIMIT, NO_LIMIT, ListLimits


def asked_of(limits: ListLimits, largest: int, count: int) -> tuple[list[int], int]:
    """The limits that a server of so many invoices is asked with, and how many it lists."""
    asked, best = [], 0
    limit: int | None = limits.first()
    while limit is not None:
        asked.append(limit)
        if limit > largest:
            limits.note_refused(limit)
            limit = limits.larger(best) if best else limits.smaller(limit)
            continue
        best = min(limit, count) if limit else best
        limit = limits.larger(limit) if limit and best == limit else None
    return asked, best


@pytest.mark.parametrize(
    ("largest", "count", "asked"),
    [
        (LAST_LIMIT, 12, [1000]),
        (LAST_LIMIT, 20_000, [1000, 10_000, 100_000]),
        (500, 12, [1000, 500]),
        (250, 12, [1000, 500, 200]),
        (100, 12, [1000, 500, 200, 100]),
        (50, 12, [1000, 500, 200, 100, 50]),
        (49, 12, [1000, 500, 200, 100, 50, NO_LIMIT]),
        (1000, 1500, [1000, 10_000, 5000, 2000]),
        (5000, 3000, [1000, 10_000, 5000]),
        (2000, 3000, [1000, 10_000, 5000, 2000]),
    ],
)
def test_less_is_asked_for_where_a_limit_is_refused(
    largest: int, count: int, asked: list[int]
) -> None:
    assert asked_of(ListLimits(), largest, count)[0] == asked


@pytest.mark.parametrize("largest", [500, 250, 50, 49])
def test_what_was_refused_is_not_asked_for_again(largest: int) -> None:
    limits = ListLimits()
    asked_of(limits, largest, 12)

    asked, _ = asked_of(limits, largest, 12)

    assert len(asked) == 1
    assert asked[0] <= largest


def test_limits_end_with_the_largest_number_that_there_is() -> None:
    limits, limit = ListLimits(), FIRST_LIMIT
    while (larger := limits.larger(limit)) is not None:
        assert limit < larger <= LAST_LIMIT
        limit = larger
    assert limit == LAST_LIMIT
