"""Connections that are opened ahead of requests: over TLS, through proxies, dead and alive.

The servers here count the requests on each of their connections.
"""

import queue
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest

from invoicefs.api import idle_connections
from invoicefs.api.client import Api
from invoicefs.errors import TimedOut, Unreachable, UntrustedServer
from invoicefs.model import NamespaceList
from invoicefs.sandbox import Endpoint, Sandbox
from tests.support.api_calls import (
    EMPTY_LIST,
    Certificate,
    Connect,
    Converse,
    Serve,
    ample,
    ask,
    failure_of,
    with_pem,
    within,
)
from tests.support.certificates import Authority, Identity

PARALLEL = 4  # of the fixture `connect`
DRIBBLE_S = 0.02
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Say = Callable[[socket.socket], None]


def answers(connection: socket.socket) -> None:
    connection.sendall(EMPTY_LIST)


def closes(connection: socket.socket) -> None:
    connection.sendall(EMPTY_LIST.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))


def nothing(_: socket.socket) -> None:
    """Say nothing."""


class Server:
    """Answers, over TLS if there is a context; `requests` has a count for each connection.

    The first connection gets the answer `first`, which closes it, and all others get `answer`. The
    second one, which is to be opened ahead, gets `greeting` before that. `opened` and `closed` get
    the number of a connection when it is opened, and when the client closes it.
    """

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        *,
        first: Say = closes,
        greeting: Say = nothing,
        answer: Say = answers,
    ) -> None:
        self.tls = tls
        self.requests: list[int] = []
        self.certificates: list[object] = []
        self.opened: queue.Queue[int] = queue.Queue()
        self.closed: queue.Queue[int] = queue.Queue()
        self._first = first
        self._greeting = greeting
        self._answer = answer
        self._lock = threading.Lock()

    def __call__(self, connection: socket.socket) -> None:
        with self._lock:
            number = len(self.requests)
            self.requests.append(0)
        # Otherwise the greeting would wait until the client acknowledges the session tickets.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with encrypted(connection, self.tls) as stream:
            if isinstance(stream, ssl.SSLSocket):
                self.certificates.append(stream.getpeercert())
            if number == 1:
                self._greeting(stream)
            self.opened.put(number)
            try:
                while stream.recv(65_536):
                    self.requests[number] += 1
                    (self._answer if number else self._first)(stream)
            finally:  # closing a connection with unread session tickets resets it
                self.closed.put(number)


def encrypted(connection: socket.socket, tls: ssl.SSLContext | None) -> socket.socket:
    return tls.wrap_socket(connection, server_side=True) if tls else connection


def ask_once(api: Api) -> None:
    assert api.namespaces(ample()) == NamespaceList(())


def opened_ahead(api: Api, server: Server) -> None:
    """Open a connection ahead, after a request whose connection was closed."""
    ask_once(api)
    assert server.opened.get(timeout=10) == 0
    assert api.connect_ahead(1, ample())
    # By now the session tickets of TLS 1.3 have arrived, too.
    assert server.opened.get(timeout=10) == 1


