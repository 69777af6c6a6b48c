"""A request ends at its deadline, whatever its connection is doing; other requests continue.

The server is a socket on the loopback interface. Timers are fired by hand, most of them by the
server itself, when a request has reached exactly that point.
"""

import contextlib
import gc
import os
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest
import urllib3
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError
from urllib3.exceptions import TimeoutError as SocketTimeout

from invoicefs.api.alarm import Alarm, Entry
from invoicefs.api.connections import watch_connections
from invoicefs.api.deadline_guard import DeadlineGuard
from invoicefs.api.idle_connections import IdleConnections
from invoicefs.sandbox.listener import reserve_port

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")

HANG_S = 5.0  # if a guard fails, the timeout of the socket ends the request, and the test fails
HOUR_S = 3600.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncontent"
CLOSING_OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ncontent"
# Anonymous key exchange: TLS without certificates, which would be secrets in a repository.
ANONYMOUS_CIPHER = "AECDH-AES256-SHA:@SECLEVEL=0"

BODIES = {
    "with a length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbeginning",
    "in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbeginning\r\n",
    "in half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nbeginning",
    "up to the end": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbeginning",
    "of HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nbeginning",
    "of HTTP/1.0 with a length": b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nbeginning",
}

Answer = Callable[[socket.socket], None]


def send(answer: bytes, then: Callable[[], object] = lambda: None) -> Answer:
    """Send a response, or the beginning of one, and call `then`."""

    def send(connection: socket.socket) -> None:
        connection.sendall(answer)
        then()

    return send


def send_and_close(answer: bytes) -> Answer:
    def send_and_close(connection: socket.socket) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)

    return send_and_close


class Server:
    """Sends one response after another, over any number of connections, then no more.

    Threading: `_lock` guards everything but the event.
    """

    def __init__(self, *answers: Answer, tls: bool = False) -> None:
        self.answers = list(answers)
        self._tls = _tls_context(ssl.PROTOCOL_TLS_SERVER) if tls else None
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._connections: list[socket.socket] = []
        self.was_left = threading.Event()
        """Set when a client has ended its connection."""

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}/"

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        with self._lock:
            return len(self._connections)

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._threads[0].join()
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=[connection]))
                self._threads[-1].start()

    def _serve(self, accepted: socket.socket) -> None:
        # Handing over to TLS detaches the descriptor, so `__exit__` keeps a connection of its own.
        with contextlib.suppress(OSError), accepted.dup() as plain:
            try:
                context = self._tls
                connection = context.wrap_socket(plain, server_side=True) if context else plain
                with connection:
                    while connection.recv(65_536):  # requests here fit into one packet
                        self._answer(connection)
            finally:
                self.was_left.set()
        accepted.close()

    def _answer(self, connection: socket.socket) -> None:
        with self._lock:
            answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            answer(connection)


def relay_to(target: "Server") -> Answer:
    """Answer CONNECT as a proxy does: accept it, and relay everything in both directions."""

    def relay(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", target.port)) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pass_on, args=[server, client])
            back.start()
            pass_on(client, server)
            back.join()

    return relay


def pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for connection in (source, target):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _tls_context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    if protocol == ssl.PROTOCOL_TLS_CLIENT:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ANONYMOUS_CIPHER)
    return context


