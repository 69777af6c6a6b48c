"""`Api` makes requests that the API understands, only to its own server, and returns the responses.

Errors and faults are tested in `test_faults`, deadlines in `test_deadlines`.
"""

import logging
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
    Unavailable,
)
from invoicefs.model import NamespaceList
from invoicefs.sandbox import (
    OMITTED,
    SAMPLE_TOKEN,
    Answer,
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
    EVERY_ENDPOINT,
    Connect,
    ample,
    ask,
    failure_of,
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
    """Another server, which must never receive a request."""
    with Sandbox() as sandbox:
        yield sandbox


def numbered(count: int) -> list[SampleInvoice]:
    return [SampleInvoice(f"invoice-{number}") for number in range(count)]


def limits_requested_from(sandbox: Sandbox) -> list[int | None]:
    return [call.limit for call in sandbox.calls]


def check_requests(sandbox: Sandbox) -> None:
    for call in sandbox.calls:
        assert call.method == "GET"
        assert call.endpoint is not None
        schema.check_request(call.endpoint, call.path, call.query, call.headers)


# Requests and responses


@pytest.mark.skipif(
    not vendor.PATH.exists(),
    reason="the vendor's OpenAPI document is missing: set INVOICEFS_VENDOR_OPENAPI to its path",
)
@EVERY_ENDPOINT
def test_query_parameters_are_in_the_vendors_document(
    sandbox: Sandbox, api: Api, endpoint: Endpoint
) -> None:
    ask(api, endpoint)

    assert set(sandbox.calls[0].query) <= vendor.VendorDocument().query_names(endpoint)


@EVERY_ENDPOINT
def test_headers_carry_the_token_and_the_user_agent(
    sandbox: Sandbox, api: Api, endpoint: Endpoint
) -> None:
    ask(api, endpoint)

    headers = sandbox.calls[0].headers
    assert headers["authorization"] == f"APIToken {SAMPLE_TOKEN}"
    assert headers["user-agent"] == f"invoicefs/{__version__}"
    assert headers["accept"] == "application/json"
    assert headers["host"] == urlsplit(sandbox.url).netloc
    assert "cookie" not in headers


@EVERY_ENDPOINT
def test_a_response_may_be_chunked(sandbox: Sandbox, api: Api, endpoint: Endpoint) -> None:
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
def test_an_invoice_name_reaches_the_server_unchanged(
    sandbox: Sandbox, api: Api, name: str
) -> None:
    sandbox.tenant = tenant_with(SampleInvoice(name, CONTENT))

    (listed,) = api.invoices("system", ample())
    assert listed.name == name
    assert pdf_of(api, "system", name, ample()) == CONTENT
    assert sandbox.calls[-1].name == name
    check_requests(sandbox)


@pytest.mark.parametrize("name", RAW_NAMES)
def test_a_namespace_name_reaches_the_server_unchanged(
    sandbox: Sandbox, api: Api, name: str
) -> None:
    sandbox.tenant = SampleTenant("t", (SampleNamespace(name, (SampleInvoice("i", CONTENT),)),))

    assert [invoice.namespace for invoice in api.invoices(name, ample())] == [name]
    assert pdf_of(api, name, "i", ample()) == CONTENT
    assert {call.namespace for call in sandbox.calls} == {name}
    check_requests(sandbox)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_cannot_be_in_a_path_is_not_found(
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
def test_a_list_is_requested_until_it_is_shorter_than_the_limit(
    sandbox: Sandbox,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    limits: list[int],
) -> None:
    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 3)
    sandbox.tenant = tenant_with(*numbered(count))

    listed = api.invoices("system", ample())

    assert [invoice.name for invoice in listed] == [sample.name for sample in numbered(count)]
    assert limits_requested_from(sandbox) == limits
    check_requests(sandbox)


def test_a_list_is_requested_with_the_limit_that_was_sufficient_before(
    sandbox: Sandbox, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 3)
    sandbox.tenant = tenant_with(*numbered(4))
    api.invoices("system", ample())

    sandbox.tenant = tenant_with(*numbered(31))
    assert len(api.invoices("system", ample())) == 31
    assert len(api.invoices("system", ample())) == 31

    assert limits_requested_from(sandbox) == [3, 30, 30, 300, 300]


def test_a_list_is_complete_when_all_larger_limits_are_refused(
    sandbox: Sandbox, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(exchange: Exchange) -> None:
        is_refused = (exchange.call.limit or 0) > 3
        exchange.answer(failure(400, "limit too large") if is_refused else exchange.honest)

    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 3)
    sandbox.tenant = tenant_with(*numbered(5))
    sandbox.inject(Fault(strict))

    assert len(api.invoices("system", ample())) == 3
    assert len(api.invoices("system", ample())) == 3

    # The first list was only counted, because there might have been a longer one.
    assert limits_requested_from(sandbox) == [3, 30, 3, 3]


def test_an_invoice_that_cannot_be_shown_counts_towards_the_limit(
    sandbox: Sandbox, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 3)
    nameless = SampleInvoice("nameless", fields={"name": OMITTED})
    sandbox.tenant = tenant_with(nameless, *numbered(4))

    assert len(api.invoices("system", ample())) == 4
    assert limits_requested_from(sandbox) == [3, 30]


@pytest.mark.parametrize("most", [3, 5, 50])
def test_a_server_side_cap_is_logged_once_and_ends_the_requests(
    sandbox: Sandbox,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    most: int,
) -> None:
    """With a cap of more than 3 the server ignores the limit altogether."""

    def capped(exchange: Exchange) -> None:
        body = sandbox.tenant.by_name["system"].invoices_json(most)
        exchange.answer(Answer(200, body))

    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 3)
    sandbox.tenant = tenant_with(*numbered(99))
    sandbox.inject(Fault(capped))

    with caplog.at_level(logging.WARNING, "invoicefs"):
        listed = api.invoices("system", ample())

    assert [invoice.name for invoice in listed] == [sample.name for sample in numbered(most)]
    assert limits_requested_from(sandbox) == [3, 30]
    (record,) = caplog.records
    assert "system" in record.getMessage()


