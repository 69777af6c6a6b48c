"""Accepts connections, reads HTTP(S) requests from them, and ends all threads on close.

Threading: one thread accepts connections, and each of them has a thread of its own. Only the
accepting thread changes `_connections`; `close` reads it after that thread has ended.
"""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Any

from invoicefs.sandbox.calls import Call

_HOST = "127.0.0.1"
_CLOSE_POLL_S = 0.02  # how long closing may take to be noticed

Serve = Callable[[Call, socket.socket], bool]
"""Responds to a request on a socket; returns whether the connection can be reused."""


def reserve_port(port: int = 0) -> socket.socket:
    """Reserve a port of the loopback interface, 0 for any free one, until the socket is closed.

    The socket does not listen: connections are refused. The kernel gives the port to no other
    program that wants any free port, whether to serve or to connect from; only a `Listener` can
    use it meanwhile. Raises `OSError` if another program has it.
    """
    reservation = socket.socket()
    try:
        # Two sockets can share a port if both set this and the first does not listen: socket(7).
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind((_HOST, port))
    except OSError:
        reservation.close()
        raise
    return reservation


class Listener(TCPServer):
    """Serves HTTP/1.1 with keep-alive on a reserved port, from construction to `close`.

    With `tls` it serves HTTPS, and may request a client certificate. A client that does not trust
    the server's certificate hangs up.
    """

    allow_reuse_address = True
    request_queue_size = 1024  # with the usual 5, a burst of connections waits 1 s for a second SYN

    def __init__(
        self,
        reservation: socket.socket,
        path_prefix: str,
        serve: Serve,
        tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(reservation.getsockname(), _RequestHandler)
        self.path_prefix = path_prefix
        self.serve = serve
        self._tls = tls
        self._connections: list[tuple[threading.Thread, socket.socket]] = []
        self._accepting = _start_thread(self.serve_forever, _CLOSE_POLL_S)

    @property
    def url(self) -> str:
        """The URL of the listener, with the path prefix and without a trailing slash."""
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{_HOST}:{self.server_address[1]}{self.path_prefix}"

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection. The TLS handshake is left to its thread, because it may be slow."""
        connection, client_address = super().get_request()
        if self._tls:
            connection = self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, client_address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection."""
        alive = [(thread, known) for thread, known in self._connections if thread.is_alive()]
        thread = _start_thread(self._converse, request, client_address)
        self._connections = [*alive, (thread, request)]

    def close(self) -> None:
        """Hang up on all clients; returns when all threads have ended and nothing listens."""
        self.shutdown()
        self._accepting.join()
        with suppress(OSError):  # closed before
            # A child process that is just being started briefly has a copy of the socket.
            self.socket.shutdown(socket.SHUT_RDWR)
        for _, connection in self._connections:
            with suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)
        for thread, _ in self._connections:
            thread.join()
        self.server_close()

    def _converse(self, connection: socket.socket, client_address: Any) -> None:
        # A client that hangs up has done nothing wrong. Any other exception is a bug.
        with connection, suppress(ConnectionError, ssl.SSLError):
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            _RequestHandler(connection, client_address, self)


class _RequestHandler(BaseHTTPRequestHandler):
    server: Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        try:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = dict(self.headers.items())
            prefix, client = self.server.path_prefix, _client_name(self.connection)
            call = Call.parse(self.command, self.path, headers, prefix, client)
        except ValueError as error:
            self.send_error(400, explain=str(error))
            return
        if not self.server.serve(call, self.connection):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 # http.server's names

    def log_message(self, *_: object) -> None:
        """Print nothing: see `Sandbox.calls`."""


def _client_name(connection: socket.socket) -> str | None:
    """Return the common name in the client certificate, already verified, or None."""
    certificate = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    if not certificate:
        return None
    subject: Any = certificate["subject"]
    return str(dict(attribute for part in subject for attribute in part).get("commonName", ""))


def _start_thread(target: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(
        target=target, args=args, name=f"sandbox-{target.__name__}", daemon=True
    )
    thread.start()
    return thread
