"""Carries one HTTP request and its response, within a deadline. The only importer of ``requests``.

A connection from the pool that turns out to be dead says nothing about the API. A request that was
sent on it and got no response at all, or a 408, is sent once more, at once, on a new connection;
and all idle connections are closed, because they may be dead for the same reason. All other retries
are left to the scheduler: those of urllib3 stay off (it would obey ``Retry-After`` for six hours).

``requests`` finds the settings in the environment (proxies and certificates) and makes the pool of
connections for them, once. Each request then goes to the pool of urllib3: for every request,
``requests`` would do that again (measured: half of the time of a request on the loopback).

netrc and cookies are never used. No proxy sees the token, except for a base URL that is not
encrypted, and no proxy is shown a client certificate.

Threading: a `Transport` is used by many threads at once. `_pool` changes by a single assignment.
"""

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import (
    DEFAULT_CA_BUNDLE_PATH,
    get_environ_proxies,
    prepend_scheme_if_needed,
    select_proxy,
)

from invoicefs import __version__
from invoicefs.api.alarm import Alarm
from invoicefs.api.connections import (
    URLLIB3_ERROR,
    ConnectionPool,
    RawResponse,
    get,
    watch_connections,
)
from invoicefs.api.deadline_guard import DeadlineGuard
from invoicefs.api.idle_connections import IdleConnections
from invoicefs.api.proxies import check_proxy
from invoicefs.api.tls import SharedContext
from invoicefs.api.transport_errors import translated
from invoicefs.clock import Deadline
from invoicefs.credentials.load import Credentials
from invoicefs.errors import TIMED_OUT, TimedOut
from invoicefs.urls import is_loopback

_CONNECT_TIMEOUT_S = 10.0
_KEPT_ADDRESSES = 1024  # there is one for each namespace
_HEADERS: Final[Mapping[str, str]] = {
    "User-Agent": f"invoicefs/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",  # which `bodies` decompresses
}


