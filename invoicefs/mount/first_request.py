"""The API of a mount, with the first request on its way while the rest of the mount is created.

A round trip, or several with TLS, takes about as long as importing the rest of the program, so both
happen at the same time: see `lifecycle`. The library gets the outcome when it first lists the
namespaces, so retries, rate limits and access control apply to this request as to any other.

Threading: the first request has a thread of its own, which must not use the store. So the thread
that gets the outcome notes what was allowed. Until then there are no other requests.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from invoicefs.api.client import Api, NoteAccess
from invoicefs.clock import Deadline, SystemClock
from invoicefs.credentials.load import Credentials
from invoicefs.library.ports import Api as AnyApi
from invoicefs.model import Invoice, NamespaceList
from invoicefs.mount.activity import RequestCounters
from invoicefs.settings import Settings
from invoicefs.threads import start_thread


class _ClosableApi(AnyApi, Protocol):
    def close(self) -> None: ...


class _Note(NamedTuple):
    """The arguments of a `NoteAccess`."""

    credential: str
    kind: str
    namespace: str
    is_allowed: bool


class ApiWithFirstRequest:
    """An API from which the namespaces are requested at once, until `deadline`.

    `create` creates the API with a function that notes what is allowed. Raises what `create`
    raises, and `OutOfMemory`.
    """

    def __init__(self, create: Callable[[NoteAccess], _ClosableApi], deadline: Deadline) -> None:
        first: Future[NamespaceList] = Future()
        self._first: Future[NamespaceList] | None = first
        self._notes: list[_Note] = []
        self._note_access: NoteAccess | None = None
        self._api = create(self._note)

        def request() -> None:
            try:
                first.set_result(self._api.namespaces(deadline))
            except BaseException as error:
                first.set_exception(error)

        start_thread(request, "first-request")

    def note_access_with(self, note_access: NoteAccess) -> None:
        """Set the function that notes what the API allows, before any method below is called."""
        self._note_access = note_access

    def namespaces(self, deadline: Deadline, *, bypass_caches: bool = False) -> NamespaceList:
        """List the namespaces; the first call returns or raises the outcome of the first request.

        It may wait until the deadline of that request, which has not bypassed HTTP caches: mounts
        of a fleet that start at the same time share its response.
        """
        first = self._first
        if first is None:
            return self._api.namespaces(deadline, bypass_caches=bypass_caches)
        try:
            return first.result()
        finally:
            self._first = None
            for note in self._notes:
                self._note_now(note)

    def connect_ahead(self, count: int, deadline: Deadline) -> bool:
        """See `ports.Api`."""
        return self._api.connect_ahead(count, deadline)

    def invoices(
        self, namespace: str, deadline: Deadline, *, bypass_caches: bool = False
    ) -> tuple[Invoice, ...]:
        """See `ports.Api`."""
        return self._api.invoices(namespace, deadline, bypass_caches=bypass_caches)

    def invoice_pdf(self, invoice: Invoice, deadline: Deadline, *, bypass_caches: bool) -> bytes:
        """See `ports.Api`."""
        return self._api.invoice_pdf(invoice, deadline, bypass_caches=bypass_caches)

    def close(self) -> None:
        """Close the connections, which also ends the first request."""
        self._api.close()

    def _note(self, credential: str, kind: str, namespace: str, *, is_allowed: bool) -> None:
        note = _Note(credential, kind, namespace, is_allowed)
        if self._first is None:
            self._note_now(note)
        else:
            self._notes.append(note)

    def _note_now(self, note: _Note) -> None:
        assert self._note_access is not None
        self._note_access(note.credential, note.kind, note.namespace, is_allowed=note.is_allowed)


def connect(
    settings: Settings, credentials: Credentials, counters: RequestCounters
) -> ApiWithFirstRequest:
    """Return the API of a mount; raises `UserError` if the proxy for it cannot be used."""

    def create(note_access: NoteAccess) -> Api:
        return Api(
            settings.url,
            credentials,
            parallel=settings.parallel,
            max_pdf_size_bytes=settings.max_pdf_size_bytes,
            count_request=counters.add,
            note_access=note_access,
        )

    return ApiWithFirstRequest(create, Deadline.after(settings.timeout_s, SystemClock()))
