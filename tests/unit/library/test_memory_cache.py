"""What is held in memory, and what goes when it becomes too much."""

from concurrent.futures import ThreadPoolExecutor

from invoicefs.library.memory_cache import Hold
from invoicefs.model import Content, Record


def content(size_bytes: int) -> Content:
    return Content(Record(0), bytes(size_bytes))


def test_what_is_held_is_found_until_it_is_discarded() -> None:
    hold, held = Hold(limit_bytes=10), content(10)
    assert hold.get("a") is None
    hold.put("a", held)
    assert hold.get("a") is held
    hold.discard("a")
    hold.discard("a")
    assert hold.get("a") is None
    assert hold.has_room_for(10)


def test_what_came_first_goes_first() -> None:
    hold = Hold(limit_bytes=10)
    for key in "abc":
        hold.put(key, content(4))
    assert [key for key in "abc" if hold.get(key)] == ["b", "c"]


def test_a_later_content_takes_the_place_of_an_earlier_one() -> None:
    hold, later = Hold(limit_bytes=10), content(6)
    hold.put("a", content(6))
    hold.put("b", content(4))
    hold.put("a", later)
    assert hold.get("a") is later
    assert hold.get("b") is not None
    assert not hold.has_room_for(1)


def test_what_exceeds_the_limit_is_not_held() -> None:
    hold = Hold(limit_bytes=10)
    hold.put("a", content(11))
    assert hold.get("a") is None
    assert hold.has_room_for(10)


def test_threads_that_put_and_discard_leave_no_sum_behind() -> None:
    hold = Hold(limit_bytes=1000)

    def use(number: int) -> None:
        for _ in range(200):
            hold.put(f"{number % 4}", content(number + 1))
            hold.discard(f"{number % 4}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(8)))
    assert hold.has_room_for(1000)
