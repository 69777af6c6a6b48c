"""HTTP responses, and the honest response of the API: the one without any fault."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import responses

from invoicefs.sandbox.calls import Call, Endpoint
from invoicefs.sandbox.tenant import SampleTenant

DEFAULT_LIMIT = 100  # of a list request without a limit; the vendor does not document its own

# The "code" in the JSON of an error: the gRPC code of an HTTP status.
_GRPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 409: 10, 429: 8, 500: 13, 503: 14, 504: 4}
_GRPC_UNKNOWN = 2


@dataclass(frozen=True)
class Answer:
    """An HTTP response.

    `headers` are added to ``Content-Type`` (JSON) and the true ``Content-Length``, or replace
    them; a header that is None is omitted.
    """

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str | None] = field(default_factory=dict)

    def head(self) -> bytes:
        """Return the status line, the headers and the blank line after them."""
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
    """Return an error response, with JSON like that of the API."""
    code = _GRPC_CODES.get(status, _GRPC_UNKNOWN)
    body = json.dumps({"code": code, "message": message or _reason(status)})
    return Answer(status, body.encode(), headers or {})


def honest_response(tenant: SampleTenant, token: str, call: Call) -> Answer:
    """Return the response of the API when nothing is wrong."""
    if not _is_authenticated(call, token):
        return failure(401, "the API token is missing, wrong or expired")
    if call.method != "GET":
        return failure(405, f"{call.method} is not supported", {"Allow": "GET"})
    if call.endpoint is None:
        return failure(404, "no such path")
    if call.endpoint is Endpoint.NAMESPACES:
        return Answer(200, tenant.namespaces_json)
    return _namespace_answer(tenant, call)


def _is_authenticated(call: Call, token: str) -> bool:
    """Return whether a request has the token or, without one, a client certificate."""
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
    """Return the body of a PDF response with this base64 text."""
    return b'{"pdf":"%b"}' % encoded


def _reason(status: int) -> str:
    return responses.get(status, "Unknown")
