"""Folders that are for their user alone, and the way to them.

What lies in the store is served as invoices, so nobody else may be able to put something else
there: not in the folder, and not by another folder in the place of one above it. The rules are
those of sshd(8), StrictModes, as Debian has it: a folder on the way belongs to root or to us, and
only its owner writes to it, with a group that is the owner's own private one. Where root's sticky
bit is set, as for ``/tmp``, others cannot replace what is ours.
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

SERVICE_CACHE_DIR = Path("/var/cache/invoicefs")  # of who has no home, as at boot
_MOST_LINKS = 40  # as many as the kernel follows, see path_resolution(7)


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/invoicefs``, or ``/var/cache/invoicefs`` for who has no home.

    The XDG base directory specification lets a relative path count as not set.
    """
    cache_home = os.environ.get("XDG_CACHE_HOME", "")
    if Path(cache_home).is_absolute():
        return Path(cache_home) / "invoicefs"
    home = home_folder()
    return home / ".cache" / "invoicefs" if home else SERVICE_CACHE_DIR


def home_folder() -> Path | None:
    """The home of the user: ``$HOME``, or that of the user database; None where there is neither.

    mount(8) takes HOME away from what it runs for an ordinary user. Root without HOME is no user
    but a service, as at boot, and has none.
    """
    if Path(home := os.environ.get("HOME", "")).is_absolute():
        return Path(home)
    if os.geteuid() == 0:
        return None
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:  # a user that is in no database, as in containers
        return None


def own_folder(folder: Path) -> None:
    """Have this folder for us alone, made where it is missing; raises `OSError`."""
    for parent in reversed((folder, *folder.parents)):
        parent.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to somebody else")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(errno.EPERM, "others can write into it")
    for path in _on_the_way(str(folder)):
        _check(path)
    folder.chmod(0o700)


class NewFolder:
    """A folder that is going to be made, and what of the way to it is missing now."""

    def __init__(self, folder: Path) -> None:
        self._missing = [path for path in (folder, *folder.parents) if not os.path.exists(path)]

    def forget(self) -> None:
        """Let it stay."""
        self._missing = []

    def take_back(self) -> None:
        """Remove it, with those above it that were missing, too, and have nothing else in them."""
        if not self._missing:
            return
        folder, *parents = self._missing
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # it is not empty any more
            for parent in parents:
                parent.rmdir()


def _on_the_way(path: str) -> Iterator[str]:
    """Every folder and link that the kernel passes from ``/`` to a path, that included."""
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
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = os.readlink(here)
            waiting += target.split("/")[::-1]
            reached = "/" if target.startswith("/") else reached
        else:
            reached = here


def _check(path: str) -> None:
    status = os.lstat(path)
    if status.st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, f"{path} belongs to somebody else")
    if stat.S_ISLNK(status.st_mode):  # its permission bits mean nothing
        return
    is_sticky = status.st_uid == 0 and status.st_mode & stat.S_ISVTX
    is_open = status.st_mode & stat.S_IWOTH or (
        status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid, status.st_uid)
    )
    if is_open and not is_sticky:
        raise PermissionError(errno.EPERM, f"others can write to {path} and replace what is in it")


def _is_private_group(gid: int, uid: int) -> bool:
    """Whether a group has the name of this user, and no other member."""
    try:
        name, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == name and set(group.gr_mem) <= {name}
