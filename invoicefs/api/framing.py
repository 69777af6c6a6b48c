"""HTTP/1.1 framing (RFC 9112), strict in everything that decides where a response ends.

A connection may only be reused after a response that has provably ended; otherwise the next request
gets the rest of this response (measured: a ``103 Early Hints``, which ``http.client`` mistakes for
a final response, shifted every later response by one). So:

1. Every 1xx response is skipped, except 101, which would change the protocol and is an error.
2. What decides where the body ends (``Content-Length``, ``Transfer-Encoding``, chunk sizes) must be
   unambiguous; otherwise the response is refused at once, with a reason.
3. Everything else is accepted, as curl does (tested with 7.88): names that are not tokens,
   whitespace before a colon, bare CRs, folded lines, lines that end with LF alone.
4. `FramedResponse.has_ended` is only True after the announced end, with nothing unread after it.

``http.client`` drops a header that it cannot parse and all that follow it, and mistakes the end of
the stream for the end of the headers: hence the head is read here.
"""

import http.client
import io
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_HEAD_BYTES = 256 * 1024  # all heads of a response together; curl allows 300 KiB
_CHUNK_LINE_BYTES = 4096
_STATUS_LINE = re.compile(rb"HTTP/(\d(?:\.\d)?)[ \t]+([1-9]\d\d)(?:[ \t]+(.*))?", re.IGNORECASE)
_BEGINNINGS_OF_BODIES = '{["<'
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]+")
_NUMBER = re.compile(r"\+?[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?(\r?\n)")
_SWITCHING_PROTOCOLS = 101


class NotHttp(http.client.HTTPException):
    """The response is invalid; the message continues a sentence that begins with "the response"."""


@dataclass(frozen=True, slots=True)
class Head:
    """The final status line and headers of a response; `headers` have no control characters."""

    version: str
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> tuple[str, ...]:
        """Return the elements of a header that is a list (RFC 9110, 5.6.1), in lower case."""
        texts = (value for header, value in self.headers if header.lower() == name)
        elements = (element.strip().lower() for text in texts for element in text.split(","))
        return tuple(element for element in elements if element)

    @property
    def closes(self) -> bool:
        """Whether the server closes the connection after the body, explicitly or by default."""
        options = self.values("connection")
        if self.version.startswith("1.0"):
            return "keep-alive" not in options
        return "close" in options


def read_head(stream: io.BufferedIOBase, on_first_byte: Callable[[], None]) -> Head:
    """Return the head of the final response, and skip those of interim ones.

    Raises `NotHttp`, and `ConnectionResetError` if the stream ends before the head does.
    """
    lines = _head_lines(stream, on_first_byte)
    while True:
        head = _parse_head(lines)
        if head.status == _SWITCHING_PROTOCOLS:
            raise NotHttp("switches to another protocol")
        if head.status >= 200:  # lower ones are interim, see RFC 9110, 15.2
            return head


def _head_lines(stream: io.BufferedIOBase, on_first_byte: Callable[[], None]) -> Iterator[bytes]:
    left_bytes = _HEAD_BYTES
    while True:
        line = stream.readline(left_bytes)
        if line:
            on_first_byte()
        left_bytes -= len(line)
        if left_bytes <= 0:
            raise NotHttp("has too many headers")
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the stream ended in the headers")
        yield line.rstrip(b"\r\n")


def _parse_head(lines: Iterator[bytes]) -> Head:
    match = _STATUS_LINE.fullmatch(next(lines))
    if match is None:
        raise NotHttp("is not HTTP")
    version, status, reason = match.groups(default=b"")
    headers: list[tuple[str, str]] = []
    for line in iter(lambda: next(lines), b""):
        text = line.decode("latin-1")
        if text[0] in " \t" and headers:  # folded, see RFC 9112, 5.2
            name, value = headers.pop()
            headers.append((name, f"{value} {_clean(text)}"))
            continue
        name, colon, value = text.partition(":")
        # If the end of the headers is missing, the body looks like headers.
        if not colon or "\0" in text or text[0] in _BEGINNINGS_OF_BODIES:
            raise NotHttp("has an invalid header")
        headers.append((name.strip(), _clean(value)))
    usable = tuple(header for header in headers if _TOKEN.fullmatch(header[0]))
    if len({value for name, value in usable if name.lower() == "location"}) > 1:
        raise NotHttp("redirects to two places")
    return Head(version.decode(), int(status), _clean(reason.decode("latin-1")), usable)


def _clean(value: str) -> str:
    return _CONTROLS.sub(" ", value).strip()


def body_of(head: Head, stream: io.BufferedReader) -> "Body":
    """Return the body that follows a head; raises `NotHttp` if its length is ambiguous."""
    if head.status in (204, 304):
        return Body(stream, iter(()))
    codings = [coding for coding in head.values("transfer-encoding") if coding != "identity"]
    if codings:
        if set(codings) != {"chunked"}:
            raise NotHttp("has an unknown transfer encoding")
        return Body(stream, _chunks(stream))
    if any(name.lower() == "content-length" for name, _ in head.headers):
        lengths = set(head.values("content-length"))
        if len(lengths) != 1 or not _NUMBER.fullmatch(length := lengths.pop()):
            raise NotHttp("has an ambiguous length")
        return Body(stream, iter((int(length),)))
    return Body(stream, None)


