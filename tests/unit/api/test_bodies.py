"""Bodies are read up to a cap, decompressed in small steps, and within a shared memory limit."""

import gzip
import io
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invoicefs.api.bodies import SMALL_BYTES, BodyMemory, BodyTooLarge, Share, read_body
from invoicefs.clock import Deadline, SystemClock
from invoicefs.errors import TimedOut, UnusableResponse

CAP_BYTES = 4 * SMALL_BYTES
HANG_S = 10.0
GZIP = ["gzip", "x-gzip"]
gzipped = partial(gzip.compress, mtime=0)  # a timestamp would change the names of the tests


def within(seconds: float) -> Deadline:
    return Deadline.after(seconds, SystemClock())


@pytest.fixture
def memory() -> BodyMemory:
    return BodyMemory(2 * CAP_BYTES)


@pytest.fixture
def share(memory: BodyMemory) -> Iterator[Share]:
    with memory.share() as share:
        yield share


def read(sent: bytes, encoding: str, share: Share) -> bytes:
    return bytes(read_body(io.BytesIO(sent).read, encoding, CAP_BYTES, share, within(HANG_S)))


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=3), st.sampled_from(GZIP))
def test_a_gzip_body_of_several_members_is_decompressed(parts: list[bytes], name: str) -> None:
    sent = b"".join(map(gzip.compress, parts))
    with BodyMemory(CAP_BYTES).share() as share:
        assert read(sent, name, share) == b"".join(parts)


@pytest.mark.parametrize("encoding", ["", "identity", " Identity"])
def test_an_uncompressed_body_is_returned_unchanged(share: Share, encoding: str) -> None:
    assert read(b"as it is", encoding, share) == b"as it is"


def test_deflate_is_decompressed(share: Share) -> None:
    assert read(zlib.compress(b"as it is"), "deflate", share) == b"as it is"


@pytest.mark.parametrize(
    ("sent", "encoding"),
    [
        (gzipped(b"cut" * 100)[:-1], "gzip"),
        (gzipped(b"cut" * 100)[:20], "gzip"),
        (b"", "gzip"),
        (b"not gzip", "gzip"),
        (gzipped(b"whole") + b"and more", "gzip"),
        (gzipped(b"corrupt")[:-8] + bytes(8), "gzip"),
        (b"x", "br"),
        (gzipped(gzipped(b"twice")), "gzip, gzip"),
    ],
)
def test_a_body_that_cannot_be_decompressed_is_unusable(
    share: Share, sent: bytes, encoding: str
) -> None:
    with pytest.raises(UnusableResponse):
        read(sent, encoding, share)


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_body_over_its_cap_is_not_read_to_the_end(share: Share, encoding: str) -> None:
    body = bytes(64 * CAP_BYTES)
    sent = gzip.compress(body, compresslevel=1) if encoding else body
    stream = io.BytesIO(sent)
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            read_body(stream.read, encoding, CAP_BYTES, share, within(HANG_S))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 4 * CAP_BYTES


def test_a_small_body_takes_no_share_of_the_memory(memory: BodyMemory) -> None:
    with memory.share() as share, memory.share() as all_of_it:
        all_of_it.take(2 * CAP_BYTES, within(0))

        assert read(bytes(SMALL_BYTES), "", share) == bytes(SMALL_BYTES)
        assert share.size_bytes == 0


def test_a_large_body_waits_for_memory_until_its_deadline(memory: BodyMemory) -> None:
    with memory.share() as share, memory.share() as others:
        others.take(2 * CAP_BYTES, within(0))

        with pytest.raises(TimedOut):
            read_body(io.BytesIO(bytes(CAP_BYTES)).read, "", CAP_BYTES, share, within(0.01))


def test_a_large_body_continues_when_memory_is_free(memory: BodyMemory) -> None:
    read_bytes: list[int] = []

    def read_large() -> None:
        with memory.share() as share:
            read_bytes.append(len(read(bytes(CAP_BYTES), "", share)))

    with memory.share() as others:
        others.take(2 * CAP_BYTES, within(0))
        reading = threading.Thread(target=read_large)
        reading.start()
        assert read_bytes == []
    reading.join(HANG_S)

    assert read_bytes == [CAP_BYTES]


def test_a_body_larger_than_the_memory_is_read_alone() -> None:
    with BodyMemory(1).share() as share:
        assert len(read(bytes(CAP_BYTES), "", share)) == CAP_BYTES
