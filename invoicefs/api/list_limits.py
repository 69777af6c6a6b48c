"""The limit of a list request: neither its default nor its maximum is documented.

There is no page token, so the limit is raised until the server returns fewer invoices than it
allows. A server may refuse a limit above its maximum with 400: then the limit is lowered, and
finally omitted, and the refused limit is not requested again. The limit that was sufficient for a
long list is the first one that is requested the next time.

There are no pages to put together: a listing is one response, that to the last limit. So an HTTP
cache on the way, which has a response for each limit, cannot mix listings of different moments.

Threading: `_refused` and `_sufficient` change by single assignments.
"""

from typing import Final

NO_LIMIT: Final = 0
FIRST_LIMIT: Final = 1000
LAST_LIMIT: Final = 2**31 - 1  # the parameter is an int32

_GROWTH: Final = 10
_SMALLEST: Final = 50
_STEPS: Final[tuple[int, ...]] = (
    NO_LIMIT,
    *(
        limit
        for power in (1, 2, 3, 4, 5, 6, 7, 8)
        for step in (1, 2, 5)
        if (limit := step * 10**power) >= _SMALLEST
    ),
)


class ListLimits:
    """Chooses limits below the smallest one that the server is known to refuse."""

    def __init__(self) -> None:
        self._refused = LAST_LIMIT + 1
        self._sufficient: dict[str, int] = {}  # only larger ones than the first limit

    def first(self, namespace: str) -> int:
        """Return the limit to begin with."""
        wanted = self._sufficient.get(namespace, FIRST_LIMIT)
        return wanted if wanted < self._refused else self.smaller(wanted)

    def larger(self, limit: int) -> int | None:
        """Return the next limit after one that was reached, or None if there is no larger one."""
        wanted = min(limit * _GROWTH, LAST_LIMIT)
        if limit == NO_LIMIT or wanted == limit:
            return None
        if wanted < self._refused:
            return wanted
        return max((step for step in _STEPS if limit < step < self._refused), default=None)

    def smaller(self, limit: int) -> int:
        """Return the next limit to try after one that was refused."""
        return max(step for step in _STEPS if step < min(limit, self._refused))

    def note_refused(self, limit: int) -> None:
        """Note that this limit, and therefore every larger one, is refused."""
        self._refused = min(self._refused, limit)

    def note_sufficient(self, namespace: str, limit: int) -> None:
        """Note that a namespace has fewer invoices than this limit."""
        if limit > FIRST_LIMIT:
            self._sufficient[namespace] = limit