class Timers(Alarm):
    """An alarm that fires when a test says so, even after it was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self._set: list[Callable[[], object]] = []

    def set(self, at_s: float, function: Callable[[], object]) -> Entry:
        self._set.append(function)
        return Entry(at_s, len(self._set))

    def cancel(self, entry: Entry) -> None:
        pass

    def fire(self, number: int = -1) -> None:
        self._set[number]()


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    with contextlib.closing(Alarm()) as alarm:
        yield alarm


@pytest.fixture(autouse=True)
def _guarded() -> Iterator[None]:
    with DeadlineGuard(HOUR_S, Timers()):
        yield


@pytest.fixture
def pool() -> Iterator[urllib3.PoolManager]:
    with new_pool() as pool:
        yield pool


def new_pool(proxy: str | None = None) -> urllib3.PoolManager:
    settings: dict[str, Any] = {
        "retries": False,
        "timeout": HANG_S,
        "maxsize": 4,
        "ssl_context": _tls_context(ssl.PROTOCOL_TLS_CLIENT),
        "cert_reqs": "CERT_NONE",
    }
    if proxy is None:
        pool = urllib3.PoolManager(**settings)
    else:
        context = _tls_context(ssl.PROTOCOL_TLS_CLIENT)
        pool = urllib3.ProxyManager(proxy, proxy_ssl_context=context, **settings)
    watch_connections(pool, IdleConnections(Timers()))
    return pool


def get(pool: urllib3.PoolManager, url: str) -> bytes:
    return pool.request("GET", url).data


@contextlib.contextmanager
def ends_early() -> Iterator[None]:
    """The request ends with an error that is not a timeout of its socket."""
    with pytest.raises(HTTPError) as raised:
        yield
    assert not isinstance(raised.value, SocketTimeout)


@contextlib.contextmanager
def ends() -> Iterator[None]:
    """The request ends in any way but by a timeout of its socket.

    The end of a stream can also be the end of the headers, or of a body without a length.
    """
    try:
        yield
    except SocketTimeout:
        raise
    except HTTPError:
        pass


BOTH_SCHEMES = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])


# A guard ends whatever its request waits for.


@BOTH_SCHEMES
@pytest.mark.parametrize(
    "beginning",
    [b"", b"HT", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX-Slow: y"],
)
def test_a_guard_ends_a_request_whose_headers_stall(
    pool: urllib3.PoolManager, timers: Timers, beginning: bytes, tls: bool
) -> None:
    with (
        Server(send(beginning, then=timers.fire), tls=tls) as server,
        DeadlineGuard(HOUR_S, timers),
    ):
        with ends():
            get(pool, server.url)

        assert server.was_left.wait(HANG_S)


@BOTH_SCHEMES
@pytest.mark.parametrize("beginning", BODIES.values(), ids=BODIES)
def test_a_guard_ends_a_request_whose_body_stalls(
    pool: urllib3.PoolManager, timers: Timers, beginning: bytes, tls: bool
) -> None:
    with Server(send(beginning), tls=tls) as server, DeadlineGuard(HOUR_S, timers):
        response = pool.request("GET", server.url, preload_content=False)
        timers.fire()

        with ends():
            assert response.read() in (b"", b"beginning")

        assert server.was_left.wait(HANG_S)
        response.close()


def test_a_guard_ends_a_stalled_tls_handshake(pool: urllib3.PoolManager, timers: Timers) -> None:
    with Server(send(b"", then=timers.fire)) as server, DeadlineGuard(HOUR_S, timers):
        with ends_early():
            get(pool, server.url.replace("http:", "https:"))

        assert server.was_left.wait(HANG_S)


@BOTH_SCHEMES
def test_no_connection_is_made_after_the_deadline(
    pool: urllib3.PoolManager, timers: Timers, tls: bool
) -> None:
    with Server(send(OK), tls=tls) as server, DeadlineGuard(0.0, timers):
        timers.fire()

        with pytest.raises(HTTPError):
            get(pool, server.url)


@BOTH_SCHEMES
def test_a_guard_shuts_the_pooled_connection_of_its_request(
    pool: urllib3.PoolManager, timers: Timers, tls: bool
) -> None:
    with Server(send(OK), send(b"HTTP", then=timers.fire), tls=tls) as server:
        with DeadlineGuard(HOUR_S, timers):
            get(pool, server.url)
        with DeadlineGuard(HOUR_S, timers), ends_early():
            get(pool, server.url)

        assert server.connections == 1


def test_a_guard_shuts_every_connection_of_its_request(
    pool: urllib3.PoolManager, timers: Timers
) -> None:
    beginning = BODIES["with a length"]
    with (
        Server(send(beginning)) as one,
        Server(send(beginning)) as other,
        DeadlineGuard(HOUR_S, timers),
    ):
        responses = [
            pool.request("GET", server.url, preload_content=False) for server in (one, other)
        ]

        timers.fire()

        for response in responses:
            with pytest.raises(ProtocolError):
                response.read()


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port where a connection is neither accepted nor refused."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # the kernel accepts one or two; the rest wait
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_guard_ends_a_stalled_connection_attempt(
    pool: urllib3.PoolManager, alarm: Alarm, busy_port: int, scheme: str
) -> None:
    def make_request() -> None:
        with DeadlineGuard(0.05, alarm), contextlib.suppress(HTTPError):
            pool.request("GET", f"{scheme}://127.0.0.1:{busy_port}/", timeout=HOUR_S)
        ended.set()

    ended = threading.Event()
    threading.Thread(target=make_request, daemon=True).start()

    assert ended.wait(HANG_S)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connect_timeout_is_not_reported_as_a_read_timeout(
    pool: urllib3.PoolManager, busy_port: int, scheme: str
) -> None:
    timeout = urllib3.Timeout(connect=0.05, read=HANG_S)

    with pytest.raises(HTTPError) as raised:
        pool.request("GET", f"{scheme}://127.0.0.1:{busy_port}/", timeout=timeout)

    assert not isinstance(raised.value, ReadTimeoutError)


def test_a_guard_ends_a_stalled_tunnel_request(timers: Timers) -> None:
    with (
        Server(send(b"HTTP/1.1", then=timers.fire)) as proxy,
        new_pool(proxy=proxy.url) as pool,
        DeadlineGuard(HOUR_S, timers),
        ends_early(),
    ):
        get(pool, "https://invoices.example/")


def test_a_guard_fires_at_its_deadline(pool: urllib3.PoolManager, alarm: Alarm) -> None:
    with Server() as server, DeadlineGuard(0.02, alarm), ends_early():
        get(pool, server.url)


@BOTH_SCHEMES
def test_a_guard_ends_a_request_through_a_proxy(timers: Timers, tls: bool) -> None:
    with (
        Server(send(OK), send(b"HTTP", then=timers.fire), tls=True) as server,
        Server(relay_to(server), tls=tls) as proxy,
        new_pool(proxy.url) as pool,
    ):
        with DeadlineGuard(HOUR_S, timers):
            assert get(pool, server.url) == b"content"
        with DeadlineGuard(HOUR_S, timers), ends_early():
            get(pool, server.url)


# Connecting.


def test_the_next_address_is_tried_when_one_refuses(
    pool: urllib3.PoolManager, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(send(OK)) as server:
        ports = [closed_port, server.port]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address(p) for p in ports])

        assert get(pool, "http://invoices.example/") == b"content"


def address(port: int) -> tuple[int, int, int, str, tuple[str, int]]:
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_unresolved_name_raises_an_error_of_urllib3(
    pool: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    def resolve(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    with ends_early():
        get(pool, f"{scheme}://invoices.example/")


# A guard does not touch the connections of other requests.


def test_an_earlier_guard_does_not_shut_a_pooled_connection(
    pool: urllib3.PoolManager, timers: Timers
) -> None:
    def fire_the_first_and_answer(connection: socket.socket) -> None:
        timers.fire(0)
        connection.sendall(OK)

    with Server(send(OK), fire_the_first_and_answer) as server:
        with DeadlineGuard(HOUR_S, timers):
            get(pool, server.url)
        with DeadlineGuard(HOUR_S, timers):
            assert get(pool, server.url) == b"content"

        assert server.connections == 1


def test_leaving_a_firing_guard_waits_until_all_is_shut(
    pool: urllib3.PoolManager, timers: Timers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would shut a connection that is back in the pool and serves another request."""
    is_shutting, is_left = threading.Event(), threading.Event()
    left_too_early: list[bool] = []

    def slow_shutdown(_: socket.socket, __: int) -> None:
        is_shutting.set()
        left_too_early.append(is_left.wait(0.1))

    with Server(send(OK)) as server:
        firing = threading.Thread(target=timers.fire)
        with DeadlineGuard(HOUR_S, timers):
            get(pool, server.url)
            monkeypatch.setattr(socket.socket, "shutdown", slow_shutdown)
            firing.start()
            assert is_shutting.wait(HANG_S)
        is_left.set()
        firing.join()
        monkeypatch.undo()

    assert left_too_early
    assert not any(left_too_early)


