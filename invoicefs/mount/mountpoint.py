"""The folder on which a tenant is mounted: current mounts, checks, and unmounting.

Facts come from ``/proc/self/mountinfo`` (proc(5)), which does not touch the mount.
"""

import errno
import fcntl
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from invoicefs.errors import UserError
from invoicefs.threads import start_thread

T = TypeVar("T")

FILESYSTEM_TYPE = "fuse.invoicefs"

_MOUNTINFO = Path("/proc/self/mountinfo")
_USER_ID = re.compile(r"\buser_id=(\d+)")
_OCTAL = re.compile(r"\\([0-7]{3})")
_UNMOUNT_TIMEOUT_S = 30.0
_LOCK_TIMEOUT_S = 60.0  # twice as long as a command takes if its first request times out
_LOCK_PAUSE_S = 0.05
_ACCESS_TIMEOUT_S = 2.0  # the kernel responds at once for a mount without a process


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo; `device` is the number of its filesystem, as MAJOR:MINOR.

    `uid` is the user who mounted it, known only for FUSE; see user_id in mount.fuse(8).
    """

    device: str
    path: str
    filesystem_type: str
    source: str
    uid: int | None = None


def mounts() -> tuple[Mount, ...]:
    """Return all mounts, in the order in which they were mounted."""
    # A path may contain the other characters at which splitlines would split.
    text = os.fsdecode(_MOUNTINFO.read_bytes())
    return tuple(_parse_mount(line) for line in text.split("\n") if line)


def mount_at(path: str) -> Mount | None:
    """Return the topmost mount on a path, or None.

    The folder itself is only touched if nothing is mounted, because a mount may hang.
    """
    parent, name = os.path.split(os.path.abspath(path))
    there = last_mount(os.path.join(os.path.realpath(parent), name))
    return there or last_mount(os.path.realpath(path))


def last_mount(real_path: str) -> Mount | None:
    """Return the topmost mount on a path without links, or None; does not touch the path."""
    return next((mount for mount in reversed(mounts()) if mount.path == real_path), None)


def invoicefs_mounts() -> tuple[Mount, ...]:
    """Return all mounts of invoicefs, of all users."""
    return tuple(mount for mount in mounts() if mount.filesystem_type == FILESYSTEM_TYPE)


def mount_of(real_path: str) -> Mount | None:
    """Return the invoicefs mount that contains a path without links, or None.

    Does not touch the path.
    """
    last = {mount.path: mount for mount in mounts()}
    above = (real_path, *map(str, Path(real_path).parents))
    mount = next((last[folder] for folder in above if folder in last), None)
    return mount if mount and mount.filesystem_type == FILESYSTEM_TYPE else None


def create_folder(path: str) -> None:
    """Create the folder to mount on, and those above it, if it is missing.

    Does not touch a mount on it. Raises `UserError` if it cannot be created.
    """
    try:
        os.makedirs(path)
    except FileExistsError:
        pass
    except OSError as error:
        raise UserError(f"The mount point {path} cannot be created: {error.strerror}.") from error


class Reservation:
    """A lock that keeps other commands from mounting on a folder, until `release` or process exit.

    Waits for another command that has reserved the folder; raises `UserError` if that takes too
    long.
    """

    def __init__(self, path: str) -> None:
        self._fd: int | None = None
        with suppress(OSError):  # `_check_folder` reports the error
            # The descriptor refers to the folder itself, even after something is mounted on it.
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        if self._fd is not None and not _try_lock(self._fd):
            self.release()
            raise UserError(f"Another program has locked {path}: try again when it has finished.")

    def release(self) -> None:
        """Release the folder; a process forked from this one must do the same."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _try_lock(fd: int) -> bool:
    """Lock a folder, and return False if another process keeps it locked.

    The wait is limited because any user who can read the folder can lock it.
    """
    ends_s = time.monotonic() + _LOCK_TIMEOUT_S
    pause = threading.Event()
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends_s:
                return False
            pause.wait(_LOCK_PAUSE_S)
        except OSError:  # not every filesystem supports locks
            return True
        else:
            return True


