"""A request on the wire, its honest response, and ways to send a different one."""

import ctypes
import socket
import struct
import threading
from collections.abc import Callable
from enum import Enum

from invoicefs.sandbox.answers import Answer
from invoicefs.sandbox.calls import Call

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, on with 0 s: close() sends RST, not FIN
_SO_ATTACH_FILTER = 26  # see asm-generic/socket.h; the socket module has no name for it
_RETURN_NOTHING = struct.pack("HBBI", 6, 0, 0, 0)  # a struct sock_filter: BPF_RET, 0 bytes
_RECEIVE_BYTES = 64 * 1024


class Sent(Enum):
    """How much of a response is sent before it fails."""

    NOTHING = "nothing"
    HALF_HEAD = "half of the headers"
    HEAD = "the headers"
    HALF_BODY = "half of the body"


def split(answer: Answer, after: Sent | int) -> tuple[bytes, bytes]:
    """Return the bytes of a response, split at this point; a number counts bytes of the body."""
    head, body = answer.head(), answer.body
    match after:
        case Sent.NOTHING:
            at = 0
        case Sent.HALF_HEAD:
            at = len(head) // 2
        case Sent.HEAD:
            at = len(head)
        case Sent.HALF_BODY:
            at = len(head) + len(body) // 2
        case int():
            at = len(head) + after
    whole = head + body
    return whole[:at], whole[at:]


class Exchange:
    """A request, the honest response of the API, and the connection to the client.

    Methods that write or wait raise `ConnectionError` when the client hangs up, and when the
    sandbox closes; callers let it propagate.

    `on_status` is called with the status before the client can see it, `on_end` before the client
    can know that the request is over, and possibly more than once.
    """

    def __init__(
        self,
        call: Call,
        honest: Answer,
        connection: socket.socket,
        closing: threading.Event,
        on_status: Callable[[int], None],
        on_end: Callable[[], None],
    ) -> None:
        self.call = call
        self.honest = honest
        self.keeps_connection = True
        self._connection = connection
        self._closing = closing
        self._on_status = on_status
        self._on_end = on_end

    def answer(self, answer: Answer) -> None:
        """Send a whole response."""
        self._on_status(answer.status)
        self._on_end()
        self._connection.sendall(answer.head() + answer.body)

    def begin(self, answer: Answer, after: Sent | int) -> bytes:
        """Send the first part of a response, and return the rest."""
        part, rest = split(answer, after)
        if part:
            self._on_status(answer.status)
            self._connection.sendall(part)
        return rest

    def write(self, data: bytes) -> None:
        """Send more bytes of a response that has begun."""
        self._connection.sendall(data)

    def wait(self, seconds: float) -> None:
        """Wait this long, unless the sandbox closes."""
        if self._closing.wait(seconds):
            raise ConnectionAbortedError("the sandbox is closing")

    def stall(self) -> None:
        """Do nothing until the client hangs up or the sandbox closes."""
        self.keeps_connection = False
        while self._connection.recv(_RECEIVE_BYTES):
            pass

    def hang_up(self) -> None:
        """Close the connection, as if the response were complete."""
        self.keeps_connection = False
        self._on_end()

    def vanish(self) -> None:
        """Drop every further packet from the client, like a NAT that has lost the connection.

        A socket filter drops them in the kernel, see SO_ATTACH_FILTER in socket(7), so
        nothing is acknowledged, and neither side hangs up.
        """
        drop_all = ctypes.create_string_buffer(_RETURN_NOTHING)
        program = struct.pack("HP", 1, ctypes.addressof(drop_all))
        self._connection.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def reset(self) -> None:
        """Break the connection: the client gets ECONNRESET once it has read what was sent."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.hang_up()
