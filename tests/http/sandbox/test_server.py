"""The embedded server answers as the API does, and keeps the promises that tests rely on.

Faults are tested in `test_faults`.
"""

import base64
import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import jsonschema
import pytest
import requests

from invoicefs.sandbox import (
    SAMPLE_TOKEN,
    Endpoint,
    RateLimit,
    SampleInvoice,
    SampleNamespace,
    SampleTenant,
    Sandbox,
    plain_pdf,
    sample_tenant,
)
from invoicefs.sandbox.rate_limit import TokenBucket
from tests.support import schema
from tests.support.api_calls import OUR_NAME, Certificate
from tests.support.certificates import Authority, Identity
from tests.support.schema import vendor

REPOSITORY = Path(__file__).parents[3]
NAMESPACES = "/api/web/namespaces"
INVOICES = f"{NAMESPACES}/system/usage/invoices/custom_list"
PDF = f"{NAMESPACES}/system/usage/invoice_pdf"
PAID = {"name": "invoice-acme-2026-08"}

VALID_REQUESTS = pytest.mark.parametrize(
    ("endpoint", "path", "query"),
    [
        (Endpoint.NAMESPACES, NAMESPACES, {}),
        (Endpoint.INVOICES, INVOICES, {"limit": "1000"}),
        (Endpoint.PDF, PDF, PAID),
    ],
)
NEEDS_VENDOR_DOCUMENT = pytest.mark.skipif(
    not vendor.PATH.exists(),
    reason="the vendor's OpenAPI document is missing: set INVOICEFS_VENDOR_OPENAPI to its path",
)

Get = Callable[..., requests.Response]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def get(sandbox: Sandbox) -> Iterator[Get]:
    """GET a path of the sandbox, with its current token over one kept-alive connection."""
    with requests.Session() as session:
        session.trust_env = False

        def get(path: str, query: Mapping[str, str] | None = None) -> requests.Response:
            headers = {"Authorization": f"APIToken {sandbox.token}"}
            return session.get(sandbox.url + path, params=query, headers=headers, timeout=10)

        yield get


def tenant_with(*invoices: SampleInvoice) -> SampleTenant:
    return SampleTenant("t", (SampleNamespace("system", invoices),))


def listed_names(response: requests.Response) -> list[str]:
    return [invoice["name"] for invoice in response.json()["invoices"]]


def pdf_of(response: requests.Response) -> bytes:
    return base64.b64decode(response.json()["pdf"], validate=True)


# The API


@VALID_REQUESTS
def test_responses_and_requests_match_the_schemas(
    sandbox: Sandbox, get: Get, endpoint: Endpoint, path: str, query: dict[str, str]
) -> None:
    response = get(path, query)

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    schema.check_response(endpoint, response.json())
    (call,) = sandbox.calls
    assert (call.method, call.endpoint, call.status) == ("GET", endpoint, 200)
    schema.check_request(endpoint, call.path, call.query, call.headers)


@NEEDS_VENDOR_DOCUMENT
@VALID_REQUESTS
def test_responses_and_requests_match_the_vendors_document(
    sandbox: Sandbox, get: Get, endpoint: Endpoint, path: str, query: dict[str, str]
) -> None:
    document = vendor.VendorDocument()

    document.check_response(endpoint, get(path, query).json())

    assert set(sandbox.calls[0].query) <= document.query_names(endpoint)


@NEEDS_VENDOR_DOCUMENT
def test_our_schemas_name_the_fields_of_the_vendors_document() -> None:
    document = vendor.VendorDocument()
    namespace = schema.response_schema(Endpoint.NAMESPACES)["properties"]["items"]["items"]
    invoice = schema.response_schema(Endpoint.INVOICES)["properties"]["invoices"]["items"]
    pdf = schema.response_schema(Endpoint.PDF)

    vendors_namespace = document.schema("namespaceListResponseItem")
    vendors_invoice = document.schema("invoiceInvoiceType")
    vendors_pdf = document.schema("invoiceDownloadInvoicePdfRsp")
    assert namespace["properties"].keys() <= vendors_namespace["properties"].keys()
    assert invoice["properties"].keys() == vendors_invoice["properties"].keys()
    assert pdf["properties"].keys() == vendors_pdf["properties"].keys()
    statuses = document.schema("invoiceInvoiceStatus")["enum"]
    assert invoice["properties"]["status"]["enum"] == statuses


