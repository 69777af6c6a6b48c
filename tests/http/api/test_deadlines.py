"""`Api` ends every call by its deadline, and says why it found no connection.

Time passes for real here, because sockets know no other: where a deadline must pass, it is a
short one, and the server would go on for much longer.
"""

import os
import queue
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.api import list_limits
from invoicefs.api.client import Api
from invoicefs.errors import (
    InvoicefsError,
    TimedOut,
    Unreachable,
    UntrustedServer,
)
from invoicefs.model import NamespaceList
from invoicefs.sandbox import (
    SAMPLE_TOKEN,
    Behaviour,
    Endpoint,
    Exchange,
    Fault,
    Sandbox,
    Sent,
    faults,
)
from invoicefs.units import KIB
from tests.support.api_calls import (
    EVERY_CALL,
    OUR_NAME,
    Certificate,
    Connect,
    Serve,
    ample,
    ask,
    failure_of,
    over_tls,
    within,
)

SHORT_S = 0.2
DROPS = 150  # of an answer that trickles: long beyond the deadline, but not for ever


@pytest.fixture
def sandbox(own_sandbox: Sandbox) -> Sandbox:
    """Calls that end at a deadline go on at the server for a moment: no other test shall see it."""
    return own_sandbox


def assert_no_timer_is_left() -> None:
    timers = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
    for timer in timers:
        timer.join(10)  # one that was cancelled ends by itself, at once
    assert not any(timer.is_alive() for timer in timers)


# Deadlines


@EVERY_CALL
@pytest.mark.parametrize("after", [Sent.NOTHING, Sent.HALF_HEAD, Sent.HALF_BODY])
def test_a_call_that_stalls_ends_at_its_deadline(
    sandbox: Sandbox, api: Api, endpoint: Endpoint, after: Sent
) -> None:
    sandbox.inject(Fault(faults.stall(after), times=1))

    assert type(failure_of(api, endpoint, within(SHORT_S))) is TimedOut

    assert_no_timer_is_left()
    ask(api, endpoint)


def chunked_drop_by_drop(exchange: Exchange) -> None:
    headers = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    body = exchange.begin(replace(exchange.honest, headers=headers), after=0)
    for byte in body[:DROPS]:
        exchange.wait(0.02)
        exchange.write(b"1\r\n%c\r\n" % byte)


def drop_by_drop(headers: dict[str, str | None]) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        for byte in exchange.begin(replace(exchange.honest, headers=headers), after=0)[:DROPS]:
            exchange.wait(0.02)
            exchange.write(bytes([byte]))

    return behave


def interim_answers(exchange: Exchange) -> None:
    for _ in range(DROPS):
        exchange.wait(0.02)
        exchange.write(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(faults.dribble(0.02), id="headers"),
        pytest.param(faults.dribble(0.02, Sent.HALF_BODY), id="body"),
        pytest.param(drop_by_drop({"Connection": "close"}), id="last body of a connection"),
        pytest.param(drop_by_drop({"Connection": "close", "Content-Length": None}), id="no length"),
        pytest.param(chunked_drop_by_drop, id="chunks"),
        pytest.param(interim_answers, id="interim answers"),
    ],
)
def test_an_answer_that_trickles_is_hung_up_on_at_the_deadline(
    sandbox: Sandbox, api: Api, behaviour: Behaviour
) -> None:
    ends: queue.Queue[str] = queue.Queue()

    def watched(exchange: Exchange) -> None:
        try:
            behaviour(exchange)
        except ConnectionError:
            ends.put("the client hung up")
            raise
        ends.put("all was sent")

    sandbox.inject(Fault(watched))

    assert type(failure_of(api, Endpoint.PDF, within(SHORT_S))) is TimedOut

    assert ends.get(timeout=10) == "the client hung up"
    assert_no_timer_is_left()


