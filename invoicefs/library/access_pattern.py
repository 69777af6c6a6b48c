"""The access pattern of programs in a sequence of files, and which files to download ahead.

A sequential access is a series of visits to consecutive positions. There may be several at once;
each is recognised by its next position. A visit to any other position is a jump, and nothing is
downloaded ahead of it. A program that reads the files in another order only makes jumps.
"""

from typing import NamedTuple

FIRST_WINDOW = 2
_MAX_ACCESSES = 4  # in one sequence; more than a few programs seldom read a folder at once


class SequentialAccess(NamedTuple):
    """The position of a sequential access, and which positions ahead of it to download now.

    `ahead` begins after the positions of earlier steps, so no position appears twice; it may extend
    beyond the end of the sequence. `window` is how far ahead of the position it extends. The window
    doubles with each step, so an access that ends soon causes few unneeded downloads.
    """

    position: int
    ahead: range
    window: int = 0

    @classmethod
    def begun_at(cls, position: int) -> "SequentialAccess":
        """Return an access of one step: a program that opens one file need not open the next."""
        return cls(position, _nothing(position + 1))

    def is_continued_at(self, position: int) -> bool:
        """Return whether a visit to this position continues the access or repeats its last step."""
        return position - self.position in (0, 1)

    def step(self, position: int, largest_window: int) -> "SequentialAccess":
        """Return the access after a visit that continues it."""
        if position == self.position:  # a program makes several system calls for one visit
            return SequentialAccess(position, _nothing(self.ahead.stop), self.window)
        window = min(max(FIRST_WINDOW, 2 * self.window), largest_window)
        begin = max(self.ahead.stop, position + 1)
        end = max(begin, position + 1 + window)
        return SequentialAccess(position, range(begin, end), window)


class AccessPattern(NamedTuple):
    """The sequential accesses to one sequence, the latest one last."""

    accesses: tuple[SequentialAccess, ...] = ()

    @property
    def ahead(self) -> range:
        """The positions to download after the last visit."""
        return self.accesses[-1].ahead if self.accesses else _nothing(0)

    def step(self, position: int, largest_window: int) -> "AccessPattern":
        """Return the pattern after a visit to this position."""
        for access in reversed(self.accesses):
            if access.is_continued_at(position):
                others = tuple(other for other in self.accesses if other is not access)
                return AccessPattern((*others, access.step(position, largest_window)))
        kept = self.accesses[1 - _MAX_ACCESSES :]
        return AccessPattern((*kept, SequentialAccess.begun_at(position)))


def _nothing(after: int) -> range:
    return range(after, after)
