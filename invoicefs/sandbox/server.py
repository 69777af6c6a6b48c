"""The embedded API server."""

import socket
import ssl
import threading
import time
from dataclasses import replace
from functools import partial
from itertools import count
from types import TracebackType
from typing import Self

from invoicefs.sandbox.answers import Answer, honest_response
from invoicefs.sandbox.calls import Call, Endpoint
from invoicefs.sandbox.exchange import Exchange
from invoicefs.sandbox.faults import Behaviour, Fault, honest
from invoicefs.sandbox.listener import Listener, reserve_port
from invoicefs.sandbox.rate_limit import RateLimit, TokenBucket
from invoicefs.sandbox.sample import sample_tenant
from invoicefs.sandbox.tenant import SampleTenant

SAMPLE_TOKEN = "sandbox-token"  # noqa: S105 # opens nothing but a sandbox


class Sandbox:
    """An API server on the loopback interface, from construction to `close`; a context manager.

    `tenant`, `token` and `latency_s` may be set at any time, and apply to the requests that arrive
    later; the response is sent after `latency_s`. `path_prefix` is the path of a gateway before
    ``/api``. `port` 0 is any free port. With `tls` it serves HTTPS; a new value takes effect with
    `come_back`. A client certificate that it trusts counts like the token.

    It has more than 20 methods because tests control every aspect of it.

    Threading: `_lock` guards the recorded requests, the faults and the limits. It is not held while
    something is sent, awaited or computed from the tenant.
    """

    def __init__(
        self,
        tenant: SampleTenant | None = None,
        token: str = SAMPLE_TOKEN,
        path_prefix: str = "",
        latency_s: float = 0.0,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.tenant = sample_tenant() if tenant is None else tenant
        self.token = token
        self.latency_s = latency_s
        self.tls = tls
        self._path_prefix = path_prefix
        self._lock = threading.Lock()
        self._numbers = count()
        self._calls: dict[int, Call] = {}
        self._in_progress: set[int] = set()
        self._peak_concurrency = 0
        self._faults: list[Fault] = []
        self._limit: RateLimit | None = None
        self._buckets: dict[Endpoint | None, TokenBucket] = {}
        self._closing = threading.Event()
        self._reservation = reserve_port(port)
        self._listener = self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving: hang up on requests in progress, and end all threads and sockets."""
        self._closing.set()
        self._listener.close()
        self._reservation.close()

    def go_away(self) -> None:
        """Hang up on all clients, and refuse connections; the port stays reserved."""
        self._listener.close()

    def come_back(self) -> None:
        """Serve again, on the same port."""
        self._listener = self._listen()

    @property
    def url(self) -> str:
        """The base URL, with the path prefix and without a trailing slash."""
        return self._listener.url

    def inject(self, *faults: Fault) -> None:
        """Add faults. If several hit a request, the first one applies."""
        with self._lock:
            self._faults.extend(faults)

    def heal(self) -> None:
        """Remove all faults; requests that one has already hit are not affected."""
        with self._lock:
            self._faults.clear()

    def throttle(self, limit: RateLimit | None) -> None:
        """Set a rate limit, with a full burst at first, or remove it. Faults precede limits."""
        with self._lock:
            self._limit = limit
            self._buckets.clear()

    @property
    def calls(self) -> tuple[Call, ...]:
        """All requests since the start or `forget_calls`, in the order in which they arrived.

        An invalid request (a bad limit, invalid text) gets a 400 and is not included.
        """
        with self._lock:
            return tuple(self._calls.values())

    def count(
        self,
        endpoint: Endpoint | None = None,
        namespace: str | None = None,
        name: str | None = None,
    ) -> int:
        """Return the number of requests to this endpoint, namespace and invoice; None is any."""
        return sum(call.matches(endpoint, namespace, name) for call in self.calls)

    @property
    def peak_concurrency(self) -> int:
        """The highest number of requests in flight since the start or `forget_calls`.

        A request ends just before its whole response is sent; a broken or slow one a little later.
        """
        with self._lock:
            return self._peak_concurrency

    def forget_calls(self) -> None:
        """Clear the recorded requests, and reset the peak concurrency."""
        with self._lock:
            self._calls.clear()
            self._peak_concurrency = len(self._in_progress)

    def _listen(self) -> Listener:
        return Listener(self._reservation, self._path_prefix, self._serve, self.tls)

    def _serve(self, call: Call, connection: socket.socket) -> bool:
        number, behaviour, refusal = self._arrive(call)
        try:
            answer = refusal or honest_response(self.tenant, self.token, call)
            exchange = Exchange(
                call,
                answer,
                connection,
                self._closing,
                on_status=partial(self._note_status, number),
                on_end=partial(self._leave, number),
            )
            exchange.wait(self.latency_s)
            behaviour(exchange)
        finally:
            self._leave(number)
        return exchange.keeps_connection

    def _arrive(self, call: Call) -> tuple[int, Behaviour, Answer | None]:
        """Record a request; returns its number, a behaviour, and a refusal by the rate limit."""
        now_s = time.monotonic()
        with self._lock:
            number = next(self._numbers)
            self._calls[number] = call
            self._in_progress.add(number)
            self._peak_concurrency = max(self._peak_concurrency, len(self._in_progress))
            return number, self._next_behaviour(call), self._refusal(call, now_s)

    def _next_behaviour(self, call: Call) -> Behaviour:
        for position, fault in enumerate(self._faults):
            if fault.hits(call):
                rest = fault.after_hit()
                self._faults[position : position + 1] = [rest] if rest else []
                return fault.behaviour
        return honest

    def _refusal(self, call: Call, now_s: float) -> Answer | None:
        if self._limit is None:
            return None
        new = TokenBucket(self._limit, now_s)
        wait_s = self._buckets.setdefault(call.endpoint, new).take(now_s)
        return self._limit.refusal(wait_s) if wait_s else None

    def _note_status(self, number: int, status: int) -> None:
        with self._lock:
            if number in self._calls:
                self._calls[number] = replace(self._calls[number], status=status)

    def _leave(self, number: int) -> None:
        with self._lock:
            self._in_progress.discard(number)
