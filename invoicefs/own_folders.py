"""Folders that are for their user alone."""

import errno
import os
import stat
from pathlib import Path


def own_folder(folder: Path) -> None:
    """Have this folder for us alone, made where it is missing; raises `OSError`.

    One into which others could write is refused, because what is in it may not be ours.
    """
    for parent in reversed((folder, *folder.parents)):
        parent.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to somebody else")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(errno.EPERM, "others can write into it")
    above = folder.parent.stat()
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        raise PermissionError(errno.EPERM, "others can put another one in its place")
    folder.chmod(0o700)
