"""What a mount has done, in numbers, and what went wrong lately, in words.

Threading: `_lock` guards every field of a `Activity`; nothing is called with it held.
"""

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from invoicefs.clock import Clock

MOST_RECENT_FAILURES: Final = 50


@dataclass(frozen=True, slots=True)
class RecentFailure:
    """Something that went wrong: the words of its line in the log, when last, and how often."""

    words: str
    last_ns: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class ActivitySnapshot:
    """What a journal says at one moment: requests by kind and result, the latest trouble last."""

    requests: Mapping[str, Mapping[str, int]]
    recent_failures: tuple[RecentFailure, ...]


class Activity(logging.Handler):
    """Counts requests, and keeps the last `MOST_RECENT_FAILURES` distinct warnings and errors.

    As a handler of the log it hears of each, also of those that the log itself tells only once.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._guard = threading.Lock()
        self._requests: dict[str, Counter[str]] = {}
        self._troubles: OrderedDict[str, RecentFailure] = OrderedDict()

    def count_request(self, kind: str, result: str) -> None:
        """Count a request of a kind by its result."""
        with self._guard:
            self._requests.setdefault(kind, Counter())[result] += 1

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the words of a warning or an error."""
        words, now_ns = record.getMessage(), self._clock.wall_ns()
        with self._guard:
            known = self._troubles.pop(words, RecentFailure(words, now_ns, count=0))
            self._troubles[words] = replace(known, last_ns=now_ns, count=known.count + 1)
            if len(self._troubles) > MOST_RECENT_FAILURES:
                self._troubles.popitem(last=False)

    def snapshot(self) -> ActivitySnapshot:
        """What there is to say now."""
        with self._guard:
            requests = {kind: dict(counts) for kind, counts in self._requests.items()}
            return ActivitySnapshot(requests, tuple(self._troubles.values()))
