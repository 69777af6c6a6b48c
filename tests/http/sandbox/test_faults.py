"""The faults of the embedded server have the promised effect on the wire."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from invoicefs.sandbox import (
    Behaviour,
    Endpoint,
    Exchange,
    Fault,
    SampleInvoice,
    SampleNamespace,
    SampleTenant,
    Sandbox,
    Sent,
    faults,
    plain_pdf,
)

NAMESPACES = "/api/web/namespaces"
PDF = f"{NAMESPACES}/system/usage/invoice_pdf?name=i"
CONTENT = plain_pdf("\u00ff\u00fe\u00fd", 1001)  # with all characters of base64 and its padding
PARTS = pytest.mark.parametrize("after", [*Sent, 0, 7])


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    namespace = SampleNamespace("system", (SampleInvoice("i", CONTENT),))
    with Sandbox(SampleTenant("t", (namespace,)), token="t") as sandbox:
        yield sandbox


@contextmanager
def request(sandbox: Sandbox, path: str = PDF) -> Iterator[socket.socket]:
    """Send one request on a new connection, which is closed after the response."""
    host, _, port = sandbox.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        lines = (
            f"GET {path} HTTP/1.1",
            "Host: h",
            "Authorization: APIToken t",
            "Connection: close",
        )
        connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        yield connection


def read_all(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        return stream.read()


def answer(sandbox: Sandbox, path: str = PDF) -> bytes:
    """Return all bytes that the server sends until it closes the connection."""
    with request(sandbox, path) as connection:
        return read_all(connection)


def head_and_body(sandbox: Sandbox, path: str = PDF) -> tuple[str, bytes]:
    head, _, body = answer(sandbox, path).partition(b"\r\n\r\n")
    return head.decode(), body


def first_part(whole: bytes, after: Sent | int) -> bytes:
    head_bytes = whole.index(b"\r\n\r\n") + 4
    lengths = {
        Sent.NOTHING: 0,
        Sent.HALF_HEAD: head_bytes // 2,
        Sent.HEAD: head_bytes,
        Sent.HALF_BODY: head_bytes + (len(whole) - head_bytes) // 2,
    }
    return whole[: head_bytes + after if isinstance(after, int) else lengths[after]]


def announced(behaviour: Behaviour) -> tuple[Behaviour, threading.Event]:
    """Return the behaviour with an event that is set when a request arrives and it begins."""
    begun = threading.Event()

    def behave(exchange: Exchange) -> None:
        begun.set()
        behaviour(exchange)

    return behave, begun


# Which requests a fault hits


@pytest.mark.parametrize(
    ("fault", "is_hit"),
    [
        (Fault(faults.status(503)), True),
        (Fault(faults.status(503), Endpoint.PDF), True),
        (Fault(faults.status(503), Endpoint.PDF, "system", "i"), True),
        (Fault(faults.status(503), Endpoint.INVOICES), False),
        (Fault(faults.status(503), Endpoint.PDF, "shared"), False),
        (Fault(faults.status(503), Endpoint.PDF, name="j"), False),
    ],
)
def test_a_fault_hits_the_requests_that_it_names(
    sandbox: Sandbox, fault: Fault, is_hit: bool
) -> None:
    sandbox.inject(fault)

    answer(sandbox)

    assert sandbox.calls[0].status == (503 if is_hit else 200)


# Other responses


def test_pdfs_can_be_sent_in_other_or_invalid_base64(sandbox: Sandbox) -> None:
    def encoded(behaviour: Behaviour) -> str:
        sandbox.heal()
        sandbox.inject(Fault(behaviour))
        return str(json.loads(head_and_body(sandbox)[1])["pdf"])

    usual = base64.b64encode(CONTENT).decode()
    url_safe = base64.urlsafe_b64encode(CONTENT).decode()
    assert usual != url_safe
    assert usual.endswith("=")
    assert encoded(faults.honest) == usual
    assert encoded(faults.other_base64(url_safe=True)) == url_safe
    assert encoded(faults.other_base64(padded=False)) == usual.rstrip("=")
    assert "*" in encoded(faults.bad_base64())


# The honest response, badly delivered


@PARTS
def test_a_reset_response_ends_in_a_connection_reset(sandbox: Sandbox, after: Sent | int) -> None:
    part = first_part(answer(sandbox), after)
    sandbox.inject(Fault(faults.reset(after)))

    with request(sandbox) as connection, connection.makefile("rb") as stream:
        assert stream.read(len(part)) == part
        with pytest.raises(ConnectionResetError):
            stream.read(1)


def test_a_dribbled_response_is_complete(sandbox: Sandbox) -> None:
    whole = answer(sandbox)
    sandbox.inject(Fault(faults.dribble(0)))

    assert answer(sandbox) == whole


# Closing


@pytest.mark.parametrize("behaviour", [faults.delay(3600), faults.stall(), faults.endless()])
def test_closing_does_not_wait_for_requests_in_progress(
    sandbox: Sandbox, behaviour: Behaviour
) -> None:
    before = {*threading.enumerate()}
    behave, begun = announced(behaviour)
    sandbox.inject(Fault(behave))

    with request(sandbox):
        assert begun.wait(10)
        sandbox.close()

    assert {*threading.enumerate()} < before  # the accepting thread has ended, too


def test_a_response_is_made_on_arrival_and_sent_after_the_latency(sandbox: Sandbox) -> None:
    arrived = threading.Event()

    def content() -> bytes:
        arrived.set()
        return CONTENT

    sandbox.tenant = sandbox.tenant.with_invoices("system", SampleInvoice("i", content))
    sandbox.latency_s = 3600

    with request(sandbox) as connection:
        assert arrived.wait(10)
        sandbox.close()
        assert read_all(connection) == b""


@pytest.mark.parametrize("behaviour", [faults.stall(), faults.endless(), faults.dribble(0)])
def test_a_client_that_disconnects_is_not_an_error(
    sandbox: Sandbox, behaviour: Behaviour, capfd: pytest.CaptureFixture[str]
) -> None:
    sandbox.inject(Fault(behaviour))

    with request(sandbox):
        pass
    sandbox.close()

    assert capfd.readouterr() == ("", "")
