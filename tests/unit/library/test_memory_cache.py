"""Which PDFs are kept in memory, and which are evicted first."""

from concurrent.futures import ThreadPoolExecutor

from invoicefs.library.memory_cache import MemoryCache
from invoicefs.model import Content, Record


def content(size_bytes: int) -> Content:
    return Content(Record(0), bytes(size_bytes))


def test_content_is_found_until_it_is_discarded() -> None:
    cache, cached = MemoryCache(limit_bytes=10), content(10)
    assert cache.get("a") is None
    cache.put("a", cached)
    assert cache.get("a") is cached
    cache.discard("a")
    cache.discard("a")
    assert cache.get("a") is None
    assert cache.has_room_for(10)


def test_the_oldest_content_is_evicted_first() -> None:
    cache = MemoryCache(limit_bytes=10)
    for key in "abc":
        cache.put(key, content(4))
    assert [key for key in "abc" if cache.get(key)] == ["b", "c"]


def test_new_content_replaces_that_of_the_same_key() -> None:
    cache, later = MemoryCache(limit_bytes=10), content(6)
    cache.put("a", content(6))
    cache.put("b", content(4))
    cache.put("a", later)
    assert cache.get("a") is later
    assert cache.get("b") is not None
    assert not cache.has_room_for(1)


def test_content_larger_than_the_limit_is_not_cached() -> None:
    cache = MemoryCache(limit_bytes=10)
    cache.put("a", content(11))
    assert cache.get("a") is None
    assert cache.has_room_for(10)


def test_concurrent_changes_keep_the_total_size_right() -> None:
    cache = MemoryCache(limit_bytes=1000)

    def use(number: int) -> None:
        for _ in range(200):
            cache.put(f"{number % 4}", content(number + 1))
            cache.discard(f"{number % 4}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(8)))
    assert cache.has_room_for(1000)
