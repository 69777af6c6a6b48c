"""Makes requests to the vendor's API, and parses the responses; failures are domain exceptions.

Retries are left to the scheduler. The credential goes to the host of the base URL and to no other:
redirects are followed in this module, and only on that host.

Threading: an `Api` is used by many threads at once; see `transport` and `bodies`.
"""

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import NamedTuple, NoReturn, Protocol, TypeVar
from urllib.parse import parse_qs, quote, unquote, urlencode, urljoin, urlsplit

from invoicefs.api.bodies import CHUNK_BYTES, BodyMemory, BodyTooLarge, Share, read_body
from invoicefs.api.list_limits import NO_LIMIT, ListLimits
from invoicefs.api.parsing import (
    MAX_LISTED_VALUES,
    InvoicesResponse,
    count_invoices,
    error_message,
    parse_invoices,
    parse_json,
    parse_namespaces,
)
from invoicefs.api.pdf_parsing import PDF_TOO_LARGE, parse_pdf, parse_pdf_json
from invoicefs.api.request_log import CountRequest, RequestReport
from invoicefs.api.retry_after import retry_after_s
from invoicefs.api.transport import Response, Transport
from invoicefs.clock import Deadline
from invoicefs.credentials.load import Credentials
from invoicefs.errors import (
    BadRequest,
    Busy,
    CredentialRenewed,
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
)
from invoicefs.model import Invoice, NamespaceList
from invoicefs.urls import origin

log = logging.getLogger(__name__)

T = TypeVar("T")

_ERROR_BODY_BYTES = 64 * 1024
_LIST_BODY_BYTES = 256 * 1024 * 1024  # a hundred thousand invoices take about 25 MiB
_MAX_REDIRECTS = 5
_NAMESPACE = re.compile("/namespaces/([^/]+)/")
_REDIRECTS = {301, 302, 303, 307, 308}
# 203 is a 200 that a proxy has changed, see RFC 9110, 15.3.4.
_GOOD = {HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION}
_REQUEST_ID_HEADER = "X-Request-Id"  # of Envoy, the vendor's proxy

_ERROR_OF_STATUS: Mapping[int, type[InvoicefsError]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Denied,
    404: NotFound,
    408: ServerTimedOut,
    409: Busy,
    504: ServerTimedOut,
}


class NoteAccess(Protocol):
    """Records what a credential was allowed or refused, by kind of request and namespace."""

    def __call__(  # noqa: D102 -- above
        self, credential: str, kind: str, namespace: str, *, is_allowed: bool
    ) -> None: ...


