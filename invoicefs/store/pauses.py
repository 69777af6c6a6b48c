"""Pauses after failures, so that the next caller does not wait as long as the last one.

Threading: `_until_s` changes by single assignments.
"""

from invoicefs.clock import Clock

PAUSE_S = 5.0
"""How long an operation is not tried again that had to wait for a lock, or could not open."""


class Pauses:
    """Which operations pause, by their names."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_s: dict[str, float] = {}

    def begin(self, operation: str) -> None:
        """Have an operation pause from now on."""
        self._until_s[operation] = self._clock.monotonic_s() + PAUSE_S

    def has(self, operation: str) -> bool:
        """Return whether an operation pauses."""
        return self._clock.monotonic_s() < self._until_s.get(operation, 0.0)
