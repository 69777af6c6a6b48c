"""An open ends when the kernel has applied the size, after as few syncs as possible."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

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
        self.may_end = threading.Event()
        self.may_end.set()
        self.has_begun = threading.Semaphore(0)
        self.sizes = AppliedSizes(lambda _: self.shown, self._sync)

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
        assert not any(each.done() for each in opens)
        mount.may_end.set()
        assert all(each.result(HANG_S) for each in opens)
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


def test_a_sync_that_does_not_reach_the_mount_is_repeated_by_the_next_open(mount: Mount) -> None:
    mount.is_reachable = False
    assert not mount.open(ONE)
    mount.is_reachable = True
    assert mount.open(ONE)
    assert mount.syncs == [ONE]


def test_no_other_size_is_sent_after_an_open_that_relies_on_an_earlier_sync() -> None:
    """A stat finds the upper bound; before it is answered, an open pins the last version again."""
    shown = ONE
    sizes = AppliedSizes(lambda _: show(), lambda _: True)

    def show() -> Attributes:
        nonlocal shown
        before, shown = shown, ONE  # the open pins it meanwhile
        return before

    assert sizes.apply(PATH, ONE)
    shown = UNKNOWN
    assert sizes.to_send(PATH) == ONE


def test_the_number_of_paths_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applied_sizes, "_MAX_APPLIED", 10)
    syncs: list[str] = []

    def sync(path: str) -> bool:
        syncs.append(path)
        return True

    sizes = AppliedSizes(lambda _: ONE, sync)
    paths = [f"/system/{number}.pdf" for number in range(11)]
    for path in paths:
        sizes.apply(path, ONE)
    for path in reversed(paths):
        sizes.apply(path, ONE)
    assert syncs == [*paths, paths[0]]
