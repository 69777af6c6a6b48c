"""How somebody walks through a sequence of files, and what to fetch ahead of them.

A `Walk` knows one order of the files. To it, a walk in another order is a series of jumps, and
ahead of a jump nothing is fetched.
"""

from dataclasses import dataclass

FIRST_WINDOW = 2


@dataclass(frozen=True, slots=True)
class Walk:
    """Where a walk is, and which places ahead of it have to be fetched now.

    `ahead` begins after what was ahead at earlier steps, so nothing is named twice; it may reach
    beyond the end of the sequence. `window` is how far ahead it reaches: it doubles with each
    step, so a walk that soon ends has fetched little in vain.
    """

    position: int
    ahead: range
    window: int = 0

    @classmethod
    def begun_at(cls, position: int) -> "Walk":
        """A walk of one step: whoever looks at one file need not look at the next."""
        return cls(position, _nothing(position + 1))

    def step(self, position: int, largest_window: int) -> "Walk":
        """The walk after a visit to this place."""
        if position == self.position:  # one visit of a program is several system calls
            return Walk(position, _nothing(self.ahead.stop), self.window)
        if position != self.position + 1:
            return Walk.begun_at(position)
        window = min(max(FIRST_WINDOW, 2 * self.window), largest_window)
        begin = max(self.ahead.stop, position + 1)
        return Walk(position, range(begin, max(begin, position + 1 + window)), window)


def _nothing(after: int) -> range:
    return range(after, after)
