"""A folder is used only if no other user can write into it or replace it."""

import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from invoicefs.folders import NewFolder, make_private_folder

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
NOBODY = 65_534


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """Return the parent of the folder to use; its own parent is new too, in a private folder."""
    parent = tmp_path / "above" / "parent"
    parent.mkdir(parents=True, mode=0o755)
    return parent


def test_missing_folders_are_created_private(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "a" / "b")

    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("place", ["parent", "above"])
@pytest.mark.parametrize("mode", [0o777, 0o757, 0o722, 0o702])
def test_a_parent_writable_by_others_is_refused(parent: Path, place: str, mode: int) -> None:
    """With a 0777 grandparent 9 of 10 invoices were forged in a running mount."""
    (parent if place == "parent" else parent.parent).chmod(mode)

    with pytest.raises(PermissionError, match=f"others can write to .*{place}"):
        make_private_folder(parent / "store")


@as_root
@pytest.mark.parametrize("place", ["parent", "above"])
def test_a_parent_of_another_user_is_refused(parent: Path, place: str) -> None:
    os.chown(parent if place == "parent" else parent.parent, NOBODY, NOBODY)

    with pytest.raises(PermissionError, match=f"{place} belongs to another user"):
        make_private_folder(parent / "store")


def test_a_sticky_parent_of_root_is_accepted(parent: Path) -> None:
    parent.chmod(0o1777)

    if os.geteuid() == 0:
        make_private_folder(parent / "store")


@as_root
def test_a_sticky_parent_of_another_user_is_refused(parent: Path) -> None:
    parent.chmod(0o1777)
    os.chown(parent, NOBODY, NOBODY)

    with pytest.raises(PermissionError):
        make_private_folder(parent / "store")


@as_root
def test_a_sticky_parent_of_our_own_is_refused(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = parent / "store"
    store.mkdir(mode=0o700)
    parent.chmod(0o1777)
    for folder in (parent, store):
        os.chown(folder, NOBODY, NOBODY)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)

    with pytest.raises(PermissionError, match="others can write to"):
        make_private_folder(store)


@pytest.mark.parametrize(
    ("group", "members", "is_private"),
    [("ann", [], True), ("ann", ["ann"], True), ("ann", ["ann", "bob"], False), ("dev", [], False)],
)
def test_a_group_counts_as_others_unless_it_is_the_owners_private_group(
    parent: Path,
    monkeypatch: pytest.MonkeyPatch,
    group: str,
    members: list[str],
    is_private: bool,
) -> None:
    parent.chmod(0o775)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_name="ann"))
    found = SimpleNamespace(gr_name=group, gr_mem=members)
    monkeypatch.setattr(grp, "getgrgid", lambda _: found)

    if is_private:
        make_private_folder(parent / "store")
    else:
        with pytest.raises(PermissionError, match="others can write to"):
            make_private_folder(parent / "store")


@pytest.mark.parametrize("link", [lambda target: target, lambda target: os.path.relpath(target)])
def test_the_parents_of_a_link_target_are_checked(
    tmp_path: Path, parent: Path, link: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(link(parent))
    make_private_folder(tmp_path / "link" / "store")
    parent.parent.chmod(0o777)

    with pytest.raises(PermissionError, match="above"):
        make_private_folder(tmp_path / "link" / "store")


@as_root
def test_a_link_of_another_user_is_not_followed(tmp_path: Path, parent: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(parent)
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)

    with pytest.raises(PermissionError, match="link belongs to another user"):
        make_private_folder(link / "store")


def test_a_link_loop_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")

    with pytest.raises(OSError, match=r"symbolic links|File exists"):
        make_private_folder(tmp_path / "a" / "store")


# Cleaning up after a failed mount


def test_folders_created_by_a_failed_mount_are_removed(tmp_path: Path) -> None:
    new = NewFolder(tmp_path / "a" / "b" / "c")
    make_private_folder(tmp_path / "a" / "b" / "c")
    (tmp_path / "a" / "b" / "c" / "file").touch()

    new.remove_if_new()

    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_name_that_is_too_long_needs_no_removal(tmp_path: Path) -> None:
    new = NewFolder(tmp_path / ("n" * 300))
    new.remove_if_new()

    assert not list(tmp_path.iterdir())


def test_existing_folders_and_files_of_others_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    new = NewFolder(tmp_path / "a" / "b" / "c")
    make_private_folder(tmp_path / "a" / "b" / "c")
    (tmp_path / "a" / "b" / "of others").touch()

    new.remove_if_new()

    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["of others"]
    NewFolder(tmp_path / "a").remove_if_new()
    assert (tmp_path / "a").exists()