def test_a_guard_does_not_shut_connections_of_other_threads(
    pool: urllib3.PoolManager, timers: Timers
) -> None:
    other_is_guarded, may_request = threading.Event(), threading.Event()
    contents: list[bytes] = []

    def request_under_another_guard() -> None:
        with DeadlineGuard(HOUR_S, timers):
            other_is_guarded.set()
            assert may_request.wait(HANG_S)
            contents.append(get(pool, server.url))

    def fire_the_second_and_answer(connection: socket.socket) -> None:
        timers.fire(1)
        connection.sendall(OK)

    with Server(fire_the_second_and_answer) as server:
        other = threading.Thread(target=request_under_another_guard)
        other.start()
        assert other_is_guarded.wait(HANG_S)
        with DeadlineGuard(HOUR_S, timers):
            may_request.set()
            other.join()

    assert contents == [b"content"]


def test_a_request_after_a_fired_guard_succeeds(pool: urllib3.PoolManager, timers: Timers) -> None:
    with Server(send(b"", then=timers.fire), send(OK)) as server:
        with DeadlineGuard(HOUR_S, timers), ends_early():
            get(pool, server.url)

        assert get(pool, server.url) == b"content"


# A guard without requests.


def test_a_guard_may_fire_after_its_connection_is_closed(
    pool: urllib3.PoolManager, timers: Timers
) -> None:
    with Server(send_and_close(CLOSING_OK)) as server, DeadlineGuard(HOUR_S, timers):
        get(pool, server.url)
        pool.clear()

        timers.fire()