# Requests use the connections that were opened ahead


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_next_request_uses_a_tls_connection_opened_ahead(
    serve: Serve, connect: Connect, trusted: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    """Session tickets were once mistaken for the end of the connection."""
    trusted.maximum_version = version
    server = Server(trusted)
    api = connect(f"https://127.0.0.1:{serve(server)}")
    opened_ahead(api, server)

    ask_once(api)
    ask_once(api)
    assert server.requests == [1, 2]


def test_a_connection_opened_ahead_has_the_client_certificate(
    serve: Serve, connect: Connect, of_server: Identity, client: Identity, authority: Authority
) -> None:
    server = Server(of_server.for_server(clients=authority))
    api = connect(f"https://127.0.0.1:{serve(server)}", with_pem(client, authority))
    opened_ahead(api, server)

    ask_once(api)
    assert server.requests == [1, 1]
    assert server.certificates[0] == server.certificates[1] != {}


def tunnel(tls: ssl.SSLContext | None, made: queue.Queue[bytes]) -> Converse:
    """A proxy, which may speak TLS itself, that makes tunnels to 127.0.0.1."""

    def converse(connection: socket.socket) -> None:
        with encrypted(connection, tls) as client:
            made.put(request := client.recv(65_536))
            port = int(request.split()[1].split(b":")[1])
            with socket.create_connection(("127.0.0.1", port)) as server:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                with together(relay, (server, client), (client, server)):
                    pass

    return converse


@contextmanager
def together(function: Callable[..., object], *calls: Sequence[object]) -> Iterator[None]:
    """Call a function in threads, which end in the ``with`` block or after it."""
    threads = [threading.Thread(target=function, args=arguments) for arguments in calls]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()


def relay(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_opened_ahead_is_a_tunnel_through_the_proxy(
    serve: Serve,
    connect: Connect,
    trusted: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    tunnels: queue.Queue[bytes] = queue.Queue()
    proxy = serve(tunnel(trusted if scheme == "https" else None, tunnels))
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://127.0.0.1:{proxy}")
    server = Server(trusted)
    api = connect(f"https://127.0.0.1:{serve(server)}")
    opened_ahead(api, server)

    ask_once(api)
    assert server.requests == [1, 1]
    assert tunnels.qsize() == 2


def test_a_connection_opened_ahead_without_tls_goes_to_the_proxy(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Server(None)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{serve(proxy)}")
    api = connect("http://tenant.invalid")
    opened_ahead(api, proxy)

    ask_once(api)
    assert proxy.requests == [1, 1]


# How many are opened


def test_connections_are_opened_ahead_until_there_are_enough(
    serve: Serve, connect: Connect
) -> None:
    server = Server(None, first=answers)
    api = connect(f"http://127.0.0.1:{serve(server)}")
    ask_once(api)

    opened = [api.connect_ahead(count, ample()) for count in (0, 1, 2, 2, 9, 9, 9)]
    assert opened == [False, False, True, False, True, True, False]
    numbers = [server.opened.get(timeout=10) for _ in range(PARALLEL)]
    assert sorted(numbers) == list(range(PARALLEL))
    assert server.opened.empty()


def test_connections_in_use_and_being_opened_count_as_well(
    serve: Serve, connect: Connect, trusted: ssl.SSLContext
) -> None:
    reached, go_on = threading.Semaphore(0), threading.Event()

    def wait(_: socket.socket) -> None:
        reached.release()
        assert go_on.wait(10)

    def wait_and_answer(connection: socket.socket) -> None:
        wait(connection)
        answers(connection)

    def converse(connection: socket.socket) -> None:
        if server.requests:
            wait(connection)
        server(connection)

    server = Server(trusted, first=wait_and_answer)
    api = connect(f"https://127.0.0.1:{serve(converse)}")
    with together(ask_once, [api]):
        assert reached.acquire(timeout=10)
        with together(api.connect_ahead, [2, ample()]):
            assert reached.acquire(timeout=10)
            assert not api.connect_ahead(2, ample())
            go_on.set()


def test_simultaneous_requests_use_all_connections_opened_ahead(
    serve: Serve, connect: Connect
) -> None:
    all_have_asked = threading.Barrier(PARALLEL, timeout=10)

    def answer_together(connection: socket.socket) -> None:
        all_have_asked.wait()
        answers(connection)

    server = Server(None, answer=answer_together)
    api = connect(f"http://127.0.0.1:{serve(server)}")
    ask_once(api)
    assert all(api.connect_ahead(PARALLEL, ample()) for _ in range(PARALLEL))

    for _ in range(2):
        with together(ask_once, *PARALLEL * [[api]]):
            pass
    assert server.requests == [1, *PARALLEL * [2]]


# Connections that die before they are used


def hangs_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    connection.close()


def times_out(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("dies", [hangs_up, resets, times_out])
@pytest.mark.parametrize("is_encrypted", [False, True], ids=["http", "https"])
def test_a_dead_connection_opened_ahead_costs_one_repeat_and_no_error(
    serve: Serve, connect: Connect, trusted: ssl.SSLContext, dies: Say, is_encrypted: bool
) -> None:
    def answer(connection: socket.socket) -> None:
        (dies if len(server.requests) == 2 else answers)(connection)

    server = Server(trusted if is_encrypted else None, answer=answer)
    scheme = "https" if is_encrypted else "http"
    api = connect(f"{scheme}://127.0.0.1:{serve(server)}")
    opened_ahead(api, server)

    ask_once(api)
    assert server.requests == [1, 1, 1]


@pytest.mark.parametrize("greeting", [hangs_up, answers])
@pytest.mark.parametrize("is_encrypted", [False, True], ids=["http", "https"])
def test_a_connection_opened_ahead_with_something_to_read_is_not_used(
    serve: Serve, connect: Connect, trusted: ssl.SSLContext, greeting: Say, is_encrypted: bool
) -> None:
    """A response that came before its request is not for the next one."""
    server = Server(trusted if is_encrypted else None, greeting=greeting)
    scheme = "https" if is_encrypted else "http"
    api = connect(f"{scheme}://127.0.0.1:{serve(server)}")
    opened_ahead(api, server)

    ask_once(api)
    assert server.requests == [1, 0, 1]


def test_a_connection_opened_ahead_is_closed_after_its_time(
    serve: Serve, connect: Connect, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_connections, "MAX_IDLE_S", 0.05)
    server = Server(trusted)
    api = connect(f"https://127.0.0.1:{serve(server)}")
    opened_ahead(api, server)

    assert {server.closed.get(timeout=10) for _ in range(2)} == {0, 1}
    ask_once(api)
    assert server.requests == [1, 0, 1]


def test_closing_the_client_closes_connections_opened_ahead(serve: Serve, connect: Connect) -> None:
    server = Server(None)
    api = connect(f"http://127.0.0.1:{serve(server)}")
    opened_ahead(api, server)
    api.close()

    assert {server.closed.get(timeout=10) for _ in range(2)} == {0, 1}


# Failures


def test_a_failure_to_connect_ahead_is_that_of_a_request(
    connect: Connect, own_sandbox: Sandbox
) -> None:
    api = connect(own_sandbox.url)
    ask(api, Endpoint.NAMESPACES)
    own_sandbox.close()

    with pytest.raises(Unreachable) as caught:
        api.connect_ahead(PARALLEL, ample())
    assert str(caught.value) == str(failure_of(api))


def test_a_server_that_is_not_trusted_is_reported_ahead(
    serve: Serve, connect: Connect, trusted: ssl.SSLContext, certificate: Certificate
) -> None:
    server = Server(trusted)
    api = connect(f"https://127.0.0.1:{serve(server)}")
    ask_once(api)
    _, server.tls = certificate("IP:127.0.0.2")

    with pytest.raises(UntrustedServer) as caught:
        api.connect_ahead(PARALLEL, ample())
    assert str(caught.value) == str(failure_of(api))


def test_a_proxy_that_refuses_a_tunnel_is_reported_ahead(
    serve: Serve, connect: Connect, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunnels: queue.Queue[bytes] = queue.Queue()

    def proxy(connection: socket.socket) -> None:
        if tunnels.empty():
            tunnel(None, tunnels)(connection)
        elif connection.recv(65_536):
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(proxy)}")
    api = connect(f"https://127.0.0.1:{serve(Server(trusted))}")
    ask_once(api)

    with pytest.raises(Unreachable) as caught:
        api.connect_ahead(PARALLEL, ample())
    assert str(caught.value) == str(failure_of(api))


def test_connecting_ahead_ends_at_its_deadline_and_frees_its_place(
    serve: Serve, connect: Connect, trusted: ssl.SSLContext
) -> None:
    is_silent = threading.Event()

    def converse(connection: socket.socket) -> None:
        if is_silent.is_set():
            connection.recv(65_536)  # the beginning of the handshake
            connection.recv(65_536)  # until the client hangs up
        else:
            server(connection)

    server = Server(trusted)
    api = connect(f"https://127.0.0.1:{serve(converse)}")
    ask_once(api)
    is_silent.set()
    for _ in range(PARALLEL):
        with pytest.raises(TimedOut):
            api.connect_ahead(1, within(0.1))
    is_silent.clear()

    assert api.connect_ahead(1, ample())


def test_connecting_ahead_ends_at_its_deadline_even_if_the_proxy_keeps_talking(
    serve: Serve, connect: Connect, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunnels: queue.Queue[bytes] = queue.Queue()

    def proxy(connection: socket.socket) -> None:
        if tunnels.empty():
            tunnel(None, tunnels)(connection)
            return
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not select.select([connection], [], [], DRIBBLE_S)[0]:  # until the client hangs up
            connection.sendall(b"x")

    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(proxy)}")
    api = connect(f"https://127.0.0.1:{serve(Server(trusted))}")
    ask_once(api)

    with pytest.raises(TimedOut):
        api.connect_ahead(PARALLEL, within(0.2))
