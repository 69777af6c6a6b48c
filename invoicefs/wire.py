"""Ends a connection at a deadline, whatever it is doing.

The timeouts of HTTP libraries are per socket operation: a server that dribbles its headers held
a call for 11 s with a timeout of 1 s (measured), and a name with many addresses gets the connect
timeout once for each. So each call runs under a `Guard`, which shuts the sockets that the call
uses when its time is over. The thread that waits on them then sees the end of the stream at once.

A guard keeps duplicates of the descriptors: the TLS handshake takes the socket away from its
connection, and the last answer of a connection takes it along. Shutting one descriptor shuts the
connection behind all of them.

Threading: a guard is entered by one thread and fired by its timer's. `_lock` guards
`_duplicates`; shutting a socket does not block.
"""

import contextlib
import os
import socket
import threading
import time
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
        self._duplicates: list[socket.socket] = []
        self._ends_s = time.monotonic() + seconds
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
            for duplicate in self._duplicates:
                duplicate.close()
            self._duplicates.clear()

    def watch(self, stream: socket.socket) -> None:
        """Shut this stream, too, when the time is over; raises `TimeoutError` if it is over."""
        duplicate = socket.socket(fileno=os.dup(stream.fileno()))
        with self._lock:
            self._duplicates.append(duplicate)
        self.check()

    def check(self) -> None:
        """Raise `TimeoutError` if the time is over."""
        if time.monotonic() >= self._ends_s:
            raise TimeoutError("the time of this call is over")

    def _fire(self) -> None:
        with self._lock:
            for duplicate in self._duplicates:
                with contextlib.suppress(OSError):  # not connected yet, or not any more
                    duplicate.shutdown(socket.SHUT_RDWR)


class WatchedConnection(_Connection):
    """Mixed into a connection class of urllib3: puts each connection under the guard."""

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request; a pooled connection comes under the guard of the call it serves now."""
        guard = _current.get()
        if guard is not None and self.sock is not None:
            guard.watch(self.sock)
        super().request(*args, **kwargs)

    def _tunnel(self) -> None:
        """Ask a proxy for a tunnel; what it says after the time is over counts for nothing."""
        super()._tunnel()  # type: ignore[misc] # of http.client
        guard = _current.get()
        if guard is not None:
            guard.check()

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers while there is time."""
        host = self.host.strip("[]")  # of an IPv6 address in a URL
        failure = OSError("the name has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, self.port, type=socket.SOCK_STREAM
        ):
            stream = socket.socket(family, kind, protocol)
            try:
                self._connect(stream, address)
            except OSError as error:
                stream.close()
                failure = error
            else:
                return stream
        # Not the failure itself: urllib3 takes some for failures of a connection that was made.
        raise ConnectionAbortedError("no address answers") from failure

    def _connect(self, stream: socket.socket, address: Any) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.settimeout(self.timeout)
        guard = _current.get()
        if guard is None:
            stream.connect(address)
            return
        guard.watch(stream)
        stream.connect(address)
        guard.check()  # a stream that is shut while it connects counts as connected


def watch_connections(pool_manager: Any) -> None:
    """Make a urllib3 ``PoolManager`` (or ``ProxyManager``) use watched connections."""
    pool_manager.pool_classes_by_scheme = {
        scheme: _watched_pool(pool) for scheme, pool in pool_manager.pool_classes_by_scheme.items()
    }


def _watched_pool(pool: type) -> type:
    connection: type = pool.ConnectionCls  # type: ignore[attr-defined] # of urllib3's pools
    if issubclass(connection, WatchedConnection):
        return pool
    watched = type(f"Watched{connection.__name__}", (WatchedConnection, connection), {})
    return type(f"Watched{pool.__name__}", (pool,), {"ConnectionCls": watched})