def reserve(path: str) -> Reservation:
    """Check that a path is an empty folder that can be mounted on, and reserve it.

    Unmounts a mount whose process has crashed. Waits for another command that has reserved the
    folder. Raises `UserError` if a check fails.
    """
    _end_dead_mount(path)
    _check_not_mounted(path)
    reservation = Reservation(path)
    try:
        _check_not_mounted(path)
        _check_folder(path)
    except UserError:
        reservation.release()
        raise
    return reservation


def _end_dead_mount(path: str) -> None:
    if is_dead(path):
        mount = mount_at(path)
        if mount is None or mount.filesystem_type != FILESYSTEM_TYPE:
            raise UserError(f"{path} has a dead mount of another filesystem: unmount it first.")
        unmount(path, lazy=True)


def _check_not_mounted(path: str) -> None:
    mount = mount_at(path)
    if mount is not None and mount.filesystem_type == FILESYSTEM_TYPE:
        raise UserError(f"{path} is already mounted ({mount.source}): invoicefs umount {path}")


def _check_folder(path: str) -> None:
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        raise UserError(f"The mount point {path} does not exist: mkdir {path}") from None
    except NotADirectoryError:
        raise UserError(f"The mount point {path} is not a folder.") from None
    except OSError as error:
        raise UserError(f"The mount point {path} cannot be used: {error.strerror}.") from error
    if names:
        raise UserError(f"The mount point {path} is not empty: choose an empty folder.")
    if not os.access(path, os.W_OK):
        raise UserError(f"You cannot write to the mount point {path}: choose a folder of your own.")


def unmount(path: str, *, lazy: bool) -> None:
    """Unmount; `lazy` detaches the folder at once and lets the programs using it finish.

    Raises `UserError` with the message of the program that refused.
    """
    mount = mount_at(path)
    if mount is None or mount.filesystem_type != FILESYSTEM_TYPE:
        raise UserError(f"{path} is not a mount of invoicefs.")
    if mount.uid is not None and os.geteuid() not in (0, mount.uid):
        raise UserError(f"{path} is a mount of another user.")
    command = _unmount_command(lazy)
    try:
        result = subprocess.run(
            [*command, mount.path],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_UNMOUNT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{path} cannot be unmounted: try invoicefs umount --lazy.") from None
    if result.returncode != 0:
        words = result.stderr.strip() or f"{command[0]} failed"
        hint = " Close the programs that use it, or add --lazy." if "busy" in words.lower() else ""
        raise UserError(f"{path} cannot be unmounted: {words}.{hint}")


def _unmount_command(lazy: bool) -> list[str]:
    for helper in ("fusermount3", "fusermount"):
        if program := shutil.which(helper):
            return [program, "-u", *(["-z"] if lazy else [])]
    if program := shutil.which("umount"):
        return [program, *(["-l"] if lazy else [])]
    raise UserError("Unmounting needs the program fusermount3: apt install fuse3.")


def is_dead(path: str) -> bool:
    """Return whether a path is a FUSE mount without a process: the kernel returns ENOTCONN.

    A mount whose process is stopped does not respond at all, and is not dead.
    """

    def is_disconnected() -> bool:
        try:
            os.stat(path)
        except OSError as error:
            return error.errno == errno.ENOTCONN
        return False

    return in_time(is_disconnected) or False


def in_time(access: Callable[[], T]) -> T | None:
    """Return the result of a function that accesses a path, or None if the path does not respond.

    The function must not raise exceptions. The program can end although its thread waits.
    """
    results: list[T] = []
    start_thread(lambda: results.append(access()), "access").join(_ACCESS_TIMEOUT_S)
    return results[0] if results else None


def _parse_mount(line: str) -> Mount:
    fields, _, rest = line.partition(" - ")
    filesystem_type, source, options = rest.split(" ")[:3]
    device, _, path = fields.split(" ")[2:5]
    user = _USER_ID.search(options)
    uid = int(user[1]) if user else None
    return Mount(device, _unescape(path), filesystem_type, _unescape(source), uid)


def _unescape(text: str) -> str:
    """Decode octal escapes, which mountinfo uses for whitespace and backslashes."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