def test_redirects_are_followed_until_the_deadline_and_not_longer(
    sandbox: Sandbox, api: Api
) -> None:
    sandbox.inject(Fault(faults.delay(SHORT_S / 3, faults.redirect())))

    assert type(failure_of(api, deadline=within(SHORT_S))) is TimedOut
    assert_no_timer_is_left()


def test_one_deadline_covers_all_calls_for_a_list(
    sandbox: Sandbox, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 1)
    sandbox.inject(Fault(faults.honest, times=1), Fault(faults.stall()))

    assert type(failure_of(api, Endpoint.INVOICES, within(SHORT_S))) is TimedOut
    assert_no_timer_is_left()


def test_no_call_is_begun_after_its_deadline(sandbox: Sandbox, api: Api) -> None:
    api.namespaces(ample())  # leaves a connection that is ready for use

    for _ in range(20):
        assert type(failure_of(api, deadline=within(0))) is TimedOut
    sandbox.close()

    assert sandbox.count() == 1
    assert_no_timer_is_left()


def test_a_deadline_ends_its_own_call_and_no_other(sandbox: Sandbox, api: Api) -> None:
    together = threading.Barrier(3, timeout=10)
    stalled_is_over = threading.Event()

    def stall(exchange: Exchange) -> None:
        together.wait()
        exchange.stall()

    def answer_later(exchange: Exchange) -> None:
        together.wait()
        exchange.begin(exchange.honest, Sent.HALF_BODY)
        stalled_is_over.wait(10)
        exchange.write(exchange.honest.body[len(exchange.honest.body) // 2 :])

    sandbox.inject(Fault(stall, Endpoint.PDF), Fault(answer_later))
    with ThreadPoolExecutor(3) as threads:
        stalled = threads.submit(failure_of, api, Endpoint.PDF, within(SHORT_S))
        others = [threads.submit(api.namespaces, ample()) for _ in range(2)]
        assert type(stalled.result()) is TimedOut
        stalled_is_over.set()

        assert [each.result() for each in others] == 2 * [NamespaceList(("system", "shared"))]


def test_a_deadline_does_not_reach_the_next_call_on_the_same_connection(
    connect: Connect, serve: Serve
) -> None:
    deadline_has_passed = threading.Event()
    connections: queue.Queue[object] = queue.Queue()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    def converse(connection: socket.socket) -> None:
        connections.put(connection)
        connection.recv(64 * KIB)
        connection.sendall(answer)
        connection.recv(64 * KIB)
        deadline_has_passed.wait(10)
        connection.sendall(answer)

    api = connect(f"http://127.0.0.1:{serve(converse)}")
    ask(api, Endpoint.NAMESPACES, deadline=within(0.5))
    passed = threading.Timer(0.6, deadline_has_passed.set)
    passed.start()
    ask(api, Endpoint.NAMESPACES)

    passed.join()
    assert connections.qsize() == 1


def test_a_proxy_that_trickles_is_hung_up_on_at_the_deadline(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, ends = trickling(serve, b"HTTP/1.1 200 ")
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")

    assert type(failure_of(connect("https://tenant.invalid"), deadline=within(SHORT_S))) is TimedOut
    assert ends.get(timeout=10) == "the client hung up"
    assert_no_timer_is_left()


def trickling(serve: Serve, first: bytes) -> tuple[int, queue.Queue[str]]:
    """A server that sends a beginning and then a byte now and then; and how that ended."""
    ends: queue.Queue[str] = queue.Queue()
    pause = threading.Event()

    def trickle(connection: socket.socket) -> None:
        try:
            connection.recv(64 * KIB)
            connection.sendall(first)
            for _ in range(DROPS):
                pause.wait(0.02)
                connection.sendall(b"0")
        except OSError:
            ends.put("the client hung up")
        else:
            ends.put("all was sent")

    return serve(trickle), ends


# No connection


@pytest.fixture
def dead_address() -> Iterator[tuple[str, int]]:
    """An address that answers no attempt to connect: its queue of connections is full."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()


@EVERY_CALL
def test_a_refused_connection_is_unreachable(
    connect: Connect, closed_port: int, endpoint: Endpoint
) -> None:
    error = failure_of(connect(f"http://127.0.0.1:{closed_port}"), endpoint)

    assert type(error) is Unreachable
    assert "refused" in str(error)


@EVERY_CALL
def test_a_name_that_does_not_resolve_is_unreachable(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    def resolve(*_: object, **__: object) -> None:  # without asking anybody beyond this machine
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    error = failure_of(connect("https://tenant.invalid"), endpoint)

    assert type(error) is Unreachable
    assert "Name or service not known" in str(error)


def test_a_proxy_that_refuses_a_connection_is_unreachable(
    connect: Connect, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port}")

    assert type(failure_of(connect("https://tenant.invalid"))) is Unreachable


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_makes_no_tunnel_is_unreachable(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(64 * KIB)
        connection.sendall(b"HTTP/1.1 %d No\x1b[2J\r\nContent-Length: 0\r\n\r\n" % status)

    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(refuse)}")

    error = failure_of(connect("https://tenant.invalid"))

    assert type(error) is Unreachable
    assert str(error).isprintable()


def test_a_connection_that_is_never_made_ends_at_the_deadline(
    connect: Connect, dead_address: tuple[str, int]
) -> None:
    api = connect(f"http://127.0.0.1:{dead_address[1]}")

    assert type(failure_of(api, deadline=within(SHORT_S))) is TimedOut
    assert_no_timer_is_left()


def test_no_further_address_of_a_host_is_tried_after_the_deadline(
    connect: Connect,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    dead_address: tuple[str, int],
) -> None:
    connections: queue.Queue[object] = queue.Queue()
    alive = ("127.0.0.1", serve(lambda connection: connections.put(connection.getpeername())))
    addresses = [
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", each) for each in (dead_address, alive)
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)

    assert type(failure_of(connect("http://tenant.invalid"), deadline=within(SHORT_S))) is TimedOut

    with socket.socket() as ours:
        ours.connect(alive)  # is taken after any other
        assert connections.get(timeout=10) == ours.getsockname()


# TLS


def test_a_trusted_certificate_is_enough(
    connect: Connect, serve: Serve, trusted: ssl.SSLContext
) -> None:
    asked: queue.Queue[bytes] = queue.Queue()
    port = serve(over_tls(trusted, asked, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))

    assert ask(connect(f"https://127.0.0.1:{port}"), Endpoint.NAMESPACES) == NamespaceList(())
    assert SAMPLE_TOKEN.encode() in asked.get(timeout=10)


@EVERY_CALL
@pytest.mark.parametrize(
    ("name", "is_trusted", "reason"),
    [(OUR_NAME, False, "self-signed"), ("DNS:elsewhere.example", True, "127.0.0.1")],
)
def test_a_server_without_a_trusted_certificate_of_its_own_gets_nothing(
    connect: Connect,
    serve: Serve,
    certificate: Certificate,
    monkeypatch: pytest.MonkeyPatch,
    endpoint: Endpoint,
    name: str,
    is_trusted: bool,
    reason: str,
) -> None:
    file, context = certificate(name)
    if is_trusted:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    asked: queue.Queue[bytes] = queue.Queue()

    error = failure_of(connect(f"https://127.0.0.1:{serve(over_tls(context, asked))}"), endpoint)

    assert type(error) is UntrustedServer
    assert reason in str(error)
    assert asked.empty()


def test_a_server_without_tls_is_untrusted(sandbox: Sandbox, connect: Connect) -> None:
    api = connect(sandbox.url.replace("http://", "https://"))

    assert type(failure_of(api)) is UntrustedServer
    assert sandbox.calls == ()


def test_certificates_that_cannot_be_read_make_no_trusted_server(
    sandbox: Sandbox, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))

    error = failure_of(connect(sandbox.url.replace("http://", "https://")))

    assert type(error) is UntrustedServer
    assert "missing.pem" in str(error)


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x03\x3f\xff\x02\x00"])
def test_a_connection_lost_in_the_handshake_is_unreachable(
    connect: Connect, serve: Serve, first: bytes
) -> None:
    def hang_up(connection: socket.socket) -> None:
        connection.recv(64 * KIB)
        connection.sendall(first)

    assert type(failure_of(connect(f"https://127.0.0.1:{serve(hang_up)}"))) is Unreachable


@pytest.mark.parametrize(
    "parts", [[], [b"HTTP/1.1 200 OK\r\n"], [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]]
)
def test_a_connection_lost_under_tls_is_unreachable(
    connect: Connect, serve: Serve, trusted: ssl.SSLContext, parts: list[bytes]
) -> None:
    port = serve(over_tls(trusted, queue.Queue(), *parts))

    assert type(failure_of(connect(f"https://127.0.0.1:{port}"))) is Unreachable


def test_a_handshake_that_stalls_ends_at_the_deadline(connect: Connect, serve: Serve) -> None:
    def stall(connection: socket.socket) -> None:
        while connection.recv(64 * KIB):
            pass

    assert (
        type(failure_of(connect(f"https://127.0.0.1:{serve(stall)}"), deadline=within(SHORT_S)))
        is TimedOut
    )
    assert_no_timer_is_left()


def test_a_handshake_that_trickles_is_hung_up_on_at_the_deadline(
    connect: Connect, serve: Serve
) -> None:
    port, ends = trickling(serve, b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb")

    assert (
        type(failure_of(connect(f"https://127.0.0.1:{port}"), deadline=within(SHORT_S))) is TimedOut
    )
    assert ends.get(timeout=10) == "the client hung up"
    assert_no_timer_is_left()


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_a_body_that_trickles_under_tls_is_hung_up_on_at_the_deadline(
    connect: Connect, serve: Serve, trusted: ssl.SSLContext, connection: str
) -> None:
    ends: queue.Queue[str] = queue.Queue()
    pause = threading.Event()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\nConnection: {connection}\r\n\r\n"

    def trickle(connection: socket.socket) -> None:
        try:
            with trusted.wrap_socket(connection, server_side=True) as stream:
                stream.recv(64 * KIB)
                stream.sendall(head.encode())
                for _ in range(DROPS):
                    pause.wait(0.02)
                    stream.sendall(b" ")
        except OSError:
            ends.put("the client hung up")
        else:
            ends.put("all was sent")

    api = connect(f"https://127.0.0.1:{serve(trickle)}")

    assert type(failure_of(api, deadline=within(SHORT_S))) is TimedOut
    assert ends.get(timeout=10) == "the client hung up"
    assert_no_timer_is_left()


# What stays behind


def test_close_leaves_no_sockets_whatever_happened_before(connect: Connect) -> None:
    behaviours = [
        faults.honest,
        *map(faults.status, (401, 429, 500)),
        *map(faults.cut, Sent),
        *map(faults.reset, Sent),
        faults.wrong_length(5),
        faults.wrong_length(-5),
        faults.redirect(),
        faults.redirect("http://elsewhere.invalid/"),
        faults.redirect("http://\u00ff\u00fe/"),  # is no text
        faults.endless(),
        faults.gzip_bomb(1),
        faults.reply(200, b"no gzip", {"Content-Encoding": "gzip"}),
        faults.stall(Sent.HALF_BODY),
    ]
    kept = []  # exceptions hold on to all that was in use when they were raised
    before = open_sockets()
    with Sandbox() as sandbox:
        api = connect(sandbox.url)
        for behaviour in behaviours:
            sandbox.heal()
            sandbox.inject(Fault(behaviour))
            try:
                ask(api, Endpoint.PDF, within(SHORT_S))
            except InvoicefsError as error:
                kept.append(error)
        api.close()

    assert kept
    assert open_sockets() <= before


def open_sockets() -> set[str]:
    sockets = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            sockets.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return {each for each in sockets if each.startswith("socket:")}
