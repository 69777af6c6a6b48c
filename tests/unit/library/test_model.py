"""The library against a model of plain dictionaries, for any sequence of operations.

The model knows nothing of threads, stores and snapshots: it predicts what an operation returns or
raises, and which requests it makes. Forbidden listings are tested in `test_library`.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from invoicefs.clock import NS_PER_S
from invoicefs.errors import (
    Busy,
    CredentialRenewed,
    Denied,
    InvoicefsError,
    NoResponse,
    NotFound,
    RateLimited,
    ServerFault,
    ServerTimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unreachable,
    UntrustedServer,
    UnusableResponse,
)
from invoicefs.library.library import Library
from invoicefs.library.namespaces import UNLISTED_RECHECK_S
from invoicefs.library.results import OpenInvoice
from invoicefs.library.shown_drafts import SHOWN_LASTS_S
from invoicefs.library.stat_downloads import REFUSAL_MEMORY_S
from invoicefs.model import Invoice
from invoicefs.scheduling.scheduler import MAX_RENEWALS
from invoicefs.scheduling.throttle import LONGEST_COOL_DOWN_S
from invoicefs.settings import Fetch
from invoicefs.store.store import Store
from tests.support.fake_clock import FakeClock
from tests.support.fake_tenant import FakeTenant, pdf_of
from tests.support.running_library import (
    ACTIVE_TTL_S,
    FAILURE_MEMORY_S,
    LIST_TTL_S,
    MAX_PDF_SIZE_BYTES,
    running_library,
)
from tests.support.store_folder import connection, opening, put_values, stored_values

T = TypeVar("T")
Raised = type[InvoicefsError]

FAILURES = (
    Unreachable("not now"),
    Unavailable("not now", retry_after_s=1.0),
    ServerTimedOut("not now"),
    ServerFault("not now"),
    UntrustedServer("not now"),
    UnusableResponse("not now"),
    Busy("not now"),
    Unauthenticated("not now"),
    CredentialRenewed("not now"),
    RateLimited("not now", retry_after_s=LIST_TTL_S),
    RateLimited("not now", retry_after_s=1e9),
)
PDF_FAILURES = (*FAILURES, Denied("not now"), NotFound("not now"), TooLarge("not now"))
DAYS = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2099-01-01T00:00:00Z", "")

# Few of each, so that the same ones recur.
namespaces = st.sampled_from(["one", "two"])
keys = st.sampled_from(["one/a", "one/b", "two/a"])
failures = st.one_of(
    st.tuples(st.sampled_from(["namespaces", "list"]), st.sampled_from(FAILURES)),
    st.tuples(st.just("pdf"), st.sampled_from(PDF_FAILURES)),
)
moments_s = st.sampled_from(
    [
        SHOWN_LASTS_S / 2,
        SHOWN_LASTS_S,
        UNLISTED_RECHECK_S,
        FAILURE_MEMORY_S,
        LIST_TTL_S,
        ACTIVE_TTL_S - LIST_TTL_S,
        ACTIVE_TTL_S - SHOWN_LASTS_S / 2,
        ACTIVE_TTL_S,
    ]
)
clock_jumps_s = st.sampled_from([-86_400.0, -ACTIVE_TTL_S, ACTIVE_TTL_S, 86_400.0])


@dataclass
class Copy:
    """The result of a download; it stays known after its bytes are evicted."""

    pdf: bytes
    version: str
    fetched_ns: int


@dataclass
class Pin:
    """The version that all handles on an invoice share, or that a program was just shown."""

    copy: Copy
    invoice: Invoice
    mtime_ns: int
    handles: int = 0


@dataclass
class Model:
    """The expected behaviour of the library; a remount resets the last ten fields."""

    tenant: FakeTenant
    clock: FakeClock
    is_eager: bool
    failing: dict[str, InvoicefsError] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    namespaces: frozenset[str] = frozenset()
    listings: dict[str, dict[str, Invoice]] = field(default_factory=dict)
    mtimes_ns: dict[str, int] = field(default_factory=dict)
    copies: dict[str, Copy] = field(default_factory=dict)
    stored: set[bytes] = field(default_factory=set)  # shared by invoices with the same bytes
    damaged: set[bytes] = field(default_factory=set)
    listed_s: dict[str, float] = field(default_factory=dict)
    failed: dict[str, tuple[InvoicefsError, float]] = field(default_factory=dict)
    cooling_until_s: dict[str, float] = field(default_factory=dict)
    suppressed: dict[str, tuple[InvoicefsError, float]] = field(default_factory=dict)
    downloads: int = 0
    downloads_at_failure: dict[str, int] = field(default_factory=dict)
    pins: dict[str, Pin] = field(default_factory=dict)
    loaded: set[str] = field(default_factory=set)  # namespaces
    in_memory: dict[str, Copy] = field(default_factory=dict)  # drafts
    shown: dict[str, tuple[Pin, float]] = field(default_factory=dict)  # drafts, with on-stat

    def remount(self) -> None:
        self.listed_s.clear()
        self.failed.clear()
        self.cooling_until_s.clear()
        self.suppressed.clear()
        self.downloads = 0
        self.downloads_at_failure.clear()
        self.pins.clear()
        self.loaded.clear()
        self.in_memory.clear()
        self.shown.clear()

    def evict(self) -> None:
        self.stored.clear()
        self.damaged.clear()

    def damage(self) -> None:
        self.damaged |= self.stored
        self.stored.clear()

    def lose_the_store(self) -> None:
        self.evict()
        self.namespaces = frozenset()
        self.listings.clear()
        self.mtimes_ns.clear()
        self.copies.clear()

    # Operations.

    def root(self) -> set[str]:
        if not self._is_younger("", LIST_TTL_S):
            try:
                self._fetch_namespaces()
            except Denied:
                raise
            except InvoicefsError:
                if not self.namespaces:
                    raise
        return set(self.namespaces)

    def directory(self, namespace: str) -> set[str]:
        self._find_namespace(namespace)
        return {f"{name}.pdf" for name in self._listing(namespace)}

    def stat(self, key: str) -> tuple[int, int, int]:
        """Return size, blocks and mtime."""
        pin, held = self.pins.get(key), self.just_shown(key)
        if pin:
            if held and held.copy is not pin.copy:
                del self.shown[key]
            return exact(pin.copy.pdf, pin.mtime_ns)
        if held:
            return exact(held.copy.pdf, held.mtime_ns)
        invoice = self._find(key)
        self._download_on_stat(key, invoice)
        mtime_ns = self.mtimes_ns.get(key, invoice.natural_mtime_ns or 0)
        copy = self.copies.get(key)
        if copy and (self._is_exact(key, invoice) or self._is_served_expired(copy, invoice)):
            self._note_shown(key, Pin(copy, invoice, mtime_ns))
            return exact(copy.pdf, mtime_ns)
        return MAX_PDF_SIZE_BYTES, 0, mtime_ns

    def open(self, key: str) -> tuple[bytes, int]:
        """Return bytes and mtime."""
        held = self.just_shown(key)
        self.shown.pop(key, None)
        if key not in self.pins:
            self.pins[key] = self._opened(key, held)
        pin = self.pins[key]
        pin.handles += 1
        return pin.copy.pdf, pin.mtime_ns

    def _opened(self, key: str, held: Pin | None) -> Pin:
        if held and self._is_available(key, held.copy):
            return held
        invoice = held.invoice if held else self._find(key)
        return Pin(self._best(key, invoice), invoice, self.mtimes_ns[key])

    def release(self, key: str) -> None:
        self.pins[key].handles -= 1
        if self.pins[key].handles == 0:
            del self.pins[key]

    # Drafts that a stat has shown.

    def _note_shown(self, key: str, pin: Pin) -> None:
        if self.is_eager and pin.invoice.active:
            self.shown[key] = pin, self.clock.monotonic_s()

    def just_shown(self, key: str) -> Pin | None:
        pin, shown_s = self.shown.get(key, (None, 0.0))
        return pin if self.clock.monotonic_s() - shown_s < SHOWN_LASTS_S else None

    # Listings.

    def _find_namespace(self, namespace: str) -> None:
        if namespace not in self.namespaces and not self._is_younger("", UNLISTED_RECHECK_S):
            self._fetch_namespaces()
        if namespace not in self.namespaces:
            raise NotFound

    def _find(self, key: str) -> Invoice:
        namespace, name = key.split("/")
        self._find_namespace(namespace)
        listing = self._listing(namespace)
        if name not in listing and not self._is_younger(namespace, UNLISTED_RECHECK_S):
            listing = self._fetch_listing(namespace)
        if name not in listing:
            raise NotFound
        return listing[name]

    def _listing(self, namespace: str) -> dict[str, Invoice]:
        self._load_last_listing(namespace)
        if not self._is_younger(namespace, LIST_TTL_S):
            try:
                self._fetch_listing(namespace)
            except Denied:
                raise
            except InvoicefsError:
                if namespace not in self.listings:
                    raise
        return self.listings[namespace]

    def _fetch_namespaces(self) -> None:
        self.namespaces = self._call("namespaces", self._answer_namespaces)
        self.listed_s[""] = self.clock.monotonic_s()

    def _answer_namespaces(self) -> frozenset[str]:
        found = frozenset(self.tenant.invoices_of)
        if self.namespaces and not found:
            raise UnusableResponse
        return found

    def _fetch_listing(self, namespace: str) -> dict[str, Invoice]:
        found = self._call(f"list {namespace}", lambda: self._answer_listing(namespace))
        before = self.listings.get(namespace, {})
        final = {name: invoice for name, invoice in before.items() if not invoice.active}
        self.listings[namespace] = final | found
        self.listed_s[namespace] = self.clock.monotonic_s()
        for name, invoice in found.items():
            if invoice.natural_mtime_ns is None:
                self.mtimes_ns.setdefault(f"{namespace}/{name}", self.clock.wall_ns())
        self._update_memory_cache(namespace)
        return self.listings[namespace]

    def _load_last_listing(self, namespace: str) -> None:
        """Read the last listing of a namespace from the store when it is first used."""
        if namespace not in self.loaded and namespace in self.listings:
            self._update_memory_cache(namespace)
        self.loaded.add(namespace)

    def _update_memory_cache(self, namespace: str) -> None:
        for name, invoice in self.listings[namespace].items():
            key = f"{namespace}/{name}"
            copy = self.copies.get(key)
            if copy and self._is_fresh(copy, invoice):
                if copy.pdf in self.stored:
                    self._keep_in_memory(key, invoice, copy)
            elif invoice.active:
                self.in_memory.pop(key, None)

    def _answer_listing(self, namespace: str) -> dict[str, Invoice]:
        if namespace not in self.tenant.invoices_of:
            raise UnusableResponse  # only listed namespaces are requested
        found = dict(self.tenant.invoices_of[namespace])
        if self.listings.get(namespace) and not found:
            raise UnusableResponse
        return found

    def _is_younger(self, list_: str, age_s: float) -> bool:
        listed_s = self.listed_s.get(list_)
        return listed_s is not None and self.clock.monotonic_s() - listed_s < age_s

    # PDFs.

    def _download_on_stat(self, key: str, invoice: Invoice) -> None:
        """Download what a stat needs, unless that has just failed."""
        copy, version_key = self.copies.get(key), version_key_of(invoice)
        has_changed = copy is not None and copy.version != invoice.version
        is_wanted = not self._is_exact(key, invoice) if self.is_eager else has_changed
        if is_wanted and not self._suppressing(invoice):
            try:
                self._fetch_pdf(key, invoice)
            except (NotFound, TooLarge) as error:
                self._suppress(version_key, error, REFUSAL_MEMORY_S)
            except InvoicefsError as error:
                scope = invoice.namespace if type(error) is Denied else ""
                self._suppress(version_key, error, FAILURE_MEMORY_S)
                if self.downloads_at_failure.get(scope) == self.downloads:
                    self._suppress(scope, error, FAILURE_MEMORY_S)
                self.downloads_at_failure[scope] = self.downloads

    def _suppress(self, scope: str, error: InvoicefsError, duration_s: float) -> None:
        self.suppressed[scope] = error, self.clock.monotonic_s() + duration_s

    def _suppressing(self, invoice: Invoice) -> list[InvoicefsError]:
        """Return the failures because of which no stat waits for a download, the widest first."""
        now_s = self.clock.monotonic_s()
        scopes = ("", invoice.namespace, version_key_of(invoice))
        found = [self.suppressed[scope] for scope in scopes if scope in self.suppressed]
        return [error for error, until_s in found if now_s < until_s]

    def _end_suppression(self, key: str) -> None:
        """Forget that versions of an invoice were refused."""
        for scope in tuple(self.suppressed):
            if scope.startswith(f"{key}/"):
                del self.suppressed[scope]

    def _is_served_expired(self, copy: Copy, invoice: Invoice) -> bool:
        """Return whether a stat shows, and an open serves, a draft because no newer one comes."""
        is_expired = copy.version == invoice.version and not self._is_fresh(copy, invoice)
        suppressing = self._suppressing(invoice)[:1] if self.is_eager else []
        responds = not any(isinstance(error, NoResponse) for error in suppressing)
        return is_expired and not responds and copy.pdf in self.stored

    def _is_exact(self, key: str, invoice: Invoice) -> bool:
        copy = self.copies.get(key)
        if copy is None or not self._is_fresh(copy, invoice):
            return False
        return not invoice.active or self.in_memory.get(key) is copy

    def _best(self, key: str, invoice: Invoice) -> Copy:
        try:
            return self._fetch_pdf(key, invoice)
        except NoResponse:
            copy = self.copies.get(key)
            if copy and copy.pdf in self.stored:
                return copy
            raise

    def _fetch_pdf(self, key: str, invoice: Invoice) -> Copy:
        copy = self.copies.get(key)
        if copy and self._is_fresh(copy, invoice) and self._is_available(key, copy):
            self._keep_in_memory(key, invoice, copy)
            return copy
        pdf = self._call(f"pdf {key}", lambda: self._answer_pdf(invoice))
        now_ns, natural_ns = self.clock.wall_ns(), invoice.natural_mtime_ns
        self.mtimes_ns.setdefault(key, now_ns if natural_ns is None else natural_ns)
        if copy and copy.pdf != pdf:
            self.mtimes_ns[key] = max(now_ns, self.mtimes_ns[key] + NS_PER_S)
        self.copies[key] = Copy(pdf, invoice.version, now_ns)
        self.stored.add(pdf)
        self.damaged.discard(pdf)
        self._keep_in_memory(key, invoice, self.copies[key])
        self.downloads += 1
        self._end_suppression(key)
        return self.copies[key]

    def is_available(self, key: str) -> bool:
        """Return whether the content that a stat shows is there, and need not be downloaded."""
        held = self.just_shown(key)
        copy = held.copy if held else self.copies.get(key)
        return copy is not None and self._is_available(key, copy)

    def _is_available(self, key: str, copy: Copy) -> bool:
        return copy.pdf in self.stored or self.in_memory.get(key) is copy

    def _keep_in_memory(self, key: str, invoice: Invoice, copy: Copy) -> None:
        if invoice.active:
            self.in_memory[key] = copy

    def _answer_pdf(self, invoice: Invoice) -> bytes:
        if not self.tenant.has(invoice):
            raise NotFound
        return self.tenant.pdf(invoice)

    def _is_fresh(self, copy: Copy, invoice: Invoice) -> bool:
        age_s = (self.clock.wall_ns() - copy.fetched_ns) / NS_PER_S
        return copy.version == invoice.version and (not invoice.active or 0 <= age_s < ACTIVE_TTL_S)

    # Requests.

    def _call(self, call: str, answer: Callable[[], T]) -> T:
        """Make a request, unless it has just failed or its kind is cooling down."""
        kind, now_s = call.split()[0], self.clock.monotonic_s()
        error, until_s = self.failed.get(call, (None, 0.0))
        if error is not None and now_s < until_s:
            raise error
        if now_s < self.cooling_until_s.get(kind, now_s):
            raise RateLimited("cooling down")
        self.calls.append(call)
        try:
            if isinstance(self.failing.get(kind), CredentialRenewed):
                self.calls.extend([call] * MAX_RENEWALS)  # it is retried at once
            if kind in self.failing:
                raise self.failing[kind]
            return answer()
        except RateLimited as limit:
            asked_s = limit.retry_after_s or 0.0  # without a Retry-After, jitter would decide
            until_s = now_s + min(asked_s, LONGEST_COOL_DOWN_S)
            self.cooling_until_s[kind] = until_s
            self.failed[call] = (limit, until_s)
            raise
        except InvoicefsError as failure:
            self.failed[call] = (failure, now_s + FAILURE_MEMORY_S)
            raise


class LibraryMachine(RuleBasedStateMachine):
    """One tenant, one store, and one mount after another."""

    def __init__(self, store: Store, folder: Path, is_eager: bool) -> None:
        super().__init__()
        self._store = store
        self._folder = folder
        for cache in ("pdf", "meta"):
            self._forget(cache)
        self._clock = FakeClock()
        self._tenant = FakeTenant()
        self._hidden: dict[str, dict[str, Invoice]] | None = None
        self._is_eager = is_eager
        self._model = Model(self._tenant, self._clock, is_eager)
        self._opened: list[tuple[str, OpenInvoice]] = []
        self._mounted = ExitStack()
        self._library = self._mount()

    def teardown(self) -> None:
        self._mounted.close()

    def _mount(self) -> Library:
        # With two slots there is no read-ahead, whose timing could not be predicted.
        fetch = Fetch.ON_STAT if self._is_eager else Fetch.ON_OPEN
        running = running_library(self._tenant, self._store, self._clock, fetch=fetch, parallel=1)
        return self._mounted.enter_context(running)

    def _forget(self, cache: str) -> None:
        with connection(self._folder, cache) as rows:
            rows.execute("DELETE FROM Cache")

    def _agree(self, actual: Callable[[], T], expected: Callable[[], T]) -> T | Raised:
        """Check that both have the same outcome, for the same requests, and return it."""
        found = outcome(actual)
        assert found == outcome(expected)
        calls, self._model.calls = self._model.calls, []
        assert self._tenant.take_requests() == calls
        return found

    # What the tenant does.

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        for key in ("one/a", "one/b", "two/a"):
            self.bill(key, data.draw(st.booleans()), data.draw(st.sampled_from(DAYS)), pdf=0)

    @precondition(lambda self: self._hidden is None)
    @rule(key=keys, is_active=st.booleans(), day=st.sampled_from(DAYS), pdf=st.integers(0, 2))
    def bill(self, key: str, is_active: bool, day: str, pdf: int) -> None:
        """Issue an invoice, or change its entry in the listing."""
        self._tenant.bill(
            replace(
                invoice_of(key), active=is_active, amount=str(pdf), period_start=day, period_end=day
            ),
            pdf_of(str(pdf), 500 * (pdf + 1)),
        )

    @precondition(lambda self: self._hidden is None)
    @rule(key=keys, pdf=st.integers(0, 5), is_final_now=st.booleans())
    def change(self, key: str, pdf: int, is_final_now: bool) -> None:
        """Change the PDF of a draft: silently, or when it becomes final."""
        invoice = self._listed(key)
        if invoice is not None and invoice.active:
            changed = replace(invoice, active=not is_final_now)
            self._tenant.bill(changed, pdf_of(str(pdf), 500 * (pdf + 1)))

    @precondition(lambda self: self._hidden is None)
    @rule(key=keys, is_whole_tenant=st.booleans())
    def leave_out(self, key: str, is_whole_tenant: bool) -> None:
        """Leave an invoice out of the listing, or list nothing at all."""
        if is_whole_tenant:
            self._hidden = self._tenant.invoices_of
            self._tenant.invoices_of = {}
        elif (invoice := self._listed(key)) is not None:
            self._tenant.withdraw(invoice)

    @rule(request_and_failure=failures)
    def fail(self, request_and_failure: tuple[str, InvoicefsError]) -> None:
        call, failure = request_and_failure
        self._model.failing[call] = failure
        self._tenant.fail(call, failure)

    @precondition(lambda self: self._model.failing or self._hidden is not None)
    @rule()
    def fix(self) -> None:
        self._model.failing.clear()
        self._tenant.fix()
        if self._hidden is not None:
            self._tenant.invoices_of = self._hidden
            self._hidden = None
        self._clock.advance(FAILURE_MEMORY_S)

    def _listed(self, key: str) -> Invoice | None:
        namespace, name = key.split("/")
        return self._tenant.invoices_of.get(namespace, {}).get(name)

    # What time and the machine do.

    @rule(seconds=moments_s)
    def wait(self, seconds: float) -> None:
        self._clock.advance(seconds)

    @rule(seconds=clock_jumps_s)
    def set_the_clock(self, seconds: float) -> None:
        self._clock.jump(seconds)

    @rule(keeps_the_store=st.sampled_from([True, True, False]))
    def remount(self, keeps_the_store: bool) -> None:
        self._mounted.close()
        self._opened.clear()
        self._model.remount()
        if not keeps_the_store:
            for cache in ("pdf", "meta"):
                self._forget(cache)
            self._model.lose_the_store()
        self._library = self._mount()

    @rule()
    def evict(self) -> None:
        self._forget("pdf")
        self._model.evict()

    @rule()
    def damage(self) -> None:
        """Corrupt every PDF on disk."""
        values = stored_values(self._folder, "pdf")
        put_values(self._folder, "pdf", {row: b"?" + pdf[1:] for row, pdf in values.items()})
        self._model.damage()

    # What programs do.

    @rule(namespace=namespaces)
    def list(self, namespace: str) -> None:
        self._agree(lambda: self._names("/"), self._model.root)
        self._agree(lambda: self._names(f"/{namespace}"), lambda: self._model.directory(namespace))

    @rule(key=keys)
    def stat(self, key: str) -> None:
        self._agree(lambda: self._stat(key), lambda: self._model.stat(key))

    @rule(key=keys)
    def open(self, key: str) -> None:
        self._agree(lambda: self._open(key), lambda: self._model.open(key))

    @rule(key=keys, seconds=moments_s)
    def read_later(self, key: str, seconds: float) -> None:
        """Stat, open, stat, close and stat, as a program that copies does.

        The file is never longer than the first stat says, and not shorter if it has blocks, unless
        it was evicted: the server may have other bytes for a final invoice now.
        """
        self._clock.advance(seconds)
        shown = self._agree(lambda: self._stat(key), lambda: self._model.stat(key))
        is_available, before = self._model.is_available(key), len(self._opened)
        opened = self._agree(lambda: self._open(key), lambda: self._model.open(key))
        if is_available and isinstance(shown, tuple) and isinstance(opened, tuple):
            size_bytes, blocks, _ = shown
            assert len(opened[0]) == size_bytes or (not blocks and len(opened[0]) < size_bytes)
        self.stat(key)
        if len(self._opened) > before:
            self._release(before)
            self.stat(key)

    @rule(key=keys, failure=st.sampled_from(FAILURES))
    def read_when_expired(self, key: str, failure: InvoicefsError) -> None:
        """Read, and read again after a draft has expired and no PDF can be downloaded any more."""
        self.read_later(key, 0.0)
        self.fail(("pdf", failure))
        self.read_later(key, ACTIVE_TTL_S)

    @precondition(lambda self: self._opened)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self._release(data.draw(st.integers(0, len(self._opened) - 1)))

    @precondition(lambda self: self._opened)
    @rule()
    def check_open_files(self) -> None:
        """Check that open files never change and that their attributes need no request."""
        for key, opened in self._opened:
            attributes = self._library.open_attributes(opened)
            pin = self._model.pins[key]
            pdf = pin.copy.pdf
            assert opened.content.pdf == pdf
            assert (attributes.size_bytes, attributes.mtime_ns) == (len(pdf), pin.mtime_ns)
        assert self._tenant.take_requests() == []

    def _names(self, path: str) -> set[str]:
        return {entry.file_name for entry in self._library.directory(path).entries}

    def _stat(self, key: str) -> tuple[int, int, int]:
        attributes = self._library.attributes(f"/{key}.pdf")
        return attributes.size_bytes, attributes.blocks, attributes.mtime_ns

    def _open(self, key: str) -> tuple[bytes, int]:
        opened = self._library.open(f"/{key}.pdf")
        self._opened.append((key, opened))
        return opened.content.pdf[:], self._library.open_attributes(opened).mtime_ns

    def _release(self, index: int) -> None:
        key, opened = self._opened.pop(index)
        self._library.release(opened)
        self._model.release(key)


def invoice_of(key: str) -> Invoice:
    namespace, name = key.split("/")
    return Invoice(namespace, name)


def version_key_of(invoice: Invoice) -> str:
    return f"{invoice.key}/{invoice.version}"


def exact(pdf: bytes, mtime_ns: int) -> tuple[int, int, int]:
    """Return size, blocks and mtime of a file whose content is known."""
    return len(pdf), -(-len(pdf) // 512), mtime_ns


def outcome(action: Callable[[], T]) -> T | Raised:
    """Return the result of an action, or the class of the exception that it raises."""
    try:
        return action()
    except InvoicefsError as error:
        return type(error)


@pytest.mark.parametrize("is_eager", [False, True], ids=["on open", "on stat"])
def test_the_library_behaves_like_the_model(tmp_path: Path, is_eager: bool) -> None:
    with opening(tmp_path / "store") as open_:
        store = open_()

        class MachineOnStore(LibraryMachine):
            def __init__(self) -> None:
                super().__init__(store, tmp_path / "store", is_eager)

        run_state_machine_as_test(
            MachineOnStore,
            settings=settings(
                max_examples=150,
                stateful_step_count=50,
                deadline=None,
                database=None,
                # Without Phase.explain, whose tracing takes longer than a test may.
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
