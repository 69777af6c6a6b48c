"""`Api` asks what the API understands, of the server it was told to ask, and brings what it says.

What it makes of errors and faults is in `test_api_faults`, of deadlines in `test_api_deadlines`.
"""

import logging
import queue
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from invoicefs import __version__
from invoicefs.api import list_limits
from invoicefs.api.client import Api
from invoicefs.credentials.tokens import TokenFile
from invoicefs.errors import (
    CredentialRenewed,
    Misdirected,
    NotFound,
    ServerFault,
    Unauthenticated,
    Unavailable,
)
from invoicefs.model import Invoice, NamespaceList
from invoicefs.sandbox import (
    OMITTED,
    SAMPLE_TOKEN,
    Answer,
    Behaviour,
    Endpoint,
    Exchange,
    Fault,
    SampleInvoice,
    SampleNamespace,
    SampleTenant,
    Sandbox,
    faults,
    plain_pdf,
)
from invoicefs.sandbox.answers import failure
from tests.support import schema
from tests.support.api_calls import (
    CONTENT,
    EMPTY_LIST,
    EVERY_CALL,
    Certificate,
    Connect,
    Serve,
    ample,
    ask,
    failure_of,
    over_tls,
    pdf_of,
    tenant_with,
)
from tests.support.schema import vendor

NAMESPACES = "/api/web/namespaces"
RAW_NAMES = [
    "a/b",
    "/",
    "100%",
    "%2F",
    "%252F",
    "a b+c",
    "a&limit=1#x?y=z;",
    "Rechnung-\u00e4\U0001f600\u0430\u0308",
    "\ud800",
    "a/../b",
    "..a",
    "~.-_",
    "\\..\\",
    "\x00\t\r\nHost: evil\x7f",
    "x" * 5000,
]


@pytest.fixture
def other_host() -> Iterator[Sandbox]:
    """Another server; it never ought to hear from us."""
    with Sandbox() as sandbox:
        yield sandbox


def numbered(count: int) -> list[SampleInvoice]:
    return [SampleInvoice(f"invoice-{number}") for number in range(count)]


def limits_asked(sandbox: Sandbox) -> list[int | None]:
    return [call.limit for call in sandbox.calls]


def check_requests(sandbox: Sandbox) -> None:
    for call in sandbox.calls:
        assert call.method == "GET"
        assert call.endpoint is not None
        schema.check_request(call.endpoint, call.path, call.query, call.headers)


# What it asks, and what it brings


@EVERY_CALL
def test_every_call_is_one_request_that_the_api_understands(
    sandbox: Sandbox, api: Api, endpoint: Endpoint
) -> None:
    ask(api, endpoint)

    (call,) = sandbox.calls
    assert call.endpoint is endpoint
    check_requests(sandbox)


@pytest.mark.skipif(
    not vendor.PATH.exists(),
    reason="the vendor's OpenAPI document is not at hand: set INVOICEFS_VENDOR_OPENAPI to its path",
)
@EVERY_CALL
def test_every_query_is_of_parameters_in_the_vendors_document(
    sandbox: Sandbox, api: Api, endpoint: Endpoint
) -> None:
    ask(api, endpoint)

    assert set(sandbox.calls[0].query) <= vendor.VendorDocument().query_names(endpoint)


@EVERY_CALL
def test_headers_carry_the_token_and_say_who_asks(
    sandbox: Sandbox, api: Api, endpoint: Endpoint
) -> None:
    ask(api, endpoint)

    headers = sandbox.calls[0].headers
    assert headers["authorization"] == f"APIToken {SAMPLE_TOKEN}"
    assert headers["user-agent"] == f"invoicefs/{__version__}"
    assert headers["accept"] == "application/json"
    assert headers["host"] == urlsplit(sandbox.url).netloc
    assert "cookie" not in headers


def test_namespaces_come_in_the_order_of_the_server(sandbox: Sandbox, api: Api) -> None:
    assert api.namespaces(ample()) == NamespaceList(("system", "shared"))

    sandbox.inject(Fault(faults.json_body({"items": [{"name": "a"}], "errors": [{"code": "x"}]})))
    assert api.namespaces(ample()) == NamespaceList(("a",), is_partial=True)


