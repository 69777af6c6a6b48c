"""The idle connections of a client, each of which is closed in time.

An idle connection is reused within `MAX_IDLE_S` or not at all: a NAT or a suspended laptop drops
connections silently (measured: each cost a whole timeout).

Threading: `_lock` guards `_since_s`.
"""

import threading
import time
from typing import Final, Protocol

from invoicefs.api.alarm import Alarm

MAX_IDLE_S: Final = 30.0


class Connection(Protocol):
    """A connection that can be closed."""

    def close(self) -> None: ...  # noqa: D102 -- above


class IdleConnections:
    """The connections of one client that can be reused."""

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm
        self._lock = threading.Lock()
        self._since_s: dict[Connection, float] = {}

    def count(self) -> int:
        """Return the number of idle connections."""
        return len(self._since_s)

    def put(self, connection: Connection) -> None:
        """Add a connection that waits for a request, for `MAX_IDLE_S`."""
        now_s = time.monotonic()
        with self._lock:
            is_first = not self._since_s
            self._since_s[connection] = now_s
        if is_first:
            self._close_later(now_s)

    def take(self, connection: Connection) -> bool:
        """Return whether a connection can be reused; from now on it belongs to the caller."""
        with self._lock:
            since_s = self._since_s.pop(connection, None)
        return since_s is not None and time.monotonic() - since_s < MAX_IDLE_S

    def close_all(self) -> None:
        """Close all idle connections: if one is dead, all of them may be."""
        self._close(until_s=time.monotonic())

    def _close_later(self, since_s: float) -> None:
        self._alarm.set(since_s + MAX_IDLE_S, self._close_old)

    def _close_old(self) -> None:
        self._close(until_s=time.monotonic() - MAX_IDLE_S)
        with self._lock:
            oldest_s = min(self._since_s.values(), default=None)
        if oldest_s is not None:
            self._close_later(oldest_s)

    def _close(self, until_s: float) -> None:
        with self._lock:  # no other thread may take a connection before it is closed
            for connection, since_s in tuple(self._since_s.items()):
                if since_s <= until_s:
                    del self._since_s[connection]
                    connection.close()
