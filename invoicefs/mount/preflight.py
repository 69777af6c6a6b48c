"""What a machine must have so that something can be mounted, and what to do where it lacks it."""

import ctypes.util
import os
import resource
import shutil
from pathlib import Path
from typing import Final

from invoicefs.errors import UserError

_DESCRIPTORS_PER_WORKER: Final = 10  # a connection, its duplicate, and three of each database
_OTHER_DESCRIPTORS: Final = 100
_FUSE_DEVICE: Final = Path("/dev/fuse")
_FUSE_CONF: Final = Path("/etc/fuse.conf")
_SYSTEM_PATH: Final = "/usr/bin:/bin:/usr/sbin:/sbin"  # looked through also where PATH is not set


def check(*, allow_other: bool) -> None:
    """Make sure that this machine can mount; raises `UserError` that says what to do."""
    check_libfuse()
    check_fusermount()
    check_device()
    if allow_other:
        check_others()


def raise_descriptor_limit(parallel: int) -> None:
    """Let this process have as many files open as it may; raises `UserError` for too few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    fitting = (hard - _OTHER_DESCRIPTORS) // _DESCRIPTORS_PER_WORKER
    if hard != resource.RLIM_INFINITY and fitting < parallel:
        raise UserError(
            f"--parallel {parallel} needs more open files than the {hard} that are allowed here "
            f"(ulimit -Hn): give --parallel {max(fitting, 1)}, or allow more."
        )


def check_libfuse() -> None:
    """Make sure that there is a libfuse 2; raises `UserError` that says what to install."""
    library = os.environ.get("FUSE_LIBRARY_PATH") or ctypes.util.find_library("fuse")
    if library is None:
        raise UserError("libfuse 2 is missing: apt install libfuse2 (or libfuse2t64).")
    if "libfuse3" in library:
        raise UserError(
            f"{library} is libfuse 3, which this program cannot use: apt install libfuse2 "
            "(or libfuse2t64) and unset FUSE_LIBRARY_PATH."
        )


def check_fusermount() -> None:
    """Make sure that there is the helper that mounts; raises `UserError`."""
    search_path = f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"
    if shutil.which("fusermount", path=search_path) is None:
        raise UserError("The program fusermount is missing: apt install fuse3.")


def check_device() -> None:
    """Make sure that the FUSE device is there and open to this user; raises `UserError`."""
    if not _FUSE_DEVICE.exists():
        raise UserError(f"{_FUSE_DEVICE} is missing: modprobe fuse, or allow it in the container.")
    if not os.access(_FUSE_DEVICE, os.R_OK | os.W_OK):
        raise UserError(f"You may not use {_FUSE_DEVICE}: chmod 666 {_FUSE_DEVICE} (as root).")


def check_others() -> None:
    """Make sure that this user may let others look into a mount; raises `UserError`."""
    if os.geteuid() != 0 and not _others_are_allowed():
        raise UserError(f"--allow-other needs the line user_allow_other in {_FUSE_CONF}.")


def _others_are_allowed() -> bool:
    try:
        lines = _FUSE_CONF.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.split("#")[0].strip() == "user_allow_other" for line in lines)