@pytest.mark.parametrize(
    ("endpoint", "answer"),
    [
        (Endpoint.NAMESPACES, []),
        (Endpoint.NAMESPACES, {"items": [{"name": None}]}),
        (Endpoint.INVOICES, {"invoices": {}}),
        (Endpoint.INVOICES, {"invoices": [{"amount": 5}]}),
        (Endpoint.INVOICES, {"invoices": [{"status": "PAID"}]}),
        (Endpoint.INVOICES, {"invoices": [{"period_end": "2026-01-31"}]}),
        (Endpoint.INVOICES, {"next_page": "1"}),
        (Endpoint.PDF, {"pdf": "JVBERi0_"}),
    ],
)
def test_the_schemas_refuse_other_responses(endpoint: Endpoint, answer: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        schema.check_response(endpoint, answer)


@pytest.mark.parametrize(
    ("endpoint", "path", "query", "authorization"),
    [
        (Endpoint.NAMESPACES, f"{NAMESPACES}/", {}, "APIToken t"),
        (Endpoint.NAMESPACES, NAMESPACES, {"page": "1"}, "APIToken t"),
        (Endpoint.INVOICES, INVOICES, {"limit": "0"}, "APIToken t"),
        (Endpoint.INVOICES, f"{NAMESPACES}/a/b/usage/invoices/custom_list", {}, "APIToken t"),
        (Endpoint.PDF, PDF, {}, "APIToken t"),
        (Endpoint.PDF, PDF, PAID, "Bearer t"),
    ],
)
def test_the_schemas_refuse_other_requests(
    endpoint: Endpoint, path: str, query: dict[str, str], authorization: str
) -> None:
    headers = {"host": "h", "authorization": authorization}
    with pytest.raises(jsonschema.ValidationError):
        schema.check_request(endpoint, path, query, headers)


@pytest.mark.parametrize("limit", [1, 36, 37])
def test_a_limit_is_honoured_newest_first(get: Get, limit: int) -> None:
    names = listed_names(get(INVOICES, {"limit": str(limit)}))

    assert names == sorted(names, reverse=True)
    assert names[0] == "invoice-acme-2026-10"
    assert len(names) == min(limit, 36)


@pytest.mark.parametrize("query", [{}, {"limit": ""}, {"limit": "0"}])
def test_a_list_without_a_limit_has_a_hundred_invoices(
    sandbox: Sandbox, get: Get, query: dict[str, str]
) -> None:
    sandbox.tenant = tenant_with(*(SampleInvoice(f"i{number}") for number in range(101)))

    assert len(listed_names(get(INVOICES, query))) == 100


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/api/web/namespaces/", 404),
        ("/api/web/namespaces/system", 404),
        (f"{NAMESPACES}/nowhere/usage/invoices/custom_list", 404),
        (f"{NAMESPACES}/nowhere/usage/invoice_pdf?name=i", 404),
        (f"{NAMESPACES}/legal/usage/invoices/custom_list", 403),
        (f"{NAMESPACES}/legal/usage/invoice_pdf?name=i", 403),
        (PDF, 404),
        (f"{PDF}?name=nothing", 404),
    ],
)
def test_errors_are_json_with_a_message(get: Get, path: str, status: int) -> None:
    response = get(path)

    assert response.status_code == status
    assert response.json()["message"]


@pytest.mark.parametrize("query", ["limit=many", "limit=-1"])
def test_a_bad_limit_is_refused(get: Get, query: str) -> None:
    assert get(f"{INVOICES}?{query}").status_code == 400


def test_other_methods_are_refused_and_counted(sandbox: Sandbox) -> None:
    headers = {"Authorization": f"APIToken {sandbox.token}"}
    response = requests.post(sandbox.url + NAMESPACES, data=b"{}", headers=headers, timeout=10)

    assert response.status_code == 405
    assert sandbox.calls[0].method == "POST"


