"""What a mount has done and what went wrong, as `status` tells it."""

import logging
import threading

import pytest

from invoicefs.clock import NS_PER_S
from invoicefs.mount.activity import MOST_RECENT_FAILURES, Activity, RecentFailure
from tests.support.fake_clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def activity(clock: FakeClock) -> Activity:
    return Activity(clock)


def say(activity: Activity, words: str, level: int = logging.WARNING) -> None:
    """Log a line of which the journal hears, as of all."""
    logger = logging.Logger("a test")
    logger.addHandler(activity)
    logger.log(level, words)


def test_requests_are_counted_by_kind_and_result(activity: Activity) -> None:
    for kind, result in (("pdf", "200"), ("pdf", "404"), ("pdf", "200"), ("invoices", "200")):
        activity.count_request(kind, result)

    assert activity.snapshot().requests == {"pdf": {"200": 2, "404": 1}, "invoices": {"200": 1}}


def test_a_new_journal_is_empty(activity: Activity) -> None:
    snapshot = activity.snapshot()

    assert (snapshot.requests, snapshot.recent_failures) == ({}, ())


def test_what_went_wrong_is_kept_once_with_its_last_time_and_count(
    activity: Activity, clock: FakeClock
) -> None:
    say(activity, "a")
    say(activity, "b")
    clock.advance(60)
    say(activity, "a")

    begin_ns = clock.wall_ns() - 60 * NS_PER_S
    assert activity.snapshot().recent_failures == (
        RecentFailure("b", begin_ns, 1),
        RecentFailure("a", clock.wall_ns(), 2),
    )


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_what_only_verbosity_tells_is_no_trouble(activity: Activity, level: int) -> None:
    say(activity, "GET /", level)

    assert not activity.snapshot().recent_failures


def test_only_the_latest_troubles_are_kept(activity: Activity) -> None:
    for number in range(MOST_RECENT_FAILURES + 5):
        say(activity, f"trouble {number}")
    say(activity, "trouble 5")

    words = [each.words for each in activity.snapshot().recent_failures]
    assert len(words) == MOST_RECENT_FAILURES
    assert words[0] == "trouble 6"
    assert words[-1] == "trouble 5"


def test_a_page_does_not_change_any_more(activity: Activity) -> None:
    activity.count_request("pdf", "200")
    snapshot = activity.snapshot()
    activity.count_request("pdf", "200")
    say(activity, "later")

    assert (snapshot.requests, snapshot.recent_failures) == ({"pdf": {"200": 1}}, ())


def test_no_count_is_lost_among_threads(activity: Activity) -> None:
    def work() -> None:
        for _ in range(500):
            activity.count_request("pdf", "200")
            say(activity, "busy")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    snapshot = activity.snapshot()
    assert snapshot.requests == {"pdf": {"200": 2000}}
    assert [each.count for each in snapshot.recent_failures] == [2000]