class Api:
    """The three requests to the vendor's API that invoicefs needs.

    Every method raises exceptions of `errors` and nothing else, and returns by its deadline. The
    constructor raises `UserError` if the proxy that the environment names cannot be used.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        *,
        parallel: int,
        max_pdf_size_bytes: int,
        count_request: CountRequest = lambda _kind, _result, _error: None,
        note_access: NoteAccess = lambda *_, **__: None,
    ) -> None:
        self._url = url
        self._count_request = count_request
        self._note_access = note_access
        self._credentials = credentials
        self._token = credentials.token
        self._max_pdf_size_bytes = max_pdf_size_bytes
        self._limits = ListLimits()
        self._memory = BodyMemory(_LIST_BODY_BYTES)
        self._transport = Transport(url, credentials, parallel=parallel)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def connect_ahead(self, count: int, deadline: Deadline) -> bool:
        """Open one connection ahead of a request, including its TLS handshake and proxy tunnel.

        Returns False, without opening one, if `count` or `parallel` connections are open or being
        opened, whether they are idle or in use. A failure means nothing for requests, which open
        their own connections. Connections and requests together stay within `parallel` if this is
        called instead of a request, in a slot of its own.
        """
        return self._transport.connect_ahead(count, deadline)

    def namespaces(self, deadline: Deadline, *, bypass_caches: bool = False) -> NamespaceList:
        """List the namespaces; `bypass_caches` bypasses HTTP caches, whose list may be older."""

        def parse(body: object, secret: str) -> NamespaceList:
            return parse_namespaces(body, secret, deadline=deadline)

        url = self._url + "/api/web/namespaces"
        request = _list_request("namespaces", "", url, "", bypass_caches)
        return self._get(request, deadline, parse)

    def invoices(
        self, namespace: str, deadline: Deadline, *, bypass_caches: bool = False
    ) -> tuple[Invoice, ...]:
        """List all invoices of a namespace; see `list_limits`, and `namespaces` for caches."""
        limits, limit = self._limits, self._limits.first(namespace)
        refused: int | None = None
        filled = NO_LIMIT  # the last limit that was reached, by `count` invoices
        count: int | None = None
        request = partial(self._invoices, namespace, deadline, bypass_caches)
        while True:
            try:
                response = request(limit, count)
            except BadRequest:
                if limit in (NO_LIMIT, filled):
                    raise
                if count is None:  # it may have been refused for another reason
                    refused, limit = limit, limits.smaller(limit)
                else:
                    limits.note_refused(limit)
                    limit = limits.larger(count) or filled
                continue
            if refused is not None:
                limits.note_refused(refused)
            if isinstance(response, InvoicesResponse):
                break
            filled, count = limit, response
            limit = limits.larger(limit) or limit
        if response.count < limit and response.count != count:
            limits.note_sufficient(namespace, limit)
        else:
            log.warning(
                "The server lists %d invoices of %s whatever the limit: there may be more.",
                response.count,
                namespace,
            )
        return response.invoices

    def invoice_pdf(self, invoice: Invoice, deadline: Deadline, *, bypass_caches: bool) -> bytes:
        """Download the PDF of one invoice.

        `bypass_caches` bypasses HTTP caches on the way, which may have an older PDF. The version is
        always sent in a header that a cache can use as part of its key, but not every cache does.
        """
        path = f"/api/web/namespaces/{_segment(invoice.namespace)}/usage/invoice_pdf"
        headers = {"X-Invoicefs-Version": invoice.version, **_headers(bypass_caches)}
        request = _Request(
            "pdf",
            invoice.namespace,
            self._url + path,
            urlencode({"name": invoice.name}, errors="surrogatepass"),
            headers,
            # Base64 takes 4/3 of the size, and twice that if JSON escapes every slash.
            cap_bytes=3 * self._max_pdf_size_bytes + CHUNK_BYTES,
            parse_json=parse_pdf_json,
        )

        def parse(body: object, _: str) -> bytes:
            return parse_pdf(body, self._max_pdf_size_bytes)

        try:
            return self._get(request, deadline, parse)
        except BodyTooLarge as error:
            raise TooLarge(PDF_TOO_LARGE) from error

    def _invoices(
        self,
        namespace: str,
        deadline: Deadline,
        bypass_caches: bool,
        limit: int,
        count_before: int | None,
    ) -> InvoicesResponse | int:
        """Request a list once; `count_before` is how many invoices a smaller limit has brought.

        Returns only the number of invoices if a larger limit may bring more.
        """
        has_larger = self._limits.larger(limit) is not None
        path = f"/api/web/namespaces/{_segment(namespace)}/usage/invoices/custom_list"
        query = "" if limit == NO_LIMIT else urlencode({"limit": limit})

        def parse(body: object, secret: str) -> InvoicesResponse | int:
            count = count_invoices(body)
            if has_larger and count >= limit and count != count_before:
                return count
            return parse_invoices(body, namespace, secret, deadline=deadline)

        request = _list_request("invoices", namespace, self._url + path, query, bypass_caches)
        return self._get(request, deadline, parse)

    def _get(self, request: "_Request", deadline: Deadline, parse: Callable[[object, str], T]) -> T:
        """Return the parsed response, following redirects on the same host."""
        while True:
            result = self._send(request, deadline, parse)
            if not isinstance(result, _Request):
                return result
            request = result

    def _send(
        self, request: "_Request", deadline: Deadline, parse: Callable[[object, str], T]
    ) -> "T | _Request":
        """Return the parsed response, or the request that a redirect leads to."""
        note_access = partial(self._note_access, kind=request.kind, namespace=request.namespace)
        token = self._token.token() if self._token else ""
        headers = dict(request.headers)
        if token:
            headers["Authorization"] = f"APIToken {token}"
        with (
            RequestReport(request.kind, request.url, token, self._count_request) as report,
            self._memory.share() as share,
        ):
            with self._transport.exchange(
                request.url, request.query, headers, deadline
            ) as response:
                report.note_response(response.status, response.headers.get(_REQUEST_ID_HEADER, ""))
                if response.status in _REDIRECTS and "location" in response.headers:
                    return self._redirected(request, response)
                if response.status == HTTPStatus.FORBIDDEN:
                    note_access(self._credentials.identity(token), is_allowed=False)
                if response.status not in _GOOD:
                    self._raise_for(response, token, share, deadline)
                # No variable refers to the body, so that it is freed before its fields are parsed.
                parsed = request.parse_json(_body(response, request.cap_bytes, share, deadline))
            found = parse(parsed, token)
            note_access(self._credentials.identity(token), is_allowed=True)
            return found

    def _raise_for(
        self, response: Response, token: str, share: Share, deadline: Deadline
    ) -> NoReturn:
        """Raise the domain exception of an error status, with the server's own message."""
        words = ""
        with suppress(InvoicefsError):  # the status counts even if the body cannot be read
            body = _body(response, _ERROR_BODY_BYTES, share, deadline)
            words = error_message(body, secret=token)
        message = f"the server answered {response.status}" + (f": {words}" if words else "")
        wait_s = retry_after_s(response.headers.get("Retry-After", ""))
        if response.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise RateLimited(message, wait_s)
        if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise Unavailable(message, wait_s)
        if response.status == HTTPStatus.UNAUTHORIZED and self._was_replaced(token):
            raise CredentialRenewed(message)
        if response.status == HTTPStatus.FORBIDDEN:
            raise Denied(message, has_reason=bool(words))
        raise _ERROR_OF_STATUS.get(response.status, ServerFault)(message)

    def _was_replaced(self, token: str) -> bool:
        return self._token is not None and self._token.was_replaced(token)

    def _redirected(self, request: "_Request", response: Response) -> "_Request":
        url = urljoin(response.url, response.headers["location"])
        if not _is_same_origin(url, self._url):
            raise Misdirected("the server redirects to another host, which is not allowed")
        if not _is_same_resource(url, request.url, request.query):
            raise Misdirected("the server redirects to another invoice or namespace")
        if request.redirects == _MAX_REDIRECTS:
            raise Misdirected("the server redirects in a loop")
        return request._replace(url=url, query="", redirects=request.redirects + 1)


