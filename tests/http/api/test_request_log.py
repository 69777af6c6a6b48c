"""Every request has a line in the log with ``-v``, and a note on the exception it raises."""

import base64
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

import pytest

from invoicefs.api import list_limits
from invoicefs.api.client import Api
from invoicefs.credentials.tokens import FixedToken
from invoicefs.errors import (
    InvoicefsError,
    Misdirected,
    NoResponse,
    TimedOut,
    TooLarge,
    Unreachable,
    UntrustedServer,
)
from invoicefs.sandbox import (
    Behaviour,
    Endpoint,
    Exchange,
    Fault,
    SampleInvoice,
    Sandbox,
    Sent,
    faults,
)
from tests.support.api_calls import (
    CONTENT,
    EVERY_ENDPOINT,
    Connect,
    ample,
    ask,
    failure_of,
    pdf_of,
    tenant_with,
    within,
)

ID = "1b2c-3d"
SECRET = "s3cr3t-t0k3n-0123456789abcdef"
PATHS = {
    Endpoint.NAMESPACES: "/api/web/namespaces",
    Endpoint.INVOICES: "/api/web/namespaces/system/usage/invoices/custom_list",
    Endpoint.PDF: "/api/web/namespaces/system/usage/invoice_pdf",
}
NAMESPACES = PATHS[Endpoint.NAMESPACES]
DURATION = r" after \d+\.\d{3} s"

LoggedLines = Callable[[], list[str]]


@pytest.fixture
def logged_lines(caplog: pytest.LogCaptureFixture) -> LoggedLines:
    """Return the lines logged for the requests so far."""
    caplog.set_level(logging.DEBUG, "invoicefs")

    def logged_lines() -> list[str]:
        name = "invoicefs.api.request_log"
        records = [record for record in caplog.records if record.name == name]
        assert {record.levelno for record in records} == {logging.INFO}
        return [record.getMessage() for record in records]

    return logged_lines


def with_id(then: Behaviour) -> Behaviour:
    """Add a request id to whatever part of the response is sent."""

    def behave(exchange: Exchange) -> None:
        exchange.honest = replace(exchange.honest, headers={"X-Request-Id": ID})
        then(exchange)

    return behave


def error_with_id(status: int) -> Behaviour:
    return faults.reply(status, b"", {"X-Request-Id": ID})


def error_with_raw_id(request_id: bytes) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        head = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nX-Request-Id: %b\r\n\r\n"
        exchange.write(head % request_id)

    return behave


def note_of(error: BaseException | None) -> str:
    assert error is not None
    (note,) = error.__notes__
    return str(note)


# Every request logs one line


@EVERY_ENDPOINT
@pytest.mark.parametrize(
    ("behaviour", "facts"),
    [(faults.honest, "200"), (with_id(faults.honest), f"200, request id {ID}")],
    ids=["without request id", "with request id"],
)
def test_a_request_logs_one_line(
    sandbox: Sandbox,
    api: Api,
    logged_lines: LoggedLines,
    endpoint: Endpoint,
    behaviour: Behaviour,
    facts: str,
) -> None:
    sandbox.inject(Fault(behaviour))

    ask(api, endpoint)

    (line,) = logged_lines()
    assert re.fullmatch(re.escape(f"GET {PATHS[endpoint]}: {facts}") + DURATION, line)


def test_every_request_of_a_listing_logs_one_line(
    sandbox: Sandbox, api: Api, logged_lines: LoggedLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_limits, "FIRST_LIMIT", 1)
    sandbox.tenant = tenant_with(SampleInvoice("i"), SampleInvoice("j"))
    path = PATHS[Endpoint.INVOICES]
    sandbox.inject(
        Fault(faults.redirect(f"{path}?limit=1"), times=1), Fault(with_id(faults.honest), times=1)
    )

    ask(api, Endpoint.INVOICES)

    assert [re.sub(DURATION, "", line) for line in logged_lines()] == [
        f"GET {path}: 302",
        f"GET {path}: 200, request id {ID}",
        f"GET {path}: 200",
    ]


