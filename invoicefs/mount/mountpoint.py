"""The folder on which a tenant is mounted: what is there, whether we may mount, unmounting.

Facts come from ``/proc/self/mountinfo`` (proc(5)), which answers without touching the mount.
"""

import errno
import fcntl
import os
import re
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from invoicefs.errors import UserError

FILESYSTEM_TYPE = "fuse.invoicefs"

_MOUNTINFO = Path("/proc/self/mountinfo")
_USER_ID = re.compile(r"\buser_id=(\d+)")
_OCTAL = re.compile(r"\\([0-7]{3})")
_UNMOUNT_TIMEOUT_S = 30.0
_LOCK_TIMEOUT_S = 60.0  # twice as long as a command takes whose first request times out
_LOCK_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo; `device` is the number of its file system, as MAJOR:MINOR.

    `uid` is that of the user who mounted it, which FUSE alone tells; see mount.fuse(8), user_id.
    """

    device: str
    path: str
    filesystem_type: str
    source: str
    uid: int | None = None


def mounts() -> tuple[Mount, ...]:
    """Everything that is mounted, in the order in which it was mounted."""
    # Only a line feed ends a line here: a path may hold everything else that splitlines takes.
    text = os.fsdecode(_MOUNTINFO.read_bytes())
    return tuple(_parse_mount(line) for line in text.split("\n") if line)


def mount_at(path: str) -> Mount | None:
    """What is mounted on a path, the last where several are stacked.

    The folder itself is looked at only where nothing is mounted: a mount may hang.
    """
    parent, name = os.path.split(os.path.abspath(path))
    there = last_mount(os.path.join(os.path.realpath(parent), name))
    return there or last_mount(os.path.realpath(path))


def last_mount(real_path: str) -> Mount | None:
    """What is mounted on a path without links; does not look at it."""
    return next((mount for mount in reversed(mounts()) if mount.path == real_path), None)


def our_mounts() -> tuple[Mount, ...]:
    """All mounts of invoicefs, of whomever."""
    return tuple(each for each in mounts() if each.filesystem_type == FILESYSTEM_TYPE)


def mount_of(real_path: str) -> Mount | None:
    """The mount of invoicefs that a path without links is in, if it is; does not touch it."""
    last = {mount.path: mount for mount in mounts()}
    above = (real_path, *map(str, Path(real_path).parents))
    mount = next((last[folder] for folder in above if folder in last), None)
    return mount if mount and mount.filesystem_type == FILESYSTEM_TYPE else None


class Reservation:
    """Keeps other commands from mounting on a folder, until `release` or the end of the process.

    Waits for another command that has it; raises `UserError` where that takes long.
    """

    def __init__(self, path: str) -> None:
        self._fd: int | None = None
        with suppress(OSError):  # what is wrong with the folder is told by those who check it
            # This stays the folder itself, also when something covers it.
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        if self._fd is not None and not _can_lock(self._fd):
            self.release()
            raise UserError(f"Another program keeps {path} locked: try again when it has ended.")

    def release(self) -> None:
        """Let others have it; a process that was forked from us must do the same."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _can_lock(fd: int) -> bool:
    """Lock a folder; not for ever, because everybody who can read the folder can lock it, too."""
    ends_s = time.monotonic() + _LOCK_TIMEOUT_S
    pause = threading.Event()
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends_s:
                return False
            pause.wait(_LOCK_PAUSE_S)
        except OSError:  # not every file system has locks
            return True
        else:
            return True


def reserve(path: str) -> Reservation:
    """Make sure that the path is an empty folder that we may mount on, and keep it for us.

    A mount of ours that its process left behind, by a crash, is unmounted for it. Waits for another
    command that has reserved it. Raises `UserError` where the path is anything else.
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
            raise UserError(f"{path} holds a dead mount that is not ours: unmount it first.")
        unmount(path, lazy=True)


def _check_not_mounted(path: str) -> None:
    mount = mount_at(path)
    if mount is not None and mount.filesystem_type == FILESYSTEM_TYPE:
        raise UserError(f"{path} is mounted already ({mount.source}): invoicefs umount {path}")


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
        raise UserError(
            f"The mount point {path} is not yours to write, so you may not mount there."
        )


def unmount(path: str, *, lazy: bool) -> None:
    """Unmount; `lazy` detaches the folder now and lets programs that use it finish.

    Raises `UserError` with the words of the program that refused.
    """
    mount = mount_at(path)
    if mount is None or mount.filesystem_type != FILESYSTEM_TYPE:
        raise UserError(f"{path} is not a mount of invoicefs.")
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
        hint = " Close what uses it, or add --lazy." if "busy" in words.lower() else ""
        raise UserError(f"{path} cannot be unmounted: {words}.{hint}")


def _unmount_command(lazy: bool) -> list[str]:
    for helper in ("fusermount3", "fusermount"):
        if program := shutil.which(helper):
            return [program, "-u", *(["-z"] if lazy else [])]
    if program := shutil.which("umount"):
        return [program, *(["-l"] if lazy else [])]
    raise UserError("It cannot be unmounted without a helper: apt install fuse3.")


def is_dead(path: str) -> bool:
    """Whether the path is a FUSE mount without a process: the kernel answers ENOTCONN."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def _parse_mount(line: str) -> Mount:
    fields, _, rest = line.partition(" - ")
    filesystem_type, source, options = rest.split(" ")[:3]
    device, _, path = fields.split(" ")[2:5]
    user = _USER_ID.search(options)
    uid = int(user[1]) if user else None
    return Mount(device, _unescape(path), filesystem_type, _unescape(source), uid)


def _unescape(text: str) -> str:
    """Blanks and backslashes are octal in mountinfo."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