class Body(io.RawIOBase):
    """The bytes of a body, and nothing after them.

    A read raises `http.client.IncompleteRead` if the stream ends too early, and `NotHttp` if chunks
    are invalid. Closing it closes the stream.

    `parts` yields how many bytes may be read next, and ends with the body; it is None for a body
    that ends with the stream.
    """

    def __init__(self, stream: io.BufferedReader, parts: Iterator[int] | None) -> None:
        super().__init__()
        self._stream = stream
        self._parts = parts
        self._left_bytes = 0
        self.has_ended = False
        """The announced end was reached; never True for a body without one."""

    @property
    def ends_with_stream(self) -> bool:
        """Whether only the end of the stream marks the end of the body."""
        return self._parts is None

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`."""
        view = memoryview(buffer).cast("B")
        if self._parts is None:
            return self._stream.readinto(view)
        if self._left_bytes == 0 and not self._begin_part():
            return 0
        # Reads until the buffer is full: each call from urllib3 takes longer than one for a socket.
        count = self._stream.readinto(view[: self._left_bytes])
        if count == 0 and len(view):
            raise http.client.IncompleteRead(b"", self._left_bytes)
        self._left_bytes -= count
        return count

    def close(self) -> None:
        """Close the body and its stream."""
        if not self.closed:
            self._stream.close()
        super().close()

    def _begin_part(self) -> bool:
        assert self._parts is not None
        if not self.has_ended:
            self._left_bytes = next(self._parts, 0)
            self.has_ended = self._left_bytes == 0
        return not self.has_ended


def _chunks(stream: io.BufferedReader) -> Iterator[int]:
    """Yield the size of each chunk once the previous one has been read (RFC 9112, 7.1)."""
    while True:
        size_bytes, line_end = _chunk_size(stream)
        if size_bytes == 0:
            break
        yield size_bytes
        # A chunk ends with the same line end as its size, so a CR in it is not mistaken for one.
        end = stream.readline(len(line_end))
        if not line_end.startswith(end):
            raise NotHttp("has a chunk whose size is wrong")
        if end != line_end:
            raise http.client.IncompleteRead(b"")
    left_bytes = _HEAD_BYTES
    while (line := stream.readline(left_bytes)) not in (b"\r\n", b"\n"):  # trailers
        left_bytes -= len(line)
        if not line.endswith(b"\n"):
            raise http.client.IncompleteRead(b"")


def _chunk_size(stream: io.BufferedReader) -> tuple[int, bytes]:
    """Return the size of the next chunk, 0 after the last one, and its line end."""
    line = stream.readline(_CHUNK_LINE_BYTES)
    match = _CHUNK_SIZE.fullmatch(line)
    if match:
        return int(match[1], 16), match[2]
    if not line.endswith(b"\n") and len(line) < _CHUNK_LINE_BYTES:
        raise http.client.IncompleteRead(b"")
    raise NotHttp("has a chunk without a size")


class FramedResponse(http.client.HTTPResponse):
    """An ``http.client`` response with this framing; `on_first_byte` is called when it begins.

    Its readers see a body without framing: neither chunks nor a length.
    """

    def __init__(
        self, sock: socket.socket, *args: Any, on_first_byte: Callable[[], None], **kwargs: Any
    ) -> None:
        super().__init__(sock, *args, **kwargs)
        self._sock = sock
        self._stream: Any = self.fp
        self._body: Body | None = None  # a proxy's response to CONNECT has none
        self._on_first_byte = on_first_byte
        self.has_ended = False
        """The announced end was reached, and nothing is unread after it."""

    def begin(self) -> None:
        """Read the head."""
        head = read_head(self._stream, self._on_first_byte)
        self._body = body_of(head, self._stream)
        self.version = 10 if head.version == "1.0" else 11
        self.code = self.status = head.status
        self.reason = head.reason
        self.headers = self.msg = http.client.HTTPMessage()
        # The transfer encoding is decoded here, and overrides any length (RFC 9112, 6.3).
        omitted = {"transfer-encoding"}
        if head.values("transfer-encoding"):
            omitted.add("content-length")
        for name, value in head.headers:
            if name.lower() not in omitted:
                self.headers[name] = value
        self.fp: Any = self._body
        self.length = None
        self.chunked = False
        self.will_close = head.closes or self._body.ends_with_stream

    def _close_conn(self) -> None:
        if self._body is not None and self._body.has_ended and not self.will_close:
            self.has_ended = not _has_unread(self._stream, self._sock)
        super()._close_conn()  # type: ignore[misc] # of http.client


def _has_unread(stream: io.BufferedReader, sock: socket.socket) -> bool:
    """Return whether any bytes after the response have arrived already."""
    timeout_s = sock.gettimeout()
    try:
        sock.settimeout(0)
        # TLS has an error of its own for "nothing yet".
        with suppress(OSError):
            return bool(stream.peek(1))
        return False
    finally:
        sock.settimeout(timeout_s)
