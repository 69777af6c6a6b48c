"""A connection is reused only if its response has provably ended and it is still alive.

The servers here send literal bytes, from a script for every connection.
"""

import json
import queue
import select
import socket
import struct
import threading
from base64 import b64encode
from collections.abc import Callable, Sequence

import pytest

from invoicefs.api import idle_connections
from invoicefs.errors import (
    InvoicefsError,
    NoResponse,
    ServerTimedOut,
    TimedOut,
    Unreachable,
)
from invoicefs.model import Invoice, NamespaceList
from invoicefs.sandbox import plain_pdf
from tests.support.api_calls import Connect, Converse, Serve, ample, failure_of, within

ONE, OTHER = plain_pdf("one"), plain_pdf("other")
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Say = Callable[[socket.socket], None]


def http(body: bytes, status: int = 200, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), headers, body)


def pdf(content: bytes) -> bytes:
    return http(json.dumps({"pdf": b64encode(content).decode()}).encode())


def chunked(body: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n%b" % (
        len(body),
        body,
        end,
    )


def says(*parts: bytes) -> Say:
    """Send these parts with a pause between them, in which a client may mistake one for the end."""

    def say(connection: socket.socket) -> None:
        for part in parts[:-1]:
            connection.sendall(part)
            # A client that mistakes the first part for the whole response sends its next request.
            select.select([connection], [], [], 0.05)
        connection.sendall(parts[-1])

    return say


def hangs_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    connection.close()


def script(*conversations: Sequence[Say]) -> tuple[Converse, list[int]]:
    """Return a server that plays one conversation per connection, one response per request.

    The list, also returned, counts the requests per connection.
    """
    waiting: queue.Queue[Sequence[Say]] = queue.Queue()
    for conversation in conversations:
        waiting.put(conversation)
    counts: list[int] = []

    def converse(connection: socket.socket) -> None:
        number = len(counts)
        counts.append(0)
        for say in waiting.get_nowait():
            if not connection.recv(65_536):
                return
            counts[number] += 1
            say(connection)
        connection.recv(65_536)  # until the client hangs up

    return converse, counts


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def fetch(api: object, name: str) -> bytes | InvoicefsError:
    try:
        return api.invoice_pdf(Invoice("system", name), ample(), bypass_caches=False)  # type: ignore[attr-defined,no-any-return] # an Api
    except InvoicefsError as error:
        return error


# Responses that have not ended

EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"


@pytest.mark.promise(
    "An invoice never gets the bytes of another one, whatever a server sends before, between "
    "and after its responses."
)
@pytest.mark.parametrize(
    "first",
    [
        says(EARLY, pdf(ONE)),
        says(EARLY, EARLY, b"HTTP/1.1 102 x\r\n\r\n", pdf(ONE)),
        says(EARLY + pdf(ONE)),
        says(
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 103 x\r\nContent-Length: 9\r\n\r\n" + pdf(ONE),
        ),
        says(b"HTTP/1.1 199 x\r\nX-B\xc3\xbcro: 1\r\n\r\n", pdf(ONE)),
    ],
)
def test_interim_responses_are_skipped_and_the_connection_is_reused(
    serve: Serve, connect: Connect, first: Say
) -> None:
    """An interim response was once mistaken for the final one, which shifted all later ones."""
    converse, counts = script([first, says(pdf(OTHER))])
    api = connect(url(serve(converse)))

    assert [fetch(api, "one"), fetch(api, "other")] == [ONE, OTHER]
    assert counts == [2]


@pytest.mark.promise(
    "An invoice never gets the bytes of another one, whatever a server sends before, between "
    "and after its responses."
)
@pytest.mark.parametrize(
    "first",
    [
        says(pdf(ONE) + pdf(ONE)),
        says(pdf(ONE) + b"\r\n"),
        says(pdf(ONE) + b"HTTP/1.1 408 Request Timeout\r\n\r\n"),
        says(chunked(b'{"pdf": ""}') + pdf(ONE)),
        says(http(b"", 404) + pdf(ONE)),
        says(b"HTTP/1.1 204 x\r\nContent-Length: 4\r\n\r\n{}{}"),
        says(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + pdf(ONE)),
        says(b"HTTP/1.1 200 x\r\nContent-Length: 2\r\nContent-Length: 900\r\n\r\n{}" + pdf(ONE)),
        says(chunked(b"{}", end=b"") + b"zz\r\n" + pdf(ONE)),
        says(http(b"{}", headers=b"Connection: close\r\n") + pdf(ONE)),
        says(b"HTTP/1.1 301 x\r\nLocation: /other\r\nContent-Length: 4\r\n\r\n"),
        says(http(b"x" * 100_000, 500)),
    ],
)
def test_a_connection_with_bytes_after_its_response_is_not_reused(
    serve: Serve, connect: Connect, first: Say
) -> None:
    redirected = [says(pdf(OTHER))]
    converse, counts = script([first, says(pdf(ONE))], redirected, [says(pdf(OTHER))])
    api = connect(url(serve(converse)))
    fetch(api, "one")

    assert fetch(api, "other") == OTHER
    assert counts[0] == 1


