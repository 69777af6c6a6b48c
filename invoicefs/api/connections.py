"""urllib3 connections that end at a deadline, and are only reused when that is safe.

The only importer of ``urllib3``, whose classes are extended here, and of ``socks`` (package
PySocks, extra ``socks``), which urllib3 uses for SOCKS proxies.

Invariants:

1. Every socket is under the `DeadlineGuard` of its request, from before it connects.
2. A connection is idle from the end of a response that `has_ended`; any other end closes it. One
   that was opened ahead of a request is idle from the start.
3. An idle connection is reused within `MAX_IDLE_S` or not at all, see `idle_connections`. TCP
   itself gives up after `UNACKNOWLEDGED_S` without an acknowledgement, which even a slow server
   sends.

Threading: `_lock` of `ConnectionPool` guards its fields. A connection belongs to the thread whose
request it serves or, while it is idle, to the first thread that takes it.
"""

import queue
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from http.client import HTTPException
from socket import AddressFamily, SocketKind
from traceback import clear_frames
from typing import TYPE_CHECKING, Any, Final

from urllib3 import HTTPConnectionPool, HTTPResponse, Retry, Timeout
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ClosedPoolError, HTTPError, ProtocolError
from urllib3.exceptions import TimeoutError as TimeoutOfUrllib3
from urllib3.util import wait_for_read

from invoicefs.api.deadline_guard import current_guard
from invoicefs.api.framing import FramedResponse
from invoicefs.api.idle_connections import IdleConnections
from invoicefs.api.name_lookups import addresses_of
from invoicefs.api.tls import has_only_tls_messages

if TYPE_CHECKING:
    from urllib3 import PoolManager

UNACKNOWLEDGED_S: Final = 5

_SOCKET_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # Keep-alive detects a peer that has disappeared while a response is awaited.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, UNACKNOWLEDGED_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, UNACKNOWLEDGED_S),
)
_NO_RETRIES: Final = Retry(0, read=False, redirect=False)
_REFUSED_TUNNEL: Final = re.compile(r"Tunnel connection failed: (\d{3})\b")
_SOCKS_PORT: Final = 1080  # see RFC 1928
_USER_TIMEOUT: Final = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_S * 1000)

RawResponse = HTTPResponse

URLLIB3_TIMEOUT: Final = TimeoutOfUrllib3
"""urllib3 1 raises this for a TLS handshake that takes too long, without its cause."""

URLLIB3_ERROR: Final = HTTPError
"""The root of urllib3's exceptions, some of which ``requests`` does not wrap."""


class ProxyUnreachable(ConnectionAbortedError):
    """There is no connection to the proxy."""


class ProxyRefused(HTTPException):
    """The proxy is reachable, but refuses the connection; an HTTP proxy gives a status."""

    def __init__(self, status: int | None = None) -> None:
        super().__init__(status)
        self.status = status