# An exception has the same facts

FAILURES = [
    *((error_with_id(status), f": {status}, request id {ID}") for status in (401, 403, 404, 409)),
    *((error_with_id(status), f": {status}, request id {ID}") for status in (429, 500, 503, 504)),
    (faults.status(500), ": 500"),
    (faults.html(), ": 200"),
    (faults.json_body([]), ": 200"),
    (with_id(faults.cut()), f": 200, request id {ID}"),
    (with_id(faults.reset(Sent.HEAD)), f": 200, request id {ID}"),
    (faults.wrong_length(5), ": 200"),
    (faults.cut(Sent.NOTHING), ""),
    (faults.reset(Sent.NOTHING), ""),
    (lambda exchange: exchange.write(b"no HTTP at all\r\n\r\n"), ""),
    (faults.redirect("http://elsewhere.invalid/"), ": 302"),
    (faults.redirect("http://[/"), ": 302"),
]


@EVERY_ENDPOINT
@pytest.mark.parametrize(("behaviour", "facts"), FAILURES)
def test_an_exception_has_a_note_about_its_request(
    sandbox: Sandbox,
    api: Api,
    logged_lines: LoggedLines,
    endpoint: Endpoint,
    behaviour: Behaviour,
    facts: str,
) -> None:
    sandbox.inject(Fault(behaviour))

    error = failure_of(api, endpoint)

    assert note_of(error) == f"GET {PATHS[endpoint]}{facts}"
    (line,) = logged_lines()
    words = f" ({error})" if isinstance(error, NoResponse) else ""
    assert re.fullmatch(re.escape(note_of(error)) + DURATION + re.escape(words), line)


def test_the_note_is_about_the_request_that_failed(
    sandbox: Sandbox, api: Api, logged_lines: LoggedLines
) -> None:
    sandbox.inject(Fault(faults.redirect("/elsewhere"), times=1))

    error = failure_of(api)

    assert note_of(error) == "GET /elsewhere: 404"
    assert len(logged_lines()) == 2


@EVERY_ENDPOINT
def test_a_request_that_times_out_is_logged(
    sandbox: Sandbox, api: Api, logged_lines: LoggedLines, endpoint: Endpoint
) -> None:
    sandbox.inject(Fault(with_id(faults.stall(Sent.HEAD))))

    error = failure_of(api, endpoint, within(1.0))  # in which the head arrives, on a busy machine

    assert type(error) is TimedOut
    assert note_of(error) == f"GET {PATHS[endpoint]}: 200, request id {ID}"
    (line,) = logged_lines()
    assert line.startswith(f"{note_of(error)} after ")


@pytest.mark.parametrize(
    ("scheme", "kind"), [("http", Unreachable), ("https", UntrustedServer)], ids=["TCP", "TLS"]
)
def test_a_request_without_a_connection_is_logged(
    sandbox: Sandbox,
    connect: Connect,
    closed_port: int,
    logged_lines: LoggedLines,
    scheme: str,
    kind: type[InvoicefsError],
) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    if scheme == "https":
        url = sandbox.url.replace("http", "https")

    error = failure_of(connect(url))

    assert type(error) is kind
    assert note_of(error) == f"GET {NAMESPACES}"
    (line,) = logged_lines()
    assert line.startswith(f"GET {NAMESPACES} after ")
    assert line.endswith(f" ({error})")


def test_a_pdf_that_is_too_large_has_a_note_about_its_request(sandbox: Sandbox, api: Api) -> None:
    sandbox.inject(Fault(faults.large(1)))

    error = failure_of(api, Endpoint.PDF)

    assert type(error) is TooLarge
    assert note_of(error.__cause__) == f"GET {PATHS[Endpoint.PDF]}: 200"


def test_a_redirect_loop_has_a_note_about_the_last_request(sandbox: Sandbox, api: Api) -> None:
    sandbox.inject(Fault(faults.redirect()))

    error = failure_of(api)

    assert type(error) is Misdirected
    assert note_of(error) == f"GET {NAMESPACES}: 302"


