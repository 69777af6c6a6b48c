"""Speaks HTTP: one request in, one parsed answer or one domain exception out, within a deadline.

The only importer of ``requests``. Trying again is not done here but in the fetcher, so the
retries of urllib3 stay off (it would obey ``Retry-After`` for up to six hours).

The credential goes to the host of the base URL and to no other: redirects are followed by hand,
and only on that host. netrc is never consulted.

Threading: an `Api` is used by many threads at once. ``requests.Session`` is shared for its pool
of connections; cookies, its only changing state, are refused.
"""

import email.utils
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Any
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
from invoicefs.credentials import Credential
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
    UnusableAnswer,
)
from invoicefs.failures import translated
from invoicefs.model import Invoice, NamespaceList
from invoicefs.wire import Guard, watch_connections

log = logging.getLogger(__name__)

FIRST_LIMIT = 1000
_LIMIT_FACTOR = 10
_LAST_LIMIT = 2**31 - 1  # the parameter is an int32

_CONNECT_TIMEOUT_S = 10.0
_CHUNK_BYTES = 64 * 1024
_ERROR_BODY_BYTES = 64 * 1024
_LIST_BODY_BYTES = 256 * 1024 * 1024  # a hundred thousand invoices take about 25 MiB
_MOST_REDIRECTS = 5
_LENGTH_HEADERS = {"content-length", "transfer-encoding"}
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
        self, url: str, credential: Credential, *, parallel: int, max_pdf_size_bytes: int
    ) -> None:
        self._url = url
        self._credential = credential
        self._max_pdf_size_bytes = max_pdf_size_bytes
        self._session = _session(parallel)
        # Only a loopback URL is not https, and no proxy leads to the own machine.
        self._session.trust_env = url.startswith("https://")

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def namespaces(self, deadline: Deadline) -> NamespaceList:
        """List the namespaces."""
        body = self._get("/api/web/namespaces", {}, _LIST_BODY_BYTES, deadline)
        return parse_namespaces(parse_json(body))

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
        try:
            body = self._get(path, {"name": name}, cap_bytes, deadline)
        except _BodyTooLarge as error:
            raise TooLarge("the PDF is larger than --max-pdf-size") from error
        return parse_pdf(parse_json(body), self._max_pdf_size_bytes)

    def _invoices(self, namespace: str, limit: int, deadline: Deadline) -> InvoicesAnswer:
        path = f"/api/web/namespaces/{_segment(namespace)}/usage/invoices/custom_list"
        # Nothing keeps the body while its fields are looked at: both may be large.
        answer = parse_json(self._get(path, {"limit": str(limit)}, _LIST_BODY_BYTES, deadline))
        return parse_invoices(answer, namespace)

    def _get(
        self, path: str, query: Mapping[str, str], cap_bytes: int, deadline: Deadline
    ) -> bytes:
        """The body of a good answer, after redirects on the same host."""
        with _foreign_errors_translated(deadline), Guard(deadline.left_s()):
            body = self._follow(self._url + path, query, cap_bytes, deadline)
        if deadline.left_s() == 0:  # an answer without a length just ends where it is shut
            raise TimedOut(_TOO_LATE)
        return body

    def _follow(
        self, url: str, query: Mapping[str, str] | None, cap_bytes: int, deadline: Deadline
    ) -> bytes:
        for _ in range(_MOST_REDIRECTS + 1):
            with closing(self._send(url, query, deadline)) as response:
                if not response.is_redirect:
                    return self._body(response, cap_bytes)
                url, query = self._redirected(response), None
        raise Misdirected("the server redirects in a circle")

    def _send(
        self, url: str, query: Mapping[str, str] | None, deadline: Deadline
    ) -> requests.Response:
        left_s = max(deadline.left_s(), 0.001)  # requests refuses a timeout of 0
        response = self._session.get(
            url,
            params=query and urlencode(query, errors="surrogatepass"),
            auth=_TokenAuth(self._credential.token()),
            allow_redirects=False,
            stream=True,
            timeout=(min(left_s, _CONNECT_TIMEOUT_S), left_s),
        )
        # Not the query: where a server redirects to, it may hold what it likes.
        path = urlsplit(response.url).path.replace(_token_of(response), "***")
        log.info("GET %s: %d after %s", path, response.status_code, response.elapsed)
        return response

    def _body(self, response: requests.Response, cap_bytes: int) -> bytes:
        if response.status_code != requests.codes.ok:
            self._raise_for(response)
        body = _read(response, cap_bytes)
        if len(body) > cap_bytes:
            raise _BodyTooLarge("the answer is larger than any that was asked for")
        if not body and not _LENGTH_HEADERS & {each.lower() for each in response.headers}:
            # http.client takes the end of the stream for that of the headers.
            raise ConnectionResetError("the stream ended in the headers")
        return body

    def _raise_for(self, response: requests.Response) -> None:
        """Raise the domain exception of an error status, with the server's own words."""
        status = response.status_code
        token = _token_of(response)
        words = error_message(_read_what_there_is(response), secret=token)
        message = f"the server answered {status}" + (f": {words}" if words else "")
        if status == requests.codes.too_many_requests:
            raise RateLimited(message, _retry_after_s(response))
        if status == requests.codes.service_unavailable:
            raise Unavailable(message, _retry_after_s(response))
        if status == requests.codes.unauthorized and self._credential.was_replaced(token):
            raise CredentialRenewed(message)
        raise _ERROR_OF_STATUS.get(status, ServerFault)(message)

    def _redirected(self, response: requests.Response) -> str:
        url = urljoin(response.url, response.headers["location"])
        if urlsplit(url)[:2] != urlsplit(self._url)[:2]:
            raise Misdirected("the server redirects to another host, which is never followed")
        return url


class _BodyTooLarge(UnusableAnswer):
    """A body over its cap, in a call where that has no other meaning."""


class _TokenAuth(requests.auth.AuthBase):
    """Sets the header. Being an auth object, it also keeps ``requests`` from reading netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"APIToken {self._token}"
        return request


class _Session(requests.Session):
    """A session that leaves redirects alone; else it would read their whole bodies."""

    def get_redirect_target(self, _: requests.Response) -> None:
        return None


class _WatchedAdapter(HTTPAdapter):
    """A transport whose connections end at the deadline of the call they serve."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        watch_connections(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
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
        is_cut_short = isinstance(error, requests.exceptions.ChunkedEncodingError)
        raise translated(error, is_cut_short=is_cut_short) from error


def _session(parallel: int) -> requests.Session:
    session = _Session()
    session.headers["User-Agent"] = f"invoicefs/{__version__}"
    session.headers["Accept"] = "application/json"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _WatchedAdapter(pool_connections=1, pool_maxsize=parallel, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


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


def _token_of(response: requests.Response) -> str:
    return str(response.request.headers["Authorization"]).removeprefix("APIToken ")


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
