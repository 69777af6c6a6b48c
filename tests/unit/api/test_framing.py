"""The end of a response is unambiguous, or the response is refused with a readable message.

The accepted rows are those that curl 7.88 accepts.
"""

import http.client
import io
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invoicefs.api.framing import NotHttp, body_of, read_head

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
NEXT = b"HTTP/1.1 200 OK\r\n"  # must not be read

ACCEPTED = {
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n" + OK + LENGTH + b"\r\nhi",
    "100 to 199": b"".join(b"HTTP/1.1 %d x\r\n\r\n" % status for status in (100, 102, 103, 199))
    + (OK + LENGTH + b"\r\nhi"),
    "103 with a length": b"HTTP/1.1 103 x\r\nContent-Length: 5\r\n\r\n" + OK + LENGTH + b"\r\nhi",
    "1000 interim responses": b"HTTP/1.1 102 x\r\n\r\n" * 1000 + OK + LENGTH + b"\r\nhi",
    "UTF-8 in a name": OK + "X-Büro: 1\r\n".encode() + LENGTH + b"\r\nhi",
    "blank before a colon": OK + b"X-Customer : a\r\n" + LENGTH + b"\r\nhi",
    "blank before the colon of the length": OK + b"Content-Length : 2\r\n\r\nhi",
    "bare CR": OK + b"X-A: a\rb\r\n" + LENGTH + b"\r\nhi",
    "two CRs": OK + b"X-A: a\r\r\n" + LENGTH + b"\r\nhi",
    "other ends of lines": OK
    + b"X-A: \x0b\x0c\x1c\x1d\x1e\x85\xe2\x80\xa8b\r\n"
    + LENGTH
    + b"\r\nhi",
    "no name": OK + b": a\r\n" + LENGTH + b"\r\nhi",
    "folded": OK + b"X-A: a\r\n\tb: c\r\n" + LENGTH + b"\r\nhi",
    "LF alone": b"HTTP/1.1 200 OK\nX-A: a\nContent-Length: 2\n\nhi",
    "no reason": b"HTTP/1.1 200\r\n" + LENGTH + b"\r\nhi",
    "latin-1 reason": b"HTTP/1.1 200 \xfc\r\n" + LENGTH + b"\r\nhi",
    "lower case": b"http/1.1 200 ok\r\ncontent-length: 2\r\n\r\nhi",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\nhi",
    "HTTP/2 in words": b"HTTP/2 200\r\n" + LENGTH + b"\r\nhi",
    "a header of 90 kB": OK + b"X-A: " + b"a" * 90_000 + b"\r\n" + LENGTH + b"\r\nhi",
    "300 headers": OK + b"X-A: a\r\n" * 300 + LENGTH + b"\r\nhi",
    "the same length twice": OK + LENGTH + LENGTH + b"\r\nhi",
    "a list of one length": OK + b"Content-Length: 2, 2\r\n\r\nhi",
    "a plus": OK + b"Content-Length: +2\r\n\r\nhi",
    "chunks": OK + CHUNKED + b"\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
    "chunks and a length": OK + b"Content-Length: 9\r\n" + CHUNKED + b"\r\n2\r\nhi\r\n0\r\n\r\n",
    "chunks with LF alone": OK + CHUNKED + b"\r\n2\nhi\n0\n\n",
    "extension and trailers": OK
    + CHUNKED
    + b"\r\n2 ; a=b\r\nhi\r\n0;c\r\nX-A: b\r\nX-B: c\r\n\r\n",
    "zeros before a size": OK + CHUNKED + b"\r\n0000002\r\nhi\r\n000\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked, Chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "identity and a length": OK + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\nhi",
}

