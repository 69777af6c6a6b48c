"""Scans the files of an archive, and computes their SHA-256.

No link is followed, and no mount of invoicefs is entered.
"""

import hashlib
import os
import stat
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

SUMS_NAME: Final = "SHA256SUMS"
"""A file of this name at the top of an archive is no extra file: ``verify --sums`` writes it."""

_CHUNK_BYTES: Final = 256 * 1024
_CHANGED: Final = "it changed while the archive was read"
_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Scan:
    """The files of an archive by path, and why some of its folders were not read.

    The path of the archive itself is empty. `mounts` are the device numbers of mounts.
    """

    files: Mapping[str, os.stat_result]
    unread: Mapping[str, str]
    mounts: frozenset[int] = frozenset()

    def has_read(self, path: str) -> bool:
        """Return whether the folders above a path were read."""
        return not any(path.startswith(f"{folder}/") for folder in self.unread if folder)


class Unread(Exception):
    """A file that could not be read; the message says why."""


def scan(archive: str, mounts: Mapping[str, int]) -> Scan:
    """Return everything in an archive but its folders.

    `mounts` has the device numbers of folders, by their paths without links, that are not entered.
    """
    files: dict[str, os.stat_result] = {}
    unread: dict[str, str] = {}
    real_archive = os.path.realpath(archive)
    folders = [""]
    while folders:
        folder = folders.pop()
        whole_path = os.path.join(archive, folder) if folder else archive
        # Below the archive no link is followed. A mount is not touched, because it may hang.
        if os.path.normpath(os.path.join(real_archive, folder)) in mounts:
            unread[folder] = f"{whole_path} is a mount of invoicefs, not a copy."
            continue
        try:
            folders += _scan_folder(archive, folder, files)
        except OSError as error:
            unread[folder] = f"{whole_path} cannot be read: {error.strerror}."
    return Scan(files, unread, frozenset(mounts.values()))


def _scan_folder(archive: str, folder: str, files: dict[str, os.stat_result]) -> list[str]:
    """Add what is in a folder to `files`, and return the folders in it; raises `OSError`."""
    folders = []
    with os.scandir(os.path.join(archive, folder)) as entries:
        for entry in entries:
            path = os.path.join(folder, entry.name)
            if path == SUMS_NAME:
                continue
            if entry.is_dir(follow_symlinks=False):  # known from the folder, without a stat
                folders.append(path)
                continue
            with suppress(FileNotFoundError):  # it was removed in the meantime
                files[path] = entry.stat(follow_symlinks=False)
    return folders


def scan_file(archive: str, name: str) -> Scan:
    """Return one file of an archive, if it exists."""
    path = os.path.join(archive, name)
    try:
        return Scan({name: os.lstat(path)}, {})
    except FileNotFoundError:
        return Scan({}, {})
    except OSError as error:
        return Scan({}, {"": f"{path} cannot be read: {error.strerror}."})


def special(status: os.stat_result) -> str:
    """Return what a file is that is not a regular one, or nothing."""
    if stat.S_ISREG(status.st_mode):
        return ""
    return f"it is {_KINDS.get(stat.S_IFMT(status.st_mode), 'no regular file')}"


def sha256_of(path: str, scanned: os.stat_result, stop: threading.Event) -> str:
    """Return the SHA-256 of a file that was scanned, in hex.

    Raises `FileNotFoundError`, and `Unread` if it is no longer that file, or `stop` is set.
    """
    digest = hashlib.sha256()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            left_bytes = scanned.st_size
            while chunk := os.read(fd, _CHUNK_BYTES):
                left_bytes -= len(chunk)
                if left_bytes < 0:  # a file that grows might never end
                    raise Unread(_CHANGED)
                if stop.is_set():
                    raise Unread("the comparison was stopped")
                digest.update(chunk)
            # Another file may have taken its place, or it was written to.
            if _identity(os.fstat(fd)) != _identity(scanned):
                raise Unread(_CHANGED)
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unread(f"it cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what stays the same as long as a file is not replaced or written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