# What is never logged


@pytest.mark.parametrize(
    "path", ["/a\x1b[2Jb", "/a\x85b\xa0c", "/a\x07\x7f", "/a\x0bb\x1cc", f"/{20_000 * 'x'}"]
)
def test_any_redirect_path_is_logged_on_one_short_line(
    sandbox: Sandbox, api: Api, logged_lines: LoggedLines, path: str
) -> None:
    sandbox.inject(Fault(faults.redirect(path), times=1))

    error = failure_of(api)

    for text in (*logged_lines(), note_of(error)):
        assert text.isprintable()
        assert len(text) < 500


@pytest.mark.parametrize("token", ["a+b/c==0123456789", "p%q~{}0123456789"])
def test_a_percent_encoded_token_in_a_redirect_is_masked(
    sandbox: Sandbox, connect: Connect, logged_lines: LoggedLines, token: str
) -> None:
    sandbox.token = token
    sandbox.inject(Fault(faults.redirect(f"/login/{quote(token, safe='')}"), times=1))

    error = failure_of(connect(sandbox.url, FixedToken(token, "a test")))

    assert "0123456789" not in "".join((*logged_lines(), note_of(error)))


def test_neither_query_nor_token_nor_pdf_is_logged(
    sandbox: Sandbox, connect: Connect, logged_lines: LoggedLines, caplog: pytest.LogCaptureFixture
) -> None:
    name = "an-invoice-of-somebody"
    sandbox.token = SECRET
    sandbox.tenant = tenant_with(SampleInvoice(name, CONTENT))
    query = f"name={name}&password=hush&token={SECRET}"
    sandbox.inject(
        Fault(faults.redirect(f"{PATHS[Endpoint.PDF]}?{query}#hush"), times=1),
        Fault(faults.honest, times=1),
        Fault(faults.redirect(f"/login/{SECRET}?{query}"), times=1),
    )
    api = connect(sandbox.url, FixedToken(SECRET, "a test"))

    assert pdf_of(api, "system", name, ample()) == CONTENT
    error = failure_of(api)

    assert len(logged_lines()) == 4
    text = "\n".join([caplog.text, note_of(error)])
    for secret in ("?", name, "hush", "limit", SECRET, base64.b64encode(CONTENT).decode()[:20]):
        assert secret not in text


@pytest.mark.parametrize(
    "request_id",
    [
        b"a\x1b[2Jb\x07c",
        b"x\x01\x7f",
        b"a\r\n b",
        b"a\n\tb",
        b"a\x0b\x0cb\x1c\x1d\x1e",
        b"a\x85b\xa0c\xad\xff",
        "\u2028\u2029\ufeff".encode(),
        b"x" * 10_000,
        SECRET.encode(),
        2 * SECRET.encode(),
        *(padding * b"x" + SECRET.encode() for padding in range(60, 100, 5)),
    ],
)
def test_any_request_id_is_logged_on_one_short_line_without_token(
    sandbox: Sandbox, connect: Connect, logged_lines: LoggedLines, request_id: bytes
) -> None:
    sandbox.token = SECRET
    sandbox.inject(Fault(error_with_raw_id(request_id)))

    error = failure_of(connect(sandbox.url, FixedToken(SECRET, "a test")))

    (line,) = logged_lines()
    for text in (line, note_of(error)):
        assert "500, request id " in text
        assert text.isprintable()
        assert len(text) < 300
        assert not [part for start in range(22) if (part := SECRET[start : start + 8]) in text]


@pytest.mark.parametrize("request_id", [b"", b" \t "])
def test_an_empty_request_id_is_ignored(sandbox: Sandbox, api: Api, request_id: bytes) -> None:
    sandbox.inject(Fault(error_with_raw_id(request_id)))

    assert note_of(failure_of(api)) == f"GET {NAMESPACES}: 500"
