"""`Api` turns every error and fault into its domain exception.

Deadlines are tested in `test_deadlines`.
"""

import base64
import logging
import math
import queue
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import format_datetime, formatdate

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from invoicefs import errors
from invoicefs.api import client as api_module
from invoicefs.api.client import Api
from invoicefs.credentials.tokens import FixedToken
from invoicefs.errors import (
    BadRequest,
    Busy,
    Denied,
    InvoicefsError,
    Misdirected,
    NotFound,
    RateLimited,
    ServerFault,
    ServerTimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unreachable,
    UnusableResponse,
)
from invoicefs.sandbox import (
    Answer,
    Behaviour,
    Endpoint,
    Exchange,
    Fault,
    Sandbox,
    Sent,
    faults,
    plain_pdf,
)
from invoicefs.units import KIB, MIB
from tests.support.api_calls import (
    CONTENT,
    EVERY_ENDPOINT,
    Connect,
    ample,
    ask,
    failure_of,
    pdf_of,
)

SECRET = "s3cr3t-t0k3n-0123456789abcdef"
UNREAD_BYTES = 64 * MIB  # far more than the buffers of a connection hold
PARTS = [*Sent, 0, 7]
NO_GZIP: tuple[bytes, dict[str, str | None]] = (
    b"\x1f\x8bno",
    {"Content-Encoding": "gzip", "Retry-After": "7"},
)


def kind(error: InvoicefsError) -> type[BaseException]:
    """Return the class that callers know: `Api` may raise subclasses of its own."""
    return next(base for base in type(error).__mro__ if base.__module__ == errors.__name__)


def raw(*parts: bytes) -> Behaviour:
    """Send these bytes instead of a response, and close the connection."""

    def behave(exchange: Exchange) -> None:
        exchange.write(b"".join(parts))
        exchange.hang_up()

    return behave


def chunked(*parts: bytes) -> Behaviour:
    return raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *parts)


def cut_error(status: int, after: Sent) -> Behaviour:
    """Send a truncated error response."""
    error = Answer(status, b'{"message": "words"}', {"Retry-After": "7"})

    def behave(exchange: Exchange) -> None:
        exchange.begin(error, after)
        exchange.hang_up()

    return behave


# Statuses


@EVERY_ENDPOINT
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (204, ServerFault),
        (206, ServerFault),
        (304, ServerFault),
        (400, BadRequest),
        (401, Unauthenticated),
        (403, Denied),
        (404, NotFound),
        (405, ServerFault),
        (408, ServerTimedOut),
        (409, Busy),
        (418, ServerFault),
        (429, RateLimited),
        (500, ServerFault),
        (502, ServerFault),
        (503, Unavailable),
        (504, ServerTimedOut),
        (599, ServerFault),
    ],
)
def test_every_status_has_its_exception(
    sandbox: Sandbox, api: Api, endpoint: Endpoint, status: int, expected: type[InvoicefsError]
) -> None:
    sandbox.inject(Fault(faults.status(status, "words of the server")))

    error = failure_of(api, endpoint)

    assert type(error) is expected
    is_attributed_to_the_limit = expected is BadRequest and endpoint is Endpoint.INVOICES
    assert sandbox.count() == (6 if is_attributed_to_the_limit else 1)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, Unauthenticated), (403, Denied), (429, RateLimited), (503, Unavailable)],
)
@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(lambda status: cut_error(status, Sent.HEAD), id="no body"),
        pytest.param(lambda status: cut_error(status, Sent.HALF_BODY), id="half a body"),
        pytest.param(lambda status: faults.reply(status, *NO_GZIP), id="not gzip"),
        pytest.param(
            lambda status: raw(
                b"HTTP/1.1 %d X\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\nx" % status
            ),
            id="no chunk",
        ),
    ],
)
def test_an_error_status_counts_even_if_its_body_is_unreadable(
    sandbox: Sandbox,
    api: Api,
    status: int,
    expected: type[InvoicefsError],
    behaviour: Callable[[int], Behaviour],
) -> None:
    sandbox.inject(Fault(behaviour(status)))

    error = failure_of(api)

    assert type(error) is expected
    assert getattr(error, "retry_after_s", 7.0) == 7.0


@pytest.mark.parametrize(
    "body",
    [
        b'{"code": 7, "message": "no credit left"}',
        b'{"error": "no credit left"}',
        b'{"message": "", "error": "no credit left"}',
        b'"no credit left"',
        b'  {"message": " no \\r\\n\\tcredit  left "}\n',
        '{"message": "no credit left"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"message": "no credit left"}',
    ],
)
@pytest.mark.parametrize("status", [401, 404, 429, 500])
def test_the_server_message_is_in_the_exception(
    sandbox: Sandbox, api: Api, status: int, body: bytes
) -> None:
    sandbox.inject(Fault(faults.reply(status, body)))

    assert "no credit left" in str(failure_of(api))


# Retry-After


