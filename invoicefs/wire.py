"""Ends a connection at a deadline, whatever it is doing.

The timeouts of HTTP libraries are per socket operation: a server that dribbles its headers held
a call for 11 s with a timeout of 1 s (measured). So each call runs under a `Guard`, which shuts
the sockets that the call uses when its time is over. The thread that waits on them then sees the
end of the stream, at once.

Threading: a guard is entered by one thread and fired by its timer's. `_lock` guards `_watched`,
`_is_open` and `has_fired`; shutting a socket does not block.
"""

import contextlib
import socket
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from http.client import HTTPConnection as _Connection
else:
    _Connection = object

_current: ContextVar["Guard | None"] = ContextVar("current guard", default=None)


class Guard:
    """Shuts every connection used inside its ``with`` block when `seconds` have passed."""

    def __init__(self, seconds: float) -> None:
        self._lock = threading.Lock()
        self._watched: list[WatchedConnection] = []
        self._is_open = True
        self.has_fired = False
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._outer = _current.set(self)
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _current.reset(self._outer)
        with self._lock:
            # A timer that is late finds nothing left to shut: by now a connection may be back in
            # its pool and in use for another call.
            self._is_open = False
            self._watched.clear()

    def watch(self, connection: "WatchedConnection") -> None:
        """Shut this connection, too, when the time is over."""
        with self._lock:
            self._watched.append(connection)
            has_fired = self.has_fired
        if has_fired:
            connection.shut()

    def _fire(self) -> None:
        with self._lock:
            if not self._is_open:
                return
            self.has_fired = True
            watched = tuple(self._watched)
        for connection in watched:
            connection.shut()


class WatchedConnection(_Connection):
    """Mixed into a connection class of the HTTP library: puts each connection under the guard.

    It keeps a duplicate of the descriptor, because the TLS handshake takes the socket away from
    the connection while it runs. Shutting one descriptor shuts the connection behind both.
    """

    _duplicate: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        made: socket.socket = super()._new_conn()  # type: ignore[misc] # of the class mixed into
        self._drop_duplicate()
        self._duplicate = made.dup()
        self._watch()
        return made

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request; a pooled connection comes under the guard of the call it serves now."""
        self._watch()
        super().request(*args, **kwargs)

    def close(self) -> None:
        """Close the connection and the duplicate."""
        self._drop_duplicate()
        super().close()

    def shut(self) -> None:
        """End the stream in both directions; whoever waits on the connection wakes up."""
        duplicate = self._duplicate
        if duplicate is not None:
            with contextlib.suppress(OSError):  # not connected any more, or just closed
                duplicate.shutdown(socket.SHUT_RDWR)

    def _watch(self) -> None:
        guard = _current.get()
        if guard is not None:
            guard.watch(self)

    def _drop_duplicate(self) -> None:
        if self._duplicate is not None:
            self._duplicate.close()
            self._duplicate = None


def watch_connections(pool_manager: Any) -> None:
    """Make a urllib3 ``PoolManager`` (or proxy manager) use watched connections."""
    pool_manager.pool_classes_by_scheme = {
        scheme: _watched_pool(pool) for scheme, pool in pool_manager.pool_classes_by_scheme.items()
    }


def _watched_pool(pool: type) -> type:
    connection: type = pool.ConnectionCls  # type: ignore[attr-defined] # of urllib3's pools
    if issubclass(connection, WatchedConnection):
        return pool
    watched = type(f"Watched{connection.__name__}", (WatchedConnection, connection), {})
    return type(f"Watched{pool.__name__}", (pool,), {"ConnectionCls": watched})
