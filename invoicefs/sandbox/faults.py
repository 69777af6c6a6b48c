"""Faults between a client and the API, for a `Sandbox` to inject.

A `Fault` says which requests it hits, and has a `Behaviour` that responds to them: a function that
gets the `Exchange` and can write anything. The functions below return the usual ones.
"""

import base64
import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from invoicefs.sandbox.answers import Answer, failure, pdf_json
from invoicefs.sandbox.calls import Call, Endpoint
from invoicefs.sandbox.exchange import Exchange, Sent

Behaviour = Callable[[Exchange], None]

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Fault:
    """A behaviour for the next `times` requests, or for all of them if `times` is None.

    It hits requests to the `endpoint`, in the `namespace`, for the invoice `name`; None matches
    any.
    """

    behaviour: Behaviour
    endpoint: Endpoint | None = None
    namespace: str | None = None
    name: str | None = None
    times: int | None = None

    def hits(self, call: Call) -> bool:
        """Return whether it hits this request."""
        return call.matches(self.endpoint, self.namespace, self.name)

    def after_hit(self) -> "Fault | None":
        """Return the fault for later requests, or None if that was the last one."""
        if self.times is None:
            return self
        return replace(self, times=self.times - 1) if self.times > 1 else None


def honest(exchange: Exchange) -> None:
    """Respond as the API would."""
    exchange.answer(exchange.honest)


def delay(seconds: float, then: Behaviour = honest) -> Behaviour:
    """Wait before responding."""

    def behave(exchange: Exchange) -> None:
        exchange.wait(seconds)
        then(exchange)

    return behave


# Other responses


def reply(status: int, body: bytes, headers: Mapping[str, str | None] | None = None) -> Behaviour:
    """Respond with exactly this; the headers are added as in `Answer`."""
    answer = Answer(status, body, headers or {})
    return lambda exchange: exchange.answer(answer)


def status(code: int, message: str = "", *, retry_after: str | None = None) -> Behaviour:
    """An error as the API reports it. `retry_after` is a number of seconds or an HTTP date."""
    answer = failure(code, message, {"Retry-After": retry_after})
    return lambda exchange: exchange.answer(answer)


def json_body(value: object, code: int = 200) -> Behaviour:
    """Valid JSON of any shape: ``{}``, ``{"pdf": 5}``, a bare string."""
    return reply(code, json.dumps(value).encode())


def not_json(code: int = 200) -> Behaviour:
    """JSON that ends too early, under the right content type."""
    return reply(code, b'{"invoices": [{"name": ')


def html(code: int = 200) -> Behaviour:
    """An HTML page for people, as gateways and login portals send it."""
    body = b"<!doctype html><title>Sign in</title><h1>Sign in to continue</h1>\n"
    return reply(code, body, {"Content-Type": "text/html"})


def redirect(location: str | None = None, code: int = 302) -> Behaviour:
    """A redirect to a URL or path; without one, to the request itself: a loop."""

    def behave(exchange: Exchange) -> None:
        target = exchange.call.target if location is None else location
        exchange.answer(Answer(code, b"", {"Location": target}))

    return behave


# PDF responses that are invalid


def bad_base64() -> Behaviour:
    """Text that is not base64 of any kind."""
    return json_body({"pdf": "JVBERi0xLjQK*not*base64*"})


def not_a_pdf(content: bytes = b"<html>Payment required</html>") -> Behaviour:
    """Base64 of something else, or of nothing."""
    return reply(200, pdf_json(base64.b64encode(content)))


def other_base64(*, url_safe: bool = False, padded: bool = True) -> Behaviour:
    """The honest PDF in another kind of base64 (RFC 4648, sections 3.2 and 5).

    For requests to which the API would respond with a PDF.
    """

    def behave(exchange: Exchange) -> None:
        encoded = json.loads(exchange.honest.body)["pdf"].encode()
        if url_safe:
            encoded = encoded.translate(bytes.maketrans(b"+/", b"-_"))
        if not padded:
            encoded = encoded.rstrip(b"=")
        exchange.answer(replace(exchange.honest, body=pdf_json(encoded)))

    return behave


def large(mebibytes: int) -> Behaviour:
    """A PDF of this size, with its length announced."""
    return reply(200, _large_body(mebibytes))


def gzip_bomb(mebibytes: int) -> Behaviour:
    """A PDF of this size, compressed to a thousandth of it."""
    return reply(200, gzip.compress(_large_body(mebibytes)), {"Content-Encoding": "gzip"})


def endless() -> Behaviour:
    """A PDF that never ends, and whose length is not announced."""
    start = Answer(200, b'{"pdf":"JVBERi0x', {"Content-Length": None, "Connection": "close"})
    more = b"A" * _MIB

    def behave(exchange: Exchange) -> None:
        exchange.begin(start, after=len(start.body))
        while True:
            exchange.write(more)

    return behave


# The honest response, badly delivered


def early_hints(pause_s: float, count: int = 1) -> Behaviour:
    """Send interim responses (103, RFC 8297) first, with a pause after each."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"

    def behave(exchange: Exchange) -> None:
        for _ in range(count):
            exchange.write(hints)
            exchange.wait(pause_s)
        honest(exchange)

    return behave


def vanish() -> Behaviour:
    """Respond, and receive nothing more: the connection is lost in the network."""

    def behave(exchange: Exchange) -> None:
        honest(exchange)
        exchange.vanish()

    return behave


def stall(after: Sent | int = Sent.NOTHING) -> Behaviour:
    """Send nothing after this point, until the client hangs up or the sandbox closes."""

    def behave(exchange: Exchange) -> None:
        exchange.begin(exchange.honest, after)
        exchange.stall()

    return behave


def dribble(interval_s: float, after: Sent | int = Sent.NOTHING) -> Behaviour:
    """Send one byte per interval."""

    def behave(exchange: Exchange) -> None:
        for byte in exchange.begin(exchange.honest, after):
            exchange.wait(interval_s)
            exchange.write(bytes([byte]))

    return behave


def reset(after: Sent | int = Sent.NOTHING) -> Behaviour:
    """Break the connection (RST)."""

    def behave(exchange: Exchange) -> None:
        exchange.begin(exchange.honest, after)
        exchange.reset()

    return behave


def cut(after: Sent | int = Sent.HALF_BODY) -> Behaviour:
    """Close the connection properly, although the headers announce more."""

    def behave(exchange: Exchange) -> None:
        exchange.begin(exchange.honest, after)
        exchange.hang_up()

    return behave


def wrong_length(error_bytes: int) -> Behaviour:
    """Announce a body that is longer (or shorter, if negative) than what is sent, then close."""

    def behave(exchange: Exchange) -> None:
        body = exchange.honest.body
        announced = {"Content-Length": str(len(body) + error_bytes)}
        exchange.begin(replace(exchange.honest, headers=announced), after=len(body))
        exchange.hang_up()

    return behave


def _large_body(mebibytes: int) -> bytes:
    return pdf_json(base64.b64encode(b"%PDF-1.4\n" + bytes(mebibytes * _MIB)))
