"""A file is read in the calling thread only if that needs no disk."""

import os
from pathlib import Path

import pytest

from invoicefs.store.page_cache import can_read_without_waiting, read_file, read_without_waiting

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    if not can_read_without_waiting(tmp_path):
        pytest.skip("the temporary folder is on a filesystem that may wait")
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def test_a_file_in_the_page_cache_is_read(path: Path) -> None:
    found = read_without_waiting(str(path), len(CONTENT))
    assert found is not None
    assert found.content == CONTENT
    assert found.status.st_ino == path.stat().st_ino


def test_a_file_outside_of_the_page_cache_is_not_read(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert read_without_waiting(str(path), len(CONTENT)) is None
    assert path.read_bytes() == CONTENT
    assert read_without_waiting(str(path), len(CONTENT)) is not None


def test_a_file_that_cannot_be_read_is_not_waited_for(path: Path) -> None:
    fifo = path.with_name("fifo")
    os.mkfifo(fifo)
    for unusable in (path.with_name("missing"), path / "below", path.parent):
        assert read_without_waiting(str(unusable), len(CONTENT)) is None
        assert read_file(str(unusable), len(CONTENT)) is None
    for read in (read_without_waiting, read_file):
        assert read(str(fifo), len(CONTENT)) is None


def test_a_file_of_another_size_is_not_read(path: Path) -> None:
    for read in (read_without_waiting, read_file):
        assert read(str(path), len(CONTENT) - 1) is None
        assert read(str(path), len(CONTENT)) is not None


def test_filesystems_that_may_wait_are_not_used() -> None:
    assert not can_read_without_waiting(Path("/proc"))
    assert not can_read_without_waiting(Path("/nowhere"))
