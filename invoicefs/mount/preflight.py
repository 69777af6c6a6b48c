"""Checks of the machine before mounting; each error says what to do."""

import ctypes.util
import os
import resource
import shutil
from pathlib import Path
from typing import Final

from invoicefs.errors import UserError

_DESCRIPTORS_PER_WORKER: Final = 10  # a connection twice, three for each of 2 databases, a reserve
_OTHER_DESCRIPTORS: Final = 100
_FUSE_DEVICE: Final = Path("/dev/fuse")
_FUSE_CONF: Final = Path("/etc/fuse.conf")
_SYSTEM_PATH: Final = "/usr/bin:/bin:/usr/sbin:/sbin"  # searched even if PATH is not set


def check(*, allow_other: bool) -> None:
    """Raise a `UserError` that says what to do if this machine cannot mount."""
    check_libfuse()
    check_fusermount()
    check_device()
    if allow_other:
        check_allow_other()


def raise_descriptor_limit(parallel: int) -> None:
    """Raise the limit of open files to its maximum; raises `UserError` if that is too low."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    max_parallel = (hard - _OTHER_DESCRIPTORS) // _DESCRIPTORS_PER_WORKER
    if hard != resource.RLIM_INFINITY and max_parallel < parallel:
        raise UserError(
            f"--parallel {parallel} needs more open files than the {hard} allowed here "
            f"(ulimit -Hn): use --parallel {max(max_parallel, 1)}, or raise the limit."
        )


def check_libfuse() -> None:
    """Raise a `UserError` that says what to install if there is no libfuse 2."""
    library = os.environ.get("FUSE_LIBRARY_PATH") or ctypes.util.find_library("fuse")
    if library is None:
        raise UserError("libfuse 2 is missing: apt install libfuse2 (or libfuse2t64).")
    if "libfuse3" in library:
        raise UserError(
            f"{library} is libfuse 3, but this program needs libfuse 2: apt install libfuse2 "
            "(or libfuse2t64) and unset FUSE_LIBRARY_PATH."
        )
    # fusepy would run ldconfig again to find it.
    os.environ.setdefault("FUSE_LIBRARY_PATH", library)


def check_fusermount() -> None:
    """Raise `UserError` unless fusermount, which mounts for libfuse, is installed."""
    search_path = f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"
    if shutil.which("fusermount", path=search_path) is None:
        raise UserError("The program fusermount is missing: apt install fuse3.")


def check_device() -> None:
    """Raise `UserError` unless the FUSE device exists and this user can open it."""
    if not _FUSE_DEVICE.exists():
        raise UserError(f"{_FUSE_DEVICE} is missing: modprobe fuse, or allow it in the container.")
    if not os.access(_FUSE_DEVICE, os.R_OK | os.W_OK):
        raise UserError(f"You may not use {_FUSE_DEVICE}: run chmod 666 {_FUSE_DEVICE} as root.")


def check_allow_other() -> None:
    """Raise `UserError` unless this user may allow others to access a mount."""
    if os.geteuid() != 0 and not _is_allow_other_permitted():
        raise UserError(f"--allow-other needs the line user_allow_other in {_FUSE_CONF}.")


def _is_allow_other_permitted() -> bool:
    try:
        lines = _FUSE_CONF.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.split("#")[0].strip() == "user_allow_other" for line in lines)
