"""Distinguishes the LOOKUP of a name from the GETATTR that follows it, with ``--fetch on-stat``.

libfuse calls the same function for both, and with on-stat both may have to wait for a download. But
while the kernel waits for the first LOOKUP of a name, it blocks all other lookups in the same
directory (measured: an ``ls`` at the same time took just as long). Because of ``attr_timeout=0``,
``stat`` sends a GETATTR right after a LOOKUP. So the LOOKUP does not wait, and the GETATTR does.

Without on-stat, only an invoice that has changed since its download makes a ``stat`` wait. Then the
LOOKUP may wait, too: usually the kernel already has the name, and verifying it blocks no other
lookup.

Every request counts, because each may be a LOOKUP that renews the name. If only the first one
counted, a later GETATTR without a LOOKUP would be mistaken for a LOOKUP, and show the upper bound
(measured: once in two seconds with a ``stat`` every 10 ms).

Threading: `_requested_s` changes by single assignments.
"""

from typing import Final

from invoicefs.clock import Clock

ON_STAT_ENTRY_TIMEOUT_S: Final = 1.0
"""How long the kernel uses a name without another LOOKUP, with ``--fetch on-stat``."""

# The other second allows for a stat that is delayed between its LOOKUP and its GETATTR.
_KNOWN_S: Final = ON_STAT_ENTRY_TIMEOUT_S + 1.0
_MAX_PATHS: Final = 10_000


class RecentRequests:
    """The paths that the kernel has just asked for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._requested_s: dict[str, float] = {}

    def note(self, path: str) -> bool:
        """Note a request, and return whether the kernel may have known the name before it."""
        now_s = self._clock.monotonic_s()
        requested_s = self._requested_s.get(path)
        if requested_s is None and len(self._requested_s) >= _MAX_PATHS:
            self._forget_before(now_s - _KNOWN_S)
        self._requested_s[path] = now_s
        return requested_s is not None and now_s - requested_s < _KNOWN_S

    def _forget_before(self, earliest_s: float) -> None:
        all_paths = tuple(self._requested_s.items())
        self._requested_s = {path: at_s for path, at_s in all_paths if at_s > earliest_s}
