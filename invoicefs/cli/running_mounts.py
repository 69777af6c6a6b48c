"""What the commands ask mounts of this user: which mount is meant, and what it answers."""

import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from invoicefs.errors import UserError
from invoicefs.mount import control_socket as control
from invoicefs.mount import mountpoint
from invoicefs.mount.mountpoint import Mount

Status = Mapping[str, Any]
"""See `answering.ControlServer`."""

Failures = tuple[str, ...]
"""Why mounts did not do what they were asked for: a sentence each."""

_STATUS: Final = {"ask": "status"}
_SILENT = "It does not answer: another program may have taken the name of its socket."
_FROM_MEMORY_S = 10.0  # a mount that has to make no call, and needs longer, is stuck


class Place(NamedTuple):
    """A path in a mount: the mount, and what that calls the path, from ``/`` on."""

    mount: Mount
    inside: str

    @property
    def path(self) -> str:
        """The whole path, without links on the way."""
        return f"{self.mount.path}{self.inside}".rstrip("/")


def place_of(path: str) -> Place:
    """Where a path is; raises `UserError` where it is in no mount.

    Links on the way to a mount are followed; a path that has none is not looked at.
    """
    for real in (os.path.abspath(path), os.path.realpath(path)):
        mount = mountpoint.mount_of(real)
        if mount is not None:
            inside = os.path.relpath(real, mount.path)
            return Place(mount, "/" if inside == "." else f"/{inside}")
    raise UserError(f"{path} is in no mount of invoicefs.")


def status_of(mount: Mount) -> Status:
    """What a mount does; raises `UserError` where it cannot be asked."""
    return _at(mount, _asked(mount, _STATUS, answer_within_s=_FROM_MEMORY_S))


def all_statuses() -> tuple[tuple[Status, ...], Failures]:
    """What each mount does that listens to this user, and which of them are silent."""
    statuses, failures = [], []
    by_device: dict[str, Mount] = {}  # one may be bound to other places as well
    for mount in mountpoint.our_mounts():
        by_device.setdefault(mount.device, mount)
    for mount in by_device.values():
        try:
            status = control.ask(mount.device, _STATUS, answer_within_s=_FROM_MEMORY_S)
        except UserError as error:
            failures.append(f"{mount.path}: {error}")
        else:
            if status is not None:
                statuses.append(_at(mount, status))
            elif mount.uid == os.geteuid() and not mountpoint.is_dead(mount.path):
                failures.append(f"{mount.path}: {_SILENT}")
    return tuple(statuses), tuple(failures)


def _at(mount: Mount, status: Status) -> Status:
    """The same with the present path of the mount, which a renamed folder above it has changed."""
    return {**status, "mount_point": mount.path}


def refresh(place: Place) -> None:
    """Have the mount that a path is in list it again; raises `UserError` where that fails."""
    question = {"ask": "refresh", "path": place.inside}
    _asked(place.mount, question, answer_within_s=None)  # --timeout ends it there


def refresh_all() -> Failures:
    """Have each mount that listens to this user list again, unless it is silent.

    Raises `UserError` where there is none.
    """
    statuses, silent = all_statuses()
    if not statuses and not silent:
        raise UserError("You have mounted nothing.")
    failures = []
    for mount_point in (status["mount_point"] for status in statuses):
        try:
            refresh(place_of(mount_point))
        except UserError as error:
            failures.append(f"{mount_point}: {error}")
    return (*silent, *failures)


def dropped(mount: Mount) -> frozenset[str]:
    """The files that the store of a mount has had and dropped; see `Library.dropped`.

    Raises `UserError` where it cannot be asked.
    """
    answer = _asked(mount, {"ask": "dropped"})
    return frozenset(f"{mount.path}{each}" for each in answer["dropped"])


def download_again(path: str) -> None:
    """Have a mount replace what it has stored of a file; raises `UserError` where that fails."""
    place = place_of(path)
    _asked(place.mount, {"ask": "again", "path": place.inside}, answer_within_s=None)


def why(path: str) -> str | None:
    """Why the last open of a path failed, in words; None where it did not, or nobody knows."""
    try:
        place = place_of(path)
        answer = _asked(place.mount, {"ask": "why", "path": place.inside}).get("why")
    except UserError:
        return None
    return answer if isinstance(answer, str) else None


def _asked(
    mount: Mount,
    question: Mapping[str, str],
    answer_within_s: float | None = control.LONGEST_PAUSE_S,
) -> Mapping[str, Any]:
    answer = control.ask(mount.device, question, answer_within_s=answer_within_s)
    if answer is None:
        raise UserError(
            f"No mount of yours answers for {mount.path}: it may be somebody else's, or have lost "
            "its process."
        )
    return answer
