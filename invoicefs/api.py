"""Speaks HTTP: one request in, one parsed answer or one domain exception out, within a deadline.

The only importer of ``requests``. Trying again is not done here but in the fetcher, so the
retries of urllib3 stay off (it would obey ``Retry-After`` for up to six hours).

The credential goes to the host of the base URL and to no other: redirects are followed by hand,
and only on that host. netrc is never consulted. No proxy sees it but that of a base URL which is
not encrypted, and no proxy is shown a client certificate.

Threading: an `Api` is used by many threads at once. ``requests.Session`` is shared for its pool
of connections; cookies, its only changing state, are refused.
"""

import email.utils
import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple, NoReturn, TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from invoicefs import __version__
from invoicefs.answers import (
    InvoicesAnswer,
    error_message,
    parse_invoices,
    parse_json,
    parse_namespaces,
    parse_pdf,
)
from invoicefs.clock import Deadline
from invoicefs.config import is_loopback
from invoicefs.credentials import Credentials
from invoicefs.errors import (
    Busy,
    CredentialRenewed,
    Denied,
    InvoicefsError,
    Misdirected,
    NotFound,
    RateLimited,
    ServerFault,
    ServerTimedOut,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unreachable,
    UnusableAnswer,
)
from invoicefs.failures import translated
from invoicefs.model import Invoice, NamespaceList
from invoicefs.request_log import CountRequest, RequestReport
from invoicefs.wire import Guard, watch_connections

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_LIMIT = 1000
_LIMIT_FACTOR = 10
_LAST_LIMIT = 2**31 - 1  # the parameter is an int32

_CONNECT_TIMEOUT_S = 10.0
_CHUNK_BYTES = 64 * 1024
_ERROR_BODY_BYTES = 64 * 1024
_LIST_BODY_BYTES = 256 * 1024 * 1024  # a hundred thousand invoices take about 25 MiB
_MOST_REDIRECTS = 5
_LENGTH_HEADERS = {"content-length", "transfer-encoding"}
_REQUEST_ID_HEADER = "X-Request-Id"  # of Envoy, through which the vendor answers
_TOO_LATE = "no answer within --timeout"
_FOR_EVER_S = 365 * 86_400.0

_ERROR_OF_STATUS: Mapping[int, type[InvoicefsError]] = {
    401: Unauthenticated,
    403: Denied,
    404: NotFound,
    408: ServerTimedOut,
    409: Busy,
    504: ServerTimedOut,
}


