"""Both ends of the control socket, over which commands speak to a running mount.

Each request has its own connection: one line of JSON in each direction. The socket is in the
abstract namespace of unix(7), and its name contains the user and the device number of the mount,
which mountinfo shows for every path in it. So it depends on no folder and no environment variable,
and survives renames. Anyone can bind a name there: each end asks the kernel for the user of the
other one (SO_PEERCRED), and only trusts its own user.

Threading: each connection has a daemon thread, which ends after the response. If the name is taken,
another thread waits for it; `close` joins that thread before it reads `_server`. `_Server._closing`
is held while a server closes, so every call of its `close` returns when the name is free.
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
Respond = Callable[[Message], Message]
"""A function that returns the response to a request; raises an `InvoicefsError` if it fails."""

IDLE_TIMEOUT_S = 40.0
"""How long either end waits for the other."""

_MAX_LINE_BYTES = 1024 * 1024
_UCRED: Final = struct.Struct("iII")  # pid, uid and gid, see unix(7)
_NO_RESPONSE: Final = "The mount does not respond: {}."
_NO_SOCKET: Final = "invoicefs status cannot reach this mount: %s"
_YIELD: Final = {"ask": "yield"}
_YIELD_TIMEOUT_S = 1.0  # it delays the first access to the mount
_RETRY_PAUSE_S = 0.2
_QUIET_TRIES = 25  # a process that is ending takes less than 5 s


class ControlSocket:
    """The server end, which serves requests from `open` to `close`.

    The kernel reuses the device number of a mount before the process of that mount has ended, so
    the name may still be taken. That process is asked to yield it, because it would respond in
    place of the new mount. A name that is still taken is tried again until `close`: a program of
    another user may keep it for ever. A mount without a socket works, and logs a warning.
    """

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self._server: _Server | None = None
        self._is_closed = threading.Event()
        self._opening: threading.Thread | None = None

    def open(self, device: str) -> None:
        """Start serving the mount with this device number, now or as soon as the name is free."""
        try:
            if self._try_open(device):
                return
            _ask_to_yield(device)
            if not self._try_open(device):
                self._opening = start_thread(lambda: self._open_later(device), "control-name")
        except (OSError, OutOfMemory) as error:  # out of file descriptors or threads
            log.warning(_NO_SOCKET, error)

    def close(self) -> None:
        """Stop serving."""
        self._is_closed.set()
        if self._opening is not None:
            self._opening.join()
        if self._server is not None:
            self._server.close()

    def _try_open(self, device: str) -> bool:
        """Start serving unless the name is taken; raises `OSError` and `OutOfMemory`."""
        try:
            self._server = _Server(_address(device), self._respond)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True

    def _open_later(self, device: str) -> None:
        for tries in itertools.count(1):
            if self._is_closed.wait(_RETRY_PAUSE_S):
                return
            try:
                if self._try_open(device):
                    return
            except (OSError, OutOfMemory) as error:
                log.warning(_NO_SOCKET, error)
                return
            if tries == _QUIET_TRIES:
                log.warning(_NO_SOCKET, "another program has taken the name of its socket")


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64  # with the default of 5, concurrent requests are refused

    def __init__(self, address: str, respond: Respond) -> None:
        self.respond = respond
        super().__init__(address, _Handler)
        self._closing = threading.Lock()
        self._is_closed = False
        self._accepting = start_thread(self._accept, "control")

    def verify_request(self, request: Any, _client_address: Any) -> bool:
        """Return whether the other end belongs to this user."""
        return _is_same_user(request)

    def close(self) -> None:
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
            self._accepting.join()
            self.server_close()

    def _accept(self) -> None:
        # Not serve_forever, which wakes up twice a second.
        while not self._is_closed:
            self.handle_request()

    def handle_error(self, _: object, __: object) -> None:
        """Log an error; the mount continues."""
        log.exception("A control request failed")


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    timeout = IDLE_TIMEOUT_S

    def handle(self) -> None:
        response = self._response_to(self.rfile.readline(_MAX_LINE_BYTES))
        with contextlib.suppress(BrokenPipeError):  # the client has disconnected
            self.wfile.write(json.dumps(response).encode() + b"\n")

    def _response_to(self, line: bytes) -> Message:
        try:
            request = json.loads(line)
        except ValueError:
            return {"error": "The request is not JSON."}
        if not isinstance(request, dict):
            return {"error": "The request is not a JSON object."}
        if request == _YIELD:
            self.server.close()
            return {}
        try:
            return self.server.respond(request)
        except InvoicefsError as error:
            return {"error": str(error)}


def send(
    device: str, request: Message, *, timeout_s: float | None = IDLE_TIMEOUT_S
) -> Message | None:
    """Send a request to the mount with this device number, and return the response.

    Returns None if no mount of this user is listening. Raises `UserError` with the message of a
    failed request, or if there is no response in time; without a timeout, it waits for ever.
    """
    channel = _connect(device, IDLE_TIMEOUT_S if timeout_s is None else timeout_s)
    if channel is None:
        return None
    with channel:
        return _exchange(channel, request, timeout_s)


def _ask_to_yield(device: str) -> None:
    """Have the process of an earlier mount of this user free the name of its socket."""
    with contextlib.suppress(UserError):  # it has just ended, or is stopped
        send(device, _YIELD, timeout_s=_YIELD_TIMEOUT_S)


def _connect(device: str, timeout_s: float) -> socket.socket | None:
    """Return a connection to the socket; None if no process of this user is listening."""
    channel = socket.socket(socket.AF_UNIX)
    try:
        channel.settimeout(timeout_s)
        channel.connect(_address(device))
        if _is_same_user(channel):
            return channel
    except (BlockingIOError, TimeoutError) as error:  # the server's queue is full
        channel.close()
        raise UserError(_NO_RESPONSE.format(error)) from error
    except OSError:
        pass
    channel.close()
    return None


def _exchange(channel: socket.socket, request: Message, timeout_s: float | None) -> Message:
    try:
        channel.sendall(json.dumps(request).encode() + b"\n")
        channel.settimeout(timeout_s)
        with channel.makefile("rb") as lines:
            response = json.loads(lines.readline())
    except (OSError, ValueError) as error:
        raise UserError(_NO_RESPONSE.format(error)) from error
    if not isinstance(response, dict):
        raise UserError("The program that responds is not a mount of invoicefs.")
    if "error" in response:
        raise UserError(str(response["error"]))
    return response


def _is_same_user(channel: socket.socket) -> bool:
    credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, uid, _ = _UCRED.unpack(credentials)
    return bool(uid == os.geteuid())


def _address(device: str) -> str:
    return f"\0invoicefs/{os.geteuid()}/{device}"
