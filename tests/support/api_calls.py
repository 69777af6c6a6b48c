"""Helpers for the tests of `Api`."""

import queue
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from invoicefs.api.client import Api
from invoicefs.clock import Deadline, SystemClock
from invoicefs.credentials.certificates import load_pem
from invoicefs.credentials.load import Credentials
from invoicefs.credentials.tokens import FixedToken
from invoicefs.errors import InvoicefsError
from invoicefs.model import Invoice, NamespaceList
from invoicefs.sandbox import (
    SAMPLE_TOKEN,
    Endpoint,
    SampleInvoice,
    SampleNamespace,
    SampleTenant,
    plain_pdf,
)
from tests.support.certificates import Authority, Identity

CONTENT = plain_pdf("\u00ff\u00fe\u00fd", 1001)  # with all characters of base64 and its padding
EMPTY_LIST = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"items":[]}'
OUR_NAME = "IP:127.0.0.1"  # of servers on the loopback interface, in a certificate
EVERY_ENDPOINT = pytest.mark.parametrize("endpoint", Endpoint)

Connect = Callable[..., Api]
Converse = Callable[[socket.socket], None]
Serve = Callable[[Converse], int]
Certificate = Callable[[str], tuple[Path, ssl.SSLContext]]


def within(seconds: float) -> Deadline:
    return Deadline.after(seconds, SystemClock())


def ample() -> Deadline:
    """Return a deadline that no test reaches."""
    return within(20)


def ask(
    api: Api, endpoint: Endpoint, deadline: Deadline | None = None
) -> NamespaceList | tuple[Invoice, ...] | bytes:
    """Make a request: for invoices, to namespace ``system``; for a PDF, to its invoice ``i``."""
    deadline = deadline or ample()
    match endpoint:
        case Endpoint.NAMESPACES:
            return api.namespaces(deadline)
        case Endpoint.INVOICES:
            return api.invoices("system", deadline)
        case Endpoint.PDF:
            return pdf_of(api, "system", "i", deadline)


def pdf_of(api: Api, namespace: str, name: str, deadline: Deadline) -> bytes:
    return api.invoice_pdf(Invoice(namespace, name), deadline, bypass_caches=False)


def failure_of(
    api: Api, endpoint: Endpoint = Endpoint.NAMESPACES, deadline: Deadline | None = None
) -> InvoicefsError:
    """Return the `InvoicefsError` that a request raises; any other outcome fails the test."""
    with pytest.raises(InvoicefsError) as caught:
        ask(api, endpoint, deadline)
    return caught.value


def credentials(
    trusted: Authority | None,
    token: FixedToken | None = None,
    certificate: ssl.SSLContext | None = None,
) -> Credentials:
    return Credentials(
        "a test's", token, certificate, ca_bundle=trusted.certificate if trusted else None
    )


def with_pem(identity: Identity, trusted: Authority | None) -> Credentials:
    return credentials(trusted, certificate=load_pem(identity.certificate, identity.key))


def with_token(_: Identity, trusted: Authority | None) -> Credentials:
    return credentials(trusted, token=FixedToken(SAMPLE_TOKEN, "a test"))


With = Callable[[Identity, Authority | None], Credentials]
EVERY_CREDENTIAL = pytest.mark.parametrize("with_", [with_pem, with_token])


def tenant_with(*invoices: SampleInvoice) -> SampleTenant:
    return SampleTenant("t", (SampleNamespace("system", invoices), SampleNamespace("shared")))


def over_tls(context: ssl.SSLContext, asked: queue.Queue[bytes], *parts: bytes) -> Converse:
    """Serve one request: read it, send these bytes and close the connection."""

    def converse(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as stream:
            asked.put(stream.recv(65536))
            for part in parts:
                stream.sendall(part)

    return converse
