"""`Api` ends every request by its deadline, and says why there is no connection.

Sockets need real time: a deadline that has to pass is short, and the server would continue for
much longer.
"""

import os
import queue
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.api import list_limits, name_lookups
from invoicefs.api.client import Api
from invoicefs.errors import (
    InvoicefsError,
    TimedOut,
    Unreachable,
    UntrustedServer,
)
from invoicefs.sandbox import (
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
    EVERY_ENDPOINT,
    Connect,
    Serve,
    ample,
    ask,
    failure_of,
    over_tls,
    within,
)

SHORT_S = 0.2
DROPS = 150  # pieces of a trickling response: sending them takes far longer than the deadline


@pytest.fixture
def sandbox(own_sandbox: Sandbox) -> Sandbox:
    """A sandbox of its own: requests that ended at a deadline may still run in the server."""
    return own_sandbox


# Deadlines


def chunked_byte_by_byte(exchange: Exchange) -> None:
    headers = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    body = exchange.begin(replace(exchange.honest, headers=headers), after=0)
    for byte in body[:DROPS]:
        exchange.wait(0.02)
        exchange.write(b"1\r\n%c\r\n" % byte)


def byte_by_byte(headers: dict[str, str | None]) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        for byte in exchange.begin(replace(exchange.honest, headers=headers), after=0)[:DROPS]:
            exchange.wait(0.02)
            exchange.write(bytes([byte]))

    return behave


def interim_responses(exchange: Exchange) -> None:
    for _ in range(DROPS):
        exchange.wait(0.02)
        exchange.write(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(faults.dribble(0.02), id="headers"),
        pytest.param(faults.dribble(0.02, Sent.HALF_BODY), id="body"),
        pytest.param(byte_by_byte({"Connection": "close"}), id="last body of a connection"),
        pytest.param(byte_by_byte({"Connection": "close", "Content-Length": None}), id="no length"),
        pytest.param(chunked_byte_by_byte, id="chunks"),
        pytest.param(interim_responses, id="interim responses"),
    ],
)
def test_a_trickling_response_is_cut_off_at_the_deadline(
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


def test_redirects_are_followed_only_until_the_deadline(sandbox: Sandbox, api: Api) -> None:
    sandbox.inject(Fault(faults.delay(SHORT_S / 3, faults.redirect())))

    assert type(failure_of(api, deadline=within(SHORT_S))) is TimedOut


def test_one_deadline_covers_all_requests_for_a_list(
    sandbox: Sandbox, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 1)
    sandbox.inject(Fault(faults.honest, times=1), Fault(faults.stall()))

    assert type(failure_of(api, Endpoint.INVOICES, within(SHORT_S))) is TimedOut


def test_no_request_starts_after_its_deadline(sandbox: Sandbox, api: Api) -> None:
    api.namespaces(ample())  # leaves an idle connection

    for _ in range(20):
        assert type(failure_of(api, deadline=within(0))) is TimedOut
    sandbox.close()

    assert sandbox.count() == 1


# No connection


@pytest.fixture
def dead_address() -> Iterator[tuple[str, int]]:
    """An address that answers no connection attempt: its backlog is full."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()


@EVERY_ENDPOINT
def test_a_refused_connection_is_unreachable(
    connect: Connect, closed_port: int, endpoint: Endpoint
) -> None:
    error = failure_of(connect(f"http://127.0.0.1:{closed_port}"), endpoint)

    assert type(error) is Unreachable
    assert "refused" in str(error)


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses_a_tunnel_is_unreachable(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(64 * KIB)
        connection.sendall(b"HTTP/1.1 %d No\x1b[2J\r\nContent-Length: 0\r\n\r\n" % status)

    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(refuse)}")

    error = failure_of(connect("https://tenant.invalid"))

    assert type(error) is Unreachable
    assert str(error).isprintable()


def test_no_further_address_is_tried_after_the_deadline(
    connect: Connect,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    dead_address: tuple[str, int],
) -> None:
    connections: queue.Queue[object] = queue.Queue()
    alive = ("127.0.0.1", serve(lambda connection: connections.put(connection.getpeername())))
    addresses = [
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in (dead_address, alive)
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)

    assert type(failure_of(connect("http://tenant.invalid"), deadline=within(SHORT_S))) is TimedOut

    with socket.socket() as ours:
        ours.connect(alive)  # is accepted after any other
        assert connections.get(timeout=10) == ours.getsockname()


def test_a_hanging_name_lookup_ends_at_the_deadline(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over, ended = threading.Event(), threading.Event()

    def hang(*_: object, flags: int = 0, **__: object) -> None:
        if flags != socket.AI_NUMERICHOST:
            is_over.wait(10)
            ended.set()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(name_lookups, "LOOKUP_TIMEOUT_S", 20.0)
    error = failure_of(connect("http://tenant.invalid"), deadline=within(SHORT_S))

    assert type(error) is TimedOut
    assert not ended.is_set()
    is_over.set()


# TLS


def test_an_unreadable_ca_bundle_makes_the_server_untrusted(
    sandbox: Sandbox, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))

    error = failure_of(connect(sandbox.url.replace("http://", "https://")))

    assert type(error) is UntrustedServer
    assert "missing.pem" in str(error)


@pytest.mark.parametrize(
    "parts", [[], [b"HTTP/1.1 200 OK\r\n"], [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]]
)
def test_a_connection_lost_under_tls_is_unreachable(
    connect: Connect, serve: Serve, trusted: ssl.SSLContext, parts: list[bytes]
) -> None:
    port = serve(over_tls(trusted, queue.Queue(), *parts))

    assert type(failure_of(connect(f"https://127.0.0.1:{port}"))) is Unreachable


# Cleaning up


def test_close_leaves_no_sockets_after_any_fault(connect: Connect) -> None:
    behaviours = [
        faults.honest,
        *map(faults.status, (401, 429, 500)),
        *map(faults.cut, Sent),
        *map(faults.reset, Sent),
        faults.wrong_length(5),
        faults.wrong_length(-5),
        faults.redirect(),
        faults.redirect("http://elsewhere.invalid/"),
        faults.redirect("http://\u00ff\u00fe/"),  # is not UTF-8
        faults.endless(),
        faults.gzip_bomb(1),
        faults.reply(200, b"no gzip", {"Content-Encoding": "gzip"}),
        faults.stall(Sent.HALF_BODY),
    ]
    kept = []  # an exception keeps alive whatever was in use when it was raised
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
        with suppress(OSError):  # the descriptor of the listing itself
            sockets.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return {name for name in sockets if name.startswith("socket:")}