@pytest.mark.parametrize(("status", "expected"), [(429, RateLimited), (503, Unavailable)])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("0x10", None),
        ("\u00b2", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", None),
        ("\u00ff" * 100, None),
    ],
)
def test_retry_after_is_in_the_exception(
    sandbox: Sandbox,
    api: Api,
    status: int,
    expected: type[InvoicefsError],
    header: str | None,
    seconds: float | None,
) -> None:
    sandbox.inject(Fault(faults.status(status, retry_after=header)))

    error = failure_of(api)

    assert isinstance(error, RateLimited | Unavailable)
    assert type(error) is expected
    assert error.retry_after_s == seconds


waits = st.one_of(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=40),
    st.integers().map(str),
    st.datetimes(timezones=st.sampled_from([UTC, None])).map(format_datetime),
    st.lists(
        st.sampled_from(
            [
                "Wed,",
                "21",
                "Oct",
                "2015",
                "0",
                "99999",
                "07:28:00",
                "24:60",
                "GMT",
                "-0000",
                "+9999",
            ]
        ),
        max_size=8,
    ).map(" ".join),
)


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(waits)
@example("9" * 400)
def test_any_retry_after_is_a_finite_wait_or_none(sandbox: Sandbox, api: Api, header: str) -> None:
    sandbox.heal()
    sandbox.inject(Fault(faults.status(429, retry_after=header)))

    error = failure_of(api)

    if "\0" in header:  # curl does not accept it either
        assert isinstance(error, UnusableResponse)
        return
    assert isinstance(error, RateLimited)
    assert error.retry_after_s is None or 0.0 <= error.retry_after_s < math.inf


def test_a_retry_after_date_is_counted_from_now(sandbox: Sandbox, api: Api) -> None:
    moment = int(time.time()) + 1000
    sandbox.inject(Fault(faults.status(429, retry_after=formatdate(moment, usegmt=True))))

    before = time.time()
    error = failure_of(api)
    after = time.time()

    assert isinstance(error, RateLimited)
    assert error.retry_after_s is not None
    assert moment - after <= error.retry_after_s <= moment - before


# The token


@pytest.mark.parametrize("status", [200, 401, 500])
@pytest.mark.parametrize(
    "text",
    [
        '{{"message": "no such token: APIToken {token}"}}',
        '{{"error": "{token}{token}"}}',
        '"{token}"',
        "Authorization: APIToken {token}",
        *('{{"message": "' + padding * "x" + '{token}"}}' for padding in range(170, 200, 5)),
    ],
)
def test_a_token_in_an_error_body_is_not_revealed(
    sandbox: Sandbox,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    status: int,
    text: str,
) -> None:
    sandbox.inject(Fault(faults.reply(status, text.format(token=SECRET).encode())))

    assert_token_is_not_revealed(failure_with_secret_token(sandbox, connect, caplog), caplog)


@pytest.mark.parametrize(
    "behaviour",
    [
        raw(f"APIToken {SECRET}\r\n\r\n".encode()),
        raw(f"HTTP/1.1 APIToken {SECRET}\r\n\r\n".encode()),
        raw(f"HTTP/1.1 500 {SECRET}\r\nContent-Length: {SECRET}\r\n\r\n".encode()),
        chunked(f"{SECRET}\r\n".encode()),
        faults.reply(500, b"", {"Content-Encoding": SECRET}),
        faults.reply(429, b"", {"Retry-After": SECRET}),
        faults.redirect(f"http://{SECRET}.invalid/"),
        faults.redirect(f"/login?authorization={SECRET}"),
        faults.redirect(f"/login/{SECRET}"),
        faults.redirect(f"http://[{SECRET}/"),
    ],
)
def test_a_token_anywhere_in_a_response_is_not_revealed(
    sandbox: Sandbox, connect: Connect, caplog: pytest.LogCaptureFixture, behaviour: Behaviour
) -> None:
    sandbox.inject(Fault(behaviour))

    assert_token_is_not_revealed(failure_with_secret_token(sandbox, connect, caplog), caplog)


def failure_with_secret_token(
    sandbox: Sandbox, connect: Connect, caplog: pytest.LogCaptureFixture
) -> InvoicefsError:
    sandbox.token = SECRET
    caplog.set_level(logging.DEBUG, "invoicefs")
    return failure_of(connect(sandbox.url, FixedToken(SECRET, "a test")))


def assert_token_is_not_revealed(error: InvoicefsError, caplog: pytest.LogCaptureFixture) -> None:
    """Assert that no part of the token is in the message or in our own log."""
    ours = [record.getMessage() for record in caplog.records if "invoicefs" in record.name]
    texts = "\n".join([str(error), *ours])
    assert not [start for start in range(len(SECRET) - 7) if SECRET[start : start + 8] in texts]


# Faults


