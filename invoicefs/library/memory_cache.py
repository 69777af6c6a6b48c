"""PDFs in memory, for when the disk cannot be relied on.

The disk cache may be full, locked or small, so a PDF that was just downloaded may be evicted a
moment later. PDFs that are about to be opened are therefore kept here as well, up to a total size;
beyond it, the oldest are discarded first.

Threading: `_lock` guards all fields of a `MemoryCache` and is not held during I/O. `get` and
`has_room_for` take no lock.
"""

import threading

from invoicefs.model import Content


class MemoryCache:
    """Content by the keys of invoices, up to `limit_bytes` in total."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._contents: dict[str, Content] = {}
        self._size_bytes = 0

    def get(self, key: str) -> Content | None:
        """Return the content of the invoice with this key, or None."""
        return self._contents.get(key)

    def has_room_for(self, size_bytes: int) -> bool:
        """Return whether content of this size fits without discarding other content."""
        return self._size_bytes + size_bytes <= self._limit_bytes

    def put(self, key: str, content: Content) -> None:
        """Add or replace the content of an invoice; the oldest beyond the limit is discarded."""
        with self._lock:
            self._remove(key)
            self._contents[key] = content
            self._size_bytes += len(content.pdf)
            while self._size_bytes > self._limit_bytes:
                self._remove(next(iter(self._contents)))

    def discard(self, key: str) -> None:
        """Remove the content of an invoice, if there is any."""
        with self._lock:
            self._remove(key)

    def _remove(self, key: str) -> None:
        content = self._contents.pop(key, None)
        if content is not None:
            self._size_bytes -= len(content.pdf)