def test_invoices_have_the_fields_of_the_list(sandbox: Sandbox, api: Api) -> None:
    running = SampleInvoice("b", active=True, status="STATUS_PENDING", amount="7", currency="EUR")
    sandbox.tenant = tenant_with(running, SampleInvoice("a", fields={"period_end": OMITTED}))
    start = running.period_start

    assert api.invoices("system", ample()) == (
        Invoice("system", "b", True, "pending", "7", "EUR", start, running.period_end),
        Invoice("system", "a", False, "paid", "123450", "USD", start, ""),
    )


@pytest.mark.parametrize("size_bytes", [1000, 1001, 1002])
@pytest.mark.parametrize(
    "behaviour",
    [
        faults.honest,
        faults.other_base64(url_safe=True),
        faults.other_base64(padded=False),
        faults.other_base64(url_safe=True, padded=False),
    ],
)
def test_a_pdf_arrives_byte_for_byte(
    sandbox: Sandbox, api: Api, behaviour: Behaviour, size_bytes: int
) -> None:
    content = plain_pdf("\u00ff\u00fe\u00fd", size_bytes)
    sandbox.tenant = tenant_with(SampleInvoice("i", content))
    sandbox.inject(Fault(behaviour))

    assert pdf_of(api, "system", "i", ample()) == content


@pytest.mark.parametrize(
    ("endpoint", "nothing"), [(Endpoint.NAMESPACES, NamespaceList(())), (Endpoint.INVOICES, ())]
)
def test_an_empty_object_is_an_empty_list(
    sandbox: Sandbox, api: Api, endpoint: Endpoint, nothing: object
) -> None:
    sandbox.inject(Fault(faults.json_body({})))

    assert ask(api, endpoint) == nothing


@EVERY_CALL
def test_an_answer_may_come_in_chunks_of_any_size_and_compressed(
    sandbox: Sandbox, api: Api, endpoint: Endpoint
) -> None:
    def in_chunks(exchange: Exchange) -> None:
        headers = {"Content-Length": None, "Transfer-Encoding": "chunked"}
        body = exchange.begin(replace(exchange.honest, headers=headers), after=0)
        for start in range(0, len(body), 7):
            chunk = body[start : start + 7]
            exchange.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        exchange.write(b"0\r\n\r\n")

    expected = ask(api, endpoint)
    sandbox.inject(Fault(in_chunks))

    assert ask(api, endpoint) == expected


# Names


@pytest.mark.parametrize("name", [*RAW_NAMES, "..", ".", "../.."])
def test_the_name_of_an_invoice_arrives_as_it_is(sandbox: Sandbox, api: Api, name: str) -> None:
    sandbox.tenant = tenant_with(SampleInvoice(name, CONTENT))

    (listed,) = api.invoices("system", ample())
    assert listed.name == name
    assert pdf_of(api, "system", name, ample()) == CONTENT
    assert sandbox.calls[-1].name == name
    check_requests(sandbox)


@pytest.mark.parametrize("name", RAW_NAMES)
def test_the_name_of_a_namespace_arrives_as_it_is(sandbox: Sandbox, api: Api, name: str) -> None:
    sandbox.tenant = SampleTenant("t", (SampleNamespace(name, (SampleInvoice("i", CONTENT),)),))

    assert [each.namespace for each in api.invoices(name, ample())] == [name]
    assert pdf_of(api, name, "i", ample()) == CONTENT
    assert {call.namespace for call in sandbox.calls} == {name}
    check_requests(sandbox)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_no_path_can_hold_is_not_found_and_not_asked_for_elsewhere(
    sandbox: Sandbox, api: Api, name: str
) -> None:
    with pytest.raises(NotFound):
        api.invoices(name, ample())
    with pytest.raises(NotFound):
        pdf_of(api, name, "i", ample())

    check_requests(sandbox)


# The limit of a list


@pytest.mark.parametrize(
    ("count", "limits"),
    [
        (0, [3]),
        (2, [3]),
        (3, [3, 30]),
        (4, [3, 30]),
        (29, [3, 30]),
        (30, [3, 30, 300]),
        (31, [3, 30, 300]),
    ],
)
def test_a_list_is_asked_for_until_fewer_come_than_were_asked_for(
    sandbox: Sandbox,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    limits: list[int],
) -> None:
    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 3)
    sandbox.tenant = tenant_with(*numbered(count))

    listed = api.invoices("system", ample())

    assert [invoice.name for invoice in listed] == [each.name for each in numbered(count)]
    assert limits_asked(sandbox) == limits
    check_requests(sandbox)