class _Request(NamedTuple):
    """A request, how its response is limited and parsed, and how often it was redirected."""

    kind: str
    namespace: str
    url: str
    query: str
    headers: Mapping[str, str]
    cap_bytes: int
    parse_json: Callable[[bytearray], object]
    redirects: int = 0


def _list_request(kind: str, namespace: str, url: str, query: str, bypass_caches: bool) -> _Request:
    parse, headers = partial(parse_json, max_values=MAX_LISTED_VALUES), _headers(bypass_caches)
    return _Request(kind, namespace, url, query, headers, _LIST_BODY_BYTES, parse)


def _headers(bypass_caches: bool) -> dict[str, str]:
    return {"Cache-Control": "no-cache"} if bypass_caches else {}


def _body(response: Response, cap_bytes: int, share: Share, deadline: Deadline) -> bytearray:
    encoding = response.headers.get("Content-Encoding", "")
    return read_body(response.read, encoding, cap_bytes, share, deadline)


def _is_same_origin(url: str, base: str) -> bool:
    try:
        return "@" not in urlsplit(url).netloc and origin(url) == origin(base)
    except ValueError:
        return False


def _is_same_resource(url: str, before: str, query: str) -> bool:
    """Return whether a redirect names the requested namespace and invoice, if it names any."""
    path, path_before = urlsplit(url).path, urlsplit(before).path
    namespace, namespace_before = map(_NAMESPACE.search, (path, path_before))
    if namespace and namespace_before and unquote(namespace[1]) != unquote(namespace_before[1]):
        return False
    names, names_before = (parse_qs(text).get("name") for text in (urlsplit(url).query, query))
    return not names or not names_before or names == names_before


def _segment(text: str) -> str:
    """Return the text as a segment of a path; raises `NotFound` if that is impossible.

    HTTP clients resolve the segments ``.`` and ``..`` themselves, and would request another path.
    """
    if text in ("", ".", ".."):
        raise NotFound(f"{text!r} cannot be requested")
    return quote(text.encode("utf-8", "surrogatepass"), safe="")
