"""How requests are slowed down for a rate limit, tested without threads and without a clock."""

from itertools import pairwise

import pytest

from invoicefs.scheduling.throttle import (
    FIRST_SLOTS,
    LONGEST_COOL_DOWN_S,
    SUCCESSES_PER_SLOT,
    Priority,
    Throttle,
)

MOST_SLOTS = 6
TEN_REQUESTS_S = [10.0 + number / 100 for number in range(10)]
FOREGROUND, BACKGROUND = Priority

both_priorities = pytest.mark.parametrize("priority", Priority)


@pytest.fixture
def throttle() -> Throttle:
    return Throttle(MOST_SLOTS, lambda: 1.0)


def admit(throttle: Throttle, *began_s: float) -> None:
    for time_s in began_s:
        throttle.begin(time_s)
        throttle.succeed(BACKGROUND, time_s, time_s)


def interval_s(throttle: Throttle, now_s: float) -> float:
    """Return how long after a request that begins now the next one may begin."""
    throttle.begin(now_s)
    return throttle.next_in_pace_s - now_s


# Cool-downs.


def test_a_background_cool_down_delays_only_the_background(throttle: Throttle) -> None:
    throttle.refuse(BACKGROUND, 10.0, 11.0, retry_after_s=5.0)
    assert throttle.cool_until_s(BACKGROUND) == 16.0
    assert throttle.cool_until_s(FOREGROUND) <= 11.0


def test_a_foreground_cool_down_delays_all_requests(throttle: Throttle) -> None:
    throttle.refuse(FOREGROUND, 10.0, 11.0, retry_after_s=5.0)
    assert {throttle.cool_until_s(priority) for priority in Priority} == {16.0}


def test_cool_downs_have_a_maximum(throttle: Throttle) -> None:
    throttle.refuse(FOREGROUND, 10.0, 11.0, retry_after_s=1e9)
    assert throttle.cool_until_s(FOREGROUND) == 11.0 + LONGEST_COOL_DOWN_S


# Slots.


def test_the_background_starts_with_few_slots_and_doubles_after_as_many_successes() -> None:
    throttle = Throttle(31, lambda: 1.0)
    slots = [throttle.slots]
    for _ in range(40):
        admit(throttle, 1.0)
        slots.append(throttle.slots)
    assert slots == [FIRST_SLOTS] * 4 + [3] * 4 + [7] * 8 + [15] * 16 + [31] * 9


def test_the_slots_have_a_maximum(throttle: Throttle) -> None:
    admit(throttle, *[1.0] * 100)
    assert throttle.slots == MOST_SLOTS


def test_slots_return_slowly_after_a_429(throttle: Throttle) -> None:
    throttle.refuse(BACKGROUND, 1.0, 2.0, None)
    for slots in range(1, MOST_SLOTS):
        assert throttle.slots == slots
        admit(throttle, *[3.0] * SUCCESSES_PER_SLOT)


@both_priorities
def test_a_429_halves_the_slots(throttle: Throttle, priority: Priority) -> None:
    admit(throttle, *[1.0] * 100)
    for number, slots in enumerate([3, 1, 1]):
        throttle.refuse(priority, 2.0 + number, 2.5 + number, None)
        assert throttle.slots == slots


def test_429s_for_requests_in_flight_together_count_once(throttle: Throttle) -> None:
    admit(throttle, *[1.0] * 100)
    for answered_s in (2.5, 2.6, 2.7):
        throttle.refuse(BACKGROUND, 2.0, answered_s, None)
    assert throttle.slots == MOST_SLOTS // 2


def test_slots_are_reset_after_a_minute_without_requests(throttle: Throttle) -> None:
    admit(throttle, *[1.0] * 100)
    throttle.begin(60.0)
    assert throttle.slots == MOST_SLOTS
    throttle.begin(121.0)
    admit(throttle, 121.0)
    assert throttle.slots == FIRST_SLOTS


# The pace.


def test_requests_are_not_paced_before_a_429(throttle: Throttle) -> None:
    admit(throttle, *range(1, 100))
    assert interval_s(throttle, 100.0) == 0.0


def test_a_429_spaces_requests_further_apart_than_before(throttle: Throttle) -> None:
    admit(throttle, *TEN_REQUESTS_S)
    throttle.refuse(BACKGROUND, 10.4, 10.5, retry_after_s=0.5)
    # Ten requests in one second, including the cool-down, and a quarter on top.
    assert interval_s(throttle, 12.0) == pytest.approx(1.25 * 1.0 / 10)


