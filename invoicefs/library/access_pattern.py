"""How somebody walks through a sequence of files, and what to fetch ahead of them.

A walk is a series of visits to one place after the other. Several go on at one time: each of them
is recognised by the place that it comes to next, and a visit to any other place is a jump, ahead
of which nothing is fetched. Whoever goes through the files in another order only jumps.
"""

from dataclasses import dataclass

FIRST_WINDOW = 2
_MAX_ACCESSES = 4  # of a sequence; programs seldom read one folder at the same time


@dataclass(frozen=True, slots=True)
class SequentialAccess:
    """Where a walk is, and which places ahead of it have to be fetched now.

    `ahead` begins after what was ahead at earlier steps, so nothing is named twice; it may reach
    beyond the end of the sequence. `window` is how far ahead it reaches: it doubles with each
    step, so a walk that soon ends has fetched little in vain.
    """

    position: int
    ahead: range
    window: int = 0

    @classmethod
    def begun_at(cls, position: int) -> "SequentialAccess":
        """A walk of one step: whoever looks at one file need not look at the next."""
        return cls(position, _nothing(position + 1))

    def is_continued_at(self, position: int) -> bool:
        """Whether a visit to this place goes on with the walk, or is one more to where it is."""
        return position - self.position in (0, 1)

    def step(self, position: int, largest_window: int) -> "SequentialAccess":
        """The walk after a visit to a place that it leads to."""
        if position == self.position:  # one visit of a program is several system calls
            return SequentialAccess(position, _nothing(self.ahead.stop), self.window)
        window = min(max(FIRST_WINDOW, 2 * self.window), largest_window)
        begin = max(self.ahead.stop, position + 1)
        return SequentialAccess(position, range(begin, max(begin, position + 1 + window)), window)


@dataclass(frozen=True, slots=True)
class AccessPattern:
    """The walks through one sequence, that of the last visit at the end."""

    accesses: tuple[SequentialAccess, ...] = ()

    @property
    def ahead(self) -> range:
        """The places that the last visit wants to be fetched."""
        return self.accesses[-1].ahead if self.accesses else _nothing(0)

    def step(self, position: int, largest_window: int) -> "AccessPattern":
        """The walks after a visit to this place."""
        for access in reversed(self.accesses):
            if access.is_continued_at(position):
                others = tuple(each for each in self.accesses if each is not access)
                return AccessPattern((*others, access.step(position, largest_window)))
        return AccessPattern(
            (*self.accesses[1 - _MAX_ACCESSES :], SequentialAccess.begun_at(position))
        )


def _nothing(after: int) -> range:
    return range(after, after)
