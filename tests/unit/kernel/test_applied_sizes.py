"""An open ends when the kernel has applied the size, after as few syncs as possible."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from invoicefs.errors import Outdated
from invoicefs.kernel import applied_sizes
from invoicefs.kernel.applied_sizes import AppliedSizes
from invoicefs.model import Attributes

PATH = "/system/a.pdf"
HANG_S = 20.0
UNKNOWN = Attributes(inode=7, mtime_ns=1, size_bytes=1 << 24)
ONE = Attributes(inode=7, mtime_ns=1, size_bytes=100)
OTHER = Attributes(inode=7, mtime_ns=2, size_bytes=100)  # other bytes of the same length


class Mount:
    """What the mount shows for a path, and what each sync of it has sent."""

    def __init__(self) -> None:
        self.shown = UNKNOWN
        self.syncs: list[Attributes] = []
        self.is_reachable = True
        self.caller = 1
        self.may_end = threading.Event()
        self.may_end.set()
        self.has_begun = threading.Semaphore(0)
        self.sizes = AppliedSizes(
            lambda _: self.shown, lambda _: self.shown, self._sync, lambda: self.caller
        )

    def open(self, attributes: Attributes) -> bool:
        """Pin content, and wait until the kernel has its size."""
        self.shown = attributes
        return self.sizes.apply(PATH, attributes)

    def _sync(self, path: str) -> bool:
        self.has_begun.release()
        assert self.may_end.wait(HANG_S)
        if self.is_reachable:
            self.syncs.append(self.sizes.to_send(path))
        return self.is_reachable


@pytest.fixture
def mount() -> Mount:
    return Mount()


def test_a_version_is_synced_once(mount: Mount) -> None:
    assert all(mount.open(ONE) for _ in range(3))
    assert mount.syncs == [ONE]


def test_each_version_is_synced(mount: Mount) -> None:
    for attributes in (ONE, OTHER, ONE):
        assert mount.open(attributes)
    assert mount.syncs == [ONE, OTHER, ONE]


def test_a_version_is_synced_again_after_other_attributes_were_sent(mount: Mount) -> None:
    mount.open(ONE)
    mount.shown = UNKNOWN
    assert mount.sizes.to_send(PATH) == UNKNOWN
    mount.open(ONE)
    assert mount.syncs == [ONE, ONE]


def test_sending_the_same_attributes_needs_no_other_sync(mount: Mount) -> None:
    mount.open(ONE)
    for _ in range(3):
        assert mount.sizes.to_send(PATH) == ONE
    mount.open(ONE)
    assert mount.syncs == [ONE]


def test_all_opens_of_a_path_wait_for_one_sync(mount: Mount) -> None:
    mount.may_end.clear()
    with ThreadPoolExecutor(8) as programs:
        opens = [programs.submit(mount.open, ONE) for _ in range(8)]
        assert mount.has_begun.acquire(timeout=HANG_S)
        assert not any(opened.done() for opened in opens)
        mount.may_end.set()
        assert all(opened.result(HANG_S) for opened in opens)
    assert mount.syncs == [ONE]


def test_an_open_that_is_delayed_before_it_waits_needs_no_second_sync(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another open has ended its sync when this one gets the lock."""
    lock, is_first = mount.sizes._lock, iter([True])

    class DelayedLock:
        def __enter__(self) -> None:
            if next(is_first, False):
                mount.open(ONE)
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    monkeypatch.setattr(mount.sizes, "_lock", DelayedLock())
    assert mount.open(ONE)
    assert mount.syncs == [ONE]


def test_a_sync_of_one_path_delays_no_other(mount: Mount) -> None:
    mount.open(ONE)
    mount.may_end.clear()
    with ThreadPoolExecutor(1) as programs:
        waiting = programs.submit(mount.sizes.apply, "/system/b.pdf", ONE)
        assert mount.has_begun.acquire(timeout=HANG_S)
        assert mount.open(ONE)
        assert not waiting.done()
        mount.may_end.set()
        assert waiting.result(HANG_S)


def open_in_vain(mount: Mount) -> None:
    with pytest.raises(Outdated):
        mount.open(ONE)