@dataclass(frozen=True, slots=True)
class Response:
    """A response whose head has arrived. The names of `headers` are case-insensitive.

    `read` returns up to the given number of bytes of the body, still compressed, and none at its
    end. It raises exceptions of `errors`.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    read: Callable[[int], bytes]


class _Address(NamedTuple):
    """A URL without its query, and its form in the first line of a request."""

    url: str
    target: str


class Transport:
    """Sends requests to one tenant. Raises `UserError` if the proxy for it cannot be used."""

    def __init__(self, url: str, credentials: Credentials, *, parallel: int) -> None:
        # Without TLS, only a proxy could be shown the client certificate.
        context = _context_for(url, credentials.certificate)
        is_encrypted = context is not None
        # The loopback interface needs no proxy.
        reads_environment = is_encrypted or not is_loopback(urlsplit(url).hostname or "")
        proxy_context = None
        if reads_environment and (proxy := select_proxy(url, get_environ_proxies(url, None))):
            check_proxy(proxy)
            proxy_context = _context_for(proxy, certificate=None) if is_encrypted else None
        # None means the public certificates, or those that REQUESTS_CA_BUNDLE names.
        trusted = None if credentials.ca_bundle is None else str(credentials.ca_bundle)
        with requests.Session() as session:
            session.trust_env = reads_environment
            found = session.merge_environment_settings(url, {}, None, trusted, None)
        # The path is given, because not every version of requests knows the default for a pool.
        verify = found["verify"]
        self._ca_bundle = DEFAULT_CA_BUNDLE_PATH if verify is True else verify
        self._proxies = found["proxies"]
        self._alarm = Alarm()
        self._idle = IdleConnections(self._alarm)
        self._is_encrypted = is_encrypted
        self._adapter = _WatchedAdapter(
            context,
            proxy_context,
            self._idle,
            pool_connections=1,
            pool_maxsize=parallel,
            max_retries=0,
        )
        self._url = url
        self._pool: ConnectionPool | None = None
        self._address_of = lru_cache(_KEPT_ADDRESSES)(self._prepared)

    def close(self) -> None:
        """Close the connections."""
        self._adapter.close()
        self._idle.close_all()
        self._alarm.close()

    def connect_ahead(self, count: int, deadline: Deadline) -> bool:
        """Open an idle connection; see `Api.connect_ahead`."""
        left_s = deadline.left_s()
        with _foreign_errors_translated(deadline), DeadlineGuard(left_s, self._alarm):
            timeout_s = min(max(left_s, 0.001), _CONNECT_TIMEOUT_S)
            pool = self._pool_of_tenant()
            return pool.connect_ahead(count, timeout_s, tunnels=self._is_encrypted)

    @contextmanager
    def exchange(
        self, url: str, query: str, headers: Mapping[str, str], deadline: Deadline
    ) -> Iterator[Response]:
        """Make a GET request; the body of the response is read within the ``with`` block.

        Raises exceptions of `errors`, even for failures while the body is read.
        """
        with ExitStack() as stack:
            stack.enter_context(_foreign_errors_translated(deadline))
            response = self._response_to(url, query, headers, deadline, stack)

            def read(size_bytes: int) -> bytes:
                with _foreign_errors_translated(deadline):
                    data = response.read(size_bytes, decode_content=False)
                if not data and deadline.left_s() == 0:
                    # A body without a length simply ends when its socket is shut down.
                    raise TimedOut(TIMED_OUT)
                return data

            yield Response(
                _joined(self._address_of(url).url, query), response.status, response.headers, read
            )

    def _response_to(
        self,
        url: str,
        query: str,
        headers: Mapping[str, str],
        deadline: Deadline,
        stack: ExitStack,
    ) -> RawResponse:
        """Return the response to a request, which stays open as long as `stack`."""
        is_second = False
        while True:
            attempt = stack.enter_context(ExitStack())
            guard = DeadlineGuard(deadline.left_s(), self._alarm, needs_new_connection=is_second)
            attempt.enter_context(guard)
            try:
                response = self._send(url, query, headers, deadline)
                attempt.callback(response.release_conn)
                attempt.callback(response.close)  # before it is released, if it was not read
            except _FOREIGN:
                if (
                    is_second
                    or not guard.is_unanswered_on_reused_connection
                    or deadline.left_s() == 0
                ):
                    raise
            else:
                was_idle_too_long = response.status == HTTPStatus.REQUEST_TIMEOUT
                if is_second or not (was_idle_too_long and guard.is_on_reused_connection):
                    return response
            attempt.close()
            self._idle.close_all()
            is_second = True

    def _send(
        self, url: str, query: str, headers: Mapping[str, str], deadline: Deadline
    ) -> RawResponse:
        left_s = max(deadline.left_s(), 0.001)  # urllib3 refuses a timeout of 0
        return get(
            self._pool_of_tenant(),
            _joined(self._address_of(url).target, query),
            {**_HEADERS, **headers},
            connect_timeout_s=min(left_s, _CONNECT_TIMEOUT_S),
            read_timeout_s=left_s,
        )

    def _pool_of_tenant(self) -> ConnectionPool:
        if self._pool is None:
            # Threads that do this at the same time get the same pool.
            self._pool = self._adapter.pool_of(self._address_of(self._url).url, self._proxies)
        # The file with the trusted certificates may be missing at times.
        self._adapter.cert_verify(self._pool, self._url, self._ca_bundle, cert=None)
        return self._pool

    def _prepared(self, url: str) -> _Address:
        request = requests.Request("GET", url).prepare()
        assert request.url is not None
        return _Address(request.url, self._adapter.request_url(request, self._proxies))


def _joined(url: str, query: str) -> str:
    return f"{url}?{query}" if query else url


def _context_for(url: str, certificate: ssl.SSLContext | None) -> SharedContext | None:
    """Return the context for connections to this server, or None if it does not speak TLS."""
    parts = urlsplit(url)
    if parts.scheme.lower() != "https":
        return None
    return SharedContext(parts.hostname or "", certificate)


class _WatchedAdapter(HTTPAdapter):
    """An adapter whose connections end at the deadline of their request.

    Those to the tenant share a context, if there is one; so do those to the proxy.
    """

    def __init__(
        self,
        context: SharedContext | None,
        proxy_context: SharedContext | None,
        idle: IdleConnections,
        **kwargs: Any,
    ) -> None:
        self._tls: dict[str, Any] = {} if context is None else {"ssl_context": context}
        self._proxy_context = proxy_context
        self._idle = idle
        super().__init__(**kwargs)

    def pool_of(self, url: str, proxies: dict[str, str]) -> ConnectionPool:
        """Return the connections to a server, which are always the same."""
        proxy = select_proxy(url, proxies)
        manager = self.poolmanager
        if proxy:
            manager = self.proxy_manager_for(prepend_scheme_if_needed(proxy, "http"))
        pool = manager.connection_from_url(url)
        assert isinstance(pool, ConnectionPool)
        return pool

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **{**kwargs, **self._tls})
        watch_connections(self.poolmanager, self._idle)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if self._proxy_context is not None:
            # The context of urllib3 1 itself would also accept a common name, and TLS 1.0.
            kwargs["proxy_ssl_context"] = self._proxy_context
        manager = super().proxy_manager_for(proxy, **{**kwargs, **self._tls})
        watch_connections(manager, self._idle)
        return manager

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        super().cert_verify(conn, url, verify, cert)
        if self._proxy_context is not None:  # urllib3 1 loads the CA bundle for the tenant only
            self._proxy_context.load_verify_locations(conn.ca_certs, conn.ca_cert_dir)


# urllib3 fails with an AttributeError if its socket is shut down while it is sending.
_FOREIGN = (requests.RequestException, URLLIB3_ERROR, OSError, ValueError, AttributeError)


@contextmanager
def _foreign_errors_translated(deadline: Deadline) -> Iterator[None]:
    """Turn exceptions of the HTTP stack into exceptions of the domain.

    After the deadline they all count as timeouts, because the sockets were shut down.
    """
    try:
        yield
    except _FOREIGN as error:
        if deadline.left_s() == 0:
            raise TimedOut(TIMED_OUT) from error
        raise translated(error) from error
