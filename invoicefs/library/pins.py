"""Pins: the open version of each invoice, which all its handles share.

Invariants:

1. While any handle on an invoice is open, every open gets the version that is pinned to it.
2. Open content takes at most `MAX_PINNED_BYTES` of memory in total. Content beyond that is served
   from unlinked files in the folder of the store, if the disk has room for them.

Threading: `_lock` guards `_size_bytes`, `_released_bytes` (since memory was last returned to the
system) and the handle counts in `_pins`, and is not held during I/O. Pins are frozen and replaced
by one assignment, so they are read without a lock.
"""

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from invoicefs.malloc import return_small_blocks
from invoicefs.model import Content, Invoice, OpenContent, SpilledBytes

MAX_PINNED_BYTES: Final = 64 * 1024 * 1024  # hundreds of typical PDFs, four of the largest

_TRIM_AFTER_BYTES: Final = 16 * 1024 * 1024

Spill = Callable[[bytes], SpilledBytes | None]
"""A function that writes bytes to disk, and returns None if that fails."""


class Pin(NamedTuple):
    """A version that is open, in memory unless it is `spilled`."""

    invoice: Invoice
    content: OpenContent
    spilled: SpilledBytes | None = None
    handles: int = 0

    @property
    def memory_bytes(self) -> int:
        """How much memory the content takes."""
        return 0 if self.spilled else len(self.content.pdf)


class Pins:
    """The invoices that are open now."""

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self._lock = threading.Lock()
        self._pins: dict[str, Pin] = {}
        self._size_bytes = 0
        self._released_bytes = 0

    def __len__(self) -> int:
        """Return the number of invoices that are open."""
        return len(self._pins)

    def get(self, key: str) -> Pin | None:
        """Return the open version of the invoice with this key, or None; memory only."""
        return self._pins.get(key)

    def namespace_of(self, directory: str) -> str | None:
        """Return the namespace of a directory in which an invoice is open, or None; memory only."""
        pins = tuple(self._pins.items())
        return next(
            (pin.invoice.namespace for key, pin in pins if key.startswith(f"{directory}/")), None
        )

    def take(self, invoice: Invoice) -> OpenContent | None:
        """Add a handle to an invoice that is open; returns None if it is not."""
        with self._lock:
            pin = self._pins.get(invoice.key)
            return None if pin is None else self._with_handle(pin)

    def add(self, invoice: Invoice, content: Content) -> OpenContent:
        """Open an invoice with this content, or add a handle to the version that is open."""
        in_memory = Pin(invoice, OpenContent(content.record, content.pdf))
        with self._lock:
            if invoice.key in self._pins or self._has_room_for(in_memory):
                return self._opened(in_memory)
        spilled = self._spill(content.pdf)
        if spilled is None:
            new = in_memory
        else:
            new = Pin(invoice, OpenContent(content.record, spilled), spilled)
        with self._lock:
            is_superseded = invoice.key in self._pins
            opened = self._opened(new)
        if is_superseded and spilled is not None:
            spilled.close()
        return opened

    def release(self, invoice: Invoice) -> None:
        """Remove one handle."""
        if self._remove_handle(invoice):
            return_small_blocks()

    def _has_room_for(self, pin: Pin) -> bool:
        return self._size_bytes + pin.memory_bytes <= MAX_PINNED_BYTES

    def _opened(self, new: Pin) -> OpenContent:
        """Add a handle to the version that is open, or open this one."""
        pin = self._pins.get(new.invoice.key)
        if pin is None:
            pin = new
            self._size_bytes += new.memory_bytes
        return self._with_handle(pin)

    def _remove_handle(self, invoice: Invoice) -> bool:
        """Remove one handle; returns whether none is open and much memory has been freed."""
        with self._lock:
            pin = self._pins[invoice.key]
            if pin.handles > 1:
                self._pins[invoice.key] = pin._replace(handles=pin.handles - 1)
                return False
            del self._pins[invoice.key]
            self._size_bytes -= pin.memory_bytes
            self._released_bytes += pin.memory_bytes
            is_much = not self._pins and self._released_bytes >= _TRIM_AFTER_BYTES
            if is_much:
                self._released_bytes = 0
        if pin.spilled is not None:
            pin.spilled.close()
        return is_much

    def _with_handle(self, pin: Pin) -> OpenContent:
        self._pins[pin.invoice.key] = pin._replace(handles=pin.handles + 1)
        return pin.content