class Api:
    """The three calls of the vendor's API that invoicefs needs.

    Every method raises an exception of `errors` and nothing else, and returns by its deadline.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        *,
        parallel: int,
        max_pdf_size_bytes: int,
        count_request: CountRequest = lambda _kind, _result: None,
    ) -> None:
        self._url = url
        self._count_request = count_request
        self._token = credentials.token
        # None is the public certificates, or those that REQUESTS_CA_BUNDLE names.
        self._trusted = None if credentials.ca_bundle is None else str(credentials.ca_bundle)
        self._max_pdf_size_bytes = max_pdf_size_bytes
        parts = urlsplit(url)
        is_encrypted = parts.scheme == "https"  # else only a proxy could be shown the certificate
        self._session = _session(parallel, credentials.certificate if is_encrypted else None)
        # No proxy leads to the own machine.
        self._session.trust_env = is_encrypted or not is_loopback(parts.hostname or "")

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def namespaces(self, deadline: Deadline) -> NamespaceList:
        """List the namespaces."""
        path = "/api/web/namespaces"
        return self._get("namespaces", path, {}, _LIST_BODY_BYTES, deadline, parse_namespaces)

    def invoices(self, namespace: str, deadline: Deadline) -> tuple[Invoice, ...]:
        """List all invoices of a namespace.

        There is no page token, and the server's default limit is not documented. So a limit is
        asked for, and a larger one as long as as many come as were asked for.
        """
        limit, count_before = FIRST_LIMIT, -1
        while True:
            answer = self._invoices(namespace, limit, deadline)
            if answer.count == count_before:
                log.warning(
                    "The server lists %d invoices of %s whatever the limit: there may be more.",
                    answer.count,
                    namespace,
                )
            if answer.count < limit or answer.count == count_before or limit == _LAST_LIMIT:
                return answer.invoices
            limit, count_before = min(limit * _LIMIT_FACTOR, _LAST_LIMIT), answer.count
            del answer  # else there would be two long lists at one time

    def invoice_pdf(self, namespace: str, name: str, deadline: Deadline) -> bytes:
        """Download the PDF of one invoice."""
        path = f"/api/web/namespaces/{_segment(namespace)}/usage/invoice_pdf"
        # Base64 takes 4/3 of the size, and twice that where JSON escapes every slash.
        cap_bytes = 3 * self._max_pdf_size_bytes + _CHUNK_BYTES

        def parse(answer: object, _: str) -> bytes:
            return parse_pdf(answer, self._max_pdf_size_bytes)

        try:
            return self._get("pdf", path, {"name": name}, cap_bytes, deadline, parse)
        except _BodyTooLarge as error:
            raise TooLarge("the PDF is larger than --max-pdf-size") from error

    def _invoices(self, namespace: str, limit: int, deadline: Deadline) -> InvoicesAnswer:
        path = f"/api/web/namespaces/{_segment(namespace)}/usage/invoices/custom_list"

        def parse(answer: object, secret: str) -> InvoicesAnswer:
            return parse_invoices(answer, namespace, secret)

        query = {"limit": str(limit)}
        return self._get("invoices", path, query, _LIST_BODY_BYTES, deadline, parse)

    def _get(
        self,
        kind: str,
        path: str,
        query: Mapping[str, str],
        cap_bytes: int,
        deadline: Deadline,
        parse: Callable[[object, str], T],
    ) -> T:
        """What a good answer means, after redirects on the same host."""
        request = _Request(kind, self._url + path, urlencode(query, errors="surrogatepass"))
        while True:
            answer = self._ask(request, cap_bytes, deadline, parse)
            if not isinstance(answer, _Request):
                return answer
            request = answer

    def _ask(
        self,
        request: "_Request",
        cap_bytes: int,
        deadline: Deadline,
        parse: Callable[[object, str], T],
    ) -> "T | _Request":
        """What a good answer means, or the request to make in place of this one."""
        token = self._token.token() if self._token else ""
        with self._report(request, token) as report:
            with (
                _foreign_errors_translated(deadline),
                Guard(deadline.left_s()),
                closing(self._send(request, token, deadline)) as response,
            ):
                headers = response.headers
                report.note_answer(response.status_code, headers.get(_REQUEST_ID_HEADER, ""))
                if response.is_redirect:
                    return self._redirected(request, response)
                if response.status_code != requests.codes.ok:
                    self._raise_for(response, token)
                # No name keeps the body while its fields are looked at: both may be large.
                answer = parse_json(_whole_body(response, cap_bytes, deadline))
            return parse(answer, token)

    def _send(self, request: "_Request", token: str, deadline: Deadline) -> requests.Response:
        left_s = max(deadline.left_s(), 0.001)  # requests refuses a timeout of 0
        return self._session.get(
            request.url,
            params=request.parameters,
            auth=_Authorization(token),
            verify=self._trusted,
            allow_redirects=False,
            stream=True,
            timeout=(min(left_s, _CONNECT_TIMEOUT_S), left_s),
        )

    def _raise_for(self, response: requests.Response, token: str) -> NoReturn:
        """Raise the domain exception of an error status, with the server's own words."""
        status = response.status_code
        words = error_message(_read_what_there_is(response), secret=token)
        message = f"the server answered {status}" + (f": {words}" if words else "")
        if status == requests.codes.too_many_requests:
            raise RateLimited(message, _retry_after_s(response))
        if status == requests.codes.service_unavailable:
            raise Unavailable(message, _retry_after_s(response))
        if status == requests.codes.unauthorized and self._was_replaced(token):
            raise CredentialRenewed(message)
        raise _ERROR_OF_STATUS.get(status, ServerFault)(message)

    def _was_replaced(self, token: str) -> bool:
        return self._token is not None and self._token.was_replaced(token)

    def _redirected(self, request: "_Request", response: requests.Response) -> "_Request":
        url = urljoin(response.url, response.headers["location"])
        if urlsplit(url)[:2] != urlsplit(self._url)[:2]:
            raise Misdirected("the server redirects to another host, which is never followed")
        if request.redirects == _MOST_REDIRECTS:
            raise Misdirected("the server redirects in a circle")
        return _Request(request.kind, url, "", request.redirects + 1)

    def _report(self, request: "_Request", token: str) -> RequestReport:
        return RequestReport(request.kind, request.url, token, self._count_request)


