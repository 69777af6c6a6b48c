"""Folders: the default cache folder, the home folder, and folders that are private to a user.

The content of the store is served as invoices, so nobody else may be able to put anything there:
neither in the folder itself nor by replacing a folder above it. The rules are those of StrictModes
in sshd(8) in Debian: every folder on the path belongs to root or to this user, and only its owner,
or the owner's private group, can write to it. In a folder of root with the sticky bit, such as
``/tmp``, others cannot replace files of this user.
"""

import errno
import grp
import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SERVICE_CACHE_DIR = Path("/var/cache/invoicefs")  # for services, which have no home
_MAX_LINKS = 40  # the kernel follows no more, see path_resolution(7)


def default_cache_dir() -> Path:
    """Return ``$XDG_CACHE_HOME/invoicefs``, or the default without that variable.

    It is ``~/.cache/invoicefs``, or ``/var/cache/invoicefs`` for a user without a home. According
    to the XDG base directory specification, a relative path counts as not set.
    """
    cache_home = os.environ.get("XDG_CACHE_HOME", "")
    if Path(cache_home).is_absolute():
        return Path(cache_home) / "invoicefs"
    home = home_folder()
    return home / ".cache" / "invoicefs" if home else SERVICE_CACHE_DIR


def home_folder() -> Path | None:
    """Return the home of the user from ``$HOME`` or the user database; None if there is none.

    mount(8) removes HOME when it runs a helper for an ordinary user. Root without HOME is a
    service, for example at boot, and has no home for caches; see `configured_home`.
    """
    if os.geteuid() == 0 and not Path(os.environ.get("HOME", "")).is_absolute():
        return None
    return configured_home()


def configured_home() -> Path | None:
    """Return the home in which the user has files, which is that of root even at boot, or None."""
    if Path(home := os.environ.get("HOME", "")).is_absolute():
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:  # the user is not in the database, as in some containers
        return None


def make_private_folder(folder: Path) -> None:
    """Make a folder private to this user, and create it if it is missing; raises `OSError`."""
    for parent in reversed((folder, *folder.parents)):
        parent.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise PermissionError(errno.EPERM, "it is a symbolic link")
    if status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(errno.EPERM, "others can write into it")
    for path in _traversed_paths(str(folder)):
        _check(path)
    folder.chmod(0o700)


class NewFolder:
    """A folder that is about to be created, with the missing folders above it, for clean-up."""

    def __init__(self, folder: Path) -> None:
        self._missing = [path for path in (folder, *folder.parents) if not os.path.exists(path)]

    def keep(self) -> None:
        """Keep the folder: `remove_if_new` does nothing from now on."""
        self._missing = []

    def remove_if_new(self) -> None:
        """Remove the folder if it was missing, and those missing above it that are empty now."""
        if not self._missing:
            return
        folder, *parents = self._missing
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # a folder above is not empty
            for parent in parents:
                parent.rmdir()


def _traversed_paths(path: str) -> Iterator[str]:
    """Yield every folder and link that the kernel traverses when it resolves a path."""
    waiting = path.split("/")[::-1]
    reached = "/"
    links = 0
    yield reached
    while waiting:
        name = waiting.pop()
        if name in ("", "."):
            continue
        here = os.path.dirname(reached) if name == ".." else os.path.join(reached, name)
        yield here
        if os.path.islink(here):
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = os.readlink(here)
            waiting += target.split("/")[::-1]
            reached = "/" if target.startswith("/") else reached
        else:
            reached = here


def _check(path: str) -> None:
    status = os.lstat(path)
    if status.st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, f"{path} belongs to another user")
    if stat.S_ISLNK(status.st_mode):  # the permission bits of a link mean nothing
        return
    is_sticky = status.st_uid == 0 and status.st_mode & stat.S_ISVTX
    is_open = status.st_mode & stat.S_IWOTH or (
        status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid, status.st_uid)
    )
    if is_open and not is_sticky:
        raise PermissionError(errno.EPERM, f"others can write to {path} and replace its content")


def _is_private_group(gid: int, uid: int) -> bool:
    """Return whether a group has the name of a user, and no other member."""
    try:
        name, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == name and set(group.gr_mem) <= {name}
