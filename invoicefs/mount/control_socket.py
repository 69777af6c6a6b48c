"""The private socket over which a mount is asked what it does, and told to look again.

One question is one connection: a line of JSON each way. The socket is in the abstract namespace of
unix(7), named after the device number of the mount, which mountinfo tells for every path in it.
So neither folders nor variables nor renames matter. A name there is free for all: each end asks
the kernel who the other one is (SO_PEERCRED), and takes words only of its own user.

Threading: each connection has a thread of its own, a daemon that ends with its answer. One more
waits for a name that is taken; `close` waits for it before it looks at `_server`.
"""

import contextlib
import errno
import itertools
import json
import logging
import os
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from invoicefs.errors import InvoicefsError, OutOfMemory, UserError
from invoicefs.threads import start_thread

log = logging.getLogger(__name__)

Message = Mapping[str, Any]
Answer = Callable[[Message], Message]
"""Answers a question; raises an `InvoicefsError` that says why it cannot."""

LONGEST_PAUSE_S = 40.0
"""Of whoever is at the other end."""

_LONGEST_LINE_BYTES = 1024 * 1024
_UCRED: Final = struct.Struct("iII")  # pid, uid and gid, see unix(7)
_SILENT: Final = "The mount does not answer: {}."
_UNNAMED: Final = "invoicefs status cannot ask this mount: %s"
_NAME_PAUSE_S = 0.2
_QUIET_TRIES = 25  # a process that is ending takes less than these 5 s


class ControlSocket:
    """Answers questions about the mount with a device number, from `open` to `close`.

    The kernel gives the number of a mount to the next one before the process of the first has
    ended, which then has the name still; another user's program may have it for ever. So a name
    that is taken is tried again and again. Without a socket the mount does without: that costs a
    line in the log.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._server: _Server | None = None
        self._is_closed = threading.Event()
        self._opening: threading.Thread | None = None

    def open(self, device: str) -> None:
        """Begin to answer, now or as soon as the name is free."""
        try:
            if not self._has_opened(device):
                self._opening = start_thread(lambda: self._open_later(device), "control-name")
        except (OSError, OutOfMemory) as error:  # no more descriptors, no more threads
            log.warning(_UNNAMED, error)

    def close(self) -> None:
        """Answer no more."""
        self._is_closed.set()
        if self._opening is not None:
            self._opening.join()
        if self._server is not None:
            self._server.close()

    def _has_opened(self, device: str) -> bool:
        """Begin to answer unless the name is taken; raises `OSError` and `OutOfMemory`."""
        try:
            self._server = _Server(_address(device), self._answer)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True

    def _open_later(self, device: str) -> None:
        for tries in itertools.count(1):
            if self._is_closed.wait(_NAME_PAUSE_S):
                return
            try:
                if self._has_opened(device):
                    return
            except (OSError, OutOfMemory) as error:
                log.warning(_UNNAMED, error)
                return
            if tries == _QUIET_TRIES:
                log.warning(_UNNAMED, "another program has taken the name of its socket")


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64  # with the usual 5, a few who ask at one time are turned away

    def __init__(self, address: str, answer: Answer) -> None:
        self.answer = answer
        super().__init__(address, _Conversation)
        self._is_closed = False
        self._accepting = start_thread(self._accept, "control")

    def verify_request(self, request: Any, _client_address: Any) -> bool:
        """Whether the other end is of our user."""
        return _is_of_our_user(request)

    def close(self) -> None:
        self._is_closed = True
        self.socket.shutdown(socket.SHUT_RDWR)  # wakes who waits for a connection
        self._accepting.join()
        self.server_close()

    def _accept(self) -> None:
        # Not serve_forever, which looks twice a second whether it is to end.
        while not self._is_closed:
            self.handle_request()

    def handle_error(self, _: object, __: object) -> None:
        """Whoever asked has gone, or there is an error of ours: the mount goes on."""
        log.exception("A question could not be answered")


class _Conversation(socketserver.StreamRequestHandler):
    server: _Server
    timeout = LONGEST_PAUSE_S

    def handle(self) -> None:
        answer = self._answer(self.rfile.readline(_LONGEST_LINE_BYTES))
        with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    def _answer(self, line: bytes) -> Message:
        try:
            question = json.loads(line)
        except ValueError:
            return {"error": "The question is not JSON."}
        if not isinstance(question, dict):
            return {"error": "The question is not a JSON object."}
        try:
            return self.server.answer(question)
        except InvoicefsError as error:
            return {"error": str(error)}


def ask(
    device: str, question: Message, *, answer_within_s: float | None = LONGEST_PAUSE_S
) -> Message | None:
    """The answer of the mount with a device number; None where no mount of this user listens.

    Raises `UserError` with the words of its refusal, and where it does not answer in time; None is
    for ever.
    """
    channel = _connected(device)
    if channel is None:
        return None
    with channel:
        return _answer_on(channel, question, answer_within_s)


def _connected(device: str) -> socket.socket | None:
    """A connection to whoever listens; None where nobody does, or it is not our user."""
    channel = socket.socket(socket.AF_UNIX)
    try:
        channel.settimeout(LONGEST_PAUSE_S)
        channel.connect(_address(device))
        if _is_of_our_user(channel):
            return channel
    except (BlockingIOError, TimeoutError) as error:  # others wait for an answer already
        channel.close()
        raise UserError(_SILENT.format(error)) from error
    except OSError:
        pass
    channel.close()
    return None


def _answer_on(channel: socket.socket, question: Message, answer_within_s: float | None) -> Message:
    try:
        channel.sendall(json.dumps(question).encode() + b"\n")
        channel.settimeout(answer_within_s)
        with channel.makefile("rb") as lines:
            answer = json.loads(lines.readline())
    except (OSError, ValueError) as error:
        raise UserError(_SILENT.format(error)) from error
    if not isinstance(answer, dict):
        raise UserError("What answers is no mount of invoicefs.")
    if "error" in answer:
        raise UserError(str(answer["error"]))
    return answer


def _is_of_our_user(channel: socket.socket) -> bool:
    credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, uid, _ = _UCRED.unpack(credentials)
    return bool(uid == os.geteuid())


def _address(device: str) -> str:
    return f"\0invoicefs/{device}"
