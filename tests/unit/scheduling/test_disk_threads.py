"""The store is read in a few threads that stay."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from invoicefs.errors import TimedOut
from invoicefs.scheduling.disk_threads import DiskThreads

HANG_S = 20.0
FEW = 4
"""Each thread that reads the store keeps a connection to its database."""


@pytest.fixture
def disk() -> Iterator[DiskThreads]:
    disk = DiskThreads(timeout_s=HANG_S)
    yield disk
    disk.close()


def test_result_is_that_of_the_read(disk: DiskThreads) -> None:
    content = object()

    assert disk.run(lambda: content) is content


def test_each_thread_closes_what_it_holds_when_it_ends() -> None:
    """Python 3.13 warns of each connection to a database that nobody closes."""
    ended: list[int] = []
    before = set(threading.enumerate())
    disk = DiskThreads(HANG_S, lambda: ended.append(threading.get_ident()))
    threads = set(threading.enumerate()) - before
    disk.close()
    for thread in threads:
        thread.join(HANG_S)

    assert sorted(ended) == sorted(thread.ident or 0 for thread in threads)


def test_read_that_finds_nothing_is_no_error(disk: DiskThreads) -> None:
    assert disk.run(lambda: None) is None


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), KeyError("bug"), StopIteration(), TimeoutError()]
)
def test_error_of_a_read_is_raised(disk: DiskThreads, error: Exception) -> None:
    def read() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        disk.run(read)

    assert raised.value is error


def test_read_after_one_that_failed_works(disk: DiskThreads) -> None:
    def fail() -> None:
        raise OSError(5, "Input/output error")

    for _ in range(FEW):
        with pytest.raises(OSError, match="Input/output"):
            disk.run(fail)

    assert disk.run(lambda: "content") == "content"


def test_reads_from_many_short_lived_threads_use_few_that_stay(disk: DiskThreads) -> None:
    readers: set[threading.Thread] = set()

    def call_back() -> None:
        disk.run(lambda: readers.add(threading.current_thread()))

    callers = [threading.Thread(target=call_back) for _ in range(30)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(HANG_S)

    assert 1 <= len(readers) <= FEW
    assert readers.isdisjoint(callers)
    assert all(reader.is_alive() for reader in readers)


def test_reads_wait_for_one_of_the_few(disk: DiskThreads) -> None:
    more_than_few = threading.Barrier(FEW + 1)

    def read() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            more_than_few.wait(0.05)
            at_one_time.append(FEW + 1)

    at_one_time: list[int] = []
    with ThreadPoolExecutor(2 * FEW) as callers:
        for _ in range(2 * FEW):
            callers.submit(disk.run, read)

    assert at_one_time == []


def test_slow_read_does_not_hold_up_another(disk: DiskThreads) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def read_slowly() -> bool:
        has_begun.set()
        return may_end.wait(HANG_S)

    with ThreadPoolExecutor(1) as caller:
        slow = caller.submit(disk.run, read_slowly)
        assert has_begun.wait(HANG_S)

        assert disk.run(lambda: "content") == "content"

        may_end.set()
        assert slow.result(HANG_S)


class Disk:
    """A disk that hangs until it is mended."""

    def __init__(self) -> None:
        self._is_mended = threading.Event()
        self._hanging = threading.Semaphore(0)

    def read(self) -> str:
        self._hanging.release()
        assert self._is_mended.wait(HANG_S)
        return "content"

    def until_read(self) -> None:
        assert self._hanging.acquire(timeout=HANG_S)

    def mend(self) -> None:
        self._is_mended.set()


@pytest.fixture
def hanging() -> Iterator[Disk]:
    hanging = Disk()
    yield hanging
    hanging.mend()


@pytest.fixture
def impatient() -> Iterator[DiskThreads]:
    disk = DiskThreads(timeout_s=0.02)
    yield disk
    disk.close()


def test_nobody_waits_for_a_disk_that_hangs(impatient: DiskThreads, hanging: Disk) -> None:
    for _ in range(FEW):
        with pytest.raises(TimedOut):
            impatient.run(hanging.read)


def test_disk_that_answers_again_is_read_again(impatient: DiskThreads, hanging: Disk) -> None:
    for _ in range(FEW):
        with pytest.raises(TimedOut):
            impatient.run(hanging.read)

    hanging.mend()

    contents = (run_if_in_time(impatient, lambda: "content") for _ in range(1000))
    assert "content" in contents  # on a busy machine not at the first try


def run_if_in_time(disk: DiskThreads, read: Callable[[], str]) -> str | None:
    try:
        return disk.run(read)
    except TimedOut:
        return None


def test_read_that_was_given_up_is_not_made_later(impatient: DiskThreads, hanging: Disk) -> None:
    late: list[str] = []
    for _ in range(FEW):
        with pytest.raises(TimedOut):
            impatient.run(hanging.read)
    with pytest.raises(TimedOut):
        impatient.run(lambda: late.append("read"))
    before = set(threading.enumerate())

    hanging.mend()
    impatient.close()
    for thread in before - {threading.main_thread()}:
        thread.join(HANG_S)

    assert late == []


def test_close_ends_the_threads() -> None:
    before = set(threading.enumerate())
    disk = DiskThreads(timeout_s=HANG_S)
    disk.run(lambda: None)
    begun = set(threading.enumerate()) - before

    disk.close()
    for thread in begun:
        thread.join(HANG_S)

    assert begun
    assert not any(thread.is_alive() for thread in begun)


def test_close_does_not_wait_for_the_read_that_runs(hanging: Disk) -> None:
    disk = DiskThreads(timeout_s=HANG_S)
    with ThreadPoolExecutor(1) as caller:
        content = caller.submit(disk.run, hanging.read)
        hanging.until_read()

        disk.close()

        assert not content.done()
        hanging.mend()
        assert content.result(HANG_S) == "content"


def test_who_waits_for_a_thread_at_the_close_is_told_in_words_of_the_domain(hanging: Disk) -> None:
    disk = DiskThreads(timeout_s=0.2)
    about_to_read = threading.Barrier(2 * FEW + 1)

    def read() -> str:
        about_to_read.wait(HANG_S)
        return disk.run(hanging.read)

    with ThreadPoolExecutor(2 * FEW) as callers:
        reads = [callers.submit(read) for _ in range(2 * FEW)]
        about_to_read.wait(HANG_S)
        hanging.until_read()

        disk.close()
        hanging.mend()

        errors = {type(read.exception(HANG_S)) for read in reads}
    # `RuntimeError` for those who come after the close
    assert errors <= {type(None), TimedOut, RuntimeError}


def test_unused_threads_can_be_closed() -> None:
    DiskThreads(timeout_s=HANG_S).close()


def test_nothing_is_read_after_close(disk: DiskThreads) -> None:
    disk.close()
    reads: list[None] = []

    with pytest.raises(TimedOut, match="ending"):
        disk.run(lambda: reads.append(None))

    assert reads == []
