"""What the commands ask mounts of this user: which mount is meant, and where it may answer."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from invoicefs import control, mountpoint
from invoicefs.config import default_cache_dir
from invoicefs.errors import UserError

_SERVICE_CACHE_DIR: Final = Path("/var/cache/invoicefs")  # of mounts without HOME, as at boot

Status = Mapping[str, Any]
"""See `answering.Answering`."""


def status_of(path: str, cache_dir: Path | None) -> Status:
    """What the mount that a path is in does; raises `UserError` where it cannot be asked."""
    return control.ask(_mount_of(path).path, _store_folders(cache_dir), {"ask": "status"})


def all_statuses(cache_dir: Path | None) -> tuple[Status, ...]:
    """What each mount does that answers to this user."""
    folders = tuple(_store_folders(cache_dir))
    paths = [
        mount.path for mount in mountpoint.our_mounts() if control.can_ask(mount.path, folders)
    ]
    return tuple(control.ask(path, folders, {"ask": "status"}) for path in paths)


def refresh(path: str, cache_dir: Path | None) -> None:
    """Have the mount that a path is in list it again; raises `UserError` where that fails."""
    mount = _mount_of(path)
    question = {"ask": "refresh", "path": _inside(mount, path)}
    control.ask(mount.path, _store_folders(cache_dir), question)


def why(path: str, cache_dir: Path | None) -> str | None:
    """Why the last open of a path failed, in words; None where it did not, or nobody knows."""
    try:
        mount = _mount_of(path)
        question = {"ask": "why", "path": _inside(mount, path)}
        answer = control.ask(mount.path, _store_folders(cache_dir), question).get("why")
    except UserError:
        return None
    return answer if isinstance(answer, str) else None


def _inside(mount: mountpoint.Mount, path: str) -> str:
    inside = os.path.relpath(_real(path), mount.path)
    return "/" if inside == "." else f"/{inside}"


def _mount_of(path: str) -> mountpoint.Mount:
    mount = mountpoint.mount_of(_real(path))
    if mount is None:
        raise UserError(f"{path} is in no mount of invoicefs.")
    return mount


def _real(path: str) -> str:
    """The path without links on the way to a mount; what is in the mount is not looked at."""
    return os.path.realpath(path)


def _store_folders(cache_dir: Path | None) -> Iterator[Path]:
    for parent in dict.fromkeys((cache_dir or default_cache_dir(), _SERVICE_CACHE_DIR)):
        try:
            yield from sorted(parent.iterdir())
        except OSError:  # no store, or not ours
            continue
