"""The faults of the embedded server do on the wire what they say."""

import base64
import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
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
    """A connection on which one request was sent, and which is closed after the answer."""
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
    """All bytes that come until the server closes the connection."""
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
    """The behaviour, and an event that is set when a call has arrived and it begins."""
    begun = threading.Event()

    def behave(exchange: Exchange) -> None:
        begun.set()
        behaviour(exchange)

    return behave, begun


# Which calls a fault hits


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
def test_a_fault_hits_the_calls_that_it_names(sandbox: Sandbox, fault: Fault, is_hit: bool) -> None:
    sandbox.inject(fault)

    answer(sandbox)

    assert sandbox.calls[0].status == (503 if is_hit else 200)


def test_faults_follow_each_other_until_healed(sandbox: Sandbox) -> None:
    sandbox.inject(
        Fault(faults.status(429), times=2), Fault(faults.status(500), times=1), Fault(faults.html())
    )
    sandbox.inject(Fault(faults.status(404)))

    for _ in range(5):
        answer(sandbox)
    sandbox.heal()
    answer(sandbox)

    assert [call.status for call in sandbox.calls] == [429, 429, 500, 200, 200, 200]
    assert head_and_body(sandbox)[1].startswith(b'{"pdf"')


# Other answers


def test_an_error_has_the_body_and_the_wait_that_were_ordered(sandbox: Sandbox) -> None:
    sandbox.inject(Fault(faults.status(429, "slow down", retry_after="3"), times=1))
    head, body = head_and_body(sandbox)
    assert head.startswith("HTTP/1.1 429 Too Many Requests\r\n")
    assert "\r\nRetry-After: 3" in head
    assert json.loads(body)["message"] == "slow down"

    sandbox.inject(Fault(faults.status(599)))
    head, body = head_and_body(sandbox)
    assert head.startswith("HTTP/1.1 599 Unknown\r\n")
    assert "Retry-After" not in head


@pytest.mark.parametrize(
    ("behaviour", "body"),
    [
        (faults.reply(500, b"upstream down"), b"upstream down"),
        (faults.json_body({}), b"{}"),
        (faults.json_body("denied", 403), b'"denied"'),
        (faults.json_body({"pdf": 5}), b'{"pdf": 5}'),
        (faults.not_json(), b'{"invoices": [{"name": '),
        (faults.not_a_pdf(b""), b'{"pdf":""}'),
        (faults.not_a_pdf(b"no"), b'{"pdf":"bm8="}'),
    ],
)
def test_a_body_is_the_one_that_was_ordered(
    sandbox: Sandbox, behaviour: Behaviour, body: bytes
) -> None:
    sandbox.inject(Fault(behaviour))

    assert head_and_body(sandbox)[1] == body


def test_html_says_that_it_is_html(sandbox: Sandbox) -> None:
    sandbox.inject(Fault(faults.html()))

    head, body = head_and_body(sandbox)

    assert "\r\nContent-Type: text/html" in head
    assert body.startswith(b"<!doctype html>")


@pytest.mark.parametrize(
    ("location", "sent"), [("http://other/x", "http://other/x"), ("/x", "/x"), (None, PDF)]
)
def test_a_redirect_leads_anywhere_or_in_a_circle(
    sandbox: Sandbox, location: str | None, sent: str
) -> None:
    sandbox.inject(Fault(faults.redirect(location)))

    head, _ = head_and_body(sandbox)

    assert head.startswith("HTTP/1.1 302 Found\r\n")
    assert f"\r\nLocation: {sent}" in head


def test_base64_comes_in_other_kinds_and_broken(sandbox: Sandbox) -> None:
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


def test_large_bodies_are_as_large_as_ordered(sandbox: Sandbox) -> None:
    sandbox.inject(Fault(faults.large(2), times=1), Fault(faults.gzip_bomb(2)))

    _, body = head_and_body(sandbox)
    head, packed = head_and_body(sandbox)

    assert len(base64.b64decode(json.loads(body)["pdf"])) >= 2 * 1024 * 1024
    assert "\r\nContent-Encoding: gzip" in head
    assert len(packed) < len(body) / 100
    assert gzip.decompress(packed) == body


