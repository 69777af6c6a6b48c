"""A tenant behind a scripted API: tests set its responses and count its requests."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from invoicefs.api.client import NoteAccess
from invoicefs.clock import Deadline
from invoicefs.errors import Denied, NotFound
from invoicefs.library.access import INVOICES, NAMESPACES, PDF
from invoicefs.model import Invoice, NamespaceList

_HANG_S = 20.0  # a request that never comes or never ends is a bug: the test fails


class Gate:
    """Blocks requests until a test opens it."""

    _stopped: ClassVar[dict[threading.Thread, "Gate"]] = {}

    def __init__(self) -> None:
        self._arrivals = threading.Semaphore(0)
        self._is_open = threading.Event()

    def await_request(self) -> None:
        """Wait until one more request has arrived."""
        assert self._arrivals.acquire(timeout=_HANG_S), "no request has arrived"

    def open(self) -> None:
        """Let all requests continue."""
        self._is_open.set()

    def pass_through(self) -> None:
        self._stopped[threading.current_thread()] = self
        self._arrivals.release()
        assert self._is_open.wait(_HANG_S), "the gate was never opened"
        del self._stopped[threading.current_thread()]

    @classmethod
    def stops(cls, thread: threading.Thread) -> bool:
        """Return whether a thread is blocked at a gate."""
        gate = cls._stopped.get(thread)
        return gate is not None and not gate._is_open.is_set()


class FakeTenant:
    """The API of one tenant, as `Listings` and `Pdfs` use it.

    A request is written ``namespaces``, ``list NAMESPACE`` or ``pdf NAMESPACE/NAME``. Failures,
    gates and hooks are set for one request or, by its first word, for all of a kind.

    Threading: `_lock` guards `_calls`, `connections` and `deadlines_left_s`; a test sets failures,
    gates and hooks before the requests that they affect.
    """

    def __init__(self) -> None:
        self.invoices_of: dict[str, dict[str, Invoice]] = {}
        self.is_partial = False
        self.deadlines_left_s: dict[str, float] = {}
        self.bypassed_caches: dict[str, bool] = {}
        self.credential = "token"
        self.connections = 0  # that were wanted ahead, at most
        self._pdfs: dict[str, bytes] = {}
        self._failures: dict[str, Exception] = {}
        self._hooks: dict[str, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._calls: list[str] = []

    # The tenant's data.

    def open_namespace(self, namespace: str) -> None:
        self.invoices_of.setdefault(namespace, {})

    def bill(self, invoice: Invoice, pdf: bytes | None = None) -> Invoice:
        """Issue an invoice, or change the one with its name; without a PDF it keeps its own."""
        self.open_namespace(invoice.namespace)
        self.invoices_of[invoice.namespace][invoice.name] = invoice
        path = f"{invoice.namespace}/{invoice.name}"
        self._pdfs[path] = pdf or self._pdfs.get(path) or pdf_of(path)
        return invoice

    def withdraw(self, invoice: Invoice) -> None:
        """Leave an invoice out of the listing and answer 404 for its PDF."""
        del self.invoices_of[invoice.namespace][invoice.name]
        del self._pdfs[f"{invoice.namespace}/{invoice.name}"]

    def pdf(self, invoice: Invoice) -> bytes:
        return self._pdfs[f"{invoice.namespace}/{invoice.name}"]

    def has(self, invoice: Invoice) -> bool:
        return f"{invoice.namespace}/{invoice.name}" in self._pdfs

    # Failures, hooks and gates.

    def fail(self, call: str, error: Exception) -> None:
        """Make a request, or all of its kind, fail until `fix`."""
        self._failures[call] = error

    def fix(self) -> None:
        self._failures.clear()

    def during(self, call: str, hook: Callable[[], None]) -> None:
        """Call a hook while a request is in flight."""
        self._hooks[call] = hook

    @contextmanager
    def blocking(self, call: str) -> Iterator[Gate]:
        """Block a request, or all of its kind, at a gate, which opens at the end of the block."""
        gate = Gate()
        self._hooks[call] = gate.pass_through
        try:
            yield gate
        finally:
            gate.open()
            del self._hooks[call]

    def take_requests(self) -> list[str]:
        """Return the requests since the last call, in their order."""
        with self._lock:
            taken, self._calls = self._calls, []
        return taken

    # The API.

    def connect_ahead(self, count: int, _deadline: Deadline) -> bool:
        with self._lock:
            self.connections = max(self.connections, count)
        return False

    def namespaces(self, deadline: Deadline, *, bypass_caches: bool = False) -> NamespaceList:
        self.bypassed_caches["namespaces"] = bypass_caches
        self._take("namespaces", deadline)
        return NamespaceList(tuple(self.invoices_of), self.is_partial)

    def invoices(
        self, namespace: str, deadline: Deadline, *, bypass_caches: bool = False
    ) -> tuple[Invoice, ...]:
        self.bypassed_caches[f"list {namespace}"] = bypass_caches
        self._take(f"list {namespace}", deadline)
        if namespace not in self.invoices_of:
            raise NotFound("the server answered 404: no such namespace")
        return tuple(self.invoices_of[namespace].values())

    def invoice_pdf(self, invoice: Invoice, deadline: Deadline, *, bypass_caches: bool) -> bytes:
        key = f"{invoice.namespace}/{invoice.name}"
        self.bypassed_caches[f"pdf {key}"] = bypass_caches
        self._take(f"pdf {key}", deadline)
        pdf = self._pdfs.get(key)
        if pdf is None:
            raise NotFound("the server answered 404: no such invoice")
        return pdf

    def _take(self, call: str, deadline: Deadline) -> None:
        with self._lock:
            self._calls.append(call)
            self.deadlines_left_s[call] = deadline.left_s()
        for written in {call, call.split()[0]}:
            if written in self._hooks:
                self._hooks[written]()
        for written in {call, call.split()[0]}:
            if written in self._failures:
                raise self._failures[written]


class TenantOfMount:
    """A tenant as one mount uses it, which notes what the credential may access."""

    def __init__(self, tenant: FakeTenant, note_access: NoteAccess) -> None:
        self._tenant = tenant
        self._note_access = note_access

    def connect_ahead(self, count: int, deadline: Deadline) -> bool:
        return self._tenant.connect_ahead(count, deadline)

    def namespaces(self, deadline: Deadline, *, bypass_caches: bool = False) -> NamespaceList:
        with self._noted(NAMESPACES):
            return self._tenant.namespaces(deadline, bypass_caches=bypass_caches)

    def invoices(
        self, namespace: str, deadline: Deadline, *, bypass_caches: bool = False
    ) -> tuple[Invoice, ...]:
        with self._noted(INVOICES, namespace):
            return self._tenant.invoices(namespace, deadline, bypass_caches=bypass_caches)

    def invoice_pdf(self, invoice: Invoice, deadline: Deadline, *, bypass_caches: bool) -> bytes:
        with self._noted(PDF, invoice.namespace):
            return self._tenant.invoice_pdf(invoice, deadline, bypass_caches=bypass_caches)

    @contextmanager
    def _noted(self, kind: str, namespace: str = "") -> Iterator[None]:
        credential = self._tenant.credential
        try:
            yield
        except Denied as error:
            if type(error) is Denied:
                self._note_access(credential, kind, namespace, is_allowed=False)
            raise
        self._note_access(credential, kind, namespace, is_allowed=True)


def pdf_of(text: str, size_bytes: int = 0) -> bytes:
    """Return bytes that count as a PDF, different for different texts, padded to a size."""
    head, tail = f"%PDF-1.4 {text}\n".encode("utf-8", "surrogatepass"), b"%%EOF"
    return head + b"%" * (size_bytes - len(head) - len(tail)) + tail
