"""The activity of a mount: counters of requests, and recent failures.

Threading: in each class a lock guards the fields, and is not held during I/O.
"""

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from invoicefs.errors import InvoicefsError, Unauthenticated

QUIET_S: Final = 600.0
"""How long a repeated line is suppressed."""

_MAX_LINES: Final = 1000


@dataclass(frozen=True, slots=True)
class RecentFailure:
    """A warning or error: its message, when it last happened (wall clock), and how often."""

    words: str
    last_ns: int
    count: int
    logged_s: float
    """When it was last logged, in monotonic seconds."""


class RecentFailures(logging.Filter):
    """A filter that keeps distinct warnings and errors, and lets each be logged once per `QUIET_S`.

    Lines below the level of a warning (``-v``) are always logged, and not kept.
    """

    def __init__(
        self,
        monotonic_s: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__()
        self._monotonic_s = monotonic_s
        self._wall_ns = wall_ns
        self._guard = threading.Lock()
        self._by_words: OrderedDict[str, RecentFailure] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record; keep it if it is a warning or an error."""
        if record.levelno < logging.WARNING:
            return True
        words, now_s = record.getMessage(), self._monotonic_s()
        with self._guard:
            last = self._by_words.pop(words, None)
            is_logged = last is None or now_s - last.logged_s >= QUIET_S
            self._by_words[words] = RecentFailure(
                words,
                self._wall_ns(),
                count=last.count + 1 if last else 1,
                logged_s=now_s if last is None or is_logged else last.logged_s,
            )
            if len(self._by_words) > _MAX_LINES:
                self._by_words.popitem(last=False)
        return is_logged

    def latest(self, count: int) -> tuple[RecentFailure, ...]:
        """Return up to `count` failures, the latest one last."""
        with self._guard:
            return tuple(self._by_words.values())[-count:]


class FailedRequest(NamedTuple):
    """The class and the message of an error; the error itself would keep the response in memory."""

    error: type[InvoicefsError]
    words: str


class RequestCounters:
    """Counters of requests by kind and result, and the last failures."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._counts: dict[str, Counter[str]] = {}
        self._failed: dict[str, FailedRequest] = {}

    def add(self, kind: str, result: str, error: InvoicefsError | None = None) -> None:
        """Count a request, and remember its error, if any."""
        with self._guard:
            self._counts.setdefault(kind, Counter())[result] += 1
            self._failed.pop(kind, None)
            if error is not None:
                self._failed[kind] = FailedRequest(type(error), str(error))
            else:  # so the API accepts the credential again
                self._failed = {
                    kind: failed
                    for kind, failed in self._failed.items()
                    if not issubclass(failed.error, Unauthenticated)
                }

    def failed(self) -> Mapping[str, FailedRequest]:
        """Return the kinds whose last request has failed."""
        with self._guard:
            return dict(self._failed)

    def snapshot(self) -> Mapping[str, Mapping[str, int]]:
        """Return the counts by kind and result."""
        with self._guard:
            return {kind: dict(counts) for kind, counts in self._counts.items()}
