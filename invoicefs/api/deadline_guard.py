"""Ends a request at its deadline, whatever its connection is doing.

The timeouts of HTTP libraries are per socket operation: a server that dribbles its headers held
a request for 11 s with a timeout of 1 s (measured), and a name with many addresses gets the connect
timeout once for each. So each request runs under a `DeadlineGuard`, which shuts the sockets that it
uses when its time is over. The thread that waits on them then sees the end of the stream at once.

A guard keeps duplicates of the descriptors: the TLS handshake takes the socket away from its
connection, and the last answer of a connection takes it along. Shutting one descriptor shuts the
connection behind all of them.

Threading: a guard is entered by one thread and fired by that of the `Alarm`. `_lock` guards
`_duplicates`; shutting a socket does not block.
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
    """Shuts every connection used inside its ``with`` block when `seconds` have passed.

    With `needs_new_connection` none is used that served another request before.
    """

    def __init__(self, seconds: float, alarm: Alarm, *, needs_new_connection: bool = False) -> None:
        self.needs_new_connection = needs_new_connection
        self._alarm = alarm
        self._lock = threading.Lock()
        self._duplicates: list[socket.socket] = []
        self._ends_s = time.monotonic() + seconds
        self._is_reused = False
        self._has_answer_begun = False

    def __enter__(self) -> Self:
        self._entry = self._alarm.set(self._ends_s, self._fire)
        self._outer = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._alarm.cancel(self._entry)
        _current.reset(self._outer)
        with self._lock:
            # An alarm that is late finds nothing left to shut: by now a connection may be back in
            # its pool and in use for another request.
            for duplicate in self._duplicates:
                duplicate.close()
            self._duplicates.clear()

    @property
    def is_on_reused_connection(self) -> bool:
        """Whether the request went out on a connection that had served another one before."""
        return self._is_reused

    @property
    def is_unanswered(self) -> bool:
        """Whether it did, and not one byte of an answer came."""
        return self._is_reused and not self._has_answer_begun

    def note_request(self, *, is_reused: bool) -> None:
        """Take note that a request goes out."""
        self._is_reused, self._has_answer_begun = is_reused, False

    def note_first_byte(self) -> None:
        """Take note that an answer to it has begun."""
        self._has_answer_begun = True

    def watch(self, stream: socket.socket) -> None:
        """Shut this stream, too, when the time is over; raises `TimeoutError` if it is over."""
        duplicate = socket.socket(fileno=os.dup(stream.fileno()))
        with self._lock:
            self._duplicates.append(duplicate)
        self.check()

    def check(self) -> None:
        """Raise `TimeoutError` if the time is over."""
        if time.monotonic() >= self._ends_s:
            raise TimeoutError("the time of this request is over")

    def _fire(self) -> None:
        with self._lock:
            for duplicate in self._duplicates:
                with contextlib.suppress(OSError):  # not connected yet, or not any more
                    duplicate.shutdown(socket.SHUT_RDWR)


def current_guard() -> DeadlineGuard:
    """The guard that the calling thread is under; raises `LookupError` where it is under none."""
    return _current.get()