def test_an_endless_body_ends_with_the_client(sandbox: Sandbox) -> None:
    sandbox.inject(Fault(faults.endless()))

    with request(sandbox) as connection, connection.makefile("rb") as stream:
        head = stream.read(4 * 1024 * 1024).partition(b"\r\n\r\n")[0]

    assert b"Content-Length" not in head


# The honest answer, badly delivered


@PARTS
def test_a_cut_answer_ends_early_and_in_good_order(sandbox: Sandbox, after: Sent | int) -> None:
    whole = answer(sandbox)
    sandbox.inject(Fault(faults.cut(after)))

    assert answer(sandbox) == first_part(whole, after)
    assert sandbox.calls[-1].status == (None if after is Sent.NOTHING else 200)


@PARTS
def test_a_reset_answer_ends_in_an_error(sandbox: Sandbox, after: Sent | int) -> None:
    part = first_part(answer(sandbox), after)
    sandbox.inject(Fault(faults.reset(after)))

    with request(sandbox) as connection, connection.makefile("rb") as stream:
        assert stream.read(len(part)) == part
        with pytest.raises(ConnectionResetError):
            stream.read(1)


@PARTS
@pytest.mark.parametrize("behaviour", [faults.stall, lambda after: faults.dribble(3600, after)])
def test_a_stalled_answer_stands_still_until_the_sandbox_closes(
    sandbox: Sandbox, after: Sent | int, behaviour: Callable[[Sent | int], Behaviour]
) -> None:
    part = first_part(answer(sandbox), after)
    behave, begun = announced(behaviour(after))
    sandbox.inject(Fault(behave))

    with request(sandbox) as connection, connection.makefile("rb") as stream:
        assert begun.wait(10)
        assert stream.read(len(part)) == part
        sandbox.close()
        assert stream.read() == b""


def test_a_dribbled_answer_is_whole_in_the_end(sandbox: Sandbox) -> None:
    whole = answer(sandbox)
    sandbox.inject(Fault(faults.dribble(0)))

    assert answer(sandbox) == whole


def test_a_delayed_answer_is_the_ordered_one(sandbox: Sandbox) -> None:
    whole = answer(sandbox)
    sandbox.inject(Fault(faults.delay(0), times=1), Fault(faults.delay(0, faults.status(504))))

    assert answer(sandbox) == whole
    assert answer(sandbox).startswith(b"HTTP/1.1 504 ")


@pytest.mark.parametrize("error_bytes", [-5, 5])
def test_a_wrong_length_is_announced_for_the_whole_body(sandbox: Sandbox, error_bytes: int) -> None:
    body = head_and_body(sandbox)[1]
    sandbox.inject(Fault(faults.wrong_length(error_bytes)))

    head, sent = head_and_body(sandbox)

    assert f"\r\nContent-Length: {len(body) + error_bytes}" in head
    assert sent == body


# How it ends


@pytest.mark.parametrize("behaviour", [faults.delay(3600), faults.stall(), faults.endless()])
def test_closing_does_not_wait_for_calls_in_progress(
    sandbox: Sandbox, behaviour: Behaviour
) -> None:
    before = {*threading.enumerate()}
    behave, begun = announced(behaviour)
    sandbox.inject(Fault(behave))

    with request(sandbox):
        assert begun.wait(10)
        sandbox.close()

    assert {*threading.enumerate()} < before  # the thread that accepts has ended, too


def test_an_answer_is_of_its_arrival_and_leaves_after_the_latency(sandbox: Sandbox) -> None:
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
def test_a_client_that_hangs_up_is_no_error(
    sandbox: Sandbox, behaviour: Behaviour, capfd: pytest.CaptureFixture[str]
) -> None:
    sandbox.inject(Fault(behaviour))

    with request(sandbox):
        pass
    sandbox.close()

    assert capfd.readouterr() == ("", "")
