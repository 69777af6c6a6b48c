"""The control client: finds the mounts of this user, and sends them requests."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from invoicefs.errors import UserError
from invoicefs.mount import control_socket, mountpoint
from invoicefs.mount.mountpoint import Mount

Status = Mapping[str, Any]
"""See `mount.control_server`."""

Failures = tuple[str, ...]
"""A message for each mount whose request failed."""

NO_MOUNTS: Final = "You have no mounts."
STATUS: Final = {"ask": "status"}
_PROBE: Final = {"ask": "why", "path": "/"}  # a request that takes no time
SILENT: Final = "It does not respond: another program may have taken the name of its socket."
_STATUS_TIMEOUT_S = 10.0  # a status needs no API request: a mount that takes longer is stuck


class Place(NamedTuple):
    """A mount, and a path inside it, which begins with ``/``."""

    mount: Mount
    inside: str

    @property
    def path(self) -> str:
        """The whole path, without links."""
        return f"{self.mount.path}{self.inside}".rstrip("/")


def place_of(path: str) -> Place:
    """Return the place of a path; raises `UserError` if it is not in a mount.

    Links on the way to a mount are followed; a path without links is not touched.
    """
    place = find_place(path)
    if place is None:
        raise UserError(f"{path} is not in a mount of invoicefs.")
    return place


def find_place(path: str) -> Place | None:
    """Do the same as `place_of`, but return None for a path that is not in a mount."""
    return _place_of_real(os.path.abspath(path)) or _place_of_real(real_path(path))


def real_path(path: str) -> str:
    """Return a path without links; raises `UserError` if it leads to a mount that hangs."""
    real = mountpoint.in_time(lambda: os.path.realpath(path))
    if real is None:
        raise UserError(f"{path} does not respond: it leads to a mount that hangs.")
    return real


def _place_of_real(real_path: str) -> Place | None:
    mount = mountpoint.mount_of(real_path)
    if mount is None:
        return None
    inside = os.path.relpath(real_path, mount.path)
    return Place(mount, "/" if inside == "." else f"/{inside}")


def devices() -> Mapping[str, int]:
    """Return the device numbers of all mounts of invoicefs, by their paths without links."""
    return {
        mount.path: os.makedev(*map(int, mount.device.split(":")))
        for mount in mountpoint.invoicefs_mounts()
    }


def status_of(mount: Mount) -> Status:
    """Return the status of a mount; raises `UserError` if it does not respond."""
    return _at(mount, _response(mount, STATUS, timeout_s=_STATUS_TIMEOUT_S))


def all_statuses() -> tuple[tuple[Status, ...], Failures]:
    """Return the status of each mount of this user, and the failures of the others."""
    statuses, failures = [], []
    for mount in distinct_mounts():
        try:
            status = control_socket.send(mount.device, STATUS, timeout_s=_STATUS_TIMEOUT_S)
        except UserError as error:
            failures.append(f"{mount.path}: {error}")
        else:
            if status is not None:
                statuses.append(_at(mount, status))
            elif mount.uid == os.geteuid() and not mountpoint.is_dead(mount.path):
                failures.append(f"{mount.path}: {SILENT}")
    return tuple(statuses), tuple(failures)


def distinct_mounts() -> tuple[Mount, ...]:
    """Return the mounts of all users, each once: bind mounts share the device number."""
    by_device: dict[str, Mount] = {}
    for mount in mountpoint.invoicefs_mounts():
        by_device.setdefault(mount.device, mount)
    return tuple(by_device.values())


def own_mounts() -> tuple[Mount, ...]:
    """Return the mounts of this user, each once, whether or not they respond."""
    return tuple(mount for mount in distinct_mounts() if mount.uid == os.geteuid())


def own_places() -> tuple[Place, ...]:
    """Return the roots of `own_mounts`."""
    return tuple(Place(mount, "/") for mount in own_mounts())


def dead_mounts() -> tuple[Mount, ...]:
    """Return the mounts of this user whose process has ended."""
    return tuple(mount for mount in own_mounts() if mountpoint.is_dead(mount.path))


def dead_words(mount: Mount) -> str:
    """Return what is wrong with a mount whose process has ended, and how to fix it."""
    return f"Its process has ended: invoicefs umount --lazy {mount.path}"


def responder(mount: Mount) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Return a function that sends a request to a mount; the mount's own timeout ends it.

    Raises `UserError` if the mount does not respond, and so does the function if a request fails.
    """
    _response(mount, _PROBE, timeout_s=_STATUS_TIMEOUT_S)
    return partial(_response, mount, timeout_s=None)


def _at(mount: Mount, status: Status) -> Status:
    """Return the status with the current path of the mount: a parent folder may be renamed."""
    return {**status, "mount_point": mount.path}


def refresh(place: Place) -> None:
    """Have a mount refresh the listings of a path; raises `UserError` if that fails."""
    responder(place.mount)({"ask": "refresh", "path": place.inside})


def refresh_all() -> Failures:
    """Have each mount of this user refresh its listings; returns the failures.

    Raises `UserError` if there is no mount.
    """
    statuses, silent = all_statuses()
    if not statuses and not silent:
        raise UserError(NO_MOUNTS)
    failures = []
    for mount_point in (status["mount_point"] for status in statuses):
        try:
            refresh(place_of(mount_point))
        except UserError as error:
            failures.append(f"{mount_point}: {error}")
    return (*silent, *failures)


def evicted(mount: Mount) -> frozenset[str]:
    """Return the files that were evicted from the cache of a mount; see `Library.evicted`.

    Raises `UserError` if the mount does not respond.
    """
    response = _response(mount, {"ask": "dropped"})
    return frozenset(f"{mount.path}{path}" for path in response["dropped"])


def download_again(path: str) -> None:
    """Have a mount download a file and replace the cached one; raises `UserError` if it fails."""
    place = place_of(path)
    responder(place.mount)({"ask": "again", "path": place.inside})


def open_error(path: str) -> str | None:
    """Return why the last open of a path failed, in words, or None if that is not known."""
    try:
        place = place_of(path)
        reason = _response(place.mount, {"ask": "why", "path": place.inside}).get("why")
    except UserError:
        return None
    return reason if isinstance(reason, str) else None


def _response(
    mount: Mount,
    request: Mapping[str, str],
    timeout_s: float | None = control_socket.IDLE_TIMEOUT_S,
) -> Mapping[str, Any]:
    response = control_socket.send(mount.device, request, timeout_s=timeout_s)
    if response is None:
        raise UserError(
            f"No mount of yours responds at {mount.path}: it may belong to another user, or its "
            "process may have ended."
        )
    return response