@pytest.mark.parametrize("status", [200, 203])
def test_200_and_203_are_accepted(serve: Serve, connect: Connect, status: int) -> None:
    converse, _ = script([says(http(b'{"items": [{"name": "a"}]}', status))])

    assert connect(url(serve(converse))).namespaces(ample()) == NamespaceList(("a",))


# Connections that died in the pool

GONE = [
    pytest.param(hangs_up, id="FIN"),
    pytest.param(resets, id="RST"),
    pytest.param(says(http(b"", 408)), id="408"),
    pytest.param(says(http(b"{}", 408, b"Connection: close\r\n")), id="408 and close"),
]


@pytest.mark.parametrize("gone", GONE)
def test_a_request_on_a_dead_connection_is_sent_once_more(
    serve: Serve, connect: Connect, gone: Say
) -> None:
    """At once, without a wait or a retry in `Api` or its caller."""
    converse, counts = script([says(pdf(ONE)), gone], [says(pdf(OTHER))])
    api = connect(url(serve(converse)))

    assert [fetch(api, "one"), fetch(api, "other")] == [ONE, OTHER]
    assert counts == [2, 1]


@pytest.mark.parametrize("gone", GONE)
def test_a_request_on_a_new_connection_is_not_sent_again(
    serve: Serve, connect: Connect, gone: Say
) -> None:
    converse, counts = script([gone], [says(pdf(OTHER))])

    error = fetch(connect(url(serve(converse))), "one")

    assert isinstance(error, Unreachable | ServerTimedOut)
    assert counts == [1]


def test_a_dead_connection_is_replaced_only_once(serve: Serve, connect: Connect) -> None:
    converse, counts = script([says(pdf(ONE)), hangs_up], [hangs_up], [says(pdf(OTHER))])
    api = connect(url(serve(converse)))
    fetch(api, "one")

    assert isinstance(fetch(api, "other"), Unreachable)
    assert counts == [2, 1]


def test_a_partly_answered_request_is_not_sent_again(serve: Serve, connect: Connect) -> None:
    def begins(connection: socket.socket) -> None:
        connection.sendall(b"H")
        hangs_up(connection)

    converse, counts = script([says(pdf(ONE)), begins], [says(pdf(OTHER))])
    api = connect(url(serve(converse)))
    fetch(api, "one")

    assert isinstance(fetch(api, "other"), NoResponse)
    assert counts == [2]


def test_a_request_that_times_out_is_not_sent_again(serve: Serve, connect: Connect) -> None:
    def silent(connection: socket.socket) -> None:
        connection.recv(65_536)  # until the client hangs up

    converse, counts = script([says(http(b"{}")), silent], [says(http(b"{}"))])
    api = connect(url(serve(converse)))
    api.namespaces(ample())

    assert type(failure_of(api, deadline=within(0.2))) is TimedOut
    assert counts == [2]


def test_a_dead_connection_closes_all_idle_ones(serve: Serve, connect: Connect) -> None:
    together = threading.Barrier(2, timeout=10)

    def answers_together(connection: socket.socket) -> None:
        together.wait()
        connection.sendall(pdf(ONE))

    ended = threading.Semaphore(0)

    def converse_to_the_end(connection: socket.socket) -> None:
        converse(connection)
        ended.release()

    dying = [answers_together, hangs_up]
    converse, counts = script(dying, dying, [says(pdf(OTHER))])
    api = connect(url(serve(converse_to_the_end)))
    other = threading.Thread(target=fetch, args=[api, "one"])
    other.start()
    fetch(api, "one")
    other.join()

    assert fetch(api, "other") == OTHER
    assert ended.acquire(timeout=10)
    assert ended.acquire(timeout=10)
    assert sorted(counts) == [1, 1, 2]


def test_a_connection_that_was_idle_too_long_is_not_reused(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    converse, counts = script(2 * [says(pdf(ONE))], [says(pdf(OTHER))])
    api = connect(url(serve(converse)))
    fetch(api, "one")
    monkeypatch.setattr(idle_connections, "MAX_IDLE_S", 0.0)

    assert fetch(api, "other") == OTHER
    assert counts == [1, 1]


def test_an_idle_connection_is_closed_after_its_time(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_connections, "MAX_IDLE_S", 0.05)
    is_closed = threading.Event()

    def converse(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(http(b"{}"))
        assert connection.recv(65_536) == b""
        is_closed.set()

    api = connect(url(serve(converse)))
    api.namespaces(ample())

    assert is_closed.wait(10)


def test_connections_use_keepalive_and_a_user_timeout(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timers of the kernel; their effect is tested in a network namespace."""
    converse, _ = script([says(http(b"{}"))])
    made: list[socket.socket] = []
    original = socket.socket.connect

    def connect_and_record(self: socket.socket, address: object) -> None:
        original(self, address)  # type: ignore[arg-type] # as it was given
        made.append(self.dup())

    monkeypatch.setattr(socket.socket, "connect", connect_and_record)
    connect(url(serve(converse))).namespaces(ample())

    (stream,) = made
    with stream:
        assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5000
        assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
