"""How hard calls press a server that limits their rate, without a thread and without a clock."""

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
TEN_CALLS_S = [10.0 + number / 100 for number in range(10)]
FOREGROUND, BACKGROUND = Priority

each_priority = pytest.mark.parametrize("priority", Priority)


@pytest.fixture
def throttle() -> Throttle:
    return Throttle(MOST_SLOTS, lambda: 1.0)


def admit(throttle: Throttle, *began_s: float) -> None:
    for each in began_s:
        throttle.begin(each)
        throttle.succeed(BACKGROUND, each)


def distance_s(throttle: Throttle, now_s: float) -> float:
    """How long after a call that begins now the next one may begin."""
    throttle.begin(now_s)
    return throttle.next_in_pace_s - now_s


# Cool-downs.


def test_a_cool_down_of_the_background_holds_back_the_background_only(throttle: Throttle) -> None:
    throttle.refuse(BACKGROUND, 10.0, 11.0, retry_after_s=5.0)
    assert throttle.cool_until_s(BACKGROUND) == 16.0
    assert throttle.cool_until_s(FOREGROUND) <= 11.0


def test_a_cool_down_of_the_foreground_holds_back_all(throttle: Throttle) -> None:
    throttle.refuse(FOREGROUND, 10.0, 11.0, retry_after_s=5.0)
    assert {throttle.cool_until_s(each) for each in Priority} == {16.0}


def test_no_cool_down_is_longer_than_the_longest(throttle: Throttle) -> None:
    throttle.refuse(FOREGROUND, 10.0, 11.0, retry_after_s=1e9)
    assert throttle.cool_until_s(FOREGROUND) == 11.0 + LONGEST_COOL_DOWN_S


# Slots.


def test_the_background_begins_with_few_slots_and_wins_them_one_by_one(throttle: Throttle) -> None:
    for slots in range(FIRST_SLOTS, MOST_SLOTS):
        assert throttle.slots == slots
        admit(throttle, *[1.0] * SUCCESSES_PER_SLOT)
    admit(throttle, *[1.0] * 100)
    assert throttle.slots == MOST_SLOTS


@each_priority
def test_a_429_takes_half_of_the_slots(throttle: Throttle, priority: Priority) -> None:
    admit(throttle, *[1.0] * 100)
    for number, slots in enumerate([3, 1, 1]):
        throttle.refuse(priority, 2.0 + number, 2.5 + number, None)
        assert throttle.slots == slots


def test_those_that_were_on_their_way_together_are_refused_as_one(throttle: Throttle) -> None:
    admit(throttle, *[1.0] * 100)
    for answered_s in (2.5, 2.6, 2.7):
        throttle.refuse(BACKGROUND, 2.0, answered_s, None)
    assert throttle.slots == MOST_SLOTS // 2


def test_after_a_minute_without_a_call_the_slots_are_few_again(throttle: Throttle) -> None:
    admit(throttle, *[1.0] * 100)
    throttle.begin(60.0)
    assert throttle.slots == MOST_SLOTS
    throttle.begin(121.0)
    assert throttle.slots == FIRST_SLOTS


# The pace.


def test_without_a_429_there_is_no_pace(throttle: Throttle) -> None:
    admit(throttle, *range(1, 100))
    assert distance_s(throttle, 100.0) == 0.0


def test_after_a_429_calls_begin_further_apart_than_they_were_admitted(throttle: Throttle) -> None:
    admit(throttle, *TEN_CALLS_S)
    throttle.refuse(BACKGROUND, 10.4, 10.5, retry_after_s=0.5)
    # Ten calls in one second, the pause counted in, and a quarter on top.
    assert distance_s(throttle, 12.0) == pytest.approx(1.25 * 1.0 / 10)


def test_the_order_of_answers_does_not_matter_for_the_pace(throttle: Throttle) -> None:
    admit(throttle, *reversed(TEN_CALLS_S))
    throttle.refuse(BACKGROUND, 10.4, 10.5, retry_after_s=0.5)
    assert distance_s(throttle, 12.0) == pytest.approx(1.25 * 1.0 / 10)


def test_calls_of_long_ago_say_nothing_of_the_pace(throttle: Throttle) -> None:
    admit(throttle, 10.0, *(1000.0 + each for each in TEN_CALLS_S))
    throttle.refuse(BACKGROUND, 1010.4, 1010.5, retry_after_s=0.5)
    assert distance_s(throttle, 1012.0) == pytest.approx(1.25 * 1.0 / 10)


def test_where_nothing_was_admitted_the_cool_down_is_all(throttle: Throttle) -> None:
    throttle.refuse(FOREGROUND, 10.0, 11.0, retry_after_s=60.0)
    assert distance_s(throttle, 71.0) == 0.0


def test_another_429_doubles_the_distance_up_to_a_quarter_of_a_second(throttle: Throttle) -> None:
    admit(throttle, *TEN_CALLS_S)
    throttle.refuse(BACKGROUND, 10.4, 10.5, retry_after_s=0.4)
    before_s = distance_s(throttle, 11.0)
    throttle.refuse(FOREGROUND, 11.0, 11.1, None)
    assert distance_s(throttle, 12.0) == pytest.approx(2 * before_s)
    for number in range(10):
        throttle.refuse(FOREGROUND, 23.0 + number, 23.5 + number, None)
    assert distance_s(throttle, 40.0) == 0.25


def test_a_strict_limit_is_kept_once_enough_calls_were_admitted(throttle: Throttle) -> None:
    now_s = 10.0
    for _ in range(8):  # one a second is admitted, and each time the next one is refused
        admit(throttle, now_s)
        before_s = distance_s(throttle, now_s)
        throttle.refuse(FOREGROUND, now_s + 0.4, now_s + 0.5, retry_after_s=0.5)
        now_s += 1.0
        assert before_s <= 0.25
    assert distance_s(throttle, now_s) == pytest.approx(1.25)
    throttle.refuse(FOREGROUND, now_s, now_s + 0.1, retry_after_s=60.0)
    assert distance_s(throttle, now_s + 61) == pytest.approx(1.25)


def test_a_429_of_a_busy_moment_brings_a_known_distance_no_closer(throttle: Throttle) -> None:
    admit(throttle, *[10.0 + number for number in range(8)])
    throttle.refuse(BACKGROUND, 17.5, 17.5, retry_after_s=0.5)
    before_s = distance_s(throttle, 18.0)
    throttle.refuse(FOREGROUND, 60.0, 60.0, None)
    assert distance_s(throttle, 70.0) == before_s


def test_those_that_are_refused_together_double_it_once(throttle: Throttle) -> None:
    admit(throttle, *TEN_CALLS_S)
    for priority, now_s in ((BACKGROUND, 10.5), (FOREGROUND, 10.6), (BACKGROUND, 10.7)):
        throttle.refuse(priority, 10.4, now_s, retry_after_s=0.5)
    assert distance_s(throttle, 12.0) == pytest.approx(1.25 * 1.0 / 10)


def test_successes_bring_calls_closer_again_and_more_so_the_longer_it_goes_well(
    throttle: Throttle,
) -> None:
    admit(throttle, *TEN_CALLS_S)
    throttle.refuse(BACKGROUND, 10.4, 10.5, retry_after_s=0.5)
    distances_s = [distance_s(throttle, 12.0)]
    for _ in range(4):
        admit(throttle, *[12.0] * 25)
        distances_s.append(distance_s(throttle, 12.0))
    gains = [before / after for before, after in pairwise(distances_s)]
    assert 1 < gains[0] < 1.25
    assert gains == sorted(gains)
    assert distances_s[0] > 10 * distances_s[-1]
