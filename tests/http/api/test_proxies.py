"""Proxies from the environment: of every kind, invalid, silent, refusing and dead."""

import select
import socket
import sys
import threading
from collections.abc import Callable

import pytest

from invoicefs.errors import TimedOut, Unreachable, UserError
from invoicefs.model import NamespaceList
from invoicefs.sandbox.listener import reserve_port
from tests.support.api_calls import EMPTY_LIST, Connect, Converse, Serve, ample, failure_of, within

TENANT = "http://tenant.invalid"  # resolved by the proxy, which connects to wherever it likes
SLOW = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
DRIBBLE_S = 0.02


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    "value",
    [
        "socks://127.0.0.1:1080",
        "socks6://127.0.0.1:1080",
        "ftp://proxy.example.com",
        "http://user:a#b@proxy.example.com:3128",
        "http://user:a/b@proxy.example.com:3128",
        "http://user:a?b@proxy.example.com:3128",
        ":3128",
        "http://",
        "http://:3128",
        "http://proxy.example.com:port",
        "http://proxy.example.com:99999",
        "http://proxy.example.com:0",
        "http://proxy.example.com/path",
        "proxy.example.com 3128",
        "http://[::1:3128",
        "http://\x7f:1",
        "http://a\x01b:1",
    ],
)
def test_an_invalid_proxy_error_names_the_variable_but_no_password(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(UserError) as refused:
        connect("https://tenant.invalid")

    words = str(refused.value)
    assert words.startswith(f"{variable} is not the URL of a proxy: write it like http://")
    assert "a#b" not in words
    assert value in ("http://", ":3128") or value not in words


@pytest.mark.parametrize(
    "value",
    [
        "proxy.example.com:3128",
        "http://proxy.example.com",
        "HTTP://proxy.example.com:3128/",
        "https://user:a%23b@proxy.example.com:3128",
        "http://[::1]:3128",
        "http://10.0.0.1:3128",
        "socks5://127.0.0.1",
        "socks5h://user:word@proxy_1.example.com:1080",
        "socks4a://127.0.0.1:1080",
    ],
)
def test_a_valid_proxy_is_accepted(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)

    connect("https://tenant.invalid")


def test_an_invalid_proxy_is_ignored_where_none_is_used(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", ":1")
    monkeypatch.setenv("NO_PROXY", "tenant.invalid")

    connect("https://tenant.invalid")


def test_a_socks_proxy_without_pysocks_says_what_to_install(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "socks", None)

    with pytest.raises(UserError, match=r"ALL_PROXY needs .* pip install pysocks"):
        connect(TENANT)


def socks(then: Callable[[socket.socket], None], answer: bytes = b"\x05\x00\x00\x01") -> Converse:
    """A SOCKS5 proxy (RFC 1928) that answers a connection request, and then calls `then`."""

    def converse(client: socket.socket) -> None:
        client.recv(64)
        client.sendall(b"\x05\x00")  # no authentication
        client.recv(512)
        client.sendall(answer + 6 * b"\x00")
        then(client)

    return converse


def serves(answer: bytes) -> Callable[[socket.socket], None]:
    def serve(client: socket.socket) -> None:
        while client.recv(65_536):
            client.sendall(answer)

    return serve


def stalls(client: socket.socket) -> None:
    while client.recv(65_536):  # until the client hangs up
        pass


def dribbles(client: socket.socket) -> None:
    client.recv(65_536)
    client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not select.select([client], [], [], DRIBBLE_S)[0]:  # until the client hangs up
        client.sendall(b"x")


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_is_used_and_its_connection_reused(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    made: list[socket.socket] = []

    def counted(client: socket.socket) -> None:
        made.append(client)
        socks(serves(EMPTY_LIST))(client)

    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{serve(counted)}")
    api = connect("http://192.0.2.1" if scheme == "socks5" else TENANT)

    assert [api.namespaces(ample()) for _ in range(2)] == 2 * [NamespaceList(())]
    assert len(made) == 1


@pytest.mark.parametrize(
    "converse",
    [
        pytest.param(stalls, id="silent from the first"),
        pytest.param(socks(stalls), id="silent server"),
        pytest.param(socks(serves(SLOW)), id="half a response"),
        pytest.param(socks(dribbles), id="a header without end"),
    ],
)
def test_requests_through_a_socks_proxy_end_at_their_deadline(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch, converse: Converse
) -> None:
    """Eight slow responses once occupied all connections, and every later open failed."""
    is_working = threading.Event()
    working = socks(serves(EMPTY_LIST))
    port = serve(lambda client: (working if is_working.is_set() else converse)(client))
    monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{port}")
    api = connect(TENANT)

    for _ in range(9):  # more than the pool has slots
        assert type(failure_of(api, deadline=within(0.1))) is TimedOut
    is_working.set()

    assert api.namespaces(ample()) == NamespaceList(())


def test_a_socks_proxy_that_refuses_a_connection_is_reported(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = socks(stalls, answer=b"\x05\x05\x00\x01")
    monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{serve(refusing)}")

    error = failure_of(connect(TENANT))

    assert type(error) is Unreachable
    assert str(error) == "the proxy refuses the connection"


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("407 Proxy Authentication Required", "requires a valid user name and password in its URL"),
        ("403 Forbidden", "refuses the connection (status 403)"),
        ("502 \x1b[2J", "refuses the connection (status 502)"),
    ],
)
def test_an_http_proxy_that_refuses_a_tunnel_is_reported_with_its_status(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch, head: str, words: str
) -> None:
    response = f"HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n".encode()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(serves(response))}")

    error = failure_of(connect("https://tenant.invalid"))

    assert type(error) is Unreachable
    assert str(error).startswith(f"the proxy {words}")


@pytest.mark.parametrize("scheme", ["http", "https", "socks4", "socks5", "socks5h"])
@pytest.mark.parametrize("tenant", ["http://192.0.2.1", "https://192.0.2.1"])
def test_a_dead_proxy_is_reported_as_such(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, scheme: str, tenant: str
) -> None:
    with reserve_port() as closed:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{closed.getsockname()[1]}")

        error = failure_of(connect(tenant))

    assert type(error) is Unreachable
    assert str(error) == "the proxy cannot be reached"
