"""Answers: what they are made of, and the one that the API would give to a call."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import responses

from invoicefs.sandbox.calls import Call, Endpoint
from invoicefs.sandbox.tenant import SampleTenant

DEFAULT_LIMIT = 100  # what a list without a limit brings; the vendor does not document theirs

# What the JSON of an error carries as "code": the gRPC code that belongs to an HTTP status.
_GRPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 409: 10, 429: 8, 500: 13, 503: 14, 504: 4}
_GRPC_UNKNOWN = 2


@dataclass(frozen=True)
class Answer:
    """One HTTP answer.

    `headers` are added to ``Content-Type`` (JSON) and the true ``Content-Length``, or replace
    them; a header that is None is left out.
    """

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str | None] = field(default_factory=dict)

    def head(self) -> bytes:
        """Status line, headers and the blank line after them."""
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(self.body)),
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status} {_reason(self.status)}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


def failure(
    status: int, message: str = "", headers: Mapping[str, str | None] | None = None
) -> Answer:
    """An error, in the JSON that the API uses for errors."""
    code = _GRPC_CODES.get(status, _GRPC_UNKNOWN)
    body = json.dumps({"code": code, "message": message or _reason(status)})
    return Answer(status, body.encode(), headers or {})


def honest_answer(tenant: SampleTenant, token: str, call: Call) -> Answer:
    """What the API says to a call when nothing is wrong with it."""
    if not _is_let_in(call, token):
        return failure(401, "the API token is missing, wrong or expired")
    if call.method != "GET":
        return failure(405, f"{call.method} is not supported", {"Allow": "GET"})
    if call.endpoint is None:
        return failure(404, "no such page")
    if call.endpoint is Endpoint.NAMESPACES:
        return Answer(200, tenant.namespaces_json)
    return _namespace_answer(tenant, call)


def _is_let_in(call: Call, token: str) -> bool:
    """Whether a call has the token or, without any, comes from who has shown a certificate."""
    authorization = call.headers.get("authorization")
    if authorization is None:
        return call.client is not None
    return authorization == f"APIToken {token}"


def _namespace_answer(tenant: SampleTenant, call: Call) -> Answer:
    namespace = tenant.by_name.get(call.namespace or "")
    if namespace is None:
        return failure(404, f"namespace {call.namespace} not found")
    if call.endpoint in namespace.forbidden:
        return failure(403, f"no permission for the invoices of namespace {call.namespace}")
    if call.endpoint is Endpoint.INVOICES:
        return Answer(200, namespace.invoices_json(call.limit or DEFAULT_LIMIT))
    invoice = namespace.by_name.get(call.name or "")
    pdf = invoice.content() if invoice is not None else None
    if pdf is None:
        return failure(404, f"no PDF of invoice {call.name}")
    return Answer(200, pdf_json(base64.b64encode(pdf)))


def pdf_json(encoded: bytes) -> bytes:
    """The body of an answer with this base64 text."""
    return b'{"pdf":"%b"}' % encoded


def _reason(status: int) -> str:
    return responses.get(status, "Unknown")
