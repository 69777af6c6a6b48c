"""What is fetched ahead of a walk, and that a jump fetches nothing."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from invoicefs.walks import Walk

places = st.integers(0, 30)
windows = st.integers(1, 16)


def steps(positions: list[int], largest_window: int) -> list[list[int]]:
    """What is named to be fetched at each step of a walk."""
    walk = Walk.begun_at(positions[0])
    named = [list(walk.ahead)]
    for position in positions[1:]:
        walk = walk.step(position, largest_window)
        named.append(list(walk.ahead))
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
    assert steps([3, 9, 2, 20, 4], largest_window=8) == [[]] * 5


def test_after_a_jump_a_walk_begins_small_again() -> None:
    assert steps([0, 1, 2, 10, 11], largest_window=8) == [[], [2, 3], [4, 5, 6], [], [12, 13]]


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