@pytest.mark.parametrize(
    ("headers", "shows_certificate", "status"),
    [
        ({}, True, 200),
        ({}, False, 401),
        ({"Authorization": f"APIToken {SAMPLE_TOKEN}"}, True, 200),
        ({"Authorization": f"APIToken {SAMPLE_TOKEN}"}, False, 200),
        ({"Authorization": "APIToken old"}, True, 401),
    ],
)
def test_a_client_certificate_is_accepted_instead_of_a_token(
    lenient_server: Sandbox,
    authority: Authority,
    client: Identity,
    headers: dict[str, str],
    shows_certificate: bool,
    status: int,
) -> None:
    response = requests.get(
        lenient_server.url + NAMESPACES,
        headers=headers,
        cert=str(client.pem()) if shows_certificate else None,
        verify=str(authority.certificate),
        timeout=10,
    )

    assert response.status_code == status
    assert lenient_server.calls[0].client == (client.name if shows_certificate else None)


# The data


def test_the_sample_tenant_has_invoices_of_every_kind() -> None:
    system = sample_tenant().by_name["system"].invoices

    assert len(system) == 36
    assert [invoice.active for invoice in system] == [True] + 35 * [False]
    assert system[0].status == "STATUS_PENDING"
    assert [invoice.name for invoice in system if invoice.content() is None] == [
        invoice.name for invoice in system if invoice.status == "STATUS_ISSUED"
    ]
    assert len({invoice.content() for invoice in system}) == 36