def test_the_pace_does_not_depend_on_the_order_of_responses(throttle: Throttle) -> None:
    admit(throttle, *reversed(TEN_REQUESTS_S))
    throttle.refuse(BACKGROUND, 10.4, 10.5, retry_after_s=0.5)
    assert interval_s(throttle, 12.0) == pytest.approx(1.25 * 1.0 / 10)


def test_old_requests_do_not_affect_the_pace(throttle: Throttle) -> None:
    admit(throttle, 10.0, *(1000.0 + time_s for time_s in TEN_REQUESTS_S))
    throttle.refuse(BACKGROUND, 1010.4, 1010.5, retry_after_s=0.5)
    assert interval_s(throttle, 1012.0) == pytest.approx(1.25 * 1.0 / 10)


def test_a_429_without_admitted_requests_sets_no_pace(throttle: Throttle) -> None:
    throttle.refuse(FOREGROUND, 10.0, 11.0, retry_after_s=60.0)
    assert interval_s(throttle, 71.0) == 0.0


def test_another_429_doubles_the_interval_up_to_250_ms(throttle: Throttle) -> None:
    admit(throttle, *TEN_REQUESTS_S)
    throttle.refuse(BACKGROUND, 10.4, 10.5, retry_after_s=0.4)
    before_s = interval_s(throttle, 11.0)
    throttle.refuse(FOREGROUND, 11.0, 11.1, None)
    assert interval_s(throttle, 12.0) == pytest.approx(2 * before_s)
    for number in range(10):
        throttle.refuse(FOREGROUND, 23.0 + number, 23.5 + number, None)
    assert interval_s(throttle, 40.0) == 0.25


def test_a_strict_limit_is_respected_once_it_is_known(throttle: Throttle) -> None:
    now_s = 10.0
    for _ in range(8):  # one request a second is admitted, and the next one refused
        admit(throttle, now_s)
        before_s = interval_s(throttle, now_s)
        throttle.refuse(FOREGROUND, now_s + 0.4, now_s + 0.5, retry_after_s=0.5)
        now_s += 1.0
        assert before_s <= 0.25
    assert interval_s(throttle, now_s) == pytest.approx(1.25)
    throttle.refuse(FOREGROUND, now_s, now_s + 0.1, retry_after_s=60.0)
    assert interval_s(throttle, now_s + 61) == pytest.approx(1.25)


def test_a_later_429_does_not_reduce_a_known_interval(throttle: Throttle) -> None:
    admit(throttle, *[10.0 + number for number in range(8)])
    throttle.refuse(BACKGROUND, 17.5, 17.5, retry_after_s=0.5)
    before_s = interval_s(throttle, 18.0)
    throttle.refuse(FOREGROUND, 60.0, 60.0, None)
    assert interval_s(throttle, 70.0) == before_s


def test_successes_reduce_the_interval_faster_and_faster(
    throttle: Throttle,
) -> None:
    admit(throttle, *TEN_REQUESTS_S)
    throttle.refuse(BACKGROUND, 10.4, 10.5, retry_after_s=0.5)
    intervals_s = [interval_s(throttle, 12.0)]
    for _ in range(4):
        admit(throttle, *[12.0] * 25)
        intervals_s.append(interval_s(throttle, 12.0))
    gains = [before / after for before, after in pairwise(intervals_s)]
    assert 1 < gains[0] < 1.25
    assert gains == sorted(gains)
    assert intervals_s[0] > 10 * intervals_s[-1]


def test_two_requests_between_429s_tell_a_strict_limit(throttle: Throttle) -> None:
    admit(throttle, *TEN_REQUESTS_S)  # a burst
    throttle.refuse(BACKGROUND, 10.4, 10.5, retry_after_s=1.0)
    admit(throttle, 11.5, 12.5)
    throttle.refuse(BACKGROUND, 12.6, 12.7, retry_after_s=1.0)
    assert interval_s(throttle, 14.0) == 1.25


# Even intervals.


@pytest.mark.parametrize(
    ("latency_s", "interval_s"), [(2.0, 0.25), (0.4, 0.05), (0.3, 0.0)], ids=str
)
def test_slow_requests_begin_at_even_intervals(latency_s: float, interval_s: float) -> None:
    throttle = Throttle(7, lambda: 1.0)
    for _ in range(20):
        throttle.begin(10.0)
        throttle.succeed(BACKGROUND, 10.0, 10.0 + latency_s)
    throttle.begin(20.0)
    assert max(20.0, throttle.next_even_s) - 20.0 == pytest.approx(interval_s)
