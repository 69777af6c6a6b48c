"""Looks up names without waiting for a resolver that does not respond.

getaddrinfo(3) cannot be interrupted, and waits as long as resolv.conf(5) says, by default twice 5 s
for each server, although the network may have been back for a while. So each lookup runs in a
thread of its own, which is abandoned after a while; the next lookup begins anew.

An abandoned thread ends when the resolver gives up. Until then, each slot for requests adds one per
`LOOKUP_TIMEOUT_S`, or per deadline if that is shorter.
"""

import socket
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from invoicefs.errors import OutOfMemory
from invoicefs.threads import start_thread

LOOKUP_TIMEOUT_S: Final = 10.0
"""A working resolver responds sooner, even if its first server is down."""

_NO_ANSWER: Final = "Temporary failure in name resolution"  # glibc's words when it gives up

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""As in the result of ``socket.getaddrinfo``."""


def addresses_of(host: str, port: int, timeout_s: float) -> Sequence[Address]:
    """Return the addresses for TCP connections to a host, which may be in brackets as in a URL.

    Raises `socket.gaierror` if there are none, or if they are not known within `timeout_s` or
    `LOOKUP_TIMEOUT_S`.
    """
    host = host.strip("[]")
    with suppress(socket.gaierror):  # a name, not an address
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    found: Future[Sequence[Address]] = Future()

    def look_up() -> None:
        try:
            found.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except BaseException as error:
            found.set_exception(error)

    try:
        start_thread(look_up, "name-lookup")
    except OutOfMemory:
        look_up()  # a lookup without a time limit is better than none
    try:
        return found.result(max(0.0, min(timeout_s, LOOKUP_TIMEOUT_S)))
    except TimeoutError:
        raise socket.gaierror(socket.EAI_AGAIN, _NO_ANSWER) from None
