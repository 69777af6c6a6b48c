"""A PDF file is not verified again while it is unchanged."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from invoicefs.clock import NS_PER_S, file_tick_ns
from invoicefs.store import verified_files
from invoicefs.store.verified_files import VerifiedFiles
from tests.support.fake_clock import FakeClock

CONTENT = b"%PDF-1.4 content"
OTHER = b"%PDF-1.4 CONTENT"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def verified(path: Path, age_s: float = 60.0) -> VerifiedFiles:
    """Note a file that was changed some seconds ago."""
    files = VerifiedFiles(path.parent, FakeClock(wall_s=path.stat().st_ctime_ns / NS_PER_S + age_s))
    files.note("key", str(path), path.stat())
    return files


def test_an_unchanged_file_is_read(path: Path) -> None:
    files = verified(path)
    assert [files.read("key") for _ in range(3)] == [CONTENT] * 3
    assert files.read("other") is None


def overwritten(path: Path) -> None:
    times = path.stat()
    with path.open("r+b") as file:
        file.write(OTHER)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replaced(path: Path) -> None:
    times = path.stat()
    new = path.with_name("new")
    new.write_bytes(OTHER)
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.replace(path)


def cut(path: Path) -> None:
    os.truncate(path, len(CONTENT) - 1)


def removed(path: Path) -> None:
    path.unlink()


def without_its_folder(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


@pytest.mark.parametrize("change", [overwritten, replaced, cut, removed, without_its_folder])
def test_a_changed_file_is_not_read_again(path: Path, change: Callable[[Path], None]) -> None:
    files = verified(path)
    assert files.read("key") == CONTENT
    change(path)
    assert files.read("key") is None


@pytest.mark.parametrize("age_s", [-1.0, 0.0, file_tick_ns() / NS_PER_S])
def test_a_file_changed_just_now_is_not_noted(path: Path, age_s: float) -> None:
    """Another change within the same tick of the kernel's clock would leave the same ctime."""
    assert verified(path, age_s).read("key") is None


def test_the_number_of_files_is_limited(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified_files, "_MAX_FILES", 3)
    files = verified(path)
    for number in range(3):
        files.note(f"other {number}", str(path), path.stat())
    found = [files.read(f"other {number}") for number in range(3)]
    assert (files.read("key"), found) == (None, [CONTENT] * 3)
