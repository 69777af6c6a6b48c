"""How a copy behaves at a server with and without a rate limit: a real library, and a fake clock.

The copy opens one invoice after another. Time passes only when all threads wait for it.
"""

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from math import ceil
from typing import Any

import pytest

from invoicefs.clock import Clock, Deadline
from invoicefs.errors import InvoicefsError, RateLimited
from invoicefs.library.library import Library
from invoicefs.model import Invoice
from invoicefs.sandbox.rate_limit import RateLimit, TokenBucket
from tests.support.fake_tenant import FakeTenant
from tests.support.idle import Idle
from tests.support.memory_store import MemoryStore
from tests.support.running_library import CrowdClock, running_library

PARALLEL = 8
READ_AHEAD = 16
MAX_WAIT_S = 5.0
LATENCY_S = 0.05
UNLIMITED = RateLimit(per_second=1e6, burst=10**6)


class LimitedTenant(FakeTenant):
    """A tenant whose PDFs take `latency_s`, and are refused beyond a rate limit."""

    def __init__(self, clock: Clock, limit: RateLimit, latency_s: float) -> None:
        super().__init__()
        self._clock = clock
        self._limit = limit
        self._latency_s = latency_s
        self._arrival = threading.Condition()
        self._bucket = TokenBucket(limit, clock.monotonic_s())
        self._in_flight = 0
        self.requests = 0
        self.refusals = 0
        self.peaks: list[int] = []
        """The highest number of requests in flight until each request has begun."""

    def invoice_pdf(self, invoice: Invoice, deadline: Deadline, *, bypass_caches: bool) -> bytes:
        with self._arrival:
            wait_s = self._bucket.take(self._clock.monotonic_s())
            self.requests += 1
            self.refusals += wait_s > 0
            self._in_flight += 1
            self.peaks.append(max(self._in_flight, *self.peaks[-1:], 0))
            ends_s = self._clock.monotonic_s() + self._latency_s
            while (left_s := ends_s - self._clock.monotonic_s()) > 1e-6:
                self._clock.wait(self._arrival, left_s)
            self._in_flight -= 1
        if wait_s:
            raise RateLimited("429", ceil(wait_s) if self._limit.retry_after else None)
        return super().invoice_pdf(invoice, deadline, bypass_caches=bypass_caches)


@dataclass(frozen=True)
class Copy:
    """A copy of new invoices that has ended; `failures` is how many opens failed."""

    tenant: LimitedTenant
    elapsed_s: float
    failures: int


def copied(limit: RateLimit, count: int, latency_s: float = LATENCY_S) -> Copy:
    """Copy new invoices from a server with this limit and latency."""
    clock = CrowdClock()
    idle, tenant = Idle(clock), LimitedTenant(clock, limit, latency_s)
    invoices = [tenant.bill(Invoice("system", f"invoice-{number:04}")) for number in range(count)]
    invoices.sort(key=lambda invoice: invoice.inode)
    changes: dict[str, Any] = {
        "parallel": PARALLEL,
        "read_ahead": READ_AHEAD,
        "max_wait_s": MAX_WAIT_S,
    }
    with running_library(tenant, MemoryStore(), clock, list_ttl_s=3600, **changes) as library:
        library.directory("/system")
        began_s, ended = clock.monotonic_s(), Future[int]()
        threading.Thread(target=lambda: ended.set_result(_failures(library, invoices))).start()
        idle.await_()
        while not ended.done():
            clock.advance_to_next()
            idle.await_()
        return Copy(tenant, clock.monotonic_s() - began_s, ended.result())


def _failures(library: Library, invoices: list[Invoice]) -> int:
    """Open the invoices one after another; return how many opens failed."""
    failures = 0
    for invoice in invoices:
        try:
            library.release(library.open(f"/{invoice.key}"))
        except InvoicefsError:
            failures += 1
    return failures


def test_a_copy_without_a_rate_limit_uses_all_slots_after_a_few_requests() -> None:
    copy = copied(UNLIMITED, count=200)
    assert copy.tenant.requests == 200
    assert copy.tenant.peaks[2 * PARALLEL - 1] == PARALLEL  # the first eight have succeeded then
    assert copy.tenant.peaks[-1] == PARALLEL
    # Two requests are made singly, and two more rounds are not full.
    assert copy.elapsed_s <= 200 * LATENCY_S / PARALLEL + 4 * LATENCY_S


@pytest.mark.parametrize("retry_after", [True, False], ids=["with Retry-After", "without"])
def test_at_20_requests_a_second_at_most_one_in_20_is_refused(retry_after: bool) -> None:
    copy = copied(RateLimit(per_second=20, burst=5, retry_after=retry_after), count=200)
    assert copy.failures == 0
    assert 0 < copy.tenant.refusals <= 0.05 * copy.tenant.requests


def test_at_60_requests_a_minute_at_most_12_percent_are_refused() -> None:
    copy = copied(RateLimit(per_second=1, burst=60), count=120)
    assert 0 < copy.tenant.refusals <= 0.12 * copy.tenant.requests
