"""Shared fixtures of the tests against a server on the loopback interface."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from shutil import which

import pytest

from invoicefs.api.client import Api
from invoicefs.credentials.load import Credentials
from invoicefs.credentials.tokens import FixedToken, Token
from invoicefs.sandbox import SAMPLE_TOKEN, SampleInvoice, Sandbox
from invoicefs.units import KIB
from tests.support.api_calls import (
    CONTENT,
    OUR_NAME,
    Certificate,
    Connect,
    Converse,
    Serve,
    tenant_with,
)
from tests.support.certificates import Authority, Identity, make_certificate


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide proxies, CA bundle and netrc of the machine: `requests` reads all of them."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def _sandbox_of_the_module() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_sandbox_of_the_module: Sandbox) -> Sandbox:
    """The shared sandbox, reset, for tests in which every request ends."""
    sandbox = _sandbox_of_the_module
    sandbox.tenant, sandbox.token = tenant_with(SampleInvoice("i", CONTENT)), SAMPLE_TOKEN
    sandbox.heal()
    sandbox.forget_calls()
    return sandbox


@pytest.fixture
def own_sandbox() -> Iterator[Sandbox]:
    """A new sandbox, for tests that leave requests behind or close it."""
    with Sandbox(tenant_with(SampleInvoice("i", CONTENT))) as sandbox:
        yield sandbox


@pytest.fixture
def api(sandbox: Sandbox, connect: Connect) -> Api:
    return connect(sandbox.url)


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make an `Api` for a base URL, with the token of the sandbox, another one, or credentials."""
    with ExitStack() as stack:

        def connect(
            url: str,
            credential: Token | Credentials | None = None,
            max_pdf_size_bytes: int = 64 * KIB,
        ) -> Api:
            token = credential or FixedToken(SAMPLE_TOKEN, "a test")
            api = Api(
                url,
                token if isinstance(token, Credentials) else Credentials("a test's", token),
                parallel=4,
                max_pdf_size_bytes=max_pdf_size_bytes,
            )
            return stack.enter_context(closing(api))

        yield connect


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that sends whatever a function sends; return its port.

    The function is called for every connection, in its own thread. The connection ends when the
    function returns or the test is over; a client that disconnects is not an error.
    """
    with ExitStack() as stack:

        def serve(converse: Converse) -> int:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            stack.callback(_end, _start(_accept, listener, converse), listener)
            port: int = listener.getsockname()[1]
            return port

        yield serve


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Make a self-signed certificate for a name: return the file, and the context of a server."""
    if which("openssl") is None:
        pytest.skip("the openssl command is missing: it makes the certificates")
    folder = tmp_path_factory.mktemp("certificates")
    made: dict[str, tuple[Path, ssl.SSLContext]] = {}

    def certificate(name: str) -> tuple[Path, ssl.SSLContext]:
        if name not in made:
            file = folder / f"{len(made)}.crt"
            made[name] = file, make_certificate(file, name)
        return made[name]

    return certificate


@pytest.fixture
def trusted(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a server that the client trusts."""
    file, context = certificate(OUR_NAME)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    return context


@pytest.fixture(scope="module")
def of_server(authority: Authority) -> Identity:
    """The certificate of a server on the loopback interface."""
    return authority.issue("server", hosts=[OUR_NAME, "DNS:localhost"])


@pytest.fixture
def lenient_tls(of_server: Identity, authority: Authority) -> ssl.SSLContext:
    """The context of a server that asks for a client certificate but does not require one."""
    context = of_server.for_server(clients=authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


@pytest.fixture
def lenient_server(lenient_tls: ssl.SSLContext) -> Iterator[Sandbox]:
    """A sandbox that accepts a client certificate or a token."""
    with Sandbox(tls=lenient_tls) as server:
        yield server


def _accept(listener: socket.socket, converse: Converse) -> None:
    conversations = []
    with suppress(OSError):  # the test is over
        while True:
            connection, _ = listener.accept()
            # TLS detaches the descriptor from the socket, so a duplicate is shut down.
            duplicate = connection.dup()
            thread = _start(_converse, connection, duplicate, converse)
            conversations.append((thread, duplicate))
    for thread, duplicate in conversations:
        _end(thread, duplicate)


def _converse(connection: socket.socket, duplicate: socket.socket, converse: Converse) -> None:
    with duplicate, suppress(OSError):  # the client disconnected, or does not trust us
        with connection, suppress(OSError):
            converse(connection)
        duplicate.shutdown(socket.SHUT_RDWR)


def _start(target: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def _end(thread: threading.Thread, connection: socket.socket) -> None:
    with connection, suppress(OSError):  # the other side has ended it
        connection.shutdown(socket.SHUT_RDWR)
    thread.join()
