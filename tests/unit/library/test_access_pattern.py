"""Which places sequential access downloads ahead, and that a jump downloads none."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from invoicefs.library.access_pattern import AccessPattern

places = st.integers(0, 30)
windows = st.integers(1, 16)


def steps(positions: list[int], largest_window: int) -> list[list[int]]:
    """Return the places to download ahead after each visit."""
    pattern, ahead = AccessPattern(), []
    for position in positions:
        pattern = pattern.step(position, largest_window)
        ahead.append(list(pattern.ahead))
    return ahead


def test_the_window_doubles_up_to_its_maximum() -> None:
    assert steps([0, 1, 2, 3, 4, 5], largest_window=8) == [
        [],
        [2, 3],
        [4, 5, 6],
        [7, 8, 9, 10, 11],
        [12],
        [13],
    ]


def test_a_repeated_visit_is_not_a_step() -> None:
    assert steps([0, 0, 1, 1, 2, 2], largest_window=4) == [[], [], [2, 3], [], [4, 5, 6], []]


def test_after_a_jump_the_window_starts_small() -> None:
    assert steps([0, 1, 2, 10, 11], largest_window=8) == [[], [2, 3], [4, 5, 6], [], [12, 13]]


def test_concurrent_sequential_accesses_are_independent() -> None:
    assert steps([0, 50, 1, 51, 2, 52], largest_window=8) == [
        *([], []),
        *([2, 3], [52, 53]),
        *([4, 5, 6], [54, 55, 56]),
    ]


def test_jumps_do_not_end_a_sequential_access() -> None:
    assert steps([0, 1, 70, 80, 2], largest_window=8) == [[], [2, 3], [], [], [4, 5, 6]]


def test_a_sequential_access_is_forgotten_after_several_jumps() -> None:
    assert steps([0, 1, 70, 80, 90, 100, 2], largest_window=8)[-1] == []


@given(st.lists(places, min_size=1, max_size=40), windows)
def test_only_places_within_the_window_are_downloaded_ahead(
    positions: list[int], largest_window: int
) -> None:
    for position, ahead in zip(positions, steps(positions, largest_window), strict=True):
        assert all(position < place <= position + largest_window for place in ahead)


@given(places, st.integers(2, 40), windows)
def test_a_sequential_access_names_each_place_ahead_once_and_in_order(
    start: int, length: int, largest_window: int
) -> None:
    positions = list(range(start, start + length))

    ahead = [place for step in steps(positions, largest_window) for place in step]

    assert ahead[0] == start + 2
    assert all(after == before + 1 for before, after in pairwise(ahead))
    assert ahead[-1] >= positions[-1]
