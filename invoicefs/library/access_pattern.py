"""The access pattern of programs in a sequence of places, and what to request ahead of them.

A sequential access is a series of visits to consecutive places. There may be several at once; each
is recognised by its next place. A visit to any other place is a jump, and nothing is requested
ahead of it. A program that reads the files in another order only makes jumps.

Invariants:

1. Nothing is requested ahead of the first visit or of a jump.
2. When a sequential access stops, at most its window has been requested unnecessarily. What was
   there already does not count, so a window is full of requests even where most places need none.
3. A place is requested ahead at most once per access.

Threading: none of its own; the owner of an `AccessPattern` guards it.
"""

from collections.abc import Hashable
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

FIRST_WINDOW: Final = 2

FURTHEST_PLACES: Final = 256
"""How far ahead requests are sought, where most places need none. Each takes 2 us (measured)."""

_MAX_BEGUN: Final = 4  # with more, random visits would continue one of them by chance
_MAX_CONTINUED: Final = 16  # more programs seldom read a tree at the same time

Place = TypeVar("Place", bound=Hashable)


class Sequence(Protocol[Place]):
    """The order in which programs visit places, and how to make the request that a place needs.

    No method blocks.
    """

    def before(self, place: Place) -> Place | None:
        """Return the previous place, or None if there is none or it is not known."""

    def after(self, place: Place) -> Place | None:
        """Return the next place, or None if there is none or it is not known yet."""

    def is_wanted(self, place: Place) -> bool:
        """Return whether a request now could save the next visit from waiting."""

    def start(self, place: Place) -> bool:
        """Start the request of a place in the background; returns False if that is impossible."""


class SequentialAccess(NamedTuple, Generic[Place]):
    """The last place of an access, and the requests ahead of it.

    `furthest` is the last place that was examined, `distance` places ahead. `ahead` are the places
    that have been requested and not visited yet; there are at most `window` of them. The window
    doubles with each step, so an access that ends soon causes few unneeded requests.
    """

    place: Place
    furthest: Place
    distance: int = 0
    ahead: tuple[Place, ...] = ()
    window: int = 0

    def next_window(self, largest_window: int) -> int:
        """Return the window of the next step."""
        return min(max(FIRST_WINDOW, 2 * self.window), largest_window)

    def stepped(
        self, place: Place, sequence: Sequence[Place], largest_window: int
    ) -> "SequentialAccess[Place]":
        """Return the access after a step to the next place, with its window full of requests."""
        window = self.next_window(largest_window)
        furthest, distance, ahead = self.furthest, self.distance - 1, self.ahead
        if place in ahead:
            ahead = ahead[ahead.index(place) + 1 :]
        elif sequence.is_wanted(place):
            distance = 0  # places were examined and found unnecessary, but were evicted since
        if distance <= 0:
            furthest, distance = place, 0
        while len(ahead) < window and distance < FURTHEST_PLACES:
            candidate = sequence.after(furthest)
            if candidate is None:
                break
            if candidate not in ahead and sequence.is_wanted(candidate):
                if not sequence.start(candidate):
                    break
                ahead = (*ahead, candidate)
            furthest, distance = candidate, distance + 1
        return SequentialAccess(place, furthest, distance, ahead, window)


class AccessPattern(Generic[Place]):
    """The accesses to a sequence, by their last places, the latest one last.

    Those of one visit are kept apart, so that jumps do not end a sequential access.
    """

    def __init__(self, sequence: Sequence[Place], largest_window: int) -> None:
        self._sequence = sequence
        self._largest_window = largest_window
        self._begun: dict[Place, SequentialAccess[Place]] = {}
        self._continued: dict[Place, SequentialAccess[Place]] = {}

    def visit(self, place: Place) -> int:
        """Note a visit, and start requests ahead of it if it continues a sequential access.

        Returns how many requests the next step may start, if it may start more than this one. A
        program makes several system calls for one visit, so repeated visits have no effect.
        """
        if place in self._begun or place in self._continued:
            return 0
        before = self._sequence.before(place)
        access = None if before is None else self._taken(before)
        if access is None:
            access = SequentialAccess(place, place)
            _add(self._begun, access, _MAX_BEGUN)
            is_needed = self._sequence.is_wanted(place)
        else:
            access = access.stepped(place, self._sequence, self._largest_window)
            _add(self._continued, access, _MAX_CONTINUED)
            is_needed = bool(access.ahead)
        next_window = access.next_window(self._largest_window)
        return next_window if is_needed and next_window > access.window else 0

    def _taken(self, place: Place) -> SequentialAccess[Place] | None:
        return self._continued.pop(place, None) or self._begun.pop(place, None)


def _add(
    accesses: dict[Place, SequentialAccess[Place]], access: SequentialAccess[Place], limit: int
) -> None:
    if len(accesses) >= limit:
        del accesses[next(iter(accesses))]
    accesses[access.place] = access