@EVERY_ENDPOINT
@pytest.mark.parametrize(
    "behaviour",
    [
        *(pytest.param(faults.cut(part), id=f"cut after {part}") for part in PARTS),
        *(pytest.param(faults.reset(part), id=f"reset after {part}") for part in PARTS),
        pytest.param(faults.wrong_length(5), id="too short"),
        pytest.param(chunked(b'2\r\n{"\r\n'), id="no last chunk"),
        pytest.param(chunked(b'9\r\n{"'), id="half a chunk"),
        pytest.param(chunked(), id="no chunk"),
    ],
)
def test_a_lost_connection_is_unreachable(
    sandbox: Sandbox, api: Api, endpoint: Endpoint, behaviour: Behaviour
) -> None:
    sandbox.inject(Fault(behaviour))

    assert kind(failure_of(api, endpoint)) is Unreachable

    sandbox.heal()
    ask(api, endpoint)


@EVERY_ENDPOINT
@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(faults.not_json(), id="not JSON"),
        pytest.param(faults.html(), id="HTML"),
        pytest.param(faults.reply(200, b""), id="nothing"),
        pytest.param(faults.json_body([]), id="array"),
        pytest.param(faults.json_body("words"), id="string"),
        pytest.param(faults.json_body(None), id="null"),
        pytest.param(faults.json_body({"message": "error"}), id="error as 200"),
        pytest.param(faults.json_body({"items": 5, "invoices": 5, "pdf": 5}), id="numbers"),
        pytest.param(faults.json_body({"items": {}, "invoices": {}, "pdf": {}}), id="objects"),
        pytest.param(faults.json_body({"items": "", "invoices": "", "pdf": ""}), id="empty texts"),
        pytest.param(faults.reply(200, b'{"items": "\xff"}'), id="not text"),
        pytest.param(faults.reply(200, b"[" * 100_000), id="deep"),
        pytest.param(faults.reply(200, b"9" * 5_000), id="huge number"),
        pytest.param(faults.reply(200, *NO_GZIP), id="not gzip"),
        pytest.param(faults.wrong_length(-1), id="too long"),
        pytest.param(
            raw(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"items":[{"name":"a"}'),
            id="cut without a length",
        ),
    ],
)
def test_a_malformed_response_is_unusable(
    sandbox: Sandbox, api: Api, endpoint: Endpoint, behaviour: Behaviour
) -> None:
    sandbox.inject(Fault(behaviour))

    assert kind(failure_of(api, endpoint)) is UnusableResponse


# Sizes


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda text: text, id="plain"),
        pytest.param(lambda text: text.replace("/", "\\/"), id="escaped slashes"),
        pytest.param(
            lambda text: "\\r\\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
            id="lines",
        ),
    ],
)
def test_a_pdf_of_the_largest_size_is_accepted_in_any_notation(
    sandbox: Sandbox, connect: Connect, written: Callable[[str], str]
) -> None:
    content = b"%PDF-" + b"\xff" * (MIB - 10) + b"%%EOF"  # almost only slashes in base64
    encoded = base64.b64encode(content).decode()
    sandbox.inject(Fault(faults.reply(200, f'{{"pdf": "{written(encoded)}"}}'.encode())))
    api = connect(sandbox.url, max_pdf_size_bytes=MIB)

    assert pdf_of(api, "system", "i", ample()) == content


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(faults.not_a_pdf(plain_pdf("larger", 64 * KIB + 1)), id="one byte too large"),
        pytest.param(faults.large(1), id="large"),
        pytest.param(faults.gzip_bomb(1), id="gzip"),
        pytest.param(faults.endless(), id="endless"),
    ],
)
def test_a_pdf_beyond_the_largest_size_is_too_large(
    sandbox: Sandbox, api: Api, behaviour: Behaviour
) -> None:
    sandbox.inject(Fault(behaviour))

    assert type(failure_of(api, Endpoint.PDF)) is TooLarge

    sandbox.heal()
    assert ask(api, Endpoint.PDF) == CONTENT


@pytest.mark.parametrize(
    ("status", "endpoint", "expected"),
    [
        (200, Endpoint.PDF, TooLarge),
        (200, Endpoint.NAMESPACES, UnusableResponse),
        (403, Endpoint.PDF, Denied),
        (500, Endpoint.INVOICES, ServerFault),
        (302, Endpoint.NAMESPACES, Misdirected),
    ],
)
@pytest.mark.parametrize("length", [str(UNREAD_BYTES), None])
def test_a_large_body_is_not_read_to_the_end(
    sandbox: Sandbox,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    endpoint: Endpoint,
    expected: type[InvoicefsError],
    length: str | None,
) -> None:
    headers = {"Content-Length": length, "Location": "http://elsewhere.invalid/"}
    part = b" " * (256 * KIB)
    ends: queue.Queue[str] = queue.Queue()

    def flood(exchange: Exchange) -> None:
        exchange.begin(Answer(status, b"", headers), Sent.HEAD)
        try:
            for _ in range(UNREAD_BYTES // len(part)):
                exchange.write(part)
        except ConnectionError:
            ends.put("the client hung up")
            raise
        ends.put("all was sent")
        exchange.hang_up()

    monkeypatch.setattr(api_module, "_LIST_BODY_BYTES", MIB)
    sandbox.inject(Fault(flood))

    assert kind(failure_of(api, endpoint)) is expected

    assert ends.get(timeout=10) == "the client hung up"
