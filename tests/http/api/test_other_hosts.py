"""A credential goes only to the server that it is for: to no other host, and to no proxy."""

import queue
import select
import socket
import ssl
from contextlib import suppress

import pytest

from invoicefs.credentials.tokens import FixedToken
from invoicefs.errors import Misdirected, UntrustedServer
from invoicefs.model import NamespaceList
from invoicefs.sandbox import SAMPLE_TOKEN, Endpoint, Fault, Sandbox, faults
from tests.support.api_calls import (
    EMPTY_LIST,
    EVERY_CREDENTIAL,
    EVERY_ENDPOINT,
    Connect,
    Converse,
    Serve,
    With,
    ample,
    credentials,
    failure_of,
    over_tls,
    with_pem,
)
from tests.support.certificates import Authority, Identity


@pytest.mark.promise(
    "A credential that was given together with a URL is sent to that host and to no other, "
    "wherever a server redirects to."
)
@EVERY_ENDPOINT
@EVERY_CREDENTIAL
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_other_host_receives_a_client_certificate_or_token(
    lenient_server: Sandbox,
    lenient_tls: ssl.SSLContext,
    serve: Serve,
    connect: Connect,
    client: Identity,
    authority: Authority,
    endpoint: Endpoint,
    with_: With,
    host: str,
) -> None:
    connections: queue.Queue[object] = queue.Queue()

    def other_host(connection: socket.socket) -> None:
        connections.put(connection)
        over_tls(lenient_tls, queue.Queue(), EMPTY_LIST)(connection)

    where = f"https://{host}:{serve(other_host)}/api/web/namespaces"
    lenient_server.inject(Fault(faults.redirect(where)))

    error = failure_of(connect(lenient_server.url, with_(client, authority)), endpoint)

    assert type(error) is Misdirected
    assert lenient_server.count() == 1
    assert connections.empty()


def tunnel(received: bytearray, shown: list[object], tls: ssl.SSLContext | None) -> Converse:
    """A proxy that makes tunnels, and records every byte and certificate that it receives."""

    def converse(connection: socket.socket) -> None:
        client = tls.wrap_socket(connection, server_side=True) if tls else connection
        shown.append(client.getpeercert() if isinstance(client, ssl.SSLSocket) else None)
        with client:
            received.extend(request := client.recv(65536))
            _, port = request.split()[1].split(b":")
            with socket.create_connection(("127.0.0.1", int(port))) as server:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while data := relayed(client, server):
                    received.extend(data)

    return converse


def relayed(client: socket.socket, server: socket.socket) -> bytes:
    """Relay in both directions; return the next bytes from the client, or none at the end."""
    while True:
        for source in select.select([client, server], [], [])[0]:
            data: bytes = source.recv(65536)
            (server if source is client else client).sendall(data)
            if source is client or not data:
                return data


@pytest.mark.promise(
    "Proxies from the environment are used, and over https:// they see neither token nor "
    "certificate."
)
@EVERY_CREDENTIAL
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_sees_neither_client_certificate_nor_token(
    lenient_server: Sandbox,
    lenient_tls: ssl.SSLContext,
    serve: Serve,
    connect: Connect,
    client: Identity,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    with_: With,
    scheme: str,
) -> None:
    received, shown = bytearray(), list[object]()
    proxy = tunnel(received, shown, lenient_tls if scheme == "https" else None)
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://127.0.0.1:{serve(proxy)}")

    connect(lenient_server.url, with_(client, authority)).namespaces(ample())

    (call,) = lenient_server.calls
    assert (call.status, call.client) == (200, client.name if with_ is with_pem else None)
    assert received.startswith(b"CONNECT 127.0.0.1:")
    assert shown == [None]
    assert SAMPLE_TOKEN.encode() not in received
    assert ssl.PEM_cert_to_DER_cert(client.certificate.read_text()) not in received


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("tenant.invalid", "DNS:tenant.invalid"),
        ("192.0.2.1", "IP:192.0.2.1"),
        ("[2001:db8::1]", "IP:2001:db8::1"),
    ],
)
def test_a_tunnel_leads_to_a_server_whose_certificate_has_the_name_in_the_url(
    serve: Serve,
    connect: Connect,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    name: str,
) -> None:
    asked: queue.Queue[bytes] = queue.Queue()
    behind = over_tls(
        authority.issue("server", hosts=[name]).for_server(), queue.Queue(), EMPTY_LIST
    )

    def proxy(connection: socket.socket) -> None:
        asked.put(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        behind(connection)

    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(proxy)}")

    api = connect(f"https://{host}", credentials(authority, FixedToken(SAMPLE_TOKEN, "a test")))

    assert api.namespaces(ample()) == NamespaceList(())
    assert asked.get(timeout=10).startswith(f"CONNECT {host}:443 ".encode())


@pytest.mark.parametrize("hosts", [[], ["DNS:elsewhere.example", "IP:127.0.0.2"]])
def test_a_proxy_whose_certificate_has_another_name_is_refused(
    lenient_server: Sandbox,
    serve: Serve,
    connect: Connect,
    client: Identity,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    hosts: list[str],
) -> None:
    """The common name, here ``localhost``, does not count."""
    asked: queue.Queue[bytes] = queue.Queue()
    proxy = over_tls(authority.issue("localhost", hosts=hosts).for_server(), asked)

    def refused(connection: socket.socket) -> None:
        with suppress(ssl.SSLError):
            proxy(connection)

    monkeypatch.setenv("HTTPS_PROXY", f"https://localhost:{serve(refused)}")

    error = failure_of(connect(lenient_server.url, with_pem(client, authority)))

    assert type(error) is UntrustedServer
    assert asked.empty()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("host", ["tenant.invalid", "192.0.2.1", "[2001:db8::1]:8080"])
def test_a_proxy_is_used_for_http_to_other_machines(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, name: str, host: str
) -> None:
    asked: queue.Queue[bytes] = queue.Queue()

    def proxy(connection: socket.socket) -> None:
        asked.put(connection.recv(65536))
        connection.sendall(EMPTY_LIST)

    monkeypatch.setenv(name, f"http://127.0.0.1:{serve(proxy)}")

    assert connect(f"http://{host}").namespaces(ample()) == NamespaceList(())
    assert asked.get(timeout=10).startswith(f"GET http://{host}/api/web/namespaces ".encode())


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # of the proxy, by requests
def test_a_proxy_for_http_sees_no_client_certificate(
    lenient_tls: ssl.SSLContext,
    serve: Serve,
    connect: Connect,
    client: Identity,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: queue.Queue[object] = queue.Queue()

    def proxy(connection: socket.socket) -> None:
        with lenient_tls.wrap_socket(connection, server_side=True) as stream:
            shown.put(stream.getpeercert())
            stream.recv(65536)
            stream.sendall(EMPTY_LIST)

    monkeypatch.setenv("HTTP_PROXY", f"https://127.0.0.1:{serve(proxy)}")

    api = connect("http://tenant.invalid", with_pem(client, authority))

    assert api.namespaces(ample()) == NamespaceList(())
    assert shown.get(timeout=10) is None