def test_the_first_limit_is_that_of_the_module(sandbox: Sandbox, api: Api) -> None:
    api.invoices("system", ample())

    assert limits_asked(sandbox) == [list_limits.FIRST_LIMIT]


def test_an_invoice_that_cannot_be_shown_counts_towards_the_limit(
    sandbox: Sandbox, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 3)
    nameless = SampleInvoice("nameless", fields={"name": OMITTED})
    sandbox.tenant = tenant_with(nameless, *numbered(4))

    assert len(api.invoices("system", ample())) == 4
    assert limits_asked(sandbox) == [3, 30]


@pytest.mark.parametrize("most", [3, 5, 50])
def test_a_server_with_a_cap_of_its_own_is_told_of_once_and_asked_no_further(
    sandbox: Sandbox,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    most: int,
) -> None:
    """With more than 3, the server ignores the limit altogether."""

    def capped(exchange: Exchange) -> None:
        body = sandbox.tenant.by_name["system"].invoices_json(most)
        exchange.answer(Answer(200, body))

    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 3)
    sandbox.tenant = tenant_with(*numbered(99))
    sandbox.inject(Fault(capped))

    with caplog.at_level(logging.WARNING, "invoicefs"):
        listed = api.invoices("system", ample())

    assert [invoice.name for invoice in listed] == [each.name for each in numbered(most)]
    assert limits_asked(sandbox) == [3, 30]
    (record,) = caplog.records
    assert "system" in record.getMessage()


def test_a_list_that_ends_below_the_limit_is_not_told_of(
    sandbox: Sandbox,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 3)
    sandbox.tenant = tenant_with(*numbered(4))

    api.invoices("system", ample())

    assert caplog.records == []


def test_a_failure_on_the_way_to_a_whole_list_is_an_error_not_a_shorter_list(
    sandbox: Sandbox, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 3)
    sandbox.tenant = tenant_with(*numbered(4))
    sandbox.inject(Fault(faults.honest, times=1), Fault(faults.status(503), times=1))

    with pytest.raises(Unavailable):
        api.invoices("system", ample())


# The credential


def test_a_token_that_is_not_accepted_is_unauthenticated(sandbox: Sandbox, api: Api) -> None:
    sandbox.token = "new"

    with pytest.raises(Unauthenticated) as caught:
        api.namespaces(ample())

    assert caught.type is Unauthenticated


