"""Tells the LOOKUP of a name from the GETATTR that follows it.

libfuse calls the same function for both. Most of the time that does not matter, but some ``stat``
calls wait for a download: see `library.stat_downloads`. While the kernel waits for a LOOKUP, it
blocks all other lookups in the same directory (measured: an ``ls`` at the same time took just as
long). Because of ``attr_timeout=0``, ``stat`` sends a GETATTR right after a LOOKUP. So the LOOKUP
does not wait, and the GETATTR does.

Threading: `_looked_up_s` changes by single assignments.
"""

from typing import Final

from invoicefs.clock import Clock

# The kernel looks a name up again after 1 s, libfuse's entry_timeout. The other second allows for
# a stat that is delayed between its LOOKUP and its GETATTR.
_LOOKUP_LASTS_S: Final = 2.0
_MAX_PATHS: Final = 10_000


class FirstLookups:
    """The paths that the kernel has just looked up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked_up_s: dict[str, float] = {}

    def was_looked_up(self, path: str) -> bool:
        """Return whether a request for a path follows a LOOKUP, so that it is a GETATTR."""
        looked_up_s = self._looked_up_s.get(path)
        return looked_up_s is not None and self._is_recent(looked_up_s)

    def note(self, path: str) -> None:
        """Note that the LOOKUP of a path is answered now."""
        if len(self._looked_up_s) >= _MAX_PATHS:
            all_paths = tuple(self._looked_up_s.items())
            self._looked_up_s = {p: at_s for p, at_s in all_paths if self._is_recent(at_s)}
        self._looked_up_s[path] = self._clock.monotonic_s()

    def _is_recent(self, looked_up_s: float) -> bool:
        return self._clock.monotonic_s() - looked_up_s < _LOOKUP_LASTS_S