class _Watched(HTTPConnection):
    """A mixin for the connection classes of urllib3. The classes derived from it set `idle`."""

    idle: IdleConnections
    _response: FramedResponse | None = None
    _was_idle = False

    def response_class(  # type: ignore[override] # it is only ever called
        self, sock: socket.socket, *args: Any, **kwargs: Any
    ) -> FramedResponse:
        """Return the response object that ``http.client`` asks for."""
        guard = current_guard()
        self._response = FramedResponse(sock, *args, on_first_byte=guard.note_first_byte, **kwargs)
        return self._response

    def take(self) -> bool:
        """Return whether this idle connection can be reused; from now on it is not idle."""
        if not self.idle.take(self) or current_guard().needs_new_connection or self.sock is None:
            return False
        return not wait_for_read(self.sock, timeout=0) or has_only_tls_messages(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request; a connection from the pool is watched by its guard from now on."""
        guard = current_guard()
        guard.note_request(is_reused=self._was_idle)
        if self.sock is not None:
            guard.watch(self.sock)
        super().request(*args, **kwargs)

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._response, self._was_idle = None, False
        super().close()

    def end_exchange(self) -> None:
        """Keep the connection for another request, or close it."""
        if self.sock is None or self._response is None or not self._response.has_ended:
            self.close()
            return
        self.become_idle()

    def become_idle(self) -> None:
        """Wait for a request."""
        self._response, self._was_idle = None, True
        self.idle.put(self)

    def _tunnel(self) -> None:
        try:
            super()._tunnel()
        except (OSError, HTTPException) as error:
            # Before Python 3.11.4, they keep the response, and so the socket, open (gh-103472).
            clear_frames(error.__traceback__)
            # http.client gives the status nowhere else.
            if match := _REFUSED_TUNNEL.match(str(error)):
                raise ProxyRefused(int(match[1])) from error
            raise
        current_guard().check()  # a proxy's response after the deadline does not count

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers before the deadline."""
        failure: OSError = OSError("the name has no address")
        try:
            addresses = addresses_of(*self._first_hop(), current_guard().left_s())
            for family, kind, protocol, _, address in addresses:
                try:
                    return self._connected(family, kind, protocol, address)
                except OSError as error:
                    failure = error
        except socket.gaierror as error:
            failure = error
        if self._is_proxied:
            raise ProxyUnreachable from failure
        # The failure itself is hidden: urllib3 mistakes some for failures of an open connection.
        raise ConnectionAbortedError("no address answers") from failure

    @property
    def _is_proxied(self) -> bool:
        return self.proxy is not None

    def _first_hop(self) -> tuple[str, int]:
        """Return the host and port to connect to."""
        return self.host, self.port

    def _connected(
        self, family: AddressFamily, kind: SocketKind, protocol: int, address: Any
    ) -> socket.socket:
        return self._connect(socket.socket(family, kind, protocol), address)

    def _connect(self, stream: socket.socket, address: Any) -> socket.socket:
        try:
            for option in _SOCKET_OPTIONS:
                stream.setsockopt(*option)
            stream.settimeout(self.timeout)
            guard = current_guard()
            guard.watch(stream)
            stream.connect(address)
            guard.check()  # a socket that is shut down while it connects counts as connected
            # Set earlier, it would also limit the time to connect.
            stream.setsockopt(*_USER_TIMEOUT)
        except OSError:
            stream.close()
            raise
        return stream


class _WatchedThroughSocks(_Watched):
    """The mixin for the connection classes of ``urllib3.contrib.socks``."""

    _socks_options: Mapping[str, Any]

    @property
    def _is_proxied(self) -> bool:
        return True

    def _first_hop(self) -> tuple[str, int]:
        return self._socks_options["proxy_host"], self._socks_options["proxy_port"] or _SOCKS_PORT

    def _connected(
        self, family: AddressFamily, kind: SocketKind, protocol: int, address: Any
    ) -> socket.socket:
        import socks

        options = self._socks_options
        stream = socks.socksocket(family, kind, protocol)
        stream.set_proxy(
            options["socks_version"],
            address[0],
            address[1],
            rdns=options["rdns"],
            username=options["username"],
            password=options["password"],
        )
        try:
            return self._connect(stream, (self.host.strip("[]"), self.port))
        except socks.ProxyConnectionError:
            raise
        except socks.ProxyError as error:
            # After an `OSError` the next address of the proxy would be tried.
            raise ProxyRefused from error


class ConnectionPool(HTTPConnectionPool):
    """A pool with additional connections, which were opened ahead and have served no request yet.

    A request takes one of them where it would open a new connection; then it is like any other.
    """

    idle: IdleConnections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()
        self._unused: list[Any] = []
        self._being_opened = 0

    def connect_ahead(self, count: int, timeout_s: float, *, tunnels: bool) -> bool:
        """Open an idle connection, unless `count` connections are open, or the most that may be.

        Returns whether it did. With `tunnels`, it is a tunnel through the proxy, if there is one.
        """
        with self._lock:
            if self._open_connections() >= min(count, self._slots.maxsize):
                return False
            self._being_opened += 1
        try:
            connection = self._opened(timeout_s, tunnels=tunnels)
            connection.become_idle()
            with self._lock:
                self._unused = [*(one for one in self._unused if one.sock is not None), connection]
        finally:
            with self._lock:
                self._being_opened -= 1
        return True

    @property
    def _slots(self) -> queue.Queue[Any]:
        """The queue with an entry for each connection that is not in use, open or not."""
        if self.pool is None:
            raise ClosedPoolError(self, "the pool is closed")
        return self.pool

    def _open_connections(self) -> int:
        in_use = self._slots.maxsize - self._slots.qsize()
        return in_use + self.idle.count() + self._being_opened

    def _opened(self, timeout_s: float, *, tunnels: bool) -> Any:
        connection: Any = self._new_conn()
        connection.timeout = timeout_s
        with ExitStack() as on_failure:
            on_failure.callback(connection.close)
            try:
                if tunnels and self.proxy is not None:
                    self._prepare_proxy(connection)
                else:
                    connection.connect()
            except (OSError, HTTPException) as error:
                raise ProtocolError("no connection", error) from error
            on_failure.pop_all()
        return connection

    def _get_conn(self, timeout: float | None = None) -> Any:  # noqa: ARG002 -- it never waits
        """Return a connection that can be reused, or else one that is not open yet."""
        for connection in self._idle_connections():
            if connection.take():
                return connection
            connection.close()  # and not opened again: urllib3 1 would send it past the proxy
        return self._new_conn()

    def _idle_connections(self) -> Iterator[Any]:
        """Yield the entry of a slot, and then the unused connections, each once."""
        with suppress(queue.Empty):  # then more connections are in use than are kept
            connection = self._slots.get(block=False)
            if connection is not None:
                yield connection
        while True:
            with self._lock:
                if not self._unused:
                    return
                connection = self._unused.pop()
            yield connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.end_exchange()
        super()._put_conn(conn)


def watch_connections(pool_manager: "PoolManager", idle: IdleConnections) -> None:
    """Make a ``PoolManager`` or ``ProxyManager`` use the connections of this module."""
    watched: type[_Watched] = _Watched
    if "_socks_options" in pool_manager.connection_pool_kw:
        watched = _WatchedThroughSocks
    pool_manager.pool_classes_by_scheme = {
        scheme: _watched_pool(pool, watched, idle)
        for scheme, pool in pool_manager.pool_classes_by_scheme.items()
    }


def _watched_pool(
    pool: type[HTTPConnectionPool], watched: type[_Watched], idle: IdleConnections
) -> type[HTTPConnectionPool]:
    connection = pool.ConnectionCls
    if issubclass(connection, _Watched):
        return pool
    made = type(f"Watched{connection.__name__}", (watched, connection), {"idle": idle})
    members = {"ConnectionCls": made, "idle": idle}
    return type(f"Watched{pool.__name__}", (ConnectionPool, pool), members)


def get(
    pool: ConnectionPool,
    target: str,
    headers: Mapping[str, str],
    *,
    connect_timeout_s: float,
    read_timeout_s: float,
) -> RawResponse:
    """Make a GET request, once; the body is not read yet, and never decompressed."""
    response = pool.urlopen(
        "GET",
        target,
        headers=headers,
        redirect=False,
        assert_same_host=False,
        preload_content=False,
        decode_content=False,
        retries=_NO_RETRIES,
        timeout=Timeout(connect=connect_timeout_s, read=read_timeout_s),
    )
    assert isinstance(response, HTTPResponse)
    return response
