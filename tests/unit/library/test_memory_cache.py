"""What is held in memory, and what goes when it becomes too much."""

from concurrent.futures import ThreadPoolExecutor

from invoicefs.library.memory_cache import MemoryCache
from invoicefs.model import Content, Record


def content(size_bytes: int) -> Content:
    return Content(Record(0), bytes(size_bytes))


def test_what_is_held_is_found_until_it_is_discarded() -> None:
    cache, held = MemoryCache(limit_bytes=10), content(10)
    assert cache.get("a") is None
    cache.put("a", held)
    assert cache.get("a") is held
    cache.discard("a")
    cache.discard("a")
    assert cache.get("a") is None
    assert cache.has_room_for(10)


def test_what_came_first_goes_first() -> None:
    cache = MemoryCache(limit_bytes=10)
    for key in "abc":
        cache.put(key, content(4))
    assert [key for key in "abc" if cache.get(key)] == ["b", "c"]


def test_a_later_content_takes_the_place_of_an_earlier_one() -> None:
    cache, later = MemoryCache(limit_bytes=10), content(6)
    cache.put("a", content(6))
    cache.put("b", content(4))
    cache.put("a", later)
    assert cache.get("a") is later
    assert cache.get("b") is not None
    assert not cache.has_room_for(1)


def test_what_exceeds_the_limit_is_not_held() -> None:
    cache = MemoryCache(limit_bytes=10)
    cache.put("a", content(11))
    assert cache.get("a") is None
    assert cache.has_room_for(10)


def test_threads_that_put_and_discard_leave_no_sum_behind() -> None:
    cache = MemoryCache(limit_bytes=1000)

    def use(number: int) -> None:
        for _ in range(200):
            cache.put(f"{number % 4}", content(number + 1))
            cache.discard(f"{number % 4}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(8)))
    assert cache.has_room_for(1000)
