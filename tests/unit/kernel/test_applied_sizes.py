"""An open ends when the kernel has the size, with as few looks as possible."""

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
    """What the mount shows for a path, and the looks at it."""

    def __init__(self) -> None:
        self.shown = UNKNOWN
        self.looks: list[Attributes] = []
        self.is_reachable = True
        self.may_end = threading.Event()
        self.may_end.set()
        self.has_begun = threading.Semaphore(0)
        self.sizes = AppliedSizes(lambda _: self.shown, self._look)

    def open(self, attributes: Attributes) -> bool:
        """Pin content, and wait until the kernel has its size."""
        self.shown = attributes
        return self.sizes.apply(PATH, attributes)

    def _look(self, path: str) -> bool:
        self.has_begun.release()
        assert self.may_end.wait(HANG_S)
        if self.is_reachable:
            self.looks.append(self.sizes.told(path))
        return self.is_reachable


@pytest.fixture
def mount() -> Mount:
    return Mount()


def test_a_version_is_looked_at_once(mount: Mount) -> None:
    assert all(mount.open(ONE) for _ in range(3))
    assert mount.looks == [ONE]


def test_each_version_is_looked_at(mount: Mount) -> None:
    for attributes in (ONE, OTHER, ONE):
        assert mount.open(attributes)
    assert mount.looks == [ONE, OTHER, ONE]


def test_a_version_is_looked_at_again_after_others_were_told(mount: Mount) -> None:
    mount.open(ONE)
    mount.shown = UNKNOWN
    assert mount.sizes.told(PATH) == UNKNOWN
    mount.open(ONE)
    assert mount.looks == [ONE, ONE]


def test_telling_the_same_needs_no_other_look(mount: Mount) -> None:
    mount.open(ONE)
    for _ in range(3):
        assert mount.sizes.told(PATH) == ONE
    mount.open(ONE)
    assert mount.looks == [ONE]


def test_all_opens_of_a_path_wait_for_one_look(mount: Mount) -> None:
    mount.may_end.clear()
    with ThreadPoolExecutor(8) as programs:
        opens = [programs.submit(mount.open, ONE) for _ in range(8)]
        assert mount.has_begun.acquire(timeout=HANG_S)
        assert not any(each.done() for each in opens)
        mount.may_end.set()
        assert all(each.result(HANG_S) for each in opens)
    assert mount.looks == [ONE]


def test_a_look_at_one_path_delays_no_other(mount: Mount) -> None:
    mount.open(ONE)
    mount.may_end.clear()
    with ThreadPoolExecutor(1) as programs:
        waiting = programs.submit(mount.sizes.apply, "/system/b.pdf", ONE)
        assert mount.has_begun.acquire(timeout=HANG_S)
        assert mount.open(ONE)
        assert not waiting.done()
        mount.may_end.set()
        assert waiting.result(HANG_S)


def test_a_look_that_does_not_arrive_is_repeated_by_the_next_open(mount: Mount) -> None:
    mount.is_reachable = False
    assert not mount.open(ONE)
    mount.is_reachable = True
    assert mount.open(ONE)
    assert mount.looks == [ONE]


def test_an_open_that_relies_on_an_earlier_look_is_never_told_another_size() -> None:
    """A stat finds the upper bound; before it is answered, an open pins the last version again."""
    shown = ONE
    sizes = AppliedSizes(lambda _: show(), lambda _: True)

    def show() -> Attributes:
        nonlocal shown
        before, shown = shown, ONE  # the open pins it meanwhile
        return before

    assert sizes.apply(PATH, ONE)
    shown = UNKNOWN
    assert sizes.told(PATH) == ONE


def test_only_so_many_paths_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applied_sizes, "_MAX_APPLIED", 10)
    looks: list[str] = []

    def look(path: str) -> bool:
        looks.append(path)
        return True

    sizes = AppliedSizes(lambda _: ONE, look)
    paths = [f"/system/{number}.pdf" for number in range(11)]
    for path in paths:
        sizes.apply(path, ONE)
    for path in reversed(paths):
        sizes.apply(path, ONE)
    assert looks == [*paths, paths[0]]
