"""Which requests a sequential access makes ahead, and that a jump makes none."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from invoicefs.library.access_pattern import FURTHEST_PLACES, AccessPattern

LAST = 1000

places = st.integers(0, 30)
windows = st.integers(1, 16)


class Numbers:
    """A sequence of whole numbers up to `last`; those in `there` need no request."""

    def __init__(self, there: frozenset[int] = frozenset(), last: int = LAST) -> None:
        self.there = there
        self.last = last
        self.is_possible = True
        self.started: list[int] = []

    def before(self, place: int) -> int | None:
        return place - 1 if place else None

    def after(self, place: int) -> int | None:
        return place + 1 if place < self.last else None

    def is_wanted(self, place: int) -> bool:
        return place not in self.there

    def start(self, place: int) -> bool:
        if self.is_possible:
            self.started.append(place)
        return self.is_possible

    def take_started(self) -> list[int]:
        started, self.started = self.started, []
        return started


def steps(positions: list[int], largest_window: int, numbers: Numbers) -> list[list[int]]:
    """Return the requests that are started after each visit."""
    pattern = AccessPattern(numbers, largest_window)
    ahead = []
    for position in positions:
        pattern.visit(position)
        ahead.append(numbers.take_started())
    return ahead


def test_the_window_doubles_up_to_its_maximum() -> None:
    assert steps([0, 1, 2, 3, 4, 5], 8, Numbers()) == [
        [],
        [2, 3],
        [4, 5, 6],
        [7, 8, 9, 10, 11],
        [12],
        [13],
    ]


def test_a_visit_returns_how_many_requests_the_next_step_may_start() -> None:
    pattern = AccessPattern(Numbers(), 8)
    assert [pattern.visit(place) for place in (0, 0, 1, 2, 3, 4)] == [2, 0, 4, 8, 0, 0]


def test_a_visit_that_needs_no_request_returns_0() -> None:
    pattern = AccessPattern(Numbers(there=frozenset(range(LAST))), 8)
    assert [pattern.visit(place) for place in range(5)] == [0] * 5


def test_a_repeated_visit_is_not_a_step() -> None:
    assert steps([0, 0, 1, 1, 2, 2], 4, Numbers()) == [[], [], [2, 3], [], [4, 5, 6], []]


def test_after_a_jump_the_window_starts_small() -> None:
    ahead = steps([0, 1, 2, 10, 11], 8, Numbers())
    assert ahead == [[], [2, 3], [4, 5, 6], [], [12, 13]]


def test_concurrent_sequential_accesses_are_independent() -> None:
    assert steps([0, 50, 1, 51, 2, 52], 8, Numbers()) == [
        *([], []),
        *([2, 3], [52, 53]),
        *([4, 5, 6], [54, 55, 56]),
    ]


def test_jumps_do_not_end_a_sequential_access() -> None:
    jumps = list(range(100, 200, 5))
    assert steps([0, 1, *jumps, 2], 8, Numbers())[-1] == [4, 5, 6]


def test_a_single_visit_is_forgotten_after_several_jumps() -> None:
    assert steps([0, 70, 80, 90, 100, 1], 8, Numbers())[-1] == []


def test_places_that_need_no_request_do_not_use_up_the_window() -> None:
    numbers = Numbers(there=frozenset(range(2, 30)))
    assert steps([0, 1, 2], 4, numbers) == [[], [30, 31], [32, 33]]


def test_requests_are_sought_within_a_limited_distance() -> None:
    numbers = Numbers(there=frozenset(range(FURTHEST_PLACES + 2)))
    assert steps([0, 1, 2], 4, numbers) == [[], [], [FURTHEST_PLACES + 2]]


def test_places_that_were_there_and_have_gone_are_requested_again() -> None:
    numbers = Numbers(there=frozenset(range(LAST)))
    pattern = AccessPattern(numbers, 2)
    for place in range(10):
        pattern.visit(place)
    numbers.there = frozenset()
    pattern.visit(10)
    assert numbers.started == [11, 12]


def test_a_sequence_goes_on_when_more_of_it_is_known() -> None:
    numbers = Numbers(last=3)
    pattern = AccessPattern(numbers, 4)
    for place in range(3):
        pattern.visit(place)
    assert numbers.take_started() == [2, 3]
    numbers.last = LAST
    pattern.visit(3)
    assert numbers.take_started() == [4, 5, 6, 7]


def test_a_request_that_cannot_be_started_is_started_later() -> None:
    numbers = Numbers()
    numbers.is_possible = False
    pattern = AccessPattern(numbers, 4)
    for place in range(3):
        pattern.visit(place)
    numbers.is_possible = True
    pattern.visit(3)
    assert numbers.started == [4, 5, 6, 7]


@given(
    st.lists(places, min_size=1, max_size=40),
    windows,
    st.frozensets(st.integers(0, 60)),
)
def test_at_most_a_window_of_requests_is_ahead_of_an_access(
    positions: list[int], largest_window: int, there: frozenset[int]
) -> None:
    ahead = steps(positions, largest_window, Numbers(there))
    for position, started in zip(positions, ahead, strict=True):
        assert len(started) <= largest_window
        assert all(place > position and place not in there for place in started)


@given(places, st.integers(2, 40), windows, st.frozensets(st.integers(0, 60)))
def test_a_sequential_access_requests_each_place_once_and_in_order(
    start: int, length: int, largest_window: int, there: frozenset[int]
) -> None:
    positions = list(range(start, start + length))
    requested: list[int] = []
    for position, started in zip(
        positions, steps(positions, largest_window, Numbers(there)), strict=True
    ):
        requested += started
        assert sum(place > position for place in requested) <= largest_window

    wanted = [place for place in range(start + 2, positions[-1] + 1) if place not in there]
    assert all(before < after for before, after in pairwise(requested))
    assert set(wanted) <= set(requested)
