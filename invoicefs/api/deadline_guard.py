"""Ends a request at its deadline, whatever its connection is doing.

The timeouts of HTTP libraries apply to each socket operation: a server that sends its headers byte
by byte delayed a request for 11 s with a timeout of 1 s (measured), and a name with many addresses
gets the connect timeout once for each. So each request runs under a `DeadlineGuard`, which shuts
down its sockets at the deadline. A thread that waits on them then sees the end of the stream at
once.

A guard keeps duplicates of the descriptors: the TLS handshake detaches the socket from its
connection, and the last response of a connection takes over the socket. Shutting down one
descriptor shuts down the connection behind all of them.

Threading: a guard is entered by one thread and fired by that of the `Alarm`. `_lock` guards
`_duplicates`; shutting down a socket does not block.
"""

import contextlib
import os
import socket
import threading
import time
from contextvars import ContextVar
from typing import Self

from invoicefs.api.alarm import Alarm

_current: ContextVar["DeadlineGuard"] = ContextVar("current guard")


class DeadlineGuard:
    """Shuts down every connection used inside its ``with`` block after `seconds`.

    With `needs_new_connection`, no connection is reused.
    """

    def __init__(self, seconds: float, alarm: Alarm, *, needs_new_connection: bool = False) -> None:
        self.needs_new_connection = needs_new_connection
        self._alarm = alarm
        self._lock = threading.Lock()
        self._duplicates: list[socket.socket] = []
        self._ends_s = time.monotonic() + seconds
        self._is_reused = False
        self._has_response_begun = False

    def __enter__(self) -> Self:
        self._entry = self._alarm.set(self._ends_s, self._fire)
        self._outer = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._alarm.cancel(self._entry)
        _current.reset(self._outer)
        with self._lock:
            # A late alarm finds nothing left to shut down: by now a connection may be back in its
            # pool and in use by another request.
            for duplicate in self._duplicates:
                duplicate.close()
            self._duplicates.clear()

    @property
    def is_on_reused_connection(self) -> bool:
        """Whether the request was sent on a connection that had been idle before."""
        return self._is_reused

    @property
    def is_unanswered_on_reused_connection(self) -> bool:
        """Whether the request was sent on a reused connection, and no response has begun."""
        return self._is_reused and not self._has_response_begun

    def note_request(self, *, is_reused: bool) -> None:
        """Note that a request is about to be sent."""
        self._is_reused, self._has_response_begun = is_reused, False

    def note_first_byte(self) -> None:
        """Note that a response has begun."""
        self._has_response_begun = True

    def watch(self, stream: socket.socket) -> None:
        """Shut down this socket at the deadline, too; raises `TimeoutError` if it has passed."""
        duplicate = socket.socket(fileno=os.dup(stream.fileno()))
        with self._lock:
            self._duplicates.append(duplicate)
        self.check()

    def left_s(self) -> float:
        """Return the seconds until the deadline, negative after it."""
        return self._ends_s - time.monotonic()

    def check(self) -> None:
        """Raise `TimeoutError` if the deadline has passed."""
        if self.left_s() <= 0:
            raise TimeoutError("the deadline of this request has passed")

    def _fire(self) -> None:
        with self._lock:
            for duplicate in self._duplicates:
                with contextlib.suppress(OSError):  # not connected, or no longer
                    duplicate.shutdown(socket.SHUT_RDWR)


def current_guard() -> DeadlineGuard:
    """Return the guard of the calling thread; raises `LookupError` if it has none."""
    return _current.get()
