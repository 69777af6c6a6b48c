"""Which version of an invoice is open: the one that all its handles share.

Invariants:

1. While any handle on an invoice is open, every open gets the version that is pinned to it.
2. What is open takes `MOST_BYTES` of memory at most, in all handles together: beyond it content is
   served from files without a name in the folder of the store, as far as the disk takes them.

Threading: `_lock` guards `_size_bytes`, `_released_bytes` (since memory was given back last) and
the handle counts in `_pins`, and is held for no I/O. Pins are frozen and replaced by one
assignment, so they are read without a lock.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from invoicefs.model import Content, Invoice, OpenContent
from invoicefs.mount.malloc import give_back_small_blocks
from invoicefs.store.spill import SpilledPdf

MOST_BYTES: Final = 64 * 1024 * 1024  # hundreds of usual PDFs, four of the largest that are usual

_MUCH_BYTES: Final = 16 * 1024 * 1024

Spill = Callable[[bytes], SpilledPdf | None]
"""Puts bytes into a file; None where the disk cannot take them."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A version that is open. `size_bytes` is what it takes of the memory of this process."""

    invoice: Invoice
    content: OpenContent
    size_bytes: int
    handles: int = 0


class Pins:
    """The invoices that are open now."""

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self._lock = threading.Lock()
        self._pins: dict[str, Pin] = {}
        self._size_bytes = 0
        self._released_bytes = 0

    def __len__(self) -> int:
        """How many invoices are open."""
        return len(self._pins)

    def get(self, key: str) -> Pin | None:
        """The version of the invoice with this key that is open, if it is; memory only."""
        return self._pins.get(key)

    def namespace_of(self, directory: str) -> str | None:
        """The namespace of this directory if a handle on an invoice in it is open; memory only."""
        pins = tuple(self._pins.items())
        return next(
            (pin.invoice.namespace for key, pin in pins if key.startswith(f"{directory}/")), None
        )

    def take(self, invoice: Invoice) -> OpenContent | None:
        """One more handle on what is open of the invoice already; None where nothing is."""
        with self._lock:
            pin = self._pins.get(invoice.key)
            return None if pin is None else self._with_handle(pin)

    def add(self, invoice: Invoice, content: Content) -> OpenContent:
        """One more handle on the invoice, with this content unless another version is open."""
        has_room = self._size_bytes + len(content.pdf) <= MOST_BYTES
        spilled = None if has_room else self._spill(content.pdf)
        if spilled is None:
            new = Pin(invoice, OpenContent(content.record, content.pdf), len(content.pdf))
        else:
            new = Pin(invoice, OpenContent(content.record, spilled), size_bytes=0)
        with self._lock:
            # Another open may have been faster, and its version is the one that counts.
            pin = self._pins.get(invoice.key, new)
            if pin is new:
                self._size_bytes += new.size_bytes
            opened = self._with_handle(pin)
        if pin is not new and spilled is not None:
            spilled.close()
        return opened

    def release(self, invoice: Invoice) -> None:
        """Give back one handle."""
        if self._closed_by(invoice):
            give_back_small_blocks()

    def _closed_by(self, invoice: Invoice) -> bool:
        """Give back one handle; whether much memory is free by now, and nothing open any more."""
        with self._lock:
            pin = self._pins[invoice.key]
            if pin.handles > 1:
                self._pins[invoice.key] = replace(pin, handles=pin.handles - 1)
                return False
            del self._pins[invoice.key]
            self._size_bytes -= pin.size_bytes
            self._released_bytes += pin.size_bytes
            is_much = not self._pins and self._released_bytes >= _MUCH_BYTES
            if is_much:
                self._released_bytes = 0
        if isinstance(pin.content.pdf, SpilledPdf):
            pin.content.pdf.close()
        return is_much

    def _with_handle(self, pin: Pin) -> OpenContent:
        self._pins[pin.invoice.key] = replace(pin, handles=pin.handles + 1)
        return pin.content
