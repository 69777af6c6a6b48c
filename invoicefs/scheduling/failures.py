"""The memory of failed requests, so that they fail at once instead of being repeated.

Threading: changed under the lock of its scheduler, read without: failures are frozen.
"""

from dataclasses import dataclass
from typing import Final

from invoicefs.errors import InvoicefsError, NoAnswer, Unauthenticated
from invoicefs.scheduling.throttle import Priority

FAILURE_MEMORY_S: Final = 5.0
"""How long a failed request is not repeated, but fails at once."""

_MAX_FAILURES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Failure:
    """How a job failed, and until when a job with its key fails at once; with its `priority`."""

    error: InvoicefsError
    failed_s: float
    until_s: float
    priority: Priority

    def counts_for(self, priority: Priority, now_s: float) -> bool:
        """Return whether a job of this priority fails at once."""
        if now_s >= self.until_s:
            return False
        # A background job may have failed for reasons that a foreground job need not share, or for
        # a credential that has been renewed since.
        is_about_the_request = not isinstance(self.error, NoAnswer | Unauthenticated)
        return self.priority <= priority or is_about_the_request


class FailureMemory:
    """The last failure of each key, as long as no job with it has succeeded since."""

    def __init__(self) -> None:
        self._failures: dict[str, Failure] = {}

    def get(self, key: str) -> Failure | None:
        """Return the last failure, however old."""
        return self._failures.get(key)

    def forget(self, key: str) -> None:
        """Forget the failure of a key, if there is one."""
        self._failures.pop(key, None)

    def add(self, key: str, failure: Failure) -> None:
        """Remember a failure; if there are too many, those that no longer count are dropped."""
        if len(self._failures) >= _MAX_FAILURES:
            now_s = failure.failed_s
            self._failures = {k: f for k, f in self._failures.items() if now_s < f.until_s}
        self._failures[key] = failure