class _Request(NamedTuple):
    """What to ask for, where, with what in the query, and how often we were sent on before."""

    kind: str
    url: str
    parameters: str
    redirects: int = 0


class _BodyTooLarge(UnusableAnswer):
    """A body over its cap, in a call where that has no other meaning."""


class _Authorization(requests.auth.AuthBase):
    """Sets the header, if there is a token. With it ``requests`` does not look into netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"APIToken {self._token}"
        return request


class _Session(requests.Session):
    """A session that leaves redirects alone; else it would read their whole bodies."""

    def get_redirect_target(self, _: requests.Response) -> None:
        return None


class _WatchedAdapter(HTTPAdapter):
    """A transport whose connections end at the deadline of the call they serve.

    They are made with the client certificate, if there is one.
    """

    def __init__(self, certificate: ssl.SSLContext | None, **kwargs: Any) -> None:
        self._tls: dict[str, Any] = {} if certificate is None else {"ssl_context": certificate}
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **{**kwargs, **self._tls})
        watch_connections(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **{**kwargs, **self._tls})
        if hasattr(manager, "proxy_headers"):  # SOCKS has connections of its own, left alone
            watch_connections(manager)
        return manager


_ENGINE_ERROR: type[Exception] = requests.exceptions.ContentDecodingError.__bases__[1]
"""The root of urllib3's exceptions, some of which ``requests`` lets through."""

# urllib3 stumbles over the missing socket with an AttributeError where it is shut while sending.
_FOREIGN = (requests.RequestException, _ENGINE_ERROR, OSError, ValueError, AttributeError)


@contextmanager
def _foreign_errors_translated(deadline: Deadline) -> Iterator[None]:
    """Turn what ``requests`` raises into exceptions of the domain.

    Past the deadline every one of them comes from the sockets being shut.
    """
    try:
        yield
    except _FOREIGN as error:
        if deadline.left_s() == 0:
            raise TimedOut(_TOO_LATE) from error
        if isinstance(error, requests.exceptions.InvalidSchema):
            # All URLs are ours, so it is that of a proxy: SOCKS needs a package.
            raise Unreachable(
                "the proxy of the environment needs another package: pip install pysocks"
            ) from error
        is_cut_short = isinstance(error, requests.exceptions.ChunkedEncodingError)
        raise translated(error, is_cut_short=is_cut_short) from error


def _session(parallel: int, certificate: ssl.SSLContext | None) -> requests.Session:
    session = _Session()
    session.headers["User-Agent"] = f"invoicefs/{__version__}"
    session.headers["Accept"] = "application/json"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _WatchedAdapter(certificate, pool_connections=1, pool_maxsize=parallel, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _whole_body(response: requests.Response, cap_bytes: int, deadline: Deadline) -> bytes:
    body = _read(response, cap_bytes)
    if deadline.left_s() == 0:  # an answer without a length just ends where it is shut
        raise TimedOut(_TOO_LATE)
    if len(body) > cap_bytes:
        raise _BodyTooLarge("the answer is larger than any that was asked for")
    if not body and not _LENGTH_HEADERS & {each.lower() for each in response.headers}:
        # http.client takes the end of the stream for that of the headers.
        raise ConnectionResetError("the stream ended in the headers")
    return body


def _read(response: requests.Response, cap_bytes: int) -> bytes:
    """The decoded body; a little more than `cap_bytes` of it where it is longer than that."""
    body = bytearray()
    for chunk in response.iter_content(_CHUNK_BYTES):
        body += chunk
        if len(body) > cap_bytes:
            break
    return bytes(body)


def _read_what_there_is(response: requests.Response) -> bytes:
    """The body of an error: a refusal stays one, also where its words cannot be read."""
    try:
        return _read(response, _ERROR_BODY_BYTES)
    except _FOREIGN:
        return b""


def _segment(text: str) -> str:
    """One segment of a path. A client resolves dots by itself, and would ask for something else."""
    if text in ("", ".", ".."):
        raise NotFound(f"{text!r} cannot be asked for")
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def _retry_after_s(response: requests.Response) -> float | None:
    """The wait of a ``Retry-After`` header: seconds or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _FOR_EVER_S)  # more digits than a float has make it infinite
    try:
        moment = email.utils.parsedate_to_datetime(value)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, OverflowError):  # of dates beyond all calendars
        return None