def test_sample_pdfs_have_the_same_bytes_in_every_process() -> None:
    digest = hashlib.sha256(_sample_content()).hexdigest()
    program = (
        "import hashlib; from invoicefs.sandbox import sample_tenant;"
        "content = sample_tenant().by_name['system'].invoices[0].content();"
        "print(hashlib.sha256(content).hexdigest())"
    )

    for zone, seed in (("Asia/Tokyo", "1"), ("America/Lima", "2")):
        elsewhere = subprocess.run(
            [sys.executable, "-c", program],
            cwd=REPOSITORY,
            env={**os.environ, "TZ": zone, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        )
        assert elsewhere.stdout.strip() == digest


def test_a_sample_pdf_is_served_unchanged(get: Get) -> None:
    content = pdf_of(get(PDF, {"name": "invoice-acme-2026-10"}))

    assert content == _sample_content()
    assert content.startswith(b"%PDF-")
    assert content.endswith(b"%%EOF\n")
    assert b"invoice-acme-2026-10" in content


def _sample_content() -> bytes:
    content = sample_tenant().by_name["system"].invoices[0].content()
    assert content is not None
    return content


def test_a_plain_pdf_has_the_requested_size() -> None:
    assert len(plain_pdf("a", 100_000)) == 100_000
    assert plain_pdf("a") != plain_pdf("b")


def test_the_tenant_changes_while_it_runs(sandbox: Sandbox, get: Get) -> None:
    running = SampleInvoice("running", plain_pdf("1"), active=True)
    sandbox.tenant = tenant_with(running, SampleInvoice("old"))
    before = get(INVOICES).json()["invoices"]
    final = replace(running, active=False, pdf=plain_pdf("2"))
    sandbox.tenant = sandbox.tenant.with_invoices("system", final, SampleInvoice("new"))
    after = get(INVOICES).json()["invoices"]

    assert [invoice["name"] for invoice in before] == ["running", "old"]
    assert [invoice["name"] for invoice in after] == ["new", "running", "old"]
    assert after[1]["active"] is False
    assert pdf_of(get(PDF, {"name": "running"})) == plain_pdf("2")


# Recorded requests


def test_requests_are_counted_in_order_until_forgotten(sandbox: Sandbox, get: Get) -> None:
    get(NAMESPACES)
    get(INVOICES, {"limit": "7"})
    get(PDF, PAID)

    assert [call.endpoint for call in sandbox.calls] == list(Endpoint)
    assert [call.limit for call in sandbox.calls] == [None, 7, None]
    assert sandbox.count() == 3
    assert sandbox.count(namespace="system") == 2
    assert sandbox.count(Endpoint.PDF, "system", PAID["name"]) == 1
    assert sandbox.count(Endpoint.PDF, "shared") == 0
    sandbox.forget_calls()
    assert sandbox.calls == ()
    assert sandbox.peak_concurrency == 0


# Rate limits


def test_requests_over_the_rate_limit_are_answered_429(sandbox: Sandbox, get: Get) -> None:
    sandbox.throttle(RateLimit(per_second=0.001, burst=2))

    answers = [get(NAMESPACES) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 0 < int(answers[2].headers["Retry-After"]) <= 1000
    assert get(INVOICES).status_code == 200  # every endpoint has its own limit
    sandbox.throttle(None)
    assert get(NAMESPACES).status_code == 200


def test_a_rate_limit_may_omit_retry_after(sandbox: Sandbox, get: Get) -> None:
    sandbox.throttle(RateLimit(per_second=0.001, burst=0, retry_after=False))

    answer = get(NAMESPACES)

    assert answer.status_code == 429
    assert "Retry-After" not in answer.headers


def test_a_bucket_fills_up_to_the_burst() -> None:
    bucket = TokenBucket(RateLimit(per_second=2, burst=2), now_s=0)

    assert [bucket.take(0), bucket.take(0), bucket.take(0)] == [0, 0, 0.5]
    assert bucket.take(0.25) == 0.25
    assert bucket.take(0.5) == 0
    assert [bucket.take(100), bucket.take(100), bucket.take(100)] == [0, 0, 0.5]


# Life cycle


def test_a_connection_is_kept_alive(sandbox: Sandbox) -> None:
    with closing(HTTPConnection(sandbox.url.removeprefix("http://"), timeout=10)) as connection:
        connection.connect()
        first = connection.sock
        for method in ("GET", "POST", "GET"):
            connection.request(method, NAMESPACES, b"body")
            connection.getresponse().read()
            assert connection.sock is first


def test_connections_are_refused_while_the_sandbox_is_away(own_sandbox: Sandbox) -> None:
    url = own_sandbox.url
    with closing(HTTPConnection(url.removeprefix("http://"))) as connection:
        connection.request("GET", NAMESPACES)
        assert connection.getresponse().read()
        own_sandbox.go_away()
        connection.request("GET", NAMESPACES)
        with pytest.raises(ConnectionError):
            connection.getresponse()
        with pytest.raises(ConnectionRefusedError):
            connection.connect()
        own_sandbox.come_back()
        assert own_sandbox.url == url
        connection.close()
        connection.request("GET", NAMESPACES)
        assert connection.getresponse().read()


def test_the_port_stays_reserved_while_the_sandbox_is_away(own_sandbox: Sandbox) -> None:
    port = int(own_sandbox.url.rpartition(":")[2])
    own_sandbox.go_away()
    with closing(socket.socket()) as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    own_sandbox.come_back()
    assert requests.get(own_sandbox.url, timeout=10).status_code == 401


def test_a_port_in_use_is_refused(own_sandbox: Sandbox) -> None:
    with pytest.raises(OSError, match="in use"):
        Sandbox(port=int(own_sandbox.url.rpartition(":")[2]))


def test_a_sandbox_with_a_certificate_speaks_https(certificate: Certificate) -> None:
    (file, context), (other_file, other_context) = map(certificate, (OUR_NAME, "DNS:elsewhere"))
    headers = {"Authorization": f"APIToken {SAMPLE_TOKEN}"}
    with Sandbox(tls=context) as sandbox:
        url = f"{sandbox.url}{NAMESPACES}"
        assert url.startswith("https://")
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(url, headers=headers, verify=str(other_file), timeout=20)
        assert requests.get(url, headers=headers, verify=str(file), timeout=20).json()["items"]
        sandbox.go_away()
        sandbox.tls = other_context
        sandbox.come_back()
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(url, headers=headers, verify=str(file), timeout=20)


def test_closing_ends_all_threads_and_frees_the_port() -> None:
    before = set(threading.enumerate())
    with Sandbox() as sandbox, requests.Session() as session:
        session.get(sandbox.url, timeout=10)
        port = int(sandbox.url.rpartition(":")[2])
    assert set(threading.enumerate()) == before

    with Sandbox(port=port) as sandbox:
        assert requests.get(sandbox.url, timeout=10).status_code == 401
    sandbox.close()