def test_an_open_that_no_sync_reaches_is_repeated_after_a_lookup_of_its_thread(
    mount: Mount,
) -> None:
    mount.is_reachable = False
    open_in_vain(mount)
    mount.sizes.to_send(PATH)
    assert mount.open(ONE)
    mount.caller = 2
    assert mount.open(ONE)  # the kernel has applied the size for all


def test_the_lookup_of_another_thread_does_not_count(mount: Mount) -> None:
    """It may not have applied the reply yet."""
    mount.is_reachable = False
    open_in_vain(mount)
    mount.caller = 2
    mount.sizes.to_send(PATH)
    open_in_vain(mount)
    mount.caller = 1
    assert not mount.open(ONE)


def test_a_lookup_that_found_other_attributes_does_not_count(mount: Mount) -> None:
    mount.is_reachable = False
    open_in_vain(mount)
    mount.shown = UNKNOWN
    mount.sizes.to_send(PATH)
    assert not mount.open(ONE)


def test_after_a_repeated_open_the_next_one_waits_for_a_sync_again(mount: Mount) -> None:
    mount.is_reachable = False
    open_in_vain(mount)
    assert not mount.open(ONE)
    mount.is_reachable = True
    assert mount.open(ONE)
    assert mount.syncs == [ONE]


def sizes_that_show(show: Callable[[], Attributes]) -> AppliedSizes:
    return AppliedSizes(lambda _: show(), lambda _: show(), lambda _: True, lambda: 1)


def test_no_other_size_is_sent_after_an_open_that_relies_on_an_earlier_sync() -> None:
    """A stat finds the upper bound; before the reply, an open pins the last version again."""
    shown = ONE
    sizes = sizes_that_show(lambda: show())

    def show() -> Attributes:
        nonlocal shown
        before, shown = shown, ONE  # the open pins it meanwhile
        return before

    assert sizes.apply(PATH, ONE)
    shown = UNKNOWN
    assert sizes.to_send(PATH) == ONE


def test_no_other_size_is_sent_if_two_stats_found_it_before_the_open() -> None:
    """The first of them removes the entry, so the second one does not find it any more."""
    shown, depth = ONE, 0
    sizes = sizes_that_show(lambda: show())

    def show() -> Attributes:
        nonlocal shown, depth
        depth, found = depth + 1, shown
        if depth == 1 and found is UNKNOWN:
            sizes.to_send(PATH)  # a second stat, in which ...
        elif depth == 2:
            shown = ONE  # ... an open relies on the earlier sync
            assert sizes.apply(PATH, ONE)
        return found

    assert sizes.apply(PATH, ONE)
    shown = UNKNOWN
    assert sizes.to_send(PATH) == ONE


def test_attributes_are_determined_again_without_waiting() -> None:
    """The first time may have waited for a download, and a LOOKUP must not wait."""
    shown = [ONE, UNKNOWN]
    sizes = AppliedSizes(lambda _: shown[1], lambda _: OTHER, lambda _: True, lambda: 1)
    assert sizes.apply(PATH, ONE)
    assert sizes.to_send(PATH) == OTHER


def test_a_sync_that_fails_ends_all_opens_of_the_path() -> None:
    has_begun, may_fail = threading.Event(), threading.Event()

    def fail(_: str) -> bool:
        has_begun.set()
        assert may_fail.wait(HANG_S)
        raise RuntimeError("a defect")

    sizes = AppliedSizes(lambda _: ONE, lambda _: ONE, fail, lambda: 1)
    with ThreadPoolExecutor(4) as programs:
        opens = [programs.submit(sizes.apply, PATH, ONE) for _ in range(4)]
        assert has_begun.wait(HANG_S)
        may_fail.set()
        for opened in opens:
            assert isinstance(opened.exception(HANG_S), RuntimeError | Outdated)


def test_the_number_of_paths_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applied_sizes, "_MAX_APPLIED", 10)
    syncs: list[str] = []

    def sync(path: str) -> bool:
        syncs.append(path)
        return True

    sizes = AppliedSizes(lambda _: ONE, lambda _: ONE, sync, lambda: 1)
    paths = [f"/system/{number}.pdf" for number in range(11)]
    for path in paths:
        sizes.apply(path, ONE)
    for path in reversed(paths):
        sizes.apply(path, ONE)
    assert syncs == [*paths, paths[0]]
