"""The store is read in a few long-lived threads."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from invoicefs.clock import Deadline, SystemClock
from invoicefs.errors import CacheHangs, CallerKilled, TimedOut
from invoicefs.scheduling import disk_threads
from invoicefs.scheduling.disk_threads import DiskThreads

HANG_S = 20.0
FEW = 4
"""Upper bound for threads: each thread that reads the store keeps a database connection."""


@pytest.fixture
def disk() -> Iterator[DiskThreads]:
    disk = DiskThreads(timeout_s=HANG_S)
    yield disk
    disk.close()


def test_run_returns_the_result_of_the_read(disk: DiskThreads) -> None:
    content = object()

    assert disk.run(lambda: content) is content


def test_each_thread_calls_on_thread_end_before_it_ends() -> None:
    """Python 3.13 warns of each database connection that is not closed."""
    ended: list[int] = []
    before = set(threading.enumerate())
    disk = DiskThreads(HANG_S, lambda: ended.append(threading.get_ident()))
    threads = set(threading.enumerate()) - before
    disk.close()
    for thread in threads:
        thread.join(HANG_S)

    assert sorted(ended) == sorted(thread.ident or 0 for thread in threads)


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), KeyError("bug"), StopIteration(), TimeoutError()]
)
def test_run_raises_the_error_of_the_read(disk: DiskThreads, error: Exception) -> None:
    def read() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        disk.run(read)

    assert raised.value is error


def test_reads_work_after_failed_reads(disk: DiskThreads) -> None:
    def fail() -> None:
        raise OSError(5, "Input/output error")

    for _ in range(FEW):
        with pytest.raises(OSError, match="Input/output"):
            disk.run(fail)

    assert disk.run(lambda: "content") == "content"


def test_many_short_lived_callers_share_a_few_threads(disk: DiskThreads) -> None:
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


def test_reads_wait_for_a_free_thread(disk: DiskThreads) -> None:
    more_than_few = threading.Barrier(FEW + 1)

    def read() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            more_than_few.wait(0.05)
            overlaps.append(FEW + 1)

    overlaps: list[int] = []
    with ThreadPoolExecutor(2 * FEW) as callers:
        for _ in range(2 * FEW):
            callers.submit(disk.run, read)

    assert overlaps == []


def test_a_slow_read_does_not_delay_another(disk: DiskThreads) -> None:
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
    """A disk that hangs until it is fixed."""

    def __init__(self) -> None:
        self._is_fixed = threading.Event()
        self._hanging = threading.Semaphore(0)

    def read(self) -> str:
        self._hanging.release()
        assert self._is_fixed.wait(HANG_S)
        return "content"

    def until_read(self) -> None:
        assert self._hanging.acquire(timeout=HANG_S)

    def fix(self) -> None:
        self._is_fixed.set()


@pytest.fixture
def hanging() -> Iterator[Disk]:
    hanging = Disk()
    yield hanging
    hanging.fix()


@pytest.fixture
def impatient() -> Iterator[DiskThreads]:
    disk = DiskThreads(timeout_s=0.02)
    yield disk
    disk.close()


def test_reads_work_again_once_the_disk_responds(impatient: DiskThreads, hanging: Disk) -> None:
    for _ in range(FEW):
        with pytest.raises(TimedOut):
            impatient.run(hanging.read)

    hanging.fix()

    contents = (run_if_in_time(impatient, lambda: "content") for _ in range(1000))
    assert "content" in contents  # on a busy machine not at the first attempt


def run_if_in_time(disk: DiskThreads, read: Callable[[], str]) -> str | None:
    try:
        return disk.run(read)
    except TimedOut:
        return None


def test_an_operation_waits_for_a_hanging_disk_only_until_its_deadline(
    disk: DiskThreads, hanging: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_threads, "_GRACE_S", 0.01)
    with pytest.raises(CacheHangs):
        disk.run(hanging.read, Deadline.after(0.0, SystemClock()))


def test_a_killed_caller_does_not_wait_for_a_hanging_disk(disk: DiskThreads, hanging: Disk) -> None:
    with pytest.raises(CallerKilled):
        disk.run(hanging.read, Deadline.after(HANG_S, SystemClock(), lambda: True))


def test_a_read_that_timed_out_in_the_queue_is_never_made(
    impatient: DiskThreads, hanging: Disk
) -> None:
    late: list[str] = []
    for _ in range(FEW):
        with pytest.raises(TimedOut):
            impatient.run(hanging.read)
    with pytest.raises(TimedOut):
        impatient.run(lambda: late.append("read"))
    before = set(threading.enumerate())

    hanging.fix()
    impatient.close()
    for thread in before - {threading.main_thread()}:
        thread.join(HANG_S)

    assert late == []


def test_close_does_not_wait_for_a_running_read(hanging: Disk) -> None:
    disk = DiskThreads(timeout_s=HANG_S)
    with ThreadPoolExecutor(1) as caller:
        content = caller.submit(disk.run, hanging.read)
        hanging.until_read()

        disk.close()

        assert not content.done()
        hanging.fix()
        assert content.result(HANG_S) == "content"


def test_queued_reads_raise_timed_out_on_close(hanging: Disk) -> None:
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
        hanging.fix()

        errors = {type(read.exception(HANG_S)) for read in reads}
    # Reads that begin after `close` may raise `RuntimeError`.
    assert errors <= {type(None), TimedOut, RuntimeError}


def test_close_prevents_further_reads(disk: DiskThreads) -> None:
    disk.close()
    reads: list[None] = []

    with pytest.raises(TimedOut, match="ending"):
        disk.run(lambda: reads.append(None))

    assert reads == []
