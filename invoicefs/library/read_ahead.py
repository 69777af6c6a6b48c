"""Read-ahead: requests are made in the background before a program needs their results.

An archiving program opens one file after another, and each needs a slow request: without
read-ahead it would take the sum of all request times. So during sequential access, the next
invoices are downloaded while the program processes the current one. A program that reads one
directory after another gets the next listings ahead, and the invoices of the next namespace, which
is listed for that. `access_pattern` defines which accesses are sequential.

Programs do not announce their order, so the order of inodes (``cp -r``, ``tar``, ``find``) and the
order of names (``rsync``, ``rclone``) are both tracked.

No caller waits for read-ahead, and its failures are not raised.

Threading: `_lock` guards the patterns and is not held during I/O. `_came_from` and `_last` change
by single operations.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple

from invoicefs.clock import Clock, Deadline
from invoicefs.library.access_pattern import AccessPattern
from invoicefs.library.listings import Listings
from invoicefs.library.namespaces import Namespaces
from invoicefs.model import Invoice, Listing, Order
from invoicefs.settings import Settings

Start = Callable[[Invoice, Deadline, Callable[[], bool]], bool]
"""Starts a download in the background if a predicate still holds; see `Scheduler.start`."""

_NOWHERE = ""  # no namespace has this name
_STEPS = 2  # that make a sequence of namespaces
_MOST_EMPTY = 256  # consecutive namespaces without invoices


class Tree:
    """The namespaces and invoices of a tenant, as far as this mount has listed them."""

    def __init__(
        self, namespaces: Namespaces, listings: Listings, clock: Clock, settings: Settings
    ) -> None:
        self._namespaces = namespaces
        self._listings = listings
        self._clock = clock
        self._timeout_s = settings.timeout_s
        self._came_from: dict[str, str | None] = {}

    def note_step(self, namespace: str, came_from: str | None) -> None:
        """Note from which namespace a program has come to another one; None is the root."""
        self._came_from[namespace] = came_from

    def is_in_sequence(self, namespace: str, order: Order) -> bool:
        """Return whether a program has come to a namespace through the two before it in an order.

        Then it will probably go on to the next one. Before the first one is the root. A program
        that was given a namespace, or uses the other order, does not go on to the next one. In
        the other order, a single step may be one by chance.
        """
        here: str | None = namespace
        for _ in range(_STEPS):
            if here is None:
                break
            before = self.neighbour(here, order, -1)
            if self._came_from.get(here, _NOWHERE) != before:
                return False
            here = before
        return True

    def listing(self, namespace: str) -> Listing:
        """Return the last listing that this mount has requested, or an empty one."""
        return self._listings.requested_listing(namespace)

    def neighbour(self, namespace: str, order: Order, step: int) -> str | None:
        """Return the namespace that many steps after another one, or None."""
        return self._namespaces.neighbour(namespace, order, step)

    def is_listing_due(self, namespace: str) -> bool:
        """Return whether the next access to a namespace would request its listing."""
        return self._listings.is_due(namespace)

    def start_listing(self, namespace: str) -> bool:
        """List a namespace in the background; returns False if that is impossible."""
        return self._listings.start(namespace, self.deadline())

    def deadline(self) -> Deadline:
        """Return the deadline of a request that begins now."""
        return Deadline.after(self._timeout_s, self._clock)


class _NamespaceSequence:
    """The `Sequence` of the namespaces of a tree, whose requests are listings."""

    def __init__(self, tree: Tree, order: Order) -> None:
        self._tree = tree
        self._order = order
        self.is_wanted = tree.is_listing_due
        self.start = tree.start_listing

    def before(self, place: str) -> str | None:
        return self._tree.neighbour(place, self._order, -1)

    def after(self, place: str) -> str | None:
        return self._tree.neighbour(place, self._order, 1)


class _Place(NamedTuple):
    """The position of an invoice in the listing of its namespace."""

    namespace: str
    position: int


class _InvoiceSequence:
    """The `Sequence` of the invoices of a tree, whose requests are downloads.

    It ends at a namespace that must be listed first, and goes on when that has been done. It also
    ends with a namespace to which the program did not come in this order.
    """

    def __init__(
        self, tree: Tree, order: Order, start: Start, is_wanted: Callable[[Invoice], bool]
    ) -> None:
        self._tree = tree
        self._order = order
        self._start = start
        self._is_wanted = is_wanted

    def place(self, invoice: Invoice) -> _Place | None:
        """Return the place of an invoice, or None if it was not listed."""
        position = self._tree.listing(invoice.namespace).position(invoice, self._order)
        return None if position is None else _Place(invoice.namespace, position)

    def before(self, place: _Place) -> _Place | None:
        if place.position > 0:
            return _Place(place.namespace, place.position - 1)
        namespace = self._nearest_with_invoices(place.namespace, -1)
        if namespace is None:
            return None
        return _Place(namespace, len(self._tree.listing(namespace).invoices) - 1)

    def after(self, place: _Place) -> _Place | None:
        if place.position + 1 < len(self._tree.listing(place.namespace).invoices):
            return _Place(place.namespace, place.position + 1)
        if not self._tree.is_in_sequence(place.namespace, self._order):
            return None
        namespace = self._nearest_with_invoices(place.namespace, 1)
        return None if namespace is None else _Place(namespace, 0)

    def is_wanted(self, place: _Place) -> bool:
        invoice = self._invoice(place)
        return invoice is not None and self._is_wanted(invoice)

    def start(self, place: _Place) -> bool:
        invoice = self._invoice(place)
        return invoice is not None and self._start(
            invoice, self._tree.deadline(), lambda: self._is_wanted(invoice)
        )

    def _nearest_with_invoices(self, namespace: str, step: int) -> str | None:
        """Return the next namespace in a direction that has invoices, or None.

        A namespace on the way that must be listed first is listed in the background.
        """
        for _ in range(_MOST_EMPTY):
            neighbour = self._tree.neighbour(namespace, self._order, step)
            if neighbour is None:
                return None
            if step > 0 and self._tree.is_listing_due(neighbour):
                self._tree.start_listing(neighbour)
                return None
            if self._tree.listing(neighbour).invoices:
                return neighbour
            namespace = neighbour
        return None

    def _invoice(self, place: _Place) -> Invoice | None:
        """Return the invoice at a place; None if a refreshed listing has become shorter."""
        invoices = self._tree.listing(place.namespace).in_order(self._order)
        return invoices[place.position] if place.position < len(invoices) else None


class InvoicesAhead:
    """Downloads up to `largest_window` invoices ahead of sequential visits to invoices.

    `start` starts a download; only invoices for which `is_wanted` returns True are downloaded.
    `connect` opens that many connections for the downloads of the next step.
    """

    def __init__(
        self,
        tree: Tree,
        start: Start,
        is_wanted: Callable[[Invoice], bool],
        connect: Callable[[int], None],
        *,
        largest_window: int,
    ) -> None:
        self._connect = connect
        self._is_off = largest_window == 0
        self._lock = threading.Lock()
        sequences = [_InvoiceSequence(tree, order, start, is_wanted) for order in Order]
        self._patterns = [
            (sequence, AccessPattern(sequence, largest_window)) for sequence in sequences
        ]

    def visit(self, invoice: Invoice) -> None:
        """Note a visit to an invoice, and start downloads ahead of it."""
        if self._is_off:
            return
        more = 0
        with self._lock:
            for sequence, pattern in self._patterns:
                place = sequence.place(invoice)
                if place is not None:
                    more = max(more, pattern.visit(place))
        if more:
            self._connect(1 + more)  # one is for the program itself


class ListingsAhead:
    """Lists up to `largest_window` namespaces ahead of sequential visits to directories."""

    def __init__(self, tree: Tree, *, largest_window: int) -> None:
        self._tree = tree
        self._is_off = largest_window == 0
        self._lock = threading.Lock()
        self._patterns = [
            AccessPattern(_NamespaceSequence(tree, order), largest_window) for order in Order
        ]
        self._last: str | None = _NOWHERE

    def visit_root(self) -> None:
        """Note a visit to the root."""
        self._last = None

    def visit(self, namespace: str) -> None:
        """Note a visit to the directory of a namespace, and start listings ahead of it."""
        if self._is_off:
            return
        with self._lock:
            for pattern in self._patterns:
                pattern.visit(namespace)
            if namespace != self._last:
                self._tree.note_step(namespace, self._last)
                self._last = namespace