def test_a_rewritten_token_file_is_used_by_the_next_call(
    sandbox: Sandbox, connect: Connect, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(SAMPLE_TOKEN)
    api = connect(sandbox.url, TokenFile(file))
    api.namespaces(ample())

    sandbox.token = "new-token"
    file.write_text("new-token\n")
    api.namespaces(ample())

    assert [call.status for call in sandbox.calls] == [200, 200]
    assert sandbox.calls[1].headers["authorization"] == "APIToken new-token"


@EVERY_CALL
def test_a_401_for_a_token_replaced_during_the_call_says_that_it_was_renewed(
    sandbox: Sandbox, connect: Connect, tmp_path: Path, endpoint: Endpoint
) -> None:
    file = tmp_path / "token"
    file.write_text(SAMPLE_TOKEN)

    def rotate(exchange: Exchange) -> None:
        file.write_text("rotated-token")
        sandbox.token = "rotated-token"
        exchange.answer(Answer(401, b""))

    sandbox.inject(Fault(rotate, times=1))
    api = connect(sandbox.url, TokenFile(file))

    with pytest.raises(CredentialRenewed):
        ask(api, endpoint)
    ask(api, endpoint)

    assert [call.status for call in sandbox.calls] == [401, 200]


@pytest.mark.parametrize("text", [SAMPLE_TOKEN, "", "two words", None])
def test_a_401_without_another_token_in_the_file_is_unauthenticated(
    sandbox: Sandbox, connect: Connect, tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / "token"
    file.write_text(SAMPLE_TOKEN)
    api = connect(sandbox.url, TokenFile(file))
    sandbox.token = "new"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)

    with pytest.raises(Unauthenticated) as caught:
        api.namespaces(ample())

    assert caught.type is Unauthenticated
    assert sandbox.calls[0].headers["authorization"] == f"APIToken {SAMPLE_TOKEN}"


@pytest.mark.parametrize("place", ["NETRC", "HOME"])
def test_netrc_is_not_used(
    connect: Connect,
    serve: Serve,
    trusted: ssl.SSLContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    file = tmp_path / ".netrc"
    file.write_text("machine 127.0.0.1 login somebody password secret\n")
    file.chmod(0o600)
    monkeypatch.setenv(place, str(file if place == "NETRC" else tmp_path))
    asked: queue.Queue[bytes] = queue.Queue()

    connect(f"https://127.0.0.1:{serve(over_tls(trusted, asked, EMPTY_LIST))}").namespaces(ample())

    sent = asked.get(timeout=10).decode().splitlines()
    assert [line for line in sent if line.lower().startswith("authorization:")] == [
        f"Authorization: APIToken {SAMPLE_TOKEN}"
    ]


def test_cookies_are_not_kept(sandbox: Sandbox, api: Api) -> None:
    cookie = {"Set-Cookie": "session=1; Path=/"}
    to_itself = {**cookie, "Location": NAMESPACES}
    sandbox.inject(
        Fault(faults.reply(302, b"", to_itself), times=1),
        Fault(faults.reply(200, b"{}", cookie), times=1),
    )

    api.namespaces(ample())
    api.namespaces(ample())

    assert len(sandbox.calls) == 3
    assert [call.headers.get("cookie") for call in sandbox.calls] == [None, None, None]


# Proxies


def test_a_proxy_of_the_environment_makes_a_tunnel_and_never_sees_the_token(
    connect: Connect, serve: Serve, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, context = certificate("DNS:tenant.invalid")
    asked: queue.Queue[bytes] = queue.Queue()

    def proxy(connection: socket.socket) -> None:
        asked.put(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        over_tls(context, asked, EMPTY_LIST)(connection)

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(proxy)}")

    assert connect("https://tenant.invalid").namespaces(ample()) == NamespaceList(())
    of_the_proxy, of_the_server = asked.get(timeout=10), asked.get(timeout=10)
    assert of_the_proxy.startswith(b"CONNECT tenant.invalid:443 ")
    assert SAMPLE_TOKEN.encode() not in of_the_proxy
    assert SAMPLE_TOKEN.encode() in of_the_server


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_no_proxy_leads_to_the_own_machine(
    api: Api, other_host: Sandbox, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, other_host.url)

    assert api.namespaces(ample()) == NamespaceList(("system", "shared"))
    assert other_host.calls == ()


# Redirects


@EVERY_CALL
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_on_the_same_host_is_followed_with_the_token(
    sandbox: Sandbox, api: Api, endpoint: Endpoint, code: int
) -> None:
    expected = ask(api, endpoint)
    sandbox.forget_calls()

    bodies: list[bytes] = []

    def depart(exchange: Exchange) -> None:
        bodies.append(exchange.honest.body)
        exchange.answer(Answer(code, b"", {"Location": f"/moved{exchange.call.target}"}))

    def arrive(exchange: Exchange) -> None:
        exchange.answer(Answer(200, bodies.pop()))

    sandbox.inject(Fault(depart, endpoint), Fault(arrive))

    assert ask(api, endpoint) == expected
    first, second = sandbox.calls
    assert second.method == "GET"
    assert second.target == f"/moved{first.target}"
    assert second.headers["authorization"] == f"APIToken {SAMPLE_TOKEN}"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("{url}/api/web/namespaces?x=1", "/gateway/api/web/namespaces?x=1"),
        ("/gateway/api/web/namespaces", "/gateway/api/web/namespaces"),
        ("//{host}/gateway/api/web/namespaces", "/gateway/api/web/namespaces"),
        ("namespaces?y=%2F", "/gateway/api/web/namespaces?y=%2F"),
        ("?z", "/gateway/api/web/namespaces?z"),
    ],
)
def test_a_redirect_may_be_written_in_any_form(
    connect: Connect, location: str, target: str
) -> None:
    with Sandbox(path_prefix="/gateway") as sandbox:
        where = location.format(url=sandbox.url, host=urlsplit(sandbox.url).netloc)
        sandbox.inject(Fault(faults.redirect(where), times=1))

        assert "system" in connect(sandbox.url).namespaces(ample()).names
        assert sandbox.calls[1].target == target


@pytest.mark.parametrize(
    "location",
    [
        "http://{other}/api/web/namespaces",
        "//{other}/api/web/namespaces",
        "http://{own}@{other}/",
        "http://{own}\\@{other}/",
        "http://user:password@{own}/",
        "http://localhost:{own_port}/",
        "http://127.0.0.1/",
        "https://{own}/",
        "ftp://{own}/",
        "file:///etc/passwd",
    ],
)
def test_a_redirect_to_anywhere_else_is_refused_and_gets_no_token(
    sandbox: Sandbox, other_host: Sandbox, api: Api, location: str
) -> None:
    own, other = urlsplit(sandbox.url), urlsplit(other_host.url)
    where = location.format(own=own.netloc, own_port=own.port, other=other.netloc)
    sandbox.inject(Fault(faults.redirect(where)))

    with pytest.raises(Misdirected):
        api.namespaces(ample())

    assert sandbox.count() == 1
    assert other_host.count() == 0


@EVERY_CALL
def test_a_redirect_to_another_host_is_refused_after_others_were_followed(
    sandbox: Sandbox, other_host: Sandbox, api: Api, endpoint: Endpoint
) -> None:
    sandbox.inject(Fault(faults.redirect(), times=2), Fault(faults.redirect(other_host.url)))

    with pytest.raises(Misdirected):
        ask(api, endpoint)

    assert sandbox.count() == 3
    assert other_host.count() == 0


def test_redirects_in_a_circle_come_to_an_end(sandbox: Sandbox, api: Api) -> None:
    sandbox.inject(Fault(faults.redirect()))

    with pytest.raises(Misdirected):
        api.namespaces(ample())

    assert sandbox.count() <= 10


def test_a_redirect_to_nowhere_is_a_fault_of_the_server(sandbox: Sandbox, api: Api) -> None:
    sandbox.inject(Fault(faults.reply(302, b"")))

    with pytest.raises(ServerFault):
        api.namespaces(ample())


# Gateways


@EVERY_CALL
def test_the_path_prefix_of_a_gateway_is_kept(connect: Connect, endpoint: Endpoint) -> None:
    tenant = tenant_with(SampleInvoice("i", CONTENT))
    with Sandbox(tenant, path_prefix="/some/gateway") as sandbox:
        ask(connect(sandbox.url), endpoint)

        (call,) = sandbox.calls
        assert call.target.startswith(f"/some/gateway{NAMESPACES}")
        check_requests(sandbox)


# Connections and threads


def test_a_connection_is_used_again_also_after_errors(connect: Connect, serve: Serve) -> None:
    connections: queue.Queue[object] = queue.Queue()

    def answer_all(connection: socket.socket) -> None:
        connections.put(connection)
        while connection.recv(65536):
            connection.sendall(EMPTY_LIST)
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")

    api = connect(f"http://127.0.0.1:{serve(answer_all)}")
    for _ in range(3):
        api.namespaces(ample())
        with pytest.raises(NotFound):
            api.namespaces(ample())

    assert connections.qsize() == 1


def test_a_kept_connection_that_the_server_closed_is_replaced(
    connect: Connect, serve: Serve
) -> None:
    closed: queue.Queue[object] = queue.Queue()

    def answer_once(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(EMPTY_LIST)
        connection.shutdown(socket.SHUT_RDWR)
        closed.put(connection)

    api = connect(f"http://127.0.0.1:{serve(answer_once)}")
    for _ in range(3):
        assert api.namespaces(ample()) == NamespaceList(())
        closed.get(timeout=10)


def test_bytes_left_over_from_one_answer_are_no_part_of_the_next(
    sandbox: Sandbox, api: Api
) -> None:
    forged = b'HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n{"items":[{"name":"forged"}]}'
    sandbox.inject(Fault(lambda exchange: exchange.write(EMPTY_LIST + forged), times=1))

    assert api.namespaces(ample()) == NamespaceList(())
    assert api.namespaces(ample()) == NamespaceList(("system", "shared"))


def test_many_threads_get_each_its_own_answer(sandbox: Sandbox, api: Api) -> None:
    invoices = [SampleInvoice(f"i{number}", plain_pdf(f"{number}")) for number in range(24)]
    sandbox.tenant = tenant_with(*invoices)
    together = threading.Barrier(8, timeout=10)

    def fetch(invoice: SampleInvoice) -> bytes:
        together.wait()
        return pdf_of(api, "system", invoice.name, ample())

    with ThreadPoolExecutor(8) as threads:
        fetched = list(threads.map(fetch, invoices))

    assert fetched == [invoice.pdf for invoice in invoices]
    assert sandbox.count() == 24


def test_any_number_of_calls_runs_at_once(own_sandbox: Sandbox, connect: Connect) -> None:
    """More than there are places in the pool of connections."""
    api = connect(own_sandbox.url)
    together = threading.Barrier(8, timeout=10)

    def meet(exchange: Exchange) -> None:
        together.wait()
        faults.honest(exchange)

    own_sandbox.inject(Fault(meet))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: api.namespaces(ample()), range(8)))

    assert answers == 8 * [NamespaceList(("system", "shared"))]
    assert own_sandbox.peak_concurrency == 8


