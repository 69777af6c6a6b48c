"""Backoffs, so that callers do not repeat a slow or failing operation one after another.

Threading: `_until_s` changes by single assignments.
"""

from invoicefs.clock import Clock

BACKOFF_S = 5.0
"""How long an operation is not repeated after a lock timeout, a failure to open, or a check for a
newer database."""


class Backoffs:
    """The operations that are not tried again for a while, by name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_s: dict[str, float] = {}

    def begin(self, operation: str) -> None:
        """Start the backoff of an operation."""
        self._until_s[operation] = self._clock.monotonic_s() + BACKOFF_S

    def has(self, operation: str) -> bool:
        """Return whether an operation must not be tried again yet."""
        return self._clock.monotonic_s() < self._until_s.get(operation, 0.0)