def test_a_list_below_the_limit_logs_nothing(
    sandbox: Sandbox,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 3)
    sandbox.tenant = tenant_with(*numbered(4))

    api.invoices("system", ample())

    assert caplog.records == []


def test_a_failure_while_listing_raises_instead_of_shortening_the_list(
    sandbox: Sandbox, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 3)
    sandbox.tenant = tenant_with(*numbered(4))
    sandbox.inject(Fault(faults.honest, times=1), Fault(faults.status(503), times=1))

    with pytest.raises(Unavailable):
        api.invoices("system", ample())


# The credential


@EVERY_ENDPOINT
def test_a_401_for_a_replaced_token_raises_credential_renewed(
    sandbox: Sandbox, connect: Connect, tmp_path: Path, endpoint: Endpoint
) -> None:
    file = tmp_path / "token"
    file.write_text(SAMPLE_TOKEN)

    def rotate(exchange: Exchange) -> None:
        file.write_text("rotated-token")
        sandbox.token = "rotated-token"
        exchange.answer(Answer(401, b""))

    sandbox.inject(Fault(rotate, times=1))
    api = connect(sandbox.url, TokenFile.of_file(file))

    with pytest.raises(CredentialRenewed):
        ask(api, endpoint)
    ask(api, endpoint)

    assert [call.status for call in sandbox.calls] == [401, 200]


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


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_loopback_requests_use_no_proxy(
    api: Api, other_host: Sandbox, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, other_host.url)

    assert api.namespaces(ample()) == NamespaceList(("system", "shared"))
    assert other_host.calls == ()


# Redirects


@EVERY_ENDPOINT
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
def test_a_location_may_have_any_form(connect: Connect, location: str, target: str) -> None:
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
def test_a_redirect_to_another_origin_is_refused(
    sandbox: Sandbox, other_host: Sandbox, api: Api, location: str
) -> None:
    own, other = urlsplit(sandbox.url), urlsplit(other_host.url)
    where = location.format(own=own.netloc, own_port=own.port, other=other.netloc)
    sandbox.inject(Fault(faults.redirect(where)))

    with pytest.raises(Misdirected):
        api.namespaces(ample())

    assert sandbox.count() == 1
    assert other_host.count() == 0


