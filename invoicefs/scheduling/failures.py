"""Recent failures of requests, which fail at once for a while instead of being repeated.

Threading: written with the lock of the scheduler, read without it, because failures are frozen.
"""

from dataclasses import dataclass
from typing import Final

from invoicefs.errors import InvoicefsError, NoResponse, Unauthenticated
from invoicefs.scheduling.throttle import Priority

FAILURE_MEMORY_S: Final = 5.0
"""How long a failed request fails at once instead of being repeated."""

_MAX_FAILURES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Failure:
    """The error and the `priority` of a failed job; until `until_s`, its key fails at once."""

    error: InvoicefsError
    failed_s: float
    until_s: float
    priority: Priority

    def counts_for(self, priority: Priority, now_s: float) -> bool:
        """Return whether a job of this priority fails at once."""
        if now_s >= self.until_s:
            return False
        # A background job may have failed for a reason that does not apply to a foreground job, or
        # because of a credential that has been renewed since.
        is_about_the_request = not isinstance(self.error, NoResponse | Unauthenticated)
        return self.priority <= priority or is_about_the_request


class FailureMemory:
    """The last failure of each key, until a job with that key ends in another way."""

    def __init__(self) -> None:
        self._failures: dict[str, Failure] = {}

    def get(self, key: str) -> Failure | None:
        """Return the last failure of a key, whatever its age, or None."""
        return self._failures.get(key)

    def forget(self, key: str) -> None:
        """Forget the failure of a key, if there is one."""
        self._failures.pop(key, None)

    def add(self, key: str, failure: Failure) -> None:
        """Add a failure; if there are too many, those that have expired are removed."""
        if len(self._failures) >= _MAX_FAILURES:
            now_s = failure.failed_s
            self._failures = {k: f for k, f in self._failures.items() if now_s < f.until_s}
        self._failures[key] = failure
