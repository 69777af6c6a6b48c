"""Distinguishes the LOOKUP of a name from the GETATTR that follows it, with ``--fetch on-stat``.

libfuse calls the same function for both, and with on-stat both may have to wait for a download. But
while the kernel waits for the first LOOKUP of a name, it blocks all other lookups in the same
directory (measured: an ``ls`` at the same time took just as long). Because of ``attr_timeout=0``,
``stat`` sends a GETATTR right after a LOOKUP. So the LOOKUP does not wait, and the GETATTR does.

Without on-stat, only an invoice that has changed since its download makes a ``stat`` wait. Then the
LOOKUP may wait, too: usually the kernel already has the name, and verifying it blocks no other
lookup.

Threading: `_looked_up_s` changes by single assignments.
"""

from typing import Final

from invoicefs.clock import Clock

ON_STAT_ENTRY_TIMEOUT_S: Final = 1.0
"""How long the kernel uses a name without another LOOKUP, with ``--fetch on-stat``."""

# The other second allows for a stat that is delayed between its LOOKUP and its GETATTR.
_LOOKUP_LASTS_S: Final = ON_STAT_ENTRY_TIMEOUT_S + 1.0
_MAX_PATHS: Final = 10_000


class RecentLookups:
    """The paths that the kernel has just looked up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked_up_s: dict[str, float] = {}

    def has(self, path: str) -> bool:
        """Return whether a path was looked up just now; otherwise note that it is looked up now."""
        now_s = self._clock.monotonic_s()
        looked_up_s = self._looked_up_s.get(path)
        if looked_up_s is not None and now_s - looked_up_s < _LOOKUP_LASTS_S:
            return True
        if len(self._looked_up_s) >= _MAX_PATHS:
            self._forget_before(now_s - _LOOKUP_LASTS_S)
        self._looked_up_s[path] = now_s
        return False

    def _forget_before(self, earliest_s: float) -> None:
        all_paths = tuple(self._looked_up_s.items())
        self._looked_up_s = {path: at_s for path, at_s in all_paths if at_s > earliest_s}
