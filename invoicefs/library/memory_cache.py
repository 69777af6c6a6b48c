"""Contents in memory, for what the disk cannot be counted on.

The store on disk may be full, locked or small: what has just been brought into it may be gone at
the next moment. So contents that somebody is about to ask for are held here as well, up to a sum
of sizes; beyond it those go that came first.

Threading: `_lock` guards all fields of a `MemoryCache`, and is held for no I/O. `get` takes no
lock.
"""

import threading

from invoicefs.model import Content


class MemoryCache:
    """Contents by the keys of their invoices, up to `limit_bytes` in sum."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._contents: dict[str, Content] = {}
        self._size_bytes = 0

    def get(self, key: str) -> Content | None:
        """What is held for this invoice."""
        return self._contents.get(key)

    def has_room_for(self, size_bytes: int) -> bool:
        """Whether content of this size can be held without letting another one go."""
        return self._size_bytes + size_bytes <= self._limit_bytes

    def put(self, key: str, content: Content) -> None:
        """Hold this content, in place of an earlier one; nothing where it exceeds the limit."""
        with self._lock:
            self._remove(key)
            self._contents[key] = content
            self._size_bytes += len(content.pdf)
            while self._size_bytes > self._limit_bytes:
                self._remove(next(iter(self._contents)))

    def discard(self, key: str) -> None:
        """Hold nothing for this invoice any more."""
        with self._lock:
            self._remove(key)

    def _remove(self, key: str) -> None:
        content = self._contents.pop(key, None)
        if content is not None:
            self._size_bytes -= len(content.pdf)
