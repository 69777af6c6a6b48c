"""What the commands ask mounts of this user: which mount is meant, and where it may answer."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from invoicefs import control, mountpoint
from invoicefs.config import SERVICE_CACHE_DIR, default_cache_dir
from invoicefs.errors import UserError

Status = Mapping[str, Any]
"""See `answering.Answering`."""

Failures = tuple[str, ...]
"""Why mounts did not do what they were asked for: a sentence each."""

_STATUS: Final = {"ask": "status"}
_FROM_MEMORY_S = 10.0  # a mount that has to make no call, and needs longer, is stuck


class Place(NamedTuple):
    """A path in a mount: the mount point above it, and what the mount calls it, from ``/`` on."""

    mount_point: str
    inside: str

    @property
    def path(self) -> str:
        """The whole path, without links on the way."""
        return f"{self.mount_point}{self.inside}".rstrip("/")


def place_of(path: str) -> Place:
    """Where a path is; raises `UserError` where it is in no mount.

    Links on the way to a mount are followed; a path that has none is not looked at.
    """
    for real in (os.path.abspath(path), os.path.realpath(path)):
        mount = mountpoint.mount_of(real)
        if mount is not None:
            inside = os.path.relpath(real, mount.path)
            return Place(mount.path, "/" if inside == "." else f"/{inside}")
    raise UserError(f"{path} is in no mount of invoicefs.")


def status_of(path: str, cache_dir: Path | None) -> Status:
    """What the mount that a path is in does; raises `UserError` where it cannot be asked."""
    mount_point, _ = place_of(path)
    return _asked(mount_point, cache_dir, _STATUS, answer_within_s=_FROM_MEMORY_S)


def all_statuses(cache_dir: Path | None) -> tuple[tuple[Status, ...], Failures]:
    """What each mount does that listens to this user, and which of them are silent."""
    folders = tuple(_store_folders(cache_dir))
    statuses, failures = [], []
    for mount in mountpoint.our_mounts():
        try:
            statuses.append(
                control.ask(mount.path, folders, _STATUS, answer_within_s=_FROM_MEMORY_S)
            )
        except UserError as error:
            failures.append(f"{mount.path}: {error}")
    return tuple(status for status in statuses if status is not None), tuple(failures)


def refresh(path: str, cache_dir: Path | None) -> None:
    """Have the mount that a path is in list it again; raises `UserError` where that fails."""
    mount_point, inside = place_of(path)
    question = {"ask": "refresh", "path": inside}
    _asked(mount_point, cache_dir, question, answer_within_s=None)  # --timeout ends it there


def refresh_all(cache_dir: Path | None) -> Failures:
    """Have each mount that listens to this user list again, unless it is silent.

    Raises `UserError` where there is none.
    """
    statuses, silent = all_statuses(cache_dir)
    if not statuses and not silent:
        raise UserError("You have mounted nothing.")
    failures = []
    for mount_point in (status["mount_point"] for status in statuses):
        try:
            refresh(mount_point, cache_dir)
        except UserError as error:
            failures.append(f"{mount_point}: {error}")
    return (*silent, *failures)


def dropped(mount_point: str, cache_dir: Path | None) -> frozenset[str]:
    """The files that the store of a mount has had and dropped; see `Library.dropped`.

    Raises `UserError` where it cannot be asked.
    """
    answer = _asked(mount_point, cache_dir, {"ask": "dropped"})
    return frozenset(f"{mount_point}{each}" for each in answer["dropped"])


def why(path: str, cache_dir: Path | None) -> str | None:
    """Why the last open of a path failed, in words; None where it did not, or nobody knows."""
    try:
        mount_point, inside = place_of(path)
        answer = _asked(mount_point, cache_dir, {"ask": "why", "path": inside}).get("why")
    except UserError:
        return None
    return answer if isinstance(answer, str) else None


def _asked(
    mount_point: str,
    cache_dir: Path | None,
    question: Mapping[str, str],
    answer_within_s: float | None = control.LONGEST_PAUSE_S,
) -> Mapping[str, Any]:
    folders = _store_folders(cache_dir)
    answer = control.ask(mount_point, folders, question, answer_within_s=answer_within_s)
    if answer is None:
        raise UserError(
            f"No mount of yours answers for {mount_point}: it may be somebody else's, have lost "
            "its process, or have its store elsewhere (--cache-dir)."
        )
    return answer


def _store_folders(cache_dir: Path | None) -> Iterator[Path]:
    for parent in dict.fromkeys((cache_dir or default_cache_dir(), SERVICE_CACHE_DIR)):
        try:
            yield from sorted(parent.iterdir())
        except OSError:  # no store, or not ours
            continue