@pytest.mark.parametrize("largest", [500, 120, 50])
def test_a_server_that_refuses_a_limit_is_asked_for_less_and_for_that_from_then_on(
    sandbox: Sandbox, api: Api, largest: int
) -> None:
    def strict(exchange: Exchange) -> None:
        is_refused = (exchange.call.limit or 0) > largest
        exchange.answer(failure(400, "limit too large") if is_refused else exchange.honest)

    sandbox.tenant = tenant_with(*numbered(12))
    sandbox.inject(Fault(strict))

    assert len(api.invoices("system", ample())) == 12
    tries = len(limits_asked(sandbox))
    assert len(api.invoices("system", ample())) == 12
    assert len(limits_asked(sandbox)) == tries + 1


def test_a_server_whose_maximum_comes_is_told_of_in_the_log(
    sandbox: Sandbox, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    def strict(exchange: Exchange) -> None:
        is_refused = (exchange.call.limit or 0) > 200
        exchange.answer(failure(400, "limit too large") if is_refused else exchange.honest)

    sandbox.tenant = tenant_with(*numbered(300))
    sandbox.inject(Fault(strict))

    assert len(api.invoices("system", ample())) == 200
    assert "there may be more" in caplog.text


def test_a_server_that_takes_no_limit_at_all_is_asked_without_one(
    sandbox: Sandbox, api: Api
) -> None:
    def strict(exchange: Exchange) -> None:
        has_limit = "limit" in exchange.call.query
        exchange.answer(failure(400, "no such parameter") if has_limit else exchange.honest)

    sandbox.tenant = tenant_with(*numbered(12))
    sandbox.inject(Fault(strict))

    assert len(api.invoices("system", ample())) == 12


@pytest.mark.parametrize(
    "where",
    [
        "{scheme}://{HOST}:{port}{path}",
        "{SCHEME}://{host}:{port}{path}",
        "//{host}:{port}{path}",
    ],
)
def test_a_redirect_to_the_same_origin_is_followed_however_it_is_written(
    sandbox: Sandbox, api: Api, where: str
) -> None:
    parts = urlsplit(sandbox.url)
    location = where.format(
        scheme=parts.scheme,
        SCHEME=parts.scheme.upper(),
        host=parts.hostname,
        HOST=(parts.hostname or "").upper(),
        port=parts.port,
        path="/api/web/namespaces",
    )
    sandbox.inject(Fault(faults.redirect(location), times=1))

    assert api.namespaces(ample()).names == ("system", "shared")


@pytest.mark.parametrize("past_caches", [False, True])
def test_a_pdf_request_tells_caches_which_version_it_is_for(
    sandbox: Sandbox, api: Api, past_caches: bool
) -> None:
    (invoice,) = api.invoices("system", ample())

    api.invoice_pdf(invoice, ample(), past_caches=past_caches)

    headers = sandbox.calls[-1].headers
    assert headers["x-invoicefs-version"] == invoice.version
    assert headers.get("cache-control") == ("no-cache" if past_caches else None)


@pytest.mark.parametrize(
    ("endpoint", "location"),
    [
        (Endpoint.PDF, "/api/web/namespaces/system/usage/invoice_pdf?name=other"),
        (Endpoint.PDF, "/api/web/namespaces/shared/usage/invoice_pdf?name=i"),
        (Endpoint.PDF, "/api/web/namespaces/sh%61red/usage/invoice_pdf?name=i"),
        (Endpoint.INVOICES, "/api/web/namespaces/shared/usage/invoices/custom_list?limit=1000"),
    ],
)
def test_a_redirect_to_another_invoice_or_namespace_is_not_followed(
    sandbox: Sandbox, api: Api, endpoint: Endpoint, location: str
) -> None:
    sandbox.inject(Fault(faults.redirect(location), times=1))

    assert type(failure_of(api, endpoint)) is Misdirected
    assert sandbox.count() == 1
