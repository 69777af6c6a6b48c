"""The check of ``invoicefs status --check``, for monitoring: it never hangs on a mount."""

import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from invoicefs.cli.parallel import in_threads
from invoicefs.cli.running_mounts import NO_MOUNTS, SILENT, STATUS, dead_words, own_mounts
from invoicefs.errors import UserError
from invoicefs.mount import control_socket, mountpoint
from invoicefs.mount.mountpoint import Mount

_TIMEOUT_S: Final = 5.0  # monitoring gives a check about 10 s


class Problem(NamedTuple):
    """What is wrong with a mount.

    `kind` is ``dead``, ``silent``, or one of the kinds in `mount.health`.
    """

    mount_point: str
    kind: str
    words: str


def your_mounts() -> tuple[Mount, ...]:
    """Return the mounts of this user; raises `UserError` if there are none."""
    mounts = own_mounts()
    if not mounts:
        raise UserError(NO_MOUNTS)
    return mounts


def check(mounts: Sequence[Mount]) -> list[list[Problem]]:
    """Return the problems of each mount; those that do not respond delay no other."""
    return in_threads(lambda mount: list(_problems(mount)), mounts, len(mounts))


def _problems(mount: Mount) -> Iterator[Problem]:
    try:
        status = control_socket.send(mount.device, STATUS, timeout_s=_TIMEOUT_S)
    except UserError as error:
        yield Problem(mount.path, "silent", str(error))
        return
    if status is not None:
        for problem in status.get("problems", ()):  # an earlier version has none
            yield Problem(mount.path, problem["kind"], problem["words"])
    elif mount.uid != os.geteuid():
        yield Problem(mount.path, "silent", "It belongs to another user.")
    elif mountpoint.is_dead(mount.path):
        yield Problem(mount.path, "dead", dead_words(mount))
    else:
        yield Problem(mount.path, "silent", SILENT)