@EVERY_ENDPOINT
def test_a_redirect_to_another_host_is_refused_after_other_redirects(
    sandbox: Sandbox, other_host: Sandbox, api: Api, endpoint: Endpoint
) -> None:
    sandbox.inject(Fault(faults.redirect(), times=2), Fault(faults.redirect(other_host.url)))

    with pytest.raises(Misdirected):
        ask(api, endpoint)

    assert sandbox.count() == 3
    assert other_host.count() == 0


def test_a_redirect_without_a_location_is_a_server_fault(sandbox: Sandbox, api: Api) -> None:
    sandbox.inject(Fault(faults.reply(302, b"")))

    with pytest.raises(ServerFault):
        api.namespaces(ample())


# Gateways


@EVERY_ENDPOINT
def test_the_path_prefix_of_a_gateway_is_kept(connect: Connect, endpoint: Endpoint) -> None:
    tenant = tenant_with(SampleInvoice("i", CONTENT))
    with Sandbox(tenant, path_prefix="/some/gateway") as sandbox:
        ask(connect(sandbox.url), endpoint)

        (call,) = sandbox.calls
        assert call.target.startswith(f"/some/gateway{NAMESPACES}")
        check_requests(sandbox)


# Connections and threads


def test_concurrent_requests_get_their_own_responses(sandbox: Sandbox, api: Api) -> None:
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


def test_more_requests_than_pooled_connections_run_at_once(
    own_sandbox: Sandbox, connect: Connect
) -> None:
    """The pool of connections has fewer slots."""
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
def test_an_accepted_smaller_limit_is_used_from_then_on(
    sandbox: Sandbox, api: Api, largest: int
) -> None:
    def strict(exchange: Exchange) -> None:
        is_refused = (exchange.call.limit or 0) > largest
        exchange.answer(failure(400, "limit too large") if is_refused else exchange.honest)

    sandbox.tenant = tenant_with(*numbered(12))
    sandbox.inject(Fault(strict))

    assert len(api.invoices("system", ample())) == 12
    tries = len(limits_requested_from(sandbox))
    assert len(api.invoices("system", ample())) == 12
    assert len(limits_requested_from(sandbox)) == tries + 1


def test_a_server_that_accepts_no_limit_is_asked_without_one(sandbox: Sandbox, api: Api) -> None:
    def strict(exchange: Exchange) -> None:
        has_limit = "limit" in exchange.call.query
        exchange.answer(failure(400, "no such parameter") if has_limit else exchange.honest)

    sandbox.tenant = tenant_with(*numbered(12))
    sandbox.inject(Fault(strict))

    assert len(api.invoices("system", ample())) == 12


@pytest.mark.parametrize("bypass_caches", [False, True])
def test_every_request_of_a_list_bypasses_http_caches_if_asked_to(
    sandbox: Sandbox, api: Api, monkeypatch: pytest.MonkeyPatch, bypass_caches: bool
) -> None:
    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 3)
    sandbox.tenant = tenant_with(*numbered(3))  # a list of two requests

    api.namespaces(ample(), bypass_caches=bypass_caches)
    assert len(api.invoices("system", ample(), bypass_caches=bypass_caches)) == 3

    sent = [call.headers.get("cache-control") for call in sandbox.calls]
    assert sent == 3 * (["no-cache"] if bypass_caches else [None])


@pytest.mark.parametrize("bypass_caches", [False, True])
def test_a_pdf_request_names_its_version_for_http_caches(
    sandbox: Sandbox, api: Api, bypass_caches: bool
) -> None:
    (invoice,) = api.invoices("system", ample())

    api.invoice_pdf(invoice, ample(), bypass_caches=bypass_caches)

    headers = sandbox.calls[-1].headers
    assert headers["x-invoicefs-version"] == invoice.version
    assert headers.get("cache-control") == ("no-cache" if bypass_caches else None)


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
