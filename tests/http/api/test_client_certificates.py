"""A client certificate works like a token, and a CA bundle decides which servers are trusted.

That no other host receives a credential is tested in `test_other_hosts`.
"""

import queue
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from invoicefs.credentials.certificates import load_p12
from invoicefs.credentials.load import Credentials
from invoicefs.credentials.tokens import FixedToken
from invoicefs.errors import NotFound, UntrustedServer
from invoicefs.model import NamespaceList
from invoicefs.sandbox import SAMPLE_TOKEN, Endpoint, SampleInvoice, Sandbox
from tests.support.api_calls import (
    CONTENT,
    EMPTY_LIST,
    EVERY_CREDENTIAL,
    EVERY_ENDPOINT,
    Connect,
    Serve,
    With,
    ample,
    ask,
    credentials,
    failure_of,
    over_tls,
    tenant_with,
    with_pem,
)
from tests.support.certificates import Authority, Identity, hide_cryptography

PASSWORD = "hush-hush"


@pytest.fixture
def tls(of_server: Identity, authority: Authority) -> ssl.SSLContext:
    """The context of a server that requires a client certificate."""
    return of_server.for_server(clients=authority)


@pytest.fixture
def server(tls: ssl.SSLContext) -> Iterator[Sandbox]:
    with Sandbox(tenant_with(SampleInvoice("i", CONTENT)), tls=tls) as server:
        yield server


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Another authority with the same name."""
    return Authority(tmp_path / "stranger")


def with_p12(identity: Identity, trusted: Authority | None) -> Credentials:
    return credentials(trusted, certificate=load_p12(identity.p12(PASSWORD), PASSWORD))


# Accepted clients


@EVERY_ENDPOINT
@pytest.mark.parametrize("with_", [with_pem, with_p12])
def test_every_request_works_with_a_client_certificate_alone(
    server: Sandbox,
    own_sandbox: Sandbox,
    connect: Connect,
    client: Identity,
    authority: Authority,
    endpoint: Endpoint,
    with_: With,
) -> None:
    api = connect(server.url, with_(client, authority))

    assert ask(api, endpoint) == ask(connect(own_sandbox.url), endpoint)
    (call,) = server.calls
    assert (call.endpoint, call.status, call.client) == (endpoint, 200, client.name)
    assert "authorization" not in call.headers


@pytest.mark.parametrize("place", ["NETRC", "HOME"])
def test_netrc_credentials_are_not_sent(
    server: Sandbox,
    connect: Connect,
    client: Identity,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    file = tmp_path / ".netrc"
    file.write_text("machine 127.0.0.1 login somebody password secret\n")
    file.chmod(0o600)
    monkeypatch.setenv(place, str(file if place == "NETRC" else tmp_path))

    connect(server.url, with_pem(client, authority)).namespaces(ample())

    assert "authorization" not in server.calls[0].headers


def test_a_connection_is_reused_with_a_client_certificate(
    connect: Connect, serve: Serve, tls: ssl.SSLContext, client: Identity, authority: Authority
) -> None:
    connections: queue.Queue[object] = queue.Queue()

    def answer_all(connection: socket.socket) -> None:
        connections.put(connection)
        with tls.wrap_socket(connection, server_side=True) as stream:
            while stream.recv(65536):
                stream.sendall(EMPTY_LIST)
                stream.recv(65536)
                stream.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")

    api = connect(f"https://127.0.0.1:{serve(answer_all)}", with_pem(client, authority))
    for _ in range(3):
        api.namespaces(ample())
        with pytest.raises(NotFound):
            api.namespaces(ample())

    assert connections.qsize() == 1


# Refused clients


def nothing(_: Authority, __: Authority) -> None:
    """No certificate at all."""


def of_a_stranger(_: Authority, stranger: Authority) -> Identity:
    return stranger.issue("somebody")


def expired(authority: Authority, _: Authority) -> Identity:
    begin, end = (datetime(year, 1, 1, tzinfo=UTC) for year in (2020, 2021))
    return authority.issue("somebody", begin=begin, end=end)


Show = Callable[[Authority, Authority], Identity | None]


@pytest.fixture
def shown(
    show: Show, authority: Authority, stranger: Authority, monkeypatch: pytest.MonkeyPatch
) -> Credentials:
    hide_cryptography(monkeypatch)  # it would notice an expired certificate before the server does
    identity = show(authority, stranger)
    return credentials(authority) if identity is None else with_pem(identity, authority)


@pytest.mark.parametrize(
    ("version", "show", "words"),
    [
        (ssl.TLSVersion.TLSv1_2, nothing, "may require a client certificate"),
        (ssl.TLSVersion.TLSv1_3, nothing, "requires a client certificate"),
        *(
            (version, show, words)
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
            for show, words in (
                (of_a_stranger, "does not trust the client certificate"),
                (expired, "says that the client certificate has expired"),
            )
        ),
    ],
)
def test_a_refused_client_certificate_error_explains_the_tls_alert(
    serve: Serve,
    tls: ssl.SSLContext,
    connect: Connect,
    shown: Credentials,
    version: ssl.TLSVersion,
    words: str,
) -> None:
    tls.maximum_version = version

    def refuse(connection: socket.socket) -> None:
        with connection.dup() as line:
            with suppress(ssl.SSLError):
                tls.wrap_socket(connection, server_side=True)
            while line.recv(65536):  # until the client disconnects, so it has received the alert
                pass

    error = failure_of(connect(f"https://127.0.0.1:{serve(refuse)}", shown))

    assert type(error) is UntrustedServer
    assert words in str(error)


# Which servers are trusted


@EVERY_CREDENTIAL
def test_a_private_authority_is_not_trusted_by_default(
    lenient_server: Sandbox, connect: Connect, client: Identity, with_: With
) -> None:
    error = failure_of(connect(lenient_server.url, with_(client, None)))

    assert type(error) is UntrustedServer
    assert "not trusted" in str(error)
    assert lenient_server.calls == ()


@EVERY_CREDENTIAL
@pytest.mark.parametrize("other", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "public"])
def test_a_ca_bundle_is_trusted_instead_of_all_others(
    lenient_server: Sandbox,
    connect: Connect,
    client: Identity,
    authority: Authority,
    stranger: Authority,
    monkeypatch: pytest.MonkeyPatch,
    with_: With,
    other: str,
) -> None:
    def trust(file: Path) -> None:
        if other == "public":
            monkeypatch.setattr("invoicefs.api.transport.DEFAULT_CA_BUNDLE_PATH", str(file))
        else:
            monkeypatch.setenv(other, str(file))

    trust(authority.certificate)
    assert ask(connect(lenient_server.url, with_(client, None)), Endpoint.NAMESPACES)
    lenient_server.forget_calls()
    error = failure_of(connect(lenient_server.url, with_(client, stranger)))
    assert type(error) is UntrustedServer
    assert lenient_server.calls == ()

    trust(stranger.certificate)
    assert ask(connect(lenient_server.url, with_(client, authority)), Endpoint.NAMESPACES)


@EVERY_CREDENTIAL
def test_a_ca_bundle_may_be_missing_for_a_while(
    lenient_server: Sandbox,
    connect: Connect,
    client: Identity,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    with_: With,
) -> None:
    bundle = tmp_path / "bundle.pem"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    api = connect(lenient_server.url, with_(client, None))

    for _ in range(2):
        assert type(failure_of(api)) is UntrustedServer
        bundle.write_bytes(authority.certificate.read_bytes())
        assert ask(api, Endpoint.NAMESPACES)
        bundle.unlink()


@EVERY_CREDENTIAL
def test_a_certificate_for_another_host_is_refused(
    connect: Connect, client: Identity, authority: Authority, with_: With
) -> None:
    elsewhere = authority.issue("server", hosts=["DNS:elsewhere.example", "IP:127.0.0.2"])
    with Sandbox(tls=elsewhere.for_server()) as server:
        error = failure_of(connect(server.url, with_(client, authority)))

        assert type(error) is UntrustedServer
        assert "127.0.0.1" in str(error)
        assert server.calls == ()


def test_a_changed_ca_bundle_counts_for_the_next_connection(
    serve: Serve,
    connect: Connect,
    of_server: Identity,
    authority: Authority,
    stranger: Authority,
    tmp_path: Path,
) -> None:
    bundle, new = tmp_path / "bundle.pem", tmp_path / "new.pem"

    def trust(issuer: Authority) -> None:
        new.write_text(issuer.certificate.read_text())
        new.replace(bundle)

    port = serve(over_tls(of_server.for_server(), queue.Queue(), EMPTY_LIST))
    trust(authority)
    trusting = Credentials("a test's", FixedToken(SAMPLE_TOKEN, "a test"), ca_bundle=bundle)
    api = connect(f"https://127.0.0.1:{port}", trusting)
    assert api.namespaces(ample()) == NamespaceList(())

    trust(stranger)
    assert type(failure_of(api)) is UntrustedServer
    trust(authority)
    assert api.namespaces(ample()) == NamespaceList(())
