"""Which limits are requested from a server, whatever the largest one that it accepts."""

import pytest

from invoicefs.api.list_limits import FIRST_LIMIT, LAST_LIMIT, NO_LIMIT, ListLimits


def limits_requested(limits: ListLimits, largest: int, count: int) -> tuple[list[int], int]:
    """Return the limits requested from a server with `count` invoices, and how many it lists."""
    asked, best = [], 0
    limit: int | None = limits.first("system")
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
def test_a_smaller_limit_is_requested_when_one_is_refused(
    largest: int, count: int, asked: list[int]
) -> None:
    assert limits_requested(ListLimits(), largest, count)[0] == asked


@pytest.mark.parametrize("largest", [500, 250, 50, 49])
def test_a_refused_limit_is_not_requested_again(largest: int) -> None:
    limits = ListLimits()
    limits_requested(limits, largest, 12)

    asked, _ = limits_requested(limits, largest, 12)

    assert len(asked) == 1
    assert asked[0] <= largest


def test_a_long_list_begins_with_the_limit_that_was_sufficient() -> None:
    limits = ListLimits()

    limits.note_sufficient("long", 10_000)
    limits.note_sufficient("short", 50)

    assert limits.first("long") == 10_000
    assert limits.first("short") == limits.first("other") == FIRST_LIMIT


def test_a_sufficient_limit_is_not_requested_after_it_was_refused() -> None:
    limits = ListLimits()
    limits.note_sufficient("long", 10_000)

    limits.note_refused(10_000)

    assert limits.first("long") == 5000


def test_limits_grow_up_to_the_largest_int32() -> None:
    limits, limit = ListLimits(), FIRST_LIMIT
    while (larger := limits.larger(limit)) is not None:
        assert limit < larger <= LAST_LIMIT
        limit = larger
    assert limit == LAST_LIMIT
