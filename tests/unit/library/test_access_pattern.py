"""What is fetched ahead of a walk, and that a jump fetches nothing."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from invoicefs.library.access_pattern import AccessPattern

places = st.integers(0, 30)
windows = st.integers(1, 16)


def steps(positions: list[int], largest_window: int) -> list[list[int]]:
    """What is named to be fetched at each step of a walk."""
    pattern, named = AccessPattern(), []
    for position in positions:
        pattern = pattern.step(position, largest_window)
        named.append(list(pattern.ahead))
    return named


def test_the_window_doubles_up_to_its_largest() -> None:
    assert steps([0, 1, 2, 3, 4, 5], largest_window=8) == [
        [],
        [2, 3],
        [4, 5, 6],
        [7, 8, 9, 10, 11],
        [12],
        [13],
    ]


def test_one_look_fetches_nothing_ahead() -> None:
    assert steps([7], largest_window=8) == [[]]


def test_a_repeated_look_changes_nothing() -> None:
    assert steps([0, 0, 1, 1, 2, 2], largest_window=4) == [[], [], [2, 3], [], [4, 5, 6], []]


def test_jumps_fetch_nothing() -> None:
    assert steps([3, 9, 5, 20, 7], largest_window=8) == [[]] * 5


def test_after_a_jump_another_walk_begins_small() -> None:
    assert steps([0, 1, 2, 10, 11], largest_window=8) == [[], [2, 3], [4, 5, 6], [], [12, 13]]


def test_walks_at_one_time_do_not_disturb_each_other() -> None:
    assert steps([0, 50, 1, 51, 2, 52], largest_window=8) == [
        *([], []),
        *([2, 3], [52, 53]),
        *([4, 5, 6], [54, 55, 56]),
    ]


def test_jumps_in_between_do_not_end_a_walk() -> None:
    assert steps([0, 1, 70, 80, 2], largest_window=8) == [[], [2, 3], [], [], [4, 5, 6]]


def test_a_walk_that_was_left_long_ago_is_forgotten() -> None:
    assert steps([0, 1, 70, 80, 90, 100, 2], largest_window=8)[-1] == []


@given(st.lists(places, min_size=1, max_size=40), windows)
def test_only_what_lies_ahead_within_the_window_is_fetched(
    positions: list[int], largest_window: int
) -> None:
    for position, named in zip(positions, steps(positions, largest_window), strict=True):
        assert all(position < each <= position + largest_window for each in named)


@given(places, st.integers(2, 40), windows)
def test_a_walk_names_everything_ahead_of_it_once_and_in_order(
    start: int, length: int, largest_window: int
) -> None:
    positions = list(range(start, start + length))

    named = [each for step in steps(positions, largest_window) for each in step]

    assert named[0] == start + 2
    assert all(after == before + 1 for before, after in pairwise(named))
    assert named[-1] >= positions[-1]
