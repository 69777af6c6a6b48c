"""What a mount has done and what went wrong, as `status` tells it."""

import logging
import threading

import pytest

from invoicefs.clock import NS_PER_S
from invoicefs.mount.activity import MOST_TROUBLES, Journal, Trouble
from tests.support.fake_clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def journal(clock: FakeClock) -> Journal:
    return Journal(clock)


def say(journal: Journal, words: str, level: int = logging.WARNING) -> None:
    """Log a line of which the journal hears, as of all."""
    logger = logging.Logger("a test")
    logger.addHandler(journal)
    logger.log(level, words)


def test_requests_are_counted_by_kind_and_result(journal: Journal) -> None:
    for kind, result in (("pdf", "200"), ("pdf", "404"), ("pdf", "200"), ("invoices", "200")):
        journal.count_request(kind, result)

    assert journal.page().requests == {"pdf": {"200": 2, "404": 1}, "invoices": {"200": 1}}


def test_a_new_journal_is_empty(journal: Journal) -> None:
    page = journal.page()

    assert (page.requests, page.troubles) == ({}, ())


def test_what_went_wrong_is_kept_once_with_its_last_time_and_count(
    journal: Journal, clock: FakeClock
) -> None:
    say(journal, "a")
    say(journal, "b")
    clock.advance(60)
    say(journal, "a")

    begin_ns = clock.wall_ns() - 60 * NS_PER_S
    assert journal.page().troubles == (
        Trouble("b", begin_ns, 1),
        Trouble("a", clock.wall_ns(), 2),
    )


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_what_only_verbosity_tells_is_no_trouble(journal: Journal, level: int) -> None:
    say(journal, "GET /", level)

    assert not journal.page().troubles


def test_only_the_latest_troubles_are_kept(journal: Journal) -> None:
    for number in range(MOST_TROUBLES + 5):
        say(journal, f"trouble {number}")
    say(journal, "trouble 5")

    words = [each.words for each in journal.page().troubles]
    assert len(words) == MOST_TROUBLES
    assert words[0] == "trouble 6"
    assert words[-1] == "trouble 5"


def test_a_page_does_not_change_any_more(journal: Journal) -> None:
    journal.count_request("pdf", "200")
    page = journal.page()
    journal.count_request("pdf", "200")
    say(journal, "later")

    assert (page.requests, page.troubles) == ({"pdf": {"200": 1}}, ())


def test_no_count_is_lost_among_threads(journal: Journal) -> None:
    def work() -> None:
        for _ in range(500):
            journal.count_request("pdf", "200")
            say(journal, "busy")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    page = journal.page()
    assert page.requests == {"pdf": {"200": 2000}}
    assert [each.count for each in page.troubles] == [2000]
