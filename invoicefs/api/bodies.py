"""Reads the body of a response: up to a cap, decompressed in small steps, in limited memory.

A small body may be large once decompressed: 59 KiB of gzip were 60 MiB of JSON (measured). So the
output of a compressed body is counted as it is produced, and bodies that are not small share
`BodyMemory`, however many requests are in flight.

Threading: `_freed` guards `_taken_bytes`, and is not held during I/O.
"""

import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from invoicefs.clock import Deadline
from invoicefs.errors import TimedOut, UnusableResponse

CHUNK_BYTES: Final = 64 * 1024
SMALL_BYTES: Final = 256 * 1024
"""Bodies up to this size are not counted: nearly all invoices are smaller."""

_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32  # see inflateInit2 in zlib.h
_COMPRESSIONS: Final = frozenset({"gzip", "x-gzip", "deflate"})

Read = Callable[[int], bytes]
"""A function that returns up to the given number of bytes, and none at the end of the body."""


class BodyTooLarge(UnusableResponse):
    """The body is larger than its cap."""


class BodyMemory:
    """Limits how many bytes of bodies are in memory at the same time."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._freed = threading.Condition()
        self._taken_bytes = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """Yield a share for one body, empty at first, and release it at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            with self._freed:
                self._taken_bytes -= share.size_bytes
                self._freed.notify_all()

    def take(self, size_bytes: int, deadline: Deadline) -> None:
        """Reserve memory, as soon as there is enough; raises `TimedOut`."""
        with self._freed:
            while self._taken_bytes and self._taken_bytes + size_bytes > self._limit_bytes:
                if deadline.left_s() == 0:
                    raise TimedOut("other large responses are using all the memory")
                deadline.clock.wait(self._freed, deadline.left_s())
            self._taken_bytes += size_bytes


class Share:
    """The memory that one body has reserved of a `BodyMemory`.

    It is reserved in one step: bodies that waited for more while they had some could block each
    other.
    """

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self.size_bytes = 0

    def take(self, size_bytes: int, deadline: Deadline) -> None:
        """Reserve this size, unless the share has been reserved already; raises `TimedOut`."""
        if not self.size_bytes:
            self._memory.take(size_bytes, deadline)
            self.size_bytes = size_bytes


def read_body(
    read: Read, encoding: str, cap_bytes: int, share: Share, deadline: Deadline
) -> bytearray:
    """Return the whole body, decompressed.

    `encoding` is the value of ``Content-Encoding``. Raises `BodyTooLarge` if the body exceeds
    the cap, `UnusableResponse` if it cannot be decompressed, and `TimedOut`.
    """
    body = bytearray()
    for part in _parts(read, encoding.strip().lower()):
        body += part
        if len(body) > cap_bytes:
            raise BodyTooLarge("the response is larger than any valid one")
        if len(body) > SMALL_BYTES:
            share.take(cap_bytes, deadline)
    return body


def _parts(read: Read, encoding: str) -> Iterator[bytes]:
    if encoding in ("", "identity"):
        return iter(lambda: read(CHUNK_BYTES), b"")
    if encoding in _COMPRESSIONS:
        return _decompressed(read)
    raise UnusableResponse("the response has an unknown compression")


def _decompressed(read: Read) -> Iterator[bytes]:
    """Yield the parts of a compressed body, none larger than `CHUNK_BYTES`."""
    stream = zlib.decompressobj(_GZIP_OR_ZLIB)
    while data := read(CHUNK_BYTES):
        while data:
            if stream.eof:  # another member follows, see RFC 1952, 2.2
                stream = zlib.decompressobj(_GZIP_OR_ZLIB)
            try:
                part = stream.decompress(data, CHUNK_BYTES)
            except zlib.error as error:
                raise UnusableResponse("the response cannot be decompressed") from error
            if part:
                yield part
            data = stream.unused_data if stream.eof else stream.unconsumed_tail
    if not stream.eof:
        raise UnusableResponse("the compressed response is cut short")