def test_a_guard_lets_exceptions_through(timers: Timers) -> None:
    with pytest.raises(KeyError), DeadlineGuard(HOUR_S, timers):
        raise KeyError


# Watched pools.


def test_watching_a_pool_twice_has_no_effect(pool: urllib3.PoolManager, timers: Timers) -> None:
    watched = dict(pool.pool_classes_by_scheme)
    watch_connections(pool, IdleConnections(Timers()))
    assert dict(pool.pool_classes_by_scheme) == watched

    with Server(send(b"", then=timers.fire)) as server, DeadlineGuard(HOUR_S, timers), ends_early():
        get(pool, server.url)


def test_other_pools_are_not_watched(pool: urllib3.PoolManager) -> None:
    with urllib3.PoolManager() as other:
        classes: dict[str, Any] = dict(other.pool_classes_by_scheme)

    assert pool.pool_classes_by_scheme != classes
    assert not any(is_watched(pool_class.ConnectionCls) for pool_class in classes.values())


def is_watched(connection: type) -> bool:
    return hasattr(connection, "end_exchange")


def answered(server: Server, pool: urllib3.PoolManager, _: Timers) -> None:
    get(pool, server.url)


def answered_and_closed(server: Server, pool: urllib3.PoolManager, _: Timers) -> None:
    server.answers[:] = [send_and_close(CLOSING_OK)] * 2
    get(pool, server.url)
    get(pool, server.url)


def dropped_between_two_requests(server: Server, pool: urllib3.PoolManager, _: Timers) -> None:
    server.answers[:] = [send_and_close(OK)] * 2
    get(pool, server.url)
    assert server.was_left.wait(HANG_S)
    get(pool, server.url)


def shut_in_its_headers(server: Server, pool: urllib3.PoolManager, timers: Timers) -> None:
    server.answers[:] = [send(b"HTTP", then=timers.fire)]
    with ends_early():
        get(pool, server.url)


def shut_in_its_body(server: Server, pool: urllib3.PoolManager, timers: Timers) -> None:
    server.answers[:] = [send(BODIES["with a length"], then=timers.fire)]
    with ends_early():
        get(pool, server.url)


def refused(_: Server, pool: urllib3.PoolManager, __: Timers) -> None:
    with reserve_port() as closed, ends_early():
        get(pool, f"http://127.0.0.1:{closed.getsockname()[1]}/")


@BOTH_SCHEMES
@pytest.mark.parametrize(
    "exchange",
    [
        answered,
        answered_and_closed,
        dropped_between_two_requests,
        shut_in_its_headers,
        shut_in_its_body,
        refused,
    ],
)
def test_no_file_descriptor_is_leaked(
    timers: Timers, exchange: Callable[[Server, urllib3.PoolManager, Timers], None], tls: bool
) -> None:
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))

    with warnings.catch_warnings(record=True) as unclosed:
        warnings.simplefilter("always", ResourceWarning)
        with Server(send(OK), tls=tls) as server, new_pool() as pool, DeadlineGuard(HOUR_S, timers):
            exchange(server, pool, timers)
        del pool
        gc.collect()

    leaks = [warning for warning in unclosed if warning.category is ResourceWarning]
    assert [str(warning.message) for warning in leaks] == []
    assert set(os.listdir("/proc/self/fd")) == before
