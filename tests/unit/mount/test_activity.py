"""What a mount has done, as `status` shows it."""

import logging
import threading

import pytest

from invoicefs.clock import NS_PER_S
from invoicefs.mount.activity import RecentFailures, RequestCounters
from tests.support.fake_clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def failures(clock: FakeClock) -> RecentFailures:
    return RecentFailures(clock.monotonic_s, clock.wall_ns)


def log(failures: RecentFailures, words: str, level: int = logging.WARNING) -> bool:
    """Log a line and return whether it is written."""
    return failures.filter(logging.LogRecord("a test", level, __file__, 1, words, None, None))


def test_requests_are_counted_by_kind_and_result() -> None:
    counters = RequestCounters()
    assert counters.snapshot() == {}
    for kind, result in (("pdf", "200"), ("pdf", "404"), ("pdf", "200"), ("invoices", "200")):
        counters.add(kind, result)
    snapshot = counters.snapshot()
    counters.add("pdf", "200")
    assert snapshot == {"pdf": {"200": 2, "404": 1}, "invoices": {"200": 1}}


def test_a_failure_is_recorded_with_its_last_time_and_count(
    failures: RecentFailures, clock: FakeClock
) -> None:
    log(failures, "a")
    log(failures, "b")
    clock.advance(60)
    log(failures, "a")
    begin_ns = clock.wall_ns() - 60 * NS_PER_S
    assert [(failure.words, failure.last_ns, failure.count) for failure in failures.latest(50)] == [
        ("b", begin_ns, 1),
        ("a", clock.wall_ns(), 2),
    ]


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_debug_and_info_lines_are_not_failures(failures: RecentFailures, level: int) -> None:
    assert log(failures, "GET /", level)
    assert log(failures, "GET /", level)
    assert not failures.latest(50)


def test_only_the_latest_failures_are_shown(failures: RecentFailures) -> None:
    for number in range(2000):
        log(failures, f"failure {number}")
    log(failures, "failure 1995")
    assert [failure.words for failure in failures.latest(3)] == [
        "failure 1998",
        "failure 1999",
        "failure 1995",
    ]
    assert len(failures.latest(5000)) == 1000


def test_no_count_is_lost_among_threads(failures: RecentFailures) -> None:
    counters = RequestCounters()

    def work() -> None:
        for _ in range(500):
            counters.add("pdf", "200")
            log(failures, "busy")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.snapshot() == {"pdf": {"200": 2000}}
    assert [failure.count for failure in failures.latest(50)] == [2000]