REFUSED = {
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n" + OK,
    "a body without an end of the headers": OK + b'{"pdf": "JVBERi0="}HTTP/1.1 200 OK\r\n' + LENGTH,
    "HTML without an end of the headers": OK + b"<a href='http://x'>\r\n" + LENGTH + b"\r\nhi",
    "two places": OK + b"Location: /a\r\nlocation: /b\r\n" + LENGTH + b"\r\nhi",
    "status 000": b"HTTP/1.1 000 x\r\n" + LENGTH + b"\r\nhi",
    "status 099": b"HTTP/1.1 099 x\r\n" + LENGTH + b"\r\nhi",
    "no colon": OK + b"X-A\r\n" + LENGTH + b"\r\nhi",
    "a NUL": OK + b"X-A: a\0b\r\n" + LENGTH + b"\r\nhi",
    "folded at once": OK + b" X-A\r\n" + LENGTH + b"\r\nhi",
    "four digits": b"HTTP/1.1 2000 OK\r\n" + LENGTH + b"\r\nhi",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "an empty line first": b"\r\n" + OK + LENGTH + b"\r\nhi",
    "headers without end": OK + b"X-A: a\r\n" * 40_000,
    "interim responses without end": b"HTTP/1.1 103 x\r\n\r\n" * 20_000,
    "two lengths": OK + LENGTH + b"Content-Length: 3\r\n\r\nhi!",
    "a list of two lengths": OK + b"Content-Length: 2, 3\r\n\r\nhi!",
    "a negative length": OK + b"Content-Length: -2\r\n\r\nhi",
    "a length with a unit": OK + b"Content-Length: 2x\r\n\r\nhi",
    "a hexadecimal length": OK + b"Content-Length: 0x2\r\n\r\nhi",
    "an empty length": OK + b"Content-Length:\r\n\r\nhi",
    "a length of 20 digits": OK + b"Content-Length: 99999999999999999999\r\n\r\nhi",
    "an unknown coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "a size with an underscore": OK + CHUNKED + b"\r\n0_2\r\nhi\r\n0\r\n\r\n",
    "a size with a sign": OK + CHUNKED + b"\r\n+2\r\nhi\r\n0\r\n\r\n",
    "a size with a prefix": OK + CHUNKED + b"\r\n0x2\r\nhi\r\n0\r\n\r\n",
    "no size": OK + CHUNKED + b"\r\n\r\nhi\r\n0\r\n\r\n",
    "a longer chunk": OK + CHUNKED + b"\r\n2\r\nhi!\r\n0\r\n\r\n",
    "a shorter chunk": OK + CHUNKED + b"\r\n3\r\nhi\r\n0\r\n\r\n",
}


def nothing() -> None:
    pass


def stream_of(raw: bytes) -> Any:
    return io.BufferedReader(io.BytesIO(raw))


def read(raw: bytes, then: Callable[[bytes], None] = lambda _: None) -> bytes:
    """Return the body of a response; `then` gets the rest of the stream."""
    stream = stream_of(raw)
    body = body_of(read_head(stream, nothing), stream)
    content = body.readall()
    assert isinstance(content, bytes)
    then(b"" if body.ends_with_stream else stream.read())
    assert body.has_ended is not body.ends_with_stream
    return content


@pytest.mark.parametrize("raw", ACCEPTED.values(), ids=ACCEPTED)
def test_responses_that_curl_accepts_are_read_to_their_exact_end(raw: bytes) -> None:
    left: list[bytes] = []

    assert read(raw + NEXT, left.append) == b"hi"
    assert left == [NEXT]


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)
def test_an_ambiguous_response_is_refused_with_a_readable_message(raw: bytes) -> None:
    with pytest.raises(NotHttp) as refused:
        read(raw + NEXT)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_a_body_ends_with_its_head(status: int) -> None:
    left: list[bytes] = []

    assert read(b"HTTP/1.1 %d x\r\n" % status + LENGTH + b"\r\nhi", left.append) == b""
    assert left == [b"hi"]


def test_a_body_without_a_length_ends_with_the_stream() -> None:
    assert read(OK + b"\r\nhi" + NEXT) == b"hi" + NEXT


@given(st.sampled_from(sorted(ACCEPTED)), st.data())
def test_a_response_truncated_anywhere_raises(name: str, data: st.DataObject) -> None:
    raw = ACCEPTED[name]
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]

    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        read(cut)


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"HTTP/1.1 200 OK\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\n", True),
        (b"HTTP/1.0 200 OK\r\n", True),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", False),
    ],
)
def test_the_head_says_whether_the_connection_closes(head: bytes, closes: bool) -> None:
    stream = stream_of(head + b"\r\n")

    assert read_head(stream, nothing).closes is closes


def test_the_first_byte_is_reported_before_the_head_is_complete() -> None:
    reports: list[None] = []
    stream = stream_of(b"HT")

    with pytest.raises(ConnectionResetError):
        read_head(stream, lambda: reports.append(None))

    assert reports
